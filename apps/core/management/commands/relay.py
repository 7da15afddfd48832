"""`manage.py relay`: numbers committed events and feeds the subscriptions; any number may run, one leads."""

import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.core.relay import Relay, drain


class Command(BaseCommand):
    help = "Numbers committed events and feeds them to the subscriptions until SIGTERM or SIGINT."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="do all there is to do now, then exit")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            drain()
            return
        relay = Relay()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, relay.stop)
        relay.run()
