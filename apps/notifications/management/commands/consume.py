"""`manage.py consume`: reads the queue `notifications.events`; any number may run, the broker feeds one."""

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.notifications import consumers


class Command(BaseCommand):
    help = "Takes other systems' notifications from RabbitMQ until SIGTERM or SIGINT."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.RABBITMQ_URL:
            raise CommandError("RABBITMQ_URL is not set: there is no bus to read from.")
        consumer = consumers.consumer()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, consumer.stop)
        consumer.run()
