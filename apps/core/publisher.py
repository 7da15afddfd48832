"""The publisher: the subscription `rabbitmq`, which sends events to the bus. It runs beside the leading relay.

A thread with a database connection of its own reads events in order of position, sends them in batches and moves the
cursor over what the broker has confirmed from the beginning of the batch on. Whatever goes wrong, nothing is passed
over: the rest is sent again, with the same ids, until it is confirmed. The relay never waits for any of it.
"""

import contextlib
import logging
import threading
import time
from itertools import takewhile
from typing import Any

import amqp
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from apps.core import bus
from apps.core.models import Event, RelayHead, Subscription

log = logging.getLogger(__name__)

BATCH = 100
POSITIONS_A_TURN = 10_000  # events that do not leave are passed over this many at a time
POLL_SECONDS = 1.0
CONFIRM_SECONDS = 10.0  # without any confirm from a broker that is not blocked
STOP_SECONDS = 2.0  # for the confirms of the batch in hand
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0


class Unroutable(Exception):
    """The broker gave messages back: no queue is bound. The connection is well."""


class Refused(Exception):
    """The broker did not take messages, or keeps silent about them: a new channel may do better."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Link:
    """A channel in confirm mode, and what the broker has said of each message of the batch in hand."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._tag = 0  # the broker counts the messages of a channel from 1
        self._tags: dict[str, int] = {}
        self._open: set[int] = set()
        self._faults: dict[int, str] = {}
        channel.confirm_select()
        channel.events["basic_ack"].add(self._acked)
        channel.events["basic_nack"].add(self._nacked)
        channel.events["basic_return"].add(self._returned)

    def send(self, events: list[Event]) -> None:
        """Sends a new batch; the answers come while the connection's events are drained."""
        self._tags, self._open, self._faults = {}, set(), {}
        for event in events:
            self._tag += 1
            self._tags[str(event.pk)] = self._tag
            self._open.add(self._tag)
            exchange = bus.route_of(event).exchange
            self._channel.basic_publish(bus.message(event), exchange, event.name, mandatory=True)

    @property
    def waiting(self) -> int:
        return len(self._open)

    def fault(self) -> str | None:
        """The first thing that was wrong with the batch."""
        return self._faults[min(self._faults)] if self._faults else None

    def confirmed(self, events: list[Event]) -> list[Event]:
        """The beginning of the batch that the broker has taken without a gap."""
        return list(takewhile(self._safe, events))

    def _safe(self, event: Event) -> bool:
        tag = self._tags.get(str(event.pk))
        return tag is not None and tag not in self._open and tag not in self._faults

    def _acked(self, tag: int, multiple: bool) -> None:
        self._settle(tag, multiple)

    def _nacked(self, tag: int, multiple: bool) -> None:
        for each in self._settle(tag, multiple):
            self._faults.setdefault(each, "refused")

    def _returned(self, _error: Exception, _exchange: str, _key: str, returned: amqp.Message) -> None:
        """Comes before the confirm of the same message: taken by the exchange, given to no queue."""
        tag = self._tags.get(returned.properties.get("message_id", ""))
        if tag is not None:
            self._faults[tag] = "unroutable"

    def _settle(self, tag: int, multiple: bool) -> set[int]:
        settled = {each for each in self._open if each <= tag} if multiple else {tag} & self._open
        self._open -= settled
        return settled


