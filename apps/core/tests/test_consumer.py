"""Reading a queue on a real broker: acknowledged after the effect; what fails ends in the dead-letter queue, once."""

import threading
import time
from collections.abc import Callable
from uuid import UUID

import amqp
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DataError, OperationalError, connection, transaction

from apps.core import consumer as consuming
from apps.core import services
from apps.core.consumer import Consumer, Delivery, Elsewhere, Malformed, Queue
from apps.core.models import Inbox
from apps.core.tests.test_relay import wait_until

ID = UUID("11111111-1111-4111-8111-111111111111")
QUEUE = Queue("test.events", "test.exchange", "test.*")


class Killed(BaseException):
    """What `kill -9` does to a consumer, as far as the broker sees it: the connection is cut."""


class Handler:
    """Notes what it was given; does what the body says: `raise`, `malformed`, `elsewhere`, `die`, `away`."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.traces: list[str] = []
        self.outages = 0

    def __call__(self, delivery: Delivery) -> bool:
        what = delivery.body.decode()
        self.seen.append(what)
        self.traces.append(consuming.context.trace_id())
        if what == "raise":
            raise ValueError("of a@b.ru")
        if what == "malformed":
            raise Malformed("not_json")
        if what == "elsewhere":
            raise Elsewhere
        if what == "die":
            raise Killed
        if what == "away" and self.outages:
            self.outages -= 1
            connection.close()
            raise OperationalError("server closed the connection unexpectedly")
        return True


class Running:
    """A consumer in a thread; started again when it is killed, as a supervisor does."""

    def __init__(self, handle: Callable[[Delivery], bool]) -> None:
        self.deaths = 0
        self._handle, self._ending = handle, False
        self.consumer = Consumer(QUEUE, handle)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self._ending:
            try:
                self.consumer.run()
            except Killed:
                self.deaths += 1

    def stop(self) -> None:
        self._ending = True
        self.consumer.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def queue(committed, broker, settings, monkeypatch):
    """The queue, empty: `queue.put("body")`, `queue.dead()` takes what is dead, `queue.left()` counts."""
    settings.RABBITMQ_URL = broker.url
    monkeypatch.setattr(consuming, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(consuming, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(consuming, "RETRY_PAUSES", (0.01, 0.02, 0.03, 0.04))
    with broker.connect() as link:
        channel = link.channel()
        channel.queue_delete(QUEUE.name)
        channel.queue_delete(QUEUE.dead)
        QUEUE.declare(channel)
        yield Open(channel)


class Open:
    def __init__(self, channel: amqp.Channel) -> None:
        self.channel = channel

    def put(self, body: str, **headers: object) -> None:
        message = amqp.Message(body, delivery_mode=2, application_headers=headers)
        self.channel.basic_publish_confirm(message, QUEUE.exchange, "test.it", mandatory=True)

    def dead(self, wanted: int = 1) -> list[amqp.Message]:
        found: list[amqp.Message] = []

        def look() -> bool:
            while (got := self.channel.basic_get(QUEUE.dead, no_ack=True)) is not None:
                found.append(got)
            return len(found) >= wanted

        assert wait_until(look), f"{len(found)} dead"
        time.sleep(0.1)
        look()
        return found

    def left(self) -> int:
        return self.channel.queue_declare(QUEUE.name, passive=True).message_count


@pytest.fixture
def start(queue, handler):
    running = []

    def one() -> Running:
        running.append(Running(handler))
        return running[-1]

    yield one
    for each in running:
        each.stop()


@pytest.mark.broker
class TestReading:
    def test_in_order_acknowledged_and_with_the_trace(self, queue, start, handler):
        for index in range(20):
            queue.put(str(index), **{"X-Trace-Id": f"trace-{index}"})
        one = start()
        assert wait_until(lambda: one.consumer.counts["done"] == 20)
        assert handler.seen == [str(index) for index in range(20)]
        assert handler.traces == [f"trace-{index}" for index in range(20)]
        one.stop()
        assert queue.left() == 0

    def test_what_is_not_for_us_is_counted(self, queue, start):
        queue.put("elsewhere")
        queue.put("good")
        one = start()
        assert wait_until(lambda: one.consumer.counts["done"] == 1)
        assert one.consumer.counts["elsewhere"] == 1
        assert queue.dead(0) == []

    def test_malformed_is_dead_at_once_with_the_reason(self, queue, start, handler):
        queue.put("malformed", mine="kept")
        one = start()
        (dead,) = queue.dead()
        assert (dead.body, handler.seen) == ("malformed", ["malformed"])
        headers = dead.properties["application_headers"]
        assert {name: headers[name] for name in ("x-reason", "x-tries", "x-exchange", "x-routing-key", "mine")} == {
            "x-reason": "not_json", "x-tries": 1, "x-exchange": "test.exchange", "x-routing-key": "test.it",
            "mine": "kept",
        }  # fmt: skip
        assert one.consumer.counts["dead"] == 1

    def test_too_large_is_dead_at_once(self, queue, start, handler, settings):
        settings.MAX_BODY_BYTES = 10
        queue.put("x" * 11)
        start()
        (dead,) = queue.dead()
        assert (dead.properties["application_headers"]["x-reason"], handler.seen) == ("too_large", [])

    def test_what_fails_is_tried_five_times_and_holds_its_place(self, queue, start, handler):
        for body in ("raise", "after"):
            queue.put(body)
        start()
        (dead,) = queue.dead()
        assert wait_until(lambda: "after" in handler.seen)
        assert handler.seen == ["raise"] * 5 + ["after"]
        headers = dead.properties["application_headers"]
        assert (headers["x-reason"], headers["x-tries"]) == ("ValueError: of …", 5)

    def test_an_error_that_looks_like_the_brokers_is_still_the_handlers(self, queue):
        def fail(delivery: Delivery) -> bool:
            raise ConnectionRefusedError("somebody else's")

        queue.put("x")
        one = Running(fail)
        (dead,) = queue.dead()
        one.stop()
        assert dead.properties["application_headers"]["x-tries"] == 5
        assert dead.properties["application_headers"]["x-reason"].startswith("ConnectionRefusedError")

    def test_what_kills_the_consumer_is_dead_after_five_deaths(self, queue, start, handler):
        queue.put("die")
        queue.put("after")
        one = start()
        (dead,) = queue.dead()
        assert wait_until(lambda: "after" in handler.seen)
        assert (one.deaths, handler.seen) == (5, ["die"] * 5 + ["after"])
        (death,) = dead.properties["application_headers"]["x-death"]
        assert (death["reason"], death["queue"], death["count"]) == ("delivery_limit", "test.events", 1)

    def test_while_the_database_is_away_the_message_waits(self, queue, start, handler):
        """One more outage than tries: they do not count."""
        handler.outages = 5
        queue.put("away")
        one = start()
        assert wait_until(lambda: one.consumer.counts["done"] == 1)
        assert handler.seen == ["away"] * 6
        assert queue.dead(0) == []

    def test_a_stop_finishes_the_message_in_hand(self, queue):
        entered, leave, seen = threading.Event(), threading.Event(), []

        def slow(delivery: Delivery) -> bool:
            seen.append(delivery.body)
            entered.set()
            return leave.wait(5)

        for body in "ab":
            queue.put(body)
        one = Running(slow)
        assert entered.wait(10)
        threading.Timer(0.2, leave.set).start()
        one.stop()
        assert (one.consumer.counts["done"], seen) == (1, [b"a"])
        another = Running(slow)
        assert wait_until(lambda: another.consumer.counts["done"] == 1)
        another.stop()
        assert seen == [b"a", b"b"]


class TestWhoseFault:
    @pytest.fixture(autouse=True)
    def _connected(self, db):
        connection.ensure_connection()

    def fault(self, sql: str) -> BaseException:
        with pytest.raises(Exception) as caught, transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)
        return caught.value

    @pytest.mark.parametrize("state", ["57P01", "53100", "53300", "55P03", "40P01", "08006", "58030"])
    def test_the_databases(self, state):
        error = self.fault(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$")
        assert consuming.away(error)

    def test_a_schema_that_is_not_migrated(self):
        assert consuming.away(self.fault("SELECT * FROM core_of_tomorrow"))

    @pytest.mark.parametrize("sql", ["SELECT '\\u0000'::jsonb", "SELECT 1/0", "INSERT INTO core_inbox VALUES ('x')"])
    def test_the_messages(self, sql):
        assert not consuming.away(self.fault(sql))

    def test_not_of_the_database_at_all(self):
        assert not consuming.away(DataError("x"))


@pytest.mark.django_db
class TestInbox:
    def test_once_per_consumer(self):
        taken = [services.take_once(consumer=name, event_id=ID) for name in ("a", "a", "b")]
        assert taken == [True, False, True]
        assert Inbox.objects.count() == 2


def test_the_inbox_needs_a_transaction(committed):
    with pytest.raises(RuntimeError):
        services.take_once(consumer="a", event_id=ID)


def test_it_goes_with_its_effect(committed):
    with pytest.raises(ImproperlyConfigured), transaction.atomic():  # noqa: PT012 - an effect, then the failure
        services.take_once(consumer="a", event_id=ID)
        raise ImproperlyConfigured
    with transaction.atomic():
        assert services.take_once(consumer="a", event_id=ID)
