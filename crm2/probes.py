"""What the installation needs, looked at part by part: up, down with a reason, or disabled.

One look asks all parts at once, waits for none longer than two seconds, and is good for a second: however many probes
come, a store is asked once. Nothing here goes through Django's pool, so that a busy process is not taken for a dead
database.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import psycopg
import redis
from django.conf import settings
from django.db.migrations.loader import MigrationLoader
from kombu import Connection

from apps.core import bus, relay
from apps.core.breaker import REDIS_OPTIONS

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds for one part
GOOD_FOR = 1.0  # seconds a look is good for
SILENT = 30  # seconds without a sign of life: dead
MOST_WAITING = 100_000  # events counted


@dataclass(frozen=True, slots=True)
class Found:
    """One part. `reason` says to an admin why it is down; `more` are figures for him."""

    up: bool
    reason: str = ""
    disabled: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)


DISABLED = Found(up=True, disabled=True)
Probe = Callable[[], dict[str, Found]]


def failed(error: BaseException) -> Found:
    return Found(up=False, reason=f"{type(error).__name__}: {error}".strip().removesuffix(":"))


# --- the parts -------------------------------------------------------------------------------------------------------
DATABASE_PARTS = ("database", "migrations", "relay", "worker", "beat")


def database() -> dict[str, Found]:
    """The database, and what it knows about the others."""
    try:
        with relay.connect("health", patience=int(PATIENCE)) as db:
            db.execute(f"SET statement_timeout = '{PATIENCE}s'")
            found = {"database": Found(up=True)}
            for name, look in (("migrations", _migrations), ("relay", _relay), ("worker", _worker), ("beat", _beat)):
                found[name] = _told(look, db)
            return found
    except psycopg.Error as error:
        down = failed(error)
        unknown = Found(up=False, reason="the database does not answer")
        return {name: down if name == "database" else unknown for name in DATABASE_PARTS}


def _told(look: Callable[[psycopg.Connection[Any]], Found], db: psycopg.Connection[Any]) -> Found:
    try:
        return look(db)
    except psycopg.errors.UndefinedTable:
        return Found(up=False, reason="its table is missing: run manage.py migrate")


@cache
def _migrations_of_the_code() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).graph.nodes)


def _migrations(db: psycopg.Connection[Any]) -> Found:
    applied = set(db.execute("SELECT app, name FROM django_migrations").fetchall())
    pending = len(_migrations_of_the_code() - applied)
    return Found(up=False, reason=f"{pending} unapplied", more={"pending": pending}) if pending else Found(up=True)


def _relay(db: psycopg.Connection[Any]) -> Found:
    """Down when no relay has shown itself for half a minute; `lag` is how many events wait for their number."""
    row = db.execute(
        "SELECT (SELECT extract(epoch FROM clock_timestamp() - beat_at) FROM core_relayhead),"
        " (SELECT count(*) FROM (SELECT FROM core_event WHERE position IS NULL LIMIT %s) AS waiting)",
        [MOST_WAITING],
    ).fetchone()
    silence, lag = row or (None, 0)
    return _alive("relay", silence, {"lag": lag})


def _worker(db: psycopg.Connection[Any]) -> Found:
    return _alive("worker", _silence(db, "worker"), {})


def _beat(db: psycopg.Connection[Any]) -> Found:
    return _alive("beat", _silence(db, "beat"), {})


def _silence(db: psycopg.Connection[Any], name: str) -> Any:
    row = db.execute(
        "SELECT extract(epoch FROM clock_timestamp() - at) FROM core_processbeat WHERE name = %s", [name]
    ).fetchone()
    return row[0] if row else None


def _alive(name: str, silence: Any, more: dict[str, Any]) -> Found:
    if silence is None:
        return Found(up=False, reason=f"no {name} was ever seen", more=more)
    if silence > SILENT:
        return Found(up=False, reason=f"no sign of a {name} for {int(silence)} s", more=more)
    return Found(up=True, more=more)


def redis_() -> dict[str, Found]:
    client = redis.Redis.from_url(settings.REDIS_URL, **REDIS_OPTIONS)
    try:
        client.ping()
    finally:
        client.close()
    return {"redis": Found(up=True)}


def rabbitmq() -> dict[str, Found]:
    """Disabled without RABBITMQ_URL; down when it does not answer, or when publishing fails although it does."""
    if not settings.RABBITMQ_URL:
        return {"rabbitmq": DISABLED}
    with Connection(settings.RABBITMQ_URL, connect_timeout=1, heartbeat=0) as broker:
        # Not broker.connect(), which tries a second time.
        broker.transport.close_connection(broker.transport.establish_connection())
    alarm = publisher_alarm()
    return {"rabbitmq": Found(up=False, reason=alarm) if alarm else Found(up=True)}


def publisher_alarm() -> str:
    """Since when and why nothing goes out to the bus; "" while it does. The publisher writes it to its subscription."""
    try:
        with relay.connect("health", patience=int(PATIENCE)) as db:
            row = db.execute(
                "SELECT failing_since, error FROM core_subscription WHERE name = %s AND failing_since IS NOT NULL",
                [bus.SUBSCRIPTION],
            ).fetchone()
    except psycopg.Error:
        return ""  # the database's own part says so
    return f"publishing fails since {row[0]:%Y-%m-%dT%H:%M:%S%z}: {row[1]}" if row else ""


def consul() -> dict[str, Found]:
    """Disabled without CONSUL_ENABLED."""
    if not settings.CONSUL_ENABLED:
        return {"consul": DISABLED}
    from crm2 import discovery  # noqa: PLC0415 - its client is loaded where there is a Consul

    return {"consul": Found(up=True) if discovery.has_leader() else Found(up=False, reason="no leader")}


PROBES: dict[str, tuple[Probe, tuple[str, ...]]] = {
    "database": (database, DATABASE_PARTS),
    "redis": (redis_, ("redis",)),
    "rabbitmq": (rabbitmq, ("rabbitmq",)),
    "consul": (consul, ("consul",)),
}


# --- one look at all of them -----------------------------------------------------------------------------------------
class Lookout:
    """Asks the probes in threads of its own; one that does not come back is not asked a second time meanwhile."""

    def __init__(self, probes: Mapping[str, tuple[Probe, tuple[str, ...]]]) -> None:
        self.probes = probes
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._asked: dict[str, Future[dict[str, Found]]] = {}
        self._seen: dict[str, Found] = {}
        self._seen_at = -GOOD_FOR

    def look(self) -> dict[str, Found]:
        """Every part, as it was at most a second ago."""
        with self._lock:
            if time.monotonic() - self._seen_at >= GOOD_FOR:
                self._seen = self._look()
                self._seen_at = time.monotonic()
            return self._seen

    def forget(self) -> None:
        """The next look asks anew."""
        self._seen_at = -GOOD_FOR

    def _look(self) -> dict[str, Found]:
        if self._threads is None:  # at the first look: a thread does not live through a fork
            self._threads = ThreadPoolExecutor(len(self.probes), thread_name_prefix="health")
        for name, (probe, _parts) in self.probes.items():
            if name not in self._asked:
                self._asked[name] = self._threads.submit(probe)
        wait(self._asked.values(), timeout=PATIENCE + 0.5)
        found: dict[str, Found] = {}
        for name, (_probe, parts) in self.probes.items():
            found |= self._answer(name, parts)
        return found

    def _answer(self, name: str, parts: tuple[str, ...]) -> dict[str, Found]:
        if not self._asked[name].done():
            return dict.fromkeys(parts, Found(up=False, reason=f"no answer within {PATIENCE + 0.5} s"))
        future = self._asked.pop(name)
        error = future.exception()
        if error is None:
            return future.result()
        return dict.fromkeys(parts, failed(error))


lookout = Lookout(PROBES)
readiness = Lookout({"database": PROBES["database"]})  # of its own: no other part may make it late
