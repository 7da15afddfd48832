"""Reading a queue of the bus: one message at a time, acknowledged after its effect has committed.

Each queue is a quorum queue with one active consumer, so that order is kept, and a dead-letter queue `<queue>.dead`. A
message that can never be understood goes there at once, one whose handling fails goes there after five tries; one that
kills the process is brought there by the broker's delivery limit. While the database is away the message in hand waits:
that is no fault of the message.
"""

import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import amqp
from amqp.exceptions import MessageNacked
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from apps.core import bus, context, subscriptions

log = logging.getLogger(__name__)

DEAD_EXCHANGE = "crm.dead"
MOST_TRIES = 5
RETRY_PAUSES = (0.1, 0.2, 0.4, 0.8)  # seconds before the second, third, ... try
POLL_SECONDS = 1.0  # a stop is noticed after this
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between attempts to reach the broker or the database
HOLD_SECONDS = 600.0  # a message is held no longer; the broker would take it back after half an hour
# Classes of SQLSTATE that tell of the database and not of the message: connection, rollback, resources, locks, shut
# down, system, and a schema that is not migrated yet.
NOT_THE_MESSAGE = ("08", "40", "42", "53", "55", "57", "58")


class Malformed(Exception):
    """The message can never be understood; `code` says why, without quoting it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Elsewhere(Exception):
    """The message is not for this consumer: acknowledged, counted, nothing else."""


class Failed(Exception):
    """The handler raised; the cause is what."""


class Away(Exception):
    """The database did not come back while the message was held."""


@dataclass(frozen=True, slots=True)
class Delivery:
    body: bytes
    key: str
    headers: dict[str, Any]


Handler = Callable[[Delivery], bool]


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue and its binding to a topic exchange. `dead` is its dead-letter queue."""

    name: str
    exchange: str
    key: str

    @property
    def dead(self) -> str:
        return f"{self.name}.dead"

    def declare(self, channel: Any) -> None:
        """Declares the exchanges, both queues and their bindings.

        :raises amqp.PreconditionFailed: if one of them exists with other properties
        """
        channel.exchange_declare(self.exchange, "topic", durable=True, auto_delete=False)
        channel.exchange_declare(DEAD_EXCHANGE, "direct", durable=True, auto_delete=False)
        channel.queue_declare(self.dead, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(self.dead, DEAD_EXCHANGE, self.name)
        arguments = {
            "x-queue-type": "quorum",
            "x-single-active-consumer": True,
            "x-delivery-limit": MOST_TRIES - 1,  # returns, not deliveries
            "x-dead-letter-exchange": DEAD_EXCHANGE,
            "x-dead-letter-routing-key": self.name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # what at-least-once asks for
        }
        channel.queue_declare(self.name, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(self.name, self.exchange, self.key)


class Consumer:
    """Feeds a queue's messages to `handle`, which commits its effect and says whether there was one.

    `handle` raises Malformed or Elsewhere; anything else it raises is a failed try.
    """

    def __init__(self, queue: Queue, handle: Handler) -> None:
        self._queue, self._handle = queue, handle
        self._stopping = threading.Event()
        self._got: deque[Any] = deque()
        self.counts: Counter[str] = Counter()  # done, repeated, elsewhere, dead, failed

    def stop(self, *_: object) -> None:
        """Asks `run` to finish the message in hand and return; fit to be a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Works until `stop`. A broker or a database that is away is waited for."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            served = time.monotonic()
            try:
                connection.ensure_connection()  # no message is taken that could not be handled
                self._serve()
            except bus.ERRORS as error:
                log.warning("consumer lost the broker", extra={"code": bus.trouble(error), "reason": _kind(error)})
            except (DatabaseError, Away) as error:
                log.warning("consumer lost the database", extra={"reason": _kind(error)})
            finally:
                self._got.clear()
                connection.close()
            if time.monotonic() > served + 2 * LONGEST_PAUSE:
                pause = FIRST_PAUSE
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        log.info("consumer ends", extra={"count": dict(self.counts)})

    def _serve(self) -> None:
        with bus.connected() as broker:
            channel: Any = broker.channel()
            self._queue.declare(channel)
            channel.basic_qos(0, 1, False)  # a message behind a deadly one shares none of its tries
            channel.basic_consume(self._queue.name, callback=self._got.append)
            log.info("consumer reads", extra={"subscription": self._queue.name})
            while not self._stopping.is_set():
                _breathe(broker, POLL_SECONDS)
                if self._got:
                    self._take(broker, channel, self._got.popleft())

    def _take(self, broker: amqp.Connection, channel: Any, message: Any) -> None:
        """One message: its effect, then the acknowledgement."""
        delivery = _delivery(message)
        returned = delivery.headers.get("x-delivery-count")
        tries = 1 + (returned if isinstance(returned, int) and returned > 0 else 0)
        if tries > 1:
            self._wait(broker, RETRY_PAUSES[min(tries, MOST_TRIES) - 2])
        context.enter(trace_id=context.trace_id_from(delivery.headers.get("X-Trace-Id")), via="job")
        try:
            if len(delivery.body) > settings.MAX_BODY_BYTES:
                raise Malformed("too_large")
            done = self._handled(broker, delivery)
        except Elsewhere:
            self.counts["elsewhere"] += 1
            log.info("message is not for us", extra={"count": self.counts["elsewhere"]})
        except Malformed as error:
            self._bury(broker, message, error.code, tries)
        except Failed as failure:
            cause = failure.__cause__ or failure
            self.counts["failed"] += 1
            reason = subscriptions.describe(cause)
            if tries < MOST_TRIES:
                log.warning("message failed", extra={"reason": reason, "count": tries})
                channel.basic_reject(message.delivery_tag, requeue=True)
                return
            log.error("message failed for good", exc_info=cause, extra={"reason": reason, "count": tries})
            self._bury(broker, message, reason, tries)
        else:
            self.counts["done" if done else "repeated"] += 1
        finally:
            context.leave()
        channel.basic_ack(message.delivery_tag)

    def _handled(self, broker: amqp.Connection, delivery: Delivery) -> bool:
        """The handler's effect; while the database is away the message is held and tried again.

        :raises Malformed, Elsewhere: as the handler
        :raises Failed: if it raised anything else
        :raises Away: if the database is away for longer than ten minutes, or we are asked to end meanwhile
        """
        until, pause = time.monotonic() + HOLD_SECONDS, FIRST_PAUSE
        while True:
            try:
                return self._handle(delivery)
            except (Malformed, Elsewhere):
                raise
            except Exception as error:  # raised on as Failed, but for a database that is away
                if not isinstance(error, DatabaseError) or not away(error):
                    raise Failed from error
                log.warning("message waits for the database", extra={"reason": subscriptions.describe(error)})
                connection.close()
            self._wait(broker, pause)
            if self._stopping.is_set() or time.monotonic() > until:
                raise Away
            pause = min(pause * 2, LONGEST_PAUSE)

    def _wait(self, broker: amqp.Connection, seconds: float) -> None:
        """Waits, with the connection kept alive; not at all when asked to end.

        :raises OSError, amqp.AMQPError: if the connection is lost meanwhile
        """
        until = time.monotonic() + seconds
        while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
            _breathe(broker, min(left, POLL_SECONDS))

    def _bury(self, broker: amqp.Connection, message: Any, reason: str, tries: int) -> None:
        """Puts the message into the dead-letter queue with its reason; returns when the broker has it.

        :raises OSError, amqp.AMQPError: if the broker does not take it; it is then delivered again
        """
        headers = _delivery(message).headers | {
            "x-reason": reason,
            "x-tries": tries,
            "x-exchange": message.delivery_info["exchange"],
            "x-routing-key": message.delivery_info["routing_key"],
        }
        kept = {key: value for key, value in message.properties.items() if key != "application_headers"}
        copy = amqp.Message(message.body, **kept | {"delivery_mode": 2}, application_headers=headers)
        channel: Any = broker.channel()
        try:
            channel.basic_publish_confirm(copy, DEAD_EXCHANGE, self._queue.name, mandatory=True)
        except MessageNacked:
            raise ConnectionError("the dead-letter queue took nothing") from None
        finally:
            channel.close()
        self.counts["dead"] += 1
        log.error("message dead-lettered", extra={"subscription": self._queue.name, "code": reason, "count": tries})


def away(error: BaseException) -> bool:
    """Whether the error tells of the database and not of what was asked of it."""
    if connection.connection is None or connection.connection.closed:
        return True
    state = getattr(error.__cause__, "sqlstate", None)
    return state is not None and state[:2] in NOT_THE_MESSAGE


def _breathe(broker: amqp.Connection, seconds: float) -> None:
    """Reads what the broker says next, for so long at most, and answers its heartbeats."""
    with contextlib.suppress(TimeoutError):
        broker.drain_events(timeout=seconds)
    broker.heartbeat_tick()


def _delivery(message: Any) -> Delivery:
    body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
    headers = dict(message.properties.get("application_headers") or {})
    return Delivery(body, message.delivery_info["routing_key"], headers)


def _kind(error: BaseException) -> str:
    return type(error).__name__
