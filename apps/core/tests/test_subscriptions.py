"""Feeding: in order, completely or not at all, once; what fails is parked and holds up only its own key."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction

from apps.core import context, relay, services, subscriptions
from apps.core.errors import Forbidden
from apps.core.events import on
from apps.core.models import Event, JobRun, Parked, RelayHead, Subscription

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Faulty:
    """A handler that leaves a row for each event, then fails for the names it is told to."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.tried: list[str] = []

    def __call__(self, event: Event) -> None:
        self.tried.append(event.name)
        JobRun.objects.create(job=event.name, slot=NOW)
        if event.name in self.failing:
            raise ValueError("no such luck")

    @property
    def done(self) -> list[str]:
        return list(JobRun.objects.order_by("pk").values_list("job", flat=True))


@pytest.fixture
def handler(handlers) -> Faulty:
    faulty = Faulty()
    on("*", subscription="s")(faulty)
    return faulty


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def position() -> int:
    return Subscription.objects.get(pk="s").position


def waiting() -> list[tuple[str, int]]:
    return list(Parked.objects.order_by("position").values_list("event__name", "tries"))


@pytest.mark.django_db
class TestFeeding:
    def test_each_event_once_in_order(self, handler, happen):
        for name in "abc":
            happen(name)
        relay.drain()
        relay.drain()
        assert handler.done == ["a", "b", "c"]
        assert position() == 3

    def test_a_new_subscription_starts_at_the_head(self, handlers, happen):
        happen("old")
        with transaction.atomic(), connection.cursor() as cursor:
            relay.number_events(cursor)
        faulty = Faulty()
        on("*", subscription="s")(faulty)
        relay.drain()
        happen("new")
        relay.drain()
        assert faulty.done == ["new"]

    def test_a_new_subscription_may_be_made_to_start_earlier(self, handler, happen):
        happen("old")
        with transaction.atomic(), connection.cursor() as cursor:
            relay.number_events(cursor)
        Subscription.objects.create(name="s", position=0)
        relay.drain()
        assert handler.done == ["old"]

    def test_passes_over_names_without_a_handler(self, handlers, happen):
        faulty = Faulty()
        on("wanted", subscription="s")(faulty)
        for name in ("other", "wanted", "other"):
            happen(name)
        relay.drain()
        assert faulty.done == ["wanted"]
        assert position() == 3

    def test_goes_in_turns(self, handler, happen, monkeypatch):
        subscriptions.prepare()
        monkeypatch.setattr(subscriptions, "EVENTS_A_TURN", 2)
        for name in "abcde":
            happen(name)
        with transaction.atomic(), connection.cursor() as cursor:
            relay.number_events(cursor)
        assert [subscriptions.feed("s") for _ in range(4)] == [2, 2, 1, 0]
        assert handler.done == list("abcde")

    def test_a_slow_handler_ends_the_turn_after_its_event(self, handler, happen, monkeypatch):
        subscriptions.prepare()
        monkeypatch.setattr(subscriptions, "TURN_SECONDS", -1)
        for name in "ab":
            happen(name)
        with transaction.atomic(), connection.cursor() as cursor:
            relay.number_events(cursor)
        assert (subscriptions.feed("s"), handler.done) == (1, ["a"])

    def test_a_handler_continues_the_trace_of_its_event(self, handlers, happen):
        seen = []
        on("*", subscription="s")(lambda event: seen.append((context.trace_id(), context.via())))
        context.enter(trace_id="trace-7", via="http")
        happen()
        context.leave()
        relay.drain()
        assert seen == [("trace-7", "job")]


