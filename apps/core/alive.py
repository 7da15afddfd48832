"""Signs of life of the processes that have no port of their own: worker and beat say every few seconds that they work.

Said from inside their loops, so that one which lives and does not turn is found out.
"""

import logging
import time

import psycopg

from apps.core import relay

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0  # health calls a kind dead after several of these
PATIENCE = 2  # seconds: the loop waits for the database no longer

_UPSERT = """
INSERT INTO core_processbeat (name, at) VALUES (%s, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE core_processbeat.at < excluded.at
"""
_said_at: dict[str, float] = {}


def say(name: str) -> None:
    """Notes that a process of this kind works; called as often as one likes. A database that is away is no error."""
    now = time.monotonic()
    if now - _said_at.get(name, -EVERY_SECONDS) < EVERY_SECONDS:
        return
    _said_at[name] = now
    try:
        # A connection of the moment: the worker forks, and its children must inherit none.
        with relay.connect(name, patience=PATIENCE) as own:
            own.execute(_UPSERT, [name])
    except psycopg.Error as error:
        log.warning("no sign of life could be left", extra={"job": name, "reason": type(error).__name__})
