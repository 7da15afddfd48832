"""Makes the first administrator, as AUTH_BOOTSTRAP_* say. Repeating it changes nothing."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.auth.services import people


class Command(BaseCommand):
    help = "Makes sure that the administrator of AUTH_BOOTSTRAP_* exists and holds his roles."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.AUTH_BOOTSTRAP_ENABLED:
            if options["verbosity"]:
                self.stdout.write("AUTH_BOOTSTRAP_ENABLED is off: nothing to do.")
            return
        done = people.ensure_admin(
            email=settings.AUTH_BOOTSTRAP_EMAIL,
            password=settings.AUTH_BOOTSTRAP_PASSWORD,
            roles=settings.AUTH_BOOTSTRAP_ROLES,
        )
        self.stdout.write("The administrator is there." if done else "No administrator was made: see the log.")
