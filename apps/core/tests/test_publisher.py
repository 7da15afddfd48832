"""Publishing on a real broker: everything leaves once confirmed, in order, and nothing is passed over."""

import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from uuid import uuid4

import amqp
import orjson
import pytest

from apps.core import bus, publisher, relay, services
from apps.core.models import Event, RelayHead, Subscription
from apps.core.publisher import Link, Publisher
from apps.core.tests.test_relay import Running, leaders, number, wait_until

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def row() -> Subscription:
    return Subscription.objects.get(pk="rabbitmq")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(publisher, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(publisher, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(publisher, "LONGEST_PAUSE", 0.1)


@pytest.fixture
def on_bus(committed, handlers, broker, settings, quick):
    """The broker, empty, given to the settings."""
    settings.RABBITMQ_URL = broker.url
    with broker.connect() as link:
        channel = link.channel()
        channel.queue_delete(bus.FEED)
        for exchange in bus.exchanges():
            channel.exchange_delete(exchange)
    return broker


@pytest.fixture
def start(on_bus):
    """A publisher without a relay."""
    running = []

    def one() -> Publisher:
        running.append(Publisher())
        running[-1].start()
        return running[-1]

    yield one
    for each in running:
        each.stop()


@pytest.fixture
def lead(on_bus):
    """A relay with its publisher, once both stand: what happens before is not the new bus's concern."""
    running = []

    def one() -> Running:
        running.append(Running())
        assert wait_until(leaders)
        assert wait_until(Subscription.objects.filter(pk="rabbitmq").exists)
        return running[-1]

    yield one
    for each in running:
        each.stop()


def feed(broker) -> list[amqp.Message]:
    """Takes what is in the feed."""
    taken = []
    with broker.connect() as link:
        channel = link.channel()
        while (got := channel.basic_get(bus.FEED, no_ack=True)) is not None:
            taken.append(got)
    return taken


def exists(broker, queue: str) -> bool:
    with broker.connect() as link:
        try:
            link.channel().queue_declare(queue, passive=True)
        except amqp.NotFound:
            return False
    return True


def names(broker) -> list[str]:
    return [got.headers["event"] for got in feed(broker)]


def unbind(broker, exchange: str = "crm.events") -> None:
    with broker.connect() as link:
        link.channel().queue_unbind(bus.FEED, exchange, "#")


def bind(broker, exchange: str = "crm.events") -> None:
    with broker.connect() as link:
        link.channel().queue_bind(bus.FEED, exchange, "#")


@pytest.mark.broker
class TestPublishing:
    def test_what_leaves_arrives_in_order_and_the_rest_is_passed_over(self, start, on_bus, happen):
        start()
        for name in ("deal.a", "user.b", "policy.c", "task.d", "client.e"):
            happen(name)
        number()
        assert wait_until(lambda: row().position == 5)
        got = feed(on_bus)
        assert [each.headers["event"] for each in got] == ["deal.a", "policy.c", "task.d", "client.e"]
        assert [each.delivery_info["exchange"] for each in got] == ["crm.events"] * 2 + ["tasks.events", "crm.events"]
        assert {each.delivery_info["routing_key"] for each in got} == {"deal.a", "policy.c", "task.d", "client.e"}
        first = got[0]
        assert (first.properties["delivery_mode"], first.properties["content_type"]) == (2, bus.CONTENT_TYPE)
        assert orjson.loads(first.body)["id"] == first.properties["message_id"]

    def test_the_feed_is_a_quorum_queue_that_drops_its_oldest(self, start, on_bus):
        """Declaring a queue that exists succeeds only with the same properties."""
        start()
        limits = {"x-queue-type": "quorum", "x-max-length": 100_000, "x-overflow": "drop-head"}
        assert wait_until(lambda: exists(on_bus, bus.FEED))
        with on_bus.connect() as link:
            assert link.channel().queue_declare("crm.feed", durable=True, auto_delete=False, arguments=limits)
            with pytest.raises(amqp.PreconditionFailed):
                link.channel().queue_declare(
                    "crm.feed", durable=True, auto_delete=False, arguments=limits | {"x-max-length": 99_999}
                )

    def test_more_than_a_batch(self, start, on_bus, happen, monkeypatch):
        monkeypatch.setattr(publisher, "BATCH", 7)
        start()
        wanted = [f"deal.n{index}" for index in range(50)]
        for name in wanted:
            happen(name)
        number()
        assert wait_until(lambda: row().position == 50)
        assert names(on_bus) == wanted

    def test_a_new_bus_begins_at_the_head_and_replay_sends_again_with_the_same_ids(self, start, on_bus, happen):
        happen("deal.old")
        number()
        start()
        made = happen("deal.new")
        number()
        assert wait_until(lambda: row().position == 2)
        assert services.replay(subscription="rabbitmq", from_position=1) == 2
        got = []
        assert wait_until(lambda: got.extend(feed(on_bus)) or len(got) == 3)
        assert [each.headers["event"] for each in got] == ["deal.new", "deal.old", "deal.new"]
        assert Counter(each.properties["message_id"] for each in got)[str(made.pk)] == 2


@pytest.mark.broker
class TestTrouble:
    def test_unroutable_is_an_alarm_and_no_loss(self, start, on_bus, happen):
        start()
        happen("deal.first")
        number()
        assert wait_until(lambda: row().position == 1)
        unbind(on_bus)
        for name in ("deal.a", "deal.b", "task.c"):
            happen(name)
        number()
        assert wait_until(lambda: row().error == "unroutable")
        assert row().failing_since is not None
        time.sleep(0.3)
        assert row().position == 1
        assert names(on_bus) == ["deal.first"], "what stands behind in another exchange waits too"
        bind(on_bus)
        assert wait_until(lambda: row().position == 4)
        assert names(on_bus) == ["deal.a", "deal.b", "task.c"]
        assert wait_until(lambda: (row().error, row().failing_since) == ("", None))

    def test_a_blocked_broker_is_waited_for_and_holds_nothing_else_up(self, lead, on_bus, happen):
        first = lead()
        on_bus.memory_alarm(True)
        try:
            happen("deal.a")
            assert wait_until(lambda: row().error == "blocked")
            since = row().failing_since
            happen("deal.b")
            assert wait_until(lambda: RelayHead.objects.get().position == 2, seconds=2), "numbering goes on"
            assert (row().position, row().failing_since) == (0, since)
            started = time.monotonic()
            first.stop()
            assert time.monotonic() - started < 3, "it ends when asked"
            assert (row().position, row().error) == (0, "blocked")
        finally:
            on_bus.memory_alarm(False)
        lead()
        assert wait_until(lambda: row().position == 2)
        assert wait_until(lambda: row().error == "")
        assert list(dict.fromkeys(names(on_bus))) == ["deal.a", "deal.b"]

    def test_a_retry_ends_the_pause(self, lead, on_bus, happen, monkeypatch):
        lead()
        happen("deal.first")
        assert wait_until(lambda: row().position == 1)
        monkeypatch.setattr(publisher, "FIRST_PAUSE", 60.0)
        monkeypatch.setattr(publisher, "LONGEST_PAUSE", 60.0)
        happen("deal.second")  # a turn that moves takes the new pause over
        assert wait_until(lambda: row().position == 2)
        unbind(on_bus)
        happen("deal.third")
        assert wait_until(lambda: row().error == "unroutable")
        bind(on_bus)
        services.retry_publishing()
        assert wait_until(lambda: row().position == 3, seconds=5)

    def test_an_event_that_cannot_be_sent_is_an_alarm_too(self, start, on_bus, happen, monkeypatch):
        with monkeypatch.context() as patched:
            patched.setattr(bus, "message", lambda event: 1 / 0)
            start()
            happen("deal.a")
            number()
            assert wait_until(lambda: row().error == "failed")
            assert row().position == 0
        assert wait_until(lambda: row().position == 1)

    def test_a_connection_that_is_cut_is_made_anew(self, start, on_bus, happen):
        start()
        happen("deal.before")
        number()
        assert wait_until(lambda: row().position == 1)
        on_bus.control("close_all_connections", "test")
        happen("deal.after")
        number()
        assert wait_until(lambda: row().position == 2)
        assert wait_until(lambda: row().error == "")
        assert names(on_bus) == ["deal.before", "deal.after"]


class Scripted:
    """A channel whose broker says what the test makes it say."""

    def __init__(self) -> None:
        self.events = defaultdict(set)
        self.sent: list[amqp.Message] = []

    def confirm_select(self) -> None:
        pass

    def basic_publish(self, message, exchange, key, mandatory) -> None:
        assert mandatory
        self.sent.append(message)

    def say(self, what: str, *said) -> None:
        for callback in self.events[what]:
            callback(*said)


class TestConfirmedPrefix:
    @pytest.fixture
    def batch(self) -> list[Event]:
        return [Event(name="deal.a", aggregate_id=uuid4(), payload={}, at=NOW, position=n) for n in range(1, 6)]

    @pytest.fixture
    def channel(self) -> Scripted:
        return Scripted()

    @pytest.fixture
    def link(self, channel, batch) -> Link:
        link = Link(channel)
        link.send(batch)
        return link

    def test_nothing_is_safe_before_it_is_confirmed(self, link, batch):
        assert (link.confirmed(batch), link.waiting) == ([], 5)

    def test_a_gap_ends_it(self, link, channel, batch):
        for tag in (1, 2, 4, 5):
            channel.say("basic_ack", tag, False)
        assert (link.confirmed(batch), link.waiting) == (batch[:2], 1)

    def test_one_answer_for_many(self, link, channel, batch):
        channel.say("basic_ack", 4, True)
        assert (link.confirmed(batch), link.waiting) == (batch[:4], 1)

    def test_a_refusal_ends_it(self, link, channel, batch):
        channel.say("basic_nack", 2, False)
        channel.say("basic_ack", 5, True)
        assert (link.confirmed(batch), link.waiting, link.fault()) == (batch[:1], 0, "refused")

    def test_what_comes_back_is_confirmed_and_yet_not_safe(self, link, channel, batch):
        channel.say("basic_return", None, "crm.events", "deal.a", channel.sent[2])
        channel.say("basic_ack", 5, True)
        assert (link.confirmed(batch), link.waiting, link.fault()) == (batch[:2], 0, "unroutable")

    def test_the_next_batch_counts_on(self, link, channel, batch):
        channel.say("basic_ack", 5, True)
        link.send(batch[:2])
        channel.say("basic_ack", 6, False)
        assert link.confirmed(batch[:2]) == batch[:1]


def test_a_broker_that_is_not_there_is_an_alarm(committed, settings, quick, happen):
    """Nothing listens there: without a broker the row says so and the cursor stays."""
    settings.RABBITMQ_URL = "amqp://u:p@127.0.0.1:1/"
    one = Publisher()
    one.start()
    happen("deal.a")
    number()
    assert wait_until(lambda: row().error == "unreachable")
    one.stop()
    assert row().position == 0


def test_the_alarm_is_logged_once(committed, settings, quick, caplog):
    settings.RABBITMQ_URL = "amqp://u:p@127.0.0.1:1/"
    one = Publisher()
    one.start()
    assert wait_until(lambda: row().error == "unreachable")
    time.sleep(0.4)
    one.stop()
    assert [(each.levelname, each.code) for each in caplog.records if each.message == "bus stands still"] == [
        ("ERROR", "unreachable")
    ]


@pytest.mark.django_db
def test_without_a_url_there_is_no_bus(handlers, happen):
    """A row that an earlier configuration left holds nothing back and raises no alarm."""
    Subscription.objects.create(name="rabbitmq", position=0, error="unreachable", failing_since="2026-03-01T00:00:00Z")
    one = Publisher()
    one.start()
    happen("deal.a")
    relay.drain()
    one.stop()
    assert (row().position, row().error, row().failing_since) == (0, "", None)


@pytest.mark.django_db
def test_no_row_without_a_url():
    Publisher().start()
    assert not Subscription.objects.filter(pk="rabbitmq").exists()
