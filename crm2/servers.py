"""Joins the settings with the embedded servers: every entry point calls `hold()` before it touches a store."""

from django.conf import settings
from django.db import connections

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


def bound_requests() -> None:
    """Lets no request of this process hold the database: web entry points call it before their first connection.

    A statement over its time is cancelled and answers 503; a transaction whose request has stalled is ended. Jobs,
    commands and migrations are not bounded.
    """
    options = connections.settings["default"]["OPTIONS"]
    limits = {
        "statement_timeout": settings.REQUEST_STATEMENT_SECONDS,
        "idle_in_transaction_session_timeout": settings.REQUEST_IDLE_TRANSACTION_SECONDS,
    }
    given = [f"-c {name}={seconds}s" for name, seconds in limits.items()]
    options["options"] = " ".join([*given, options.get("options", "")]).strip()  # the last one wins: the URL's own
