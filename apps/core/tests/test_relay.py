"""Numbering: gapless, in order, one leader at a time, whoever dies."""

import threading
import time
from datetime import UTC, datetime

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, transaction

from apps.core import events, relay
from apps.core.models import Event, RelayHead, Subscription


def number() -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        return relay.number_events(cursor)


def positions() -> list[int | None]:
    return list(Event.objects.order_by("position").values_list("position", flat=True))


def wait_until(fact, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.02)
    return fact()


@pytest.mark.django_db
class TestNumbering:
    def test_numbers_in_the_order_of_emitting(self, happen):
        made = [happen().pk for _ in range(5)]
        assert number() == 5
        assert list(Event.objects.order_by("position").values_list("pk", flat=True)) == made
        assert positions() == [1, 2, 3, 4, 5]
        assert RelayHead.objects.get().position == 5

    def test_goes_on_where_it_stopped(self, happen):
        happen()
        number()
        happen()
        happen()
        assert (number(), positions()) == (2, [1, 2, 3])

    def test_takes_a_batch_at_a_time(self, happen, monkeypatch):
        monkeypatch.setattr(relay, "NUMBERED_AT_ONCE", 2)
        for _ in range(5):
            happen()
        assert [number() for _ in range(4)] == [2, 2, 1, 0]
        assert positions() == [1, 2, 3, 4, 5]

    def test_does_nothing_when_there_is_nothing(self, django_assert_num_queries):
        with django_assert_num_queries(1), connection.cursor() as cursor:
            assert relay.number_events(cursor) == 0


def test_an_event_that_commits_late_gets_a_later_position(committed, happen):
    with relay.connect() as other:
        other.autocommit = False
        other.execute(
            "INSERT INTO core_event (id, name, aggregate, aggregate_id, version, via, trace_id, payload, changes, at)"
            " VALUES (gen_random_uuid(), 'late', 'thing', gen_random_uuid(), 1, 'http', '', '{}', '{}', now())"
        )
        happen("early")
        assert number() == 1
        other.commit()
    assert number() == 1
    assert list(Event.objects.order_by("position").values_list("name", "position")) == [("early", 1), ("late", 2)]


def test_a_rolled_back_numbering_leaves_no_gap(committed, happen):
    happen()
    with relay.connect() as other:
        other.autocommit = False
        with other.cursor() as cursor:
            assert relay.number_events(cursor) == 1
        other.rollback()
    happen()
    assert (number(), positions()) == (2, [1, 2])


def test_two_that_number_at_once_leave_no_gap(committed, happen, monkeypatch):
    monkeypatch.setattr(relay, "NUMBERED_AT_ONCE", 7)
    for _ in range(100):
        happen()
    counts = []

    def work():
        with relay.connect() as own:
            while True:
                with own.transaction(), own.cursor() as cursor:
                    count = relay.number_events(cursor)
                counts.append(count)
                if not count:
                    return

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert counts.count(0) == 3, "each came to its end"
    assert sum(counts) == 100
    assert positions() == list(range(1, 101))


class Running:
    """A relay in a thread."""

    def __init__(self) -> None:
        self.relay = relay.Relay()
        self.thread = threading.Thread(target=self.relay.run)
        self.thread.start()

    def stop(self) -> None:
        self.relay.stop()
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {events.CHANNEL}")
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def start(committed, handlers):
    running = []

    def one() -> Running:
        running.append(Running())
        return running[-1]

    yield one
    for each in running:
        each.stop()


def leaders() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE locktype = 'advisory' AND granted AND objid = %s AND datname = current_database()",
            [relay.LEADER_LOCK],
        )
        return [row[0] for row in cursor.fetchall()]


class TestLeading:
    def test_the_bell_wakes_the_relay(self, start, happen, monkeypatch):
        monkeypatch.setattr(relay, "POLL_SECONDS", 60.0)
        start()
        assert wait_until(leaders)
        time.sleep(0.3)  # it has done its first round and waits
        happen()
        assert wait_until(lambda: positions() == [1], seconds=3)

    def test_a_lost_ring_costs_one_poll(self, start, happen):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE core_event DISABLE TRIGGER core_event_ring")
        try:
            start()
            assert wait_until(leaders)
            happen()
            assert wait_until(lambda: positions() == [1], seconds=3)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE core_event ENABLE TRIGGER core_event_ring")

    def test_one_leads_and_another_takes_over(self, start, happen):
        start()
        assert wait_until(leaders)
        first = leaders()
        start()
        time.sleep(0.7)
        assert leaders() == first
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", first)
        assert wait_until(lambda: leaders() not in ([], first), seconds=5)
        happen()
        assert wait_until(lambda: positions() == [1])

    def test_a_leader_whose_sessions_end_comes_back(self, start, happen, handlers):
        seen = []
        events.on("*", subscription="watcher")(lambda event: seen.append(event.position))
        start()
        assert wait_until(leaders)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        happen()
        assert wait_until(lambda: seen == [1])

    def test_beats_while_idle(self, start, monkeypatch):
        monkeypatch.setattr(relay, "BEAT_SECONDS", 0.1)
        monkeypatch.setattr(relay, "POLL_SECONDS", 0.1)
        start()
        assert wait_until(lambda: RelayHead.objects.get().beat_at is not None)
        first = RelayHead.objects.get().beat_at
        assert wait_until(lambda: RelayHead.objects.get().beat_at > first)
        assert abs((datetime.now(UTC) - first).total_seconds()) < 5

    def test_stops_when_asked_and_frees_the_lock(self, start):
        one = start()
        assert wait_until(leaders)
        one.stop()
        assert wait_until(lambda: leaders() == [])

    def test_a_hook_that_fails_after_the_commit_stops_no_one(self, start, happen, handlers):
        seen = []

        def burst() -> None:
            raise ValueError("after the commit")

        events.on("*", subscription="a")(lambda event: transaction.on_commit(burst))
        events.on("*", subscription="b")(lambda event: seen.append(event.position))
        start()
        assert wait_until(leaders)
        happen()
        assert wait_until(lambda: seen == [1])
        assert wait_until(lambda: set(Subscription.objects.values_list("position", flat=True)) == {1})


def test_connects_outside_djangos_pool(committed):
    with relay.connect() as own:
        assert own.info.dbname == connection.settings_dict["NAME"]
        assert own.autocommit
        (name,) = own.execute("SHOW application_name").fetchone()
        assert name.startswith("crm2 relay ")


def test_waits_for_a_database_that_is_away(committed, monkeypatch):
    attempts = []

    def refuse():
        attempts.append(time.monotonic())
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(relay, "connect", refuse)
    monkeypatch.setattr(relay, "FIRST_PAUSE", 0.05)
    running = Running()
    assert wait_until(lambda: len(attempts) >= 3)
    running.stop()
    assert attempts[2] - attempts[1] > attempts[1] - attempts[0]


@pytest.mark.django_db
def test_once_does_all_there_is(happen, handlers):
    seen = []
    events.on("*", subscription="watcher")(lambda event: seen.append(event.position))
    for _ in range(3):
        happen()
    call_command("relay", "--once")
    assert seen == [1, 2, 3]
