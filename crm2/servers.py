"""Joins the settings with the embedded servers: every entry point calls `hold()` before it touches a store."""

from django.conf import settings

from crm2 import embedded


def hold(*, fsync: bool = True) -> None:
    """Starts the servers whose URL is not set and keeps them while this process lives; does nothing otherwise."""
    if settings.EMBEDDED_POSTGRES or settings.EMBEDDED_REDIS:
        embedded.hold(
            settings.EMBEDDED_HOME,
            postgres=settings.EMBEDDED_POSTGRES,
            redis=settings.EMBEDDED_REDIS,
            fsync=fsync,
        )