@pytest.mark.django_db
class TestParking:
    def test_the_effect_goes_with_the_failure(self, handler, happen, clock):
        handler.failing = {"bad"}
        happen("bad")
        relay.drain()
        assert handler.done == []
        assert position() == 1
        (parked,) = Parked.objects.all()
        assert (parked.tries, parked.next_try_at) == (1, NOW + timedelta(seconds=1))
        assert parked.error == "ValueError: no such luck"

    def test_later_events_of_its_deal_wait_and_all_others_pass(self, handler, happen, clock):
        handler.failing = {"bad"}
        deal, thing = uuid4(), uuid4()
        happen("before", deal_id=deal)
        happen("bad", deal_id=deal)
        happen("behind", deal_id=deal)
        happen("free", of=thing)
        happen("behind too", deal_id=deal)
        relay.drain()
        assert handler.done == ["before", "free"]
        assert waiting() == [("bad", 1), ("behind", 0), ("behind too", 0)]
        assert "behind" not in handler.tried

    def test_without_a_deal_the_aggregate_is_the_key(self, handler, happen, clock):
        handler.failing = {"bad"}
        thing = uuid4()
        happen("bad", of=thing)
        relay.drain()
        happen("behind", of=thing)
        happen("free")
        relay.drain()
        assert waiting() == [("bad", 1), ("behind", 0)]
        assert handler.done == ["free"]

    def test_those_behind_go_in_order_when_the_first_succeeds(self, handler, happen, clock):
        handler.failing = {"bad"}
        deal = uuid4()
        for name in ("bad", "second", "third"):
            happen(name, deal_id=deal)
        relay.drain()
        handler.failing = set()
        relay.drain()
        assert handler.done == [], "its time has not come"
        clock.shift(1)
        relay.drain()
        assert handler.done == ["bad", "second", "third"]
        assert waiting() == []

    def test_a_long_queue_behind_one_event_goes_on_in_the_next_turn(self, handler, happen, clock, monkeypatch):
        handler.failing = {"bad"}
        deal = uuid4()
        for name in ("bad", "second", "third"):
            happen(name, deal_id=deal)
        relay.drain()
        handler.failing = set()
        clock.shift(1)
        monkeypatch.setattr(subscriptions, "TURN_SECONDS", -1)
        assert subscriptions.retry_due("s") == 1
        assert waiting() == [("second", 0), ("third", 0)]
        relay.drain()
        assert handler.done == ["bad", "second", "third"]

    def test_one_behind_may_fail_in_its_turn(self, handler, happen, clock):
        handler.failing = {"bad", "worse"}
        deal = uuid4()
        for name in ("bad", "worse", "third"):
            happen(name, deal_id=deal)
        relay.drain()
        handler.failing = {"worse"}
        clock.shift(1)
        relay.drain()
        assert handler.done == ["bad"]
        assert waiting() == [("worse", 1), ("third", 0)]

    def test_five_tries_with_growing_pauses_and_then_none(self, handler, happen, clock):
        handler.failing = {"bad"}
        happen("bad")
        relay.drain()
        for pause in (1, 5, 25, 125):
            clock.shift(pause - 0.5)
            relay.drain()
            tries = len(handler.tried)
            clock.shift(0.5)
            relay.drain()
            assert len(handler.tried) == tries + 1
        clock.shift(86400)
        assert relay.drain() == 0
        (parked,) = Parked.objects.all()
        assert (parked.tries, parked.next_try_at) == (5, None)

    def test_another_subscription_is_not_concerned(self, handler, happen, clock):
        other = []
        on("*", subscription="t")(lambda event: other.append(event.name))
        handler.failing = {"bad"}
        happen("bad")
        relay.drain()
        assert other[-1:] == ["bad"]
        assert waiting() == [("bad", 1)]

    def test_what_waits_longer_than_the_lock_timeout_is_parked(self, handlers, happen, clock):
        @on("*", subscription="s")
        def wait_in_vain(event: Event) -> None:
            with connection.cursor() as cursor:
                cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'timeout' USING ERRCODE = 'lock_not_available'; END $$")

        happen("blocked")
        relay.drain()
        assert Parked.objects.get().error == "OperationalError: 55P03"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("Иванов 'Пётр' a@b.ru +7 912 000-00-01 (id=5)"), "ValueError: Иванов … … … …"),
        (KeyError("a secret"), "KeyError: …"),
        (Forbidden(), "Forbidden: forbidden"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 1000), ("ValueError: " + "x" * 1000)[:300]),
        (ValueError("a\0b"), "ValueError: ab"),
    ],
)
def test_a_kept_error_names_no_one(error, text):
    assert subscriptions.describe(error) == text


@pytest.mark.django_db
def test_a_kept_database_error_shows_code_and_constraint(happen):
    thing = uuid4()
    happen(of=thing)
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        Event.objects.create(name="x", aggregate="thing", aggregate_id=thing, version=1, via="job", payload={}, at=NOW)
    assert subscriptions.describe(caught.value) == "IntegrityError: 23505 core_event_one_per_aggregate_version"


