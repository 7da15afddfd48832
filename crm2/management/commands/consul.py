"""`manage.py consul`: keeps this instance in Consul's catalog until it is stopped. One beside each web server."""

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from crm2 import discovery

AGAIN_SECONDS = 5.0


class Command(BaseCommand):
    help = "Registers this instance in Consul and keeps it registered; SIGTERM or Ctrl-C takes it out."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.CONSUL_ENABLED:
            raise CommandError("There is no Consul: CONSUL_ENABLED is off.")
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        registered = False
        while not stopping.is_set():
            # Again and again: an agent that was replaced knows nothing of us.
            if discovery.register() and not registered:
                self.stdout.write(f"Registered as {discovery.service_id()}.")
                self.stdout.flush()
                registered = True
            stopping.wait(discovery.EVERY_SECONDS if registered else AGAIN_SECONDS)
        discovery.deregister()
