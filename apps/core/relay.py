"""The relay: gives committed events their positions and feeds them to the subscriptions. One process leads.

The leader holds a session advisory lock on a connection of its own; another relay stands by and takes over within a
second of that session's end. Nothing depends on there being one leader: the head's row lock keeps positions gapless
and each subscription's row lock keeps effects single. A commit rings the bell (NOTIFY); a poll finds what a lost ring
has left. The publisher, which sends events to the bus, runs in a thread of its own while the relay leads.
"""

import logging
import os
import threading
import time
from typing import Any, Protocol

import psycopg
from django.db import Error as DatabaseError
from django.db import connection, transaction

from apps.core import subscriptions
from apps.core.events import CHANNEL, RETRY
from apps.core.publisher import Publisher
from apps.core.wakeups import Waker

log = logging.getLogger(__name__)

LEADER_LOCK = 0x63726D32  # pg_try_advisory_lock; such locks are the database's own
NUMBERED_AT_ONCE = 1000
POLL_SECONDS = 1.0
STANDBY_SECONDS = 0.5
BEAT_SECONDS = 2.0  # health calls the relay dead after several of these
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between attempts to reach a database that is away

# The server notices within a dozen seconds that the leader's machine is gone, and frees the lock.
KEEPALIVE = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"


class Cursor(Protocol):
    """A cursor of psycopg or of Django."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, query: Any, params: Any = None, /) -> Any: ...
    def fetchone(self) -> Any: ...


def number_events(cursor: Cursor) -> int:
    """Numbers the committed events that have no position, in order of `seq`; returns how many, at most 1,000.

    The caller's transaction must be READ COMMITTED. The head is locked by a statement of its own: the batch is then
    read by a later snapshot, which sees every number that anyone has given.
    """
    cursor.execute("SELECT EXISTS (SELECT FROM core_event WHERE position IS NULL)")
    if not cursor.fetchone()[0]:
        return 0
    cursor.execute("SELECT position FROM core_relayhead WHERE id = 1 FOR UPDATE")
    (head,) = cursor.fetchone()
    cursor.execute(
        """
        WITH unnumbered AS (SELECT id, seq FROM core_event WHERE position IS NULL ORDER BY seq LIMIT %s),
             batch AS (SELECT id, row_number() OVER (ORDER BY seq) AS n FROM unnumbered)
        UPDATE core_event SET position = %s + batch.n FROM batch WHERE core_event.id = batch.id
        """,
        [NUMBERED_AT_ONCE, head],
    )
    count = cursor.rowcount
    cursor.execute("UPDATE core_relayhead SET position = %s, beat_at = clock_timestamp() WHERE id = 1", [head + count])
    return count


def drain() -> int:
    """Numbers and feeds all there is, on Django's connection; returns how many steps forward were made.

    Parked events whose time has not come stay parked. Harmless beside a running relay.
    """
    subscriptions.prepare()
    total = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            moved = number_events(cursor)
        for name in subscriptions.behind():
            moved += subscriptions.feed(name)
        for name in subscriptions.with_due():
            moved += subscriptions.retry_due(name)
        if not moved:
            return total
        total += moved


class Relay:
    """One relay process: stands by, leads, gives up when the database goes away, and tries again."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._beat_at = 0.0
        self._publisher = Publisher()
        self._waker = Waker()

    def stop(self, *_: object) -> None:
        """Asks `run` to finish the batch in hand and return; fit to be a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Works until `stop`. A database that is away is waited for."""
        self._waker.start()
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                with connect() as own:
                    if self._elected(own):
                        log.info("relay leads")
                        own.execute(f"LISTEN {CHANNEL}")
                        subscriptions.prepare()
                        pause = FIRST_PAUSE
                        self._publisher = Publisher()
                        self._publisher.start()
                        self._lead(own)
            except (DatabaseError, psycopg.Error) as error:
                log.warning("relay lost the database", extra={"reason": type(error).__name__})
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            finally:
                self._publisher.stop()
                connection.close()
        self._waker.stop()

    def _elected(self, own: psycopg.Connection[Any]) -> bool:
        """Waits for leadership; False when asked to stop before."""
        while not self._stopping.is_set():
            row = own.execute("SELECT pg_try_advisory_lock(%s)", [LEADER_LOCK]).fetchone()
            if row and row[0]:
                return True
            self._stopping.wait(STANDBY_SECONDS)
        return False

    def _lead(self, own: psycopg.Connection[Any]) -> None:
        self._beat_at = 0.0
        while not self._stopping.is_set():
            if not self._step(own):
                # Rings that came during the step are kept by the connection: none is slept through.
                for ring in own.notifies(timeout=POLL_SECONDS, stop_after=1):
                    if ring.payload == RETRY:
                        self._publisher.retry_now()

    def _step(self, own: psycopg.Connection[Any]) -> int:
        """Numbers what there is and gives each subscription one turn; returns the progress made.

        Numbering goes before every turn, so that a subscription with a backlog delays positions by one turn only.
        """
        moved = self._number(own)
        for name in subscriptions.behind():
            if self._stopping.is_set():
                return moved
            moved += _turn(subscriptions.feed, name) + self._number(own)
        for name in subscriptions.with_due():
            if self._stopping.is_set():
                return moved
            moved += _turn(subscriptions.retry_due, name) + self._number(own)
        return moved

    def _number(self, own: psycopg.Connection[Any]) -> int:
        with own.transaction(), own.cursor() as cursor:
            count = number_events(cursor)
            if not count and time.monotonic() - self._beat_at > BEAT_SECONDS:
                cursor.execute("UPDATE core_relayhead SET beat_at = clock_timestamp() WHERE id = 1")
                self._beat_at = time.monotonic()
        if count:
            self._publisher.wake()
            self._waker.wake()
        return count


def _turn(act: Any, name: str) -> int:
    """One turn of a subscription. What fails outside its handlers (a hook run after the commit) stops no other."""
    try:
        return int(act(name))
    except (DatabaseError, psycopg.Error):
        raise
    except Exception:
        log.exception("subscription failed", extra={"subscription": name})
        return 0


def connect(purpose: str = "relay", *, patience: int = 5) -> psycopg.Connection[Any]:
    """A direct connection to Django's database, outside its pool: a session that is ours alone, in autocommit.

    :raises psycopg.OperationalError: if the server does not answer within `patience` seconds, at least 2
    """
    params = connection.get_connection_params()
    for django_only in ("cursor_factory", "context"):
        params.pop(django_only, None)
    params["options"] = f"{params.get('options', '')} {KEEPALIVE}".strip()
    params["application_name"] = f"crm2 {purpose} {os.getpid()}"
    params.setdefault("connect_timeout", patience)
    return psycopg.connect(**params, autocommit=True)
