"""`manage.py new_epoch`: after a restore, before anything else runs; clients of streams are then told to read anew."""

from typing import Any

from django.core.management.base import BaseCommand

from apps.core import services


class Command(BaseCommand):
    help = "Says that the event log is no longer the one that clients of streams know. To be run after a restore."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(services.new_epoch())
