"""Health: what is up, who hears why; no probe hangs or fails, and a storm of them asks a store once a second."""

import threading
import time
from socket import socket
from unittest.mock import MagicMock

import psycopg
import pytest
from django.db import OperationalError, connection
from django.test import Client

from apps.core import alive, relay
from apps.core.breaker import PATIENCE
from apps.core.middleware import SchemaGuardMiddleware
from crm2 import health, probes
from crm2.probes import Found, Lookout

PARTS = {"database", "migrations", "relay", "worker", "beat", "redis", "rabbitmq", "consul"}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(alive, "_said_at", {})
    for each in (probes.lookout, probes.readiness):
        each.forget()
    yield
    for each in (probes.lookout, probes.readiness):
        each.forget()


@pytest.fixture
def own(django_db_setup, django_db_blocker):
    """A second session: health looks from outside of the test's transaction. What it changes is put back."""
    with django_db_blocker.unblock(), relay.connect("test") as db:
        db.execute("DELETE FROM core_processbeat")
        yield db
        db.execute("DELETE FROM core_processbeat")
        db.execute("DELETE FROM core_subscription WHERE name = 'rabbitmq'")
        db.execute("UPDATE core_relayhead SET beat_at = NULL")


@pytest.fixture
def silent_port():
    """A server that takes connections and never says a word."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield listener.getsockname()[1]


@pytest.fixture
def everyone_works(own):
    own.execute("UPDATE core_relayhead SET beat_at = clock_timestamp()")
    alive.say("worker")
    alive.say("beat")
    return own


def found(**changes):
    return {name: Found(up=True) for name in PARTS} | changes


@pytest.fixture
def see(monkeypatch):
    """Health that finds what the test says."""

    def pretend(**changes):
        for each in (probes.lookout, probes.readiness):
            monkeypatch.setattr(each, "look", lambda: found(**changes))

    return pretend


@pytest.mark.django_db
class TestHealth:
    def test_all_up(self, api, everyone_works):
        answer = api().get("/api/v1/health")
        assert answer.status_code == 200, answer.data
        assert answer.data["status"] == "ok"
        assert set(answer.data["details"]) == PARTS
        assert answer.data["info"] == answer.data["details"]
        assert answer.data["error"] == {}
        assert answer.data["details"]["rabbitmq"] == {"status": "up", "disabled": True}

    @pytest.mark.parametrize("name", ["worker", "beat"])
    def test_worker_and_beat_are_told_apart(self, api, everyone_works, name):
        everyone_works.execute("UPDATE core_processbeat SET at = at - interval '31 s' WHERE name = %s", [name])
        answer = api().get("/api/v1/health")
        assert answer.status_code == 503
        assert answer.data["error"] == {name: {"status": "down"}}
        assert name not in answer.data["info"]

    def test_one_of_several_workers_is_enough(self, own):
        own.execute("INSERT INTO core_processbeat VALUES ('worker', clock_timestamp() - interval '1 hour')")
        alive.say("worker")
        assert probes.lookout.look()["worker"].up

    def test_a_relay_that_was_never_seen(self, api, admin, own):
        details = api(admin).get("/api/v1/health").data["details"]
        assert details["relay"]["status"] == "down"
        assert "no relay was ever seen" in details["relay"]["reason"]

    def test_reasons_are_for_admins(self, api, admin, seller, see):
        see(redis=Found(up=False, reason="ConnectionError: refused by 10.0.0.7"), relay=Found(up=True, more={"lag": 3}))
        for caller in (None, seller):
            body = api(caller).get("/api/v1/health").data
            assert body["details"]["redis"] == {"status": "down"}
            assert body["details"]["relay"] == {"status": "up"}
        body = api(admin).get("/api/v1/health").data
        assert body["error"]["redis"] == {"status": "down", "reason": "ConnectionError: refused by 10.0.0.7"}
        assert body["details"]["relay"] == {"status": "up", "lag": 3}

    def test_without_a_database_it_still_answers_and_asks_no_one_who_he_is(self, api, see, monkeypatch):
        see(database=Found(up=False, reason="refused"))

        def unreachable(*_):
            raise OperationalError("refused")

        monkeypatch.setattr("apps.auth.authentication.identify", unreachable)
        answer = api().get("/api/v1/health", HTTP_AUTHORIZATION="Bearer whatever")
        assert answer.status_code == 503
        assert answer.data["error"] == {"database": {"status": "down"}}

    def test_a_database_lost_between_two_questions_is_no_500(self, api, see, monkeypatch):
        see()

        def unreachable(*_, **__):
            raise OperationalError("gone")

        monkeypatch.setattr("apps.auth.authentication.identify", unreachable)
        assert api().get("/api/v1/health", HTTP_AUTHORIZATION="Bearer whatever").status_code == 200

    def test_a_bad_token_is_refused_as_everywhere(self, api, see):
        see()
        assert api().get("/api/v1/health", HTTP_AUTHORIZATION="Bearer rubbish").status_code == 401


class TestProbes:
    def test_the_database_away(self, monkeypatch):
        def refused(*_, **__):
            raise psycopg.OperationalError("connection refused")

        monkeypatch.setattr(relay, "connect", refused)
        seen = probes.database()
        assert set(seen) == set(probes.DATABASE_PARTS)
        assert not any(part.up for part in seen.values())
        assert "connection refused" in seen["database"].reason

    def test_a_database_without_tables(self, own, monkeypatch):
        own.execute("CREATE SCHEMA empty_one")
        try:
            connect = relay.connect

            def elsewhere(*args, **kwargs):
                session = connect(*args, **kwargs)
                session.execute("SET search_path = empty_one")
                return session

            monkeypatch.setattr(relay, "connect", elsewhere)
            seen = probes.database()
        finally:
            own.execute("DROP SCHEMA empty_one")
        assert seen["database"].up
        assert not any(seen[name].up for name in probes.DATABASE_PARTS[1:])
        assert "migrate" in seen["migrations"].reason

    def test_a_migration_that_is_missing(self, own, monkeypatch):
        known = probes._migrations_of_the_code()
        monkeypatch.setattr(probes, "_migrations_of_the_code", lambda: known | {("core", "9999_tomorrow")})
        part = probes.database()["migrations"]
        assert (part.up, part.reason, part.more) == (False, "1 unapplied", {"pending": 1})

    def test_a_dead_redis_is_told_within_its_patience(self, settings, silent_port):
        settings.REDIS_URL = f"redis://127.0.0.1:{silent_port}/0"
        started = time.monotonic()
        with pytest.raises(Exception, match="Timeout"):
            probes.redis_()
        assert time.monotonic() - started < 1.5

    def test_a_dead_rabbitmq_is_told_within_its_patience(self, settings, silent_port):
        settings.RABBITMQ_URL = f"amqp://a:b@127.0.0.1:{silent_port}//"
        started = time.monotonic()
        with pytest.raises(OSError):
            probes.rabbitmq()
        assert time.monotonic() - started < 2.0

    def test_a_publisher_that_fails_is_rabbitmq_down(self, own, settings, monkeypatch):
        settings.RABBITMQ_URL = "amqp://a:b@127.0.0.1:1//"
        monkeypatch.setattr(probes, "Connection", MagicMock())
        assert probes.rabbitmq()["rabbitmq"].up
        own.execute(
            "INSERT INTO core_subscription (name, position, updated_at, failing_since, error)"
            " VALUES ('rabbitmq', 0, now(), '2026-03-02T09:00:00Z', 'unroutable')"
        )
        part = probes.rabbitmq()["rabbitmq"]
        assert not part.up
        assert part.reason.startswith("publishing fails since 2026-03-02T")
        assert part.reason.endswith(": unroutable")
        own.execute("UPDATE core_subscription SET failing_since = NULL, error = ''")
        assert probes.rabbitmq()["rabbitmq"].up


class TestLookout:
    def test_a_storm_asks_once_a_second(self):
        asked = []

        def probe():
            asked.append(1)
            time.sleep(0.05)
            return {"it": Found(up=True)}

        lookout = Lookout({"it": (probe, ("it",))})
        threads = [threading.Thread(target=lookout.look) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(asked) == 1
        lookout.forget()
        lookout.look()
        assert len(asked) == 2

    def test_one_that_hangs_is_down_alone_and_is_not_asked_again_meanwhile(self, monkeypatch):
        monkeypatch.setattr(probes, "PATIENCE", -0.4)
        asked, gate = [], threading.Event()

        def hang():
            asked.append(1)
            gate.wait(10)
            return {"slow": Found(up=True)}

        lookout = Lookout({"slow": (hang, ("slow",)), "quick": (lambda: {"quick": Found(up=True)}, ("quick",))})
        for _ in range(2):
            lookout.forget()
            seen = lookout.look()
            assert (seen["slow"].up, seen["quick"].up) == (False, True)
        assert asked == [1]
        gate.set()
        lookout._asked["slow"].result(10)
        lookout.forget()
        assert lookout.look()["slow"].up

    def test_an_error_of_a_probe_is_down(self):
        def broken():
            raise RuntimeError("no such host")

        seen = Lookout({"it": (broken, ("it", "its brother"))}).look()
        assert [seen[name].reason for name in ("it", "its brother")] == ["RuntimeError: no such host"] * 2


class TestReadiness:
    @pytest.mark.parametrize("path", ["/readyz", "/readyz/"])
    def test_ready(self, see, path):
        see(redis=Found(up=False), worker=Found(up=False), relay=Found(up=False))  # the API works without them
        answer = Client().get(path, HTTP_HOST="10.0.0.7")
        assert (answer.status_code, answer.content) == (200, b'{"status":"ready"}')

    @pytest.mark.parametrize(
        ("part", "code"), [("database", "service_unavailable"), ("migrations", "migrations_pending")]
    )
    def test_not_ready(self, see, part, code):
        see(**{part: Found(up=False, reason="x")})
        answer = Client().get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, code)
        assert "Retry-After" in answer

    def test_of_this_database(self, own):
        assert health.unreadiness() is None

    def test_a_redis_that_hangs_makes_it_neither_false_nor_late(self, own, settings, silent_port):
        settings.REDIS_URL = f"redis://127.0.0.1:{silent_port}/0"
        started = time.monotonic()
        assert health.unreadiness() is None
        assert time.monotonic() - started < PATIENCE

    @pytest.mark.parametrize("path", ["/healthz", "/healthz/"])
    def test_liveness_answers_any_host_and_touches_nothing(self, path, monkeypatch):
        monkeypatch.setattr(probes.readiness, "look", lambda: 1 / 0)
        answer = Client().get(path, HTTP_HOST="10.0.0.7")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    @pytest.mark.django_db
    def test_health_tells_itself_that_a_migration_is_missing(self, see, monkeypatch):
        monkeypatch.setattr(SchemaGuardMiddleware, "current", False)
        monkeypatch.setattr("apps.core.middleware.migrations_pending", lambda: True)
        see(migrations=Found(up=False, reason="1 unapplied"))
        answer = Client().get("/api/v1/health", HTTP_AUTHORIZATION="Bearer whatever")
        assert answer.status_code == 503
        assert answer.json()["error"] == {"migrations": {"status": "down"}}
        assert Client().get("/api/v1/deals").json()["code"] == "migrations_pending"


class TestSignsOfLife:
    def test_often_called_seldom_written(self, own, monkeypatch):
        written = []
        connect = relay.connect
        monkeypatch.setattr(relay, "connect", lambda *a, **k: written.append(1) or connect(*a, **k))
        for _ in range(5):
            alive.say("worker")
        assert written == [1]
        assert own.execute("SELECT name FROM core_processbeat").fetchall() == [("worker",)]

    def test_a_database_away_stops_nobody(self, monkeypatch):
        def refused(*_, **__):
            raise psycopg.OperationalError("refused")

        monkeypatch.setattr(relay, "connect", refused)
        alive.say("beat")


@pytest.mark.django_db
def test_the_pool_is_not_asked(django_assert_num_queries, own):
    with django_assert_num_queries(0):
        probes.lookout.look()
    assert connection.connection is None or not connection.connection.closed