class Publisher:
    """The sending thread of a leading relay; without RABBITMQ_URL it does nothing."""

    def __init__(self) -> None:
        self._stopping, self._bell, self._retry = threading.Event(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._alarm = ""  # what the subscription's row says
        self._blocked = False

    def start(self) -> None:
        """Makes the subscription's row, at the present head if it is new, and starts the thread."""
        if not settings.RABBITMQ_URL:
            Subscription.objects.filter(pk=bus.SUBSCRIPTION).update(error="", failing_since=None)
            return
        head = RelayHead.objects.values_list("position", flat=True).get()
        row, _made = Subscription.objects.get_or_create(name=bus.SUBSCRIPTION, defaults={"position": head})
        self._alarm = row.error
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There are new events."""
        self._bell.set()

    def retry_now(self) -> None:
        """Ends the pause after a failure."""
        self._retry.set()

    def stop(self) -> None:
        """Lets the batch in hand be confirmed, if the broker does so at once, and ends the thread."""
        self._stopping.set()
        self._bell.set()
        self._retry.set()
        if self._thread is not None:
            self._thread.join(bus.CONNECT_SECONDS + STOP_SECONDS)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self._serve()
            except bus.ERRORS as error:
                self._note(bus.trouble(error), error)
            except Refused as error:
                self._note(error.code)
            except DatabaseError as error:
                log.warning("publisher lost the database", extra={"reason": type(error).__name__})
            except Exception:  # whatever it is, the events wait and an alarm says so; the thread must not end
                log.exception("publisher failed", extra={"subscription": bus.SUBSCRIPTION})
                self._note("failed")
            finally:
                connection.close()
            if time.monotonic() > started + 2 * LONGEST_PAUSE:
                pause = FIRST_PAUSE
            self._rest(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _serve(self) -> None:
        """Sends while the connection to the broker lives.

        After trouble one event is sent at a time until one is taken: so no later event arrives before it. What comes
        back unroutable is tried again on the same connection: what is declared at connecting (the feed's binding)
        stays as the operator left it.
        """
        self._blocked = False
        most, pause = 1 if self._alarm else BATCH, FIRST_PAUSE
        with bus.connected(on_blocked=self._on_blocked, on_unblocked=self._on_unblocked) as broker:
            channel = broker.channel()
            bus.declare(channel)
            link = Link(channel)
            while not self._stopping.is_set():
                try:
                    moved = self._turn(broker, link, most)
                except Unroutable:
                    self._note("unroutable")
                    most = 1
                    self._rest(pause)
                    self._look(broker)
                    pause = min(pause * 2, LONGEST_PAUSE)
                    continue
                if moved:
                    most, pause = BATCH, FIRST_PAUSE
                    continue
                self._look(broker)
                if not self._blocked:
                    self._clear()
                self._bell.wait(POLL_SECONDS)
                self._bell.clear()
            if self._blocked:
                raise ConnectionError("blocked: a closing handshake would wait")

    def _turn(self, broker: amqp.Connection, link: Link, most: int) -> int:
        """Sends the next batch; returns by how many positions the cursor has moved.

        :raises Unroutable: if the broker gave a message back
        :raises Refused: if it did not take one, or keeps silent
        """
        before = Subscription.objects.values_list("position", flat=True).get(pk=bus.SUBSCRIPTION)
        head = RelayHead.objects.values_list("position", flat=True).get()
        end = min(head, before + POSITIONS_A_TURN)
        if end <= before:
            return 0
        rows = Event.objects.filter(bus.leaving(), position__gt=before, position__lte=end)
        found = list(rows.defer("changes").order_by("position")[:most])
        if not found:
            return self._move(before, end)
        # One exchange at a time: when its binding is lost, nothing behind it goes out before it.
        exchange = bus.route_of(found[0]).exchange
        batch = list(takewhile(lambda event: bus.route_of(event).exchange == exchange, found))
        try:
            link.send(batch)
            self._settle(broker, link)
        finally:
            done = link.confirmed(batch)
            moved = self._move(before, done[-1].position or before) if done else 0
        if fault := link.fault():
            raise Unroutable if fault == "unroutable" else Refused(fault)
        if done and not self._blocked:
            self._clear()
        return moved

    def _settle(self, broker: amqp.Connection, link: Link) -> None:
        """Waits for the broker's word on each message of the batch; for as long as it is blocked.

        :raises Refused: if it keeps silent though it is not blocked
        """
        until = time.monotonic() + CONFIRM_SECONDS
        while left := link.waiting:
            with contextlib.suppress(TimeoutError):
                broker.drain_events(timeout=POLL_SECONDS)
            broker.heartbeat_tick()
            now = time.monotonic()
            if self._stopping.is_set():
                until = min(until, now + STOP_SECONDS)
            elif self._blocked or link.waiting < left:
                until = now + CONFIRM_SECONDS
            if self._blocked:
                self._note("blocked")
                if self._stopping.is_set():
                    return
            if now > until:
                raise Refused("unconfirmed")

    def _look(self, broker: amqp.Connection) -> None:
        """Reads what the broker has said meanwhile, keeps the connection alive, finds out that it is not.

        :raises OSError, amqp.AMQPError: if the connection is lost
        """
        try:
            while True:
                broker.drain_events(timeout=0)
        except TimeoutError:
            broker.heartbeat_tick()
        if self._blocked:
            self._note("blocked")

    def _move(self, before: int, after: int) -> int:
        """Moves the cursor, unless somebody has moved it meanwhile: a replay, another publisher."""
        row = Subscription.objects.filter(pk=bus.SUBSCRIPTION, position=before)
        row.update(position=after, updated_at=timezone.now())
        return after - before

    def _on_blocked(self, _reason: str) -> None:
        self._blocked = True

    def _on_unblocked(self) -> None:
        self._blocked = False

    def _note(self, code: str, error: Exception | None = None) -> None:
        """The alarm: kept in the subscription's row, and one log record each time that its reason changes."""
        if code == self._alarm or self._stopping.is_set():
            return
        reason = type(error).__name__ if error else None
        log.error("bus stands still", extra={"subscription": bus.SUBSCRIPTION, "code": code, "reason": reason})
        try:
            Subscription.objects.filter(pk=bus.SUBSCRIPTION).update(
                error=code, failing_since=Coalesce("failing_since", Now())
            )
        except DatabaseError:
            connection.close()  # told again at the next failure
            return
        self._alarm = code

    def _clear(self) -> None:
        if self._alarm:
            Subscription.objects.filter(pk=bus.SUBSCRIPTION).update(error="", failing_since=None)
            log.warning("bus moves again", extra={"subscription": bus.SUBSCRIPTION})
            self._alarm = ""

    def _rest(self, seconds: float) -> None:
        self._retry.wait(seconds)
        if not self._stopping.is_set():
            self._retry.clear()