@pytest.mark.django_db
class TestMending:
    @pytest.fixture
    def given_up(self, handler, happen, clock) -> Parked:
        handler.failing = {"bad"}
        deal = uuid4()
        for name in ("bad", "behind"):
            happen(name, deal_id=deal)
        relay.drain()
        Parked.objects.filter(event__name="bad").update(tries=5, next_try_at=None)
        handler.failing = set()
        relay.drain()
        assert handler.done == []
        return Parked.objects.get(event__name="bad")

    def test_retry_gives_it_another_chance(self, given_up, handler):
        assert services.retry_parked(ids=[given_up.pk]) == 1
        relay.drain()
        assert handler.done == ["bad", "behind"]

    def test_retrying_one_that_waits_wakes_the_first(self, given_up, handler):
        behind = Parked.objects.get(event__name="behind")
        assert services.retry_parked(ids=[behind.pk, given_up.pk]) == 1
        relay.drain()
        assert handler.done == ["bad", "behind"]

    def test_retry_has_five_tries_again(self, given_up, handler):
        handler.failing = {"bad"}
        call_command("events", "retry", str(given_up.pk))
        relay.drain()
        assert waiting() == [("bad", 1), ("behind", 0)]

    def test_retrying_nothing(self):
        assert services.retry_parked(ids=[1, 2]) == 0

    def test_replay_feeds_again_from_a_position(self, handler, happen, clock):
        for name in "abc":
            happen(name)
        relay.drain()
        JobRun.objects.all().delete()
        assert services.replay(subscription="s", from_position=2) == 2
        relay.drain()
        assert handler.done == ["b", "c"]

    def test_replay_takes_the_parked_along(self, given_up, handler):
        services.replay(subscription="s", from_position=1)
        assert waiting() == []
        relay.drain()
        assert handler.done == ["bad", "behind"]

    def test_replay_leaves_what_was_parked_before(self, given_up, handler, happen):
        happen("later")
        relay.drain()
        services.replay(subscription="s", from_position=3)
        assert waiting() == [("bad", 5), ("behind", 0)]

    @pytest.mark.parametrize("from_position", [-1, 0, 2, 100])
    def test_replay_refuses_a_position_not_passed(self, handler, happen, from_position):
        happen()
        relay.drain()
        with pytest.raises(services.PositionNotReached):
            services.replay(subscription="s", from_position=from_position)
        assert position() == 1

    def test_replay_refuses_an_unknown_subscription(self):
        with pytest.raises(services.SubscriptionNotFound):
            services.replay(subscription="nobody", from_position=1)
        with pytest.raises(CommandError):
            call_command("events", "replay", "nobody", "1")

    def test_status_shows_head_positions_and_parked(self, given_up, capsys):
        call_command("events", "status")
        epoch = RelayHead.objects.get().epoch
        assert capsys.readouterr().out.splitlines() == [f"head {epoch}-2", "s @2 parked=2"]


def test_an_effect_and_its_cursor_commit_together(committed, handlers, happen, monkeypatch):
    """A relay that dies between the effect and the cursor leaves neither."""
    faulty = Faulty()
    on("*", subscription="s")(faulty)
    happen("a")
    subscriptions.prepare()
    with transaction.atomic(), connection.cursor() as cursor:
        relay.number_events(cursor)

    class Killed(BaseException):
        pass

    def die(**_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("django.db.models.query.QuerySet.update", lambda *_, **__: die())
        with pytest.raises(Killed):
            subscriptions.feed("s")
    assert (faulty.done, position()) == ([], 0)
    subscriptions.feed("s")
    assert (faulty.done, position()) == (["a"], 1)


def test_a_commit_that_fails_parks_only_the_event_at_fault(committed, handlers, happen):
    @on("*", subscription="s")
    def leave_an_orphan(event: Event) -> None:
        JobRun.objects.create(job=event.name, slot=NOW)
        if event.name == "bad":  # the foreign key is deferred: only the commit finds out
            Parked.objects.create(subscription_id="nobody", event=event, key=event.pk, position=0)

    for name in ("good", "bad", "fine"):
        happen(name)
    relay.drain()
    assert set(JobRun.objects.values_list("job", flat=True)) == {"good", "fine"}
    assert waiting() == [("bad", 1)]
    assert Parked.objects.get().error.startswith("IntegrityError: 23503 core_parked_subscription_id")
