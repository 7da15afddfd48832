"""One open stream: it replays what its client has missed, joins the hub, and sends what the hub pushes.

What waits to be sent is bounded: a stream that falls behind goes back to reading the log for itself, and one whose
client does not take what he is sent is cut.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from apps.auth.credentials import Credential
from apps.core import live
from apps.notifications.streams import database, frames
from apps.notifications.streams import log as event_log
from apps.notifications.streams.frames import Asked
from apps.notifications.streams.log import KEPT, Batch, Item
from apps.notifications.streams.wire import Wire

if TYPE_CHECKING:
    from apps.notifications.streams.hub import Hub

log = logging.getLogger(__name__)

REPLAYED_AT_ONCE = 100
MOST_PENDING = 64 * 1024  # bytes
TICK_SECONDS = 0.5  # between two calls of `beat` and `watch`
SLOW_SECONDS = 15.0  # what was sent so long ago must have come through
LAST_WORDS_SECONDS = 2.0  # for a stream that is being closed
RETRY_SECONDS = 1.0  # while the database is away

Send = Callable[[bytes, bool], Awaitable[None]]  # the bytes, and whether they are the last


class Stream:
    """`kind` is `crm`, `notifications`, or `heartbeat`, which carries nothing else; `keys` is what its caller is."""

    def __init__(
        self, *, kind: str, asked: Asked, user_id: UUID, keys: frozenset[Hashable], credential: Credential,
        hub: "Hub", send: Send, wire: Wire, cut: Callable[[], None],
    ) -> None:  # fmt: skip
        self.id, self.opened_at = uuid4(), time.time()
        self.kind, self.asked, self.user_id, self.keys, self.credential = kind, asked, user_id, keys, credential
        self.epoch, self.cursor = "", 0  # served up to here
        self.live = False
        self.end_code = ""
        self.events = 0
        self._hub, self._write, self._wire, self._cut = hub, send, wire, cut
        self._awake = asyncio.Event()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._beat_at, self._beat_due, self._sequence = time.monotonic(), False, 0
        self._end_by = 0.0
        self._sent = self._mark = 0
        self._mark_at = time.monotonic()
        self._sending_since: float | None = None

    # --- the pump -----------------------------------------------------------------------------------------------------
    async def run(self, *, epoch: str, head: int) -> None:
        """Sends until the stream ends; `epoch` and `head` are the log's as the caller has just read them."""
        await self._send(frames.retry() + self._begin(epoch, head))
        while not self.end_code:
            if not self.live:
                await self._catch_up()
                continue
            await self._awake.wait()
            self._awake.clear()
            await self._flush()
        await self._send(frames.error(self.end_code), last=True)

    def _begin(self, epoch: str, head: int) -> bytes:
        """The first frames after `retry:`, and from where on the stream is served."""
        if self.kind == "heartbeat":
            self.live = True
            return self._numbered()
        self.epoch, self.cursor = epoch, head
        if not self.asked.last:
            return frames.heartbeat(self.kind, position=self._id())
        last = frames.position_in(self.asked.last)
        if last is None or last[0] != epoch or last[1] > head:
            # The heartbeat bears no id: a client that hears no more than it still has his old one.
            return frames.heartbeat(self.kind) + frames.reset(self._id(), "unknown")
        if last[1] < head - KEPT:
            return frames.heartbeat(self.kind) + frames.reset(self._id(), "too_old")
        self.cursor = last[1]
        return frames.heartbeat(self.kind, position=self._id())

    async def _catch_up(self) -> None:
        """One step from the cursor towards the head, and into the hub when it is reached."""
        await self._flush()
        if self._beat_due:
            self._beat_due = False
            await self._send(frames.heartbeat(self.kind, position=self._id()))
        try:
            batch: Batch = await database.ask(event_log.read, after=self.cursor, limit=REPLAYED_AT_ONCE)
        except Exception as error:  # the cursor stays: the same events are read a second later
            log.warning("stream waits for the log", extra={"reason": type(error).__name__})
            await asyncio.sleep(RETRY_SECONDS)
            return
        if self.end_code:
            return
        if batch.epoch != self.epoch or batch.head < self.cursor or self.cursor < batch.head - KEPT:
            reason = "too_old" if batch.epoch == self.epoch and batch.head >= self.cursor else "unknown"
            self.epoch, self.cursor = batch.epoch, batch.head
            await self._send(frames.reset(self._id(), reason))
        else:
            shown = [item.frame for item in batch.items if self._shows(item)]
            self.cursor = batch.position
            self.events += len(shown)
            if shown:
                await self._send(b"".join(shown))
        if self.cursor >= batch.head and not self.end_code:
            self.live = self._hub.join(self)
            if not self.live:
                await asyncio.sleep(0.05)  # the hub has not heard of this epoch yet, or is far ahead already

    def _shows(self, item: Item) -> bool:
        return item.kind == self.kind and not item.audience.isdisjoint(self.keys) and self.asked.wants(item.name)

    async def _flush(self) -> None:
        while self._pending and not self.end_code:
            chunk = b"".join(self._pending)
            self._pending.clear()
            self._pending_bytes = 0
            await self._send(chunk)

    async def _send(self, chunk: bytes, *, last: bool = False) -> None:
        self._sent += len(chunk)
        self._sending_since = time.monotonic()
        await self._write(chunk, last)
        self._sending_since = None

    # --- what the hub calls; nothing here waits ----------------------------------------------------------------------
    def push(self, item: Item) -> bool:
        """Takes an item that its caller may see; False: there is too much already, the stream has left."""
        if item.position <= self.cursor or self.end_code:
            return True
        if self.asked.wants(item.name):
            if self._pending_bytes + len(item.frame) > MOST_PENDING and self._pending:
                self.live = False
                self._awake.set()
                return False
            self.events += 1
            self._queue(item.frame)
        self.cursor = item.position
        return True

    def start_over(self, epoch: str, position: int) -> None:
        """The log is another one: says so."""
        self.epoch, self.cursor = epoch, position
        self._queue(frames.reset(self._id(), "unknown"))

    def beat(self, now: float, position: int) -> None:
        """A heartbeat if it is time: two ticks early, never late; `position` is the hub's."""
        if now - self._beat_at < live.heartbeat_seconds() - 2 * TICK_SECONDS or self.end_code:
            return
        self._beat_at = now
        if self.kind == "heartbeat":
            self._queue(self._numbered())
        elif self.live:
            self.cursor = max(self.cursor, position)
            self._queue(frames.heartbeat(self.kind, position=self._id()))
        else:
            self._beat_due = True

    def end(self, code: str) -> None:
        """Closes the stream with a last frame that says why; what waits is not sent."""
        if not self.end_code:
            self.end_code, self._end_by = code, time.monotonic() + LAST_WORDS_SECONDS
            self._pending.clear()
            self._awake.set()

    def watch(self, now: float) -> None:
        """Cuts the connection of a reader who is too slow, or does not take the last frame."""
        if self._sent - self._wire.undelivered() >= self._mark:
            self._mark, self._mark_at = self._sent, now
        blocked = self._sending_since is not None and now - self._sending_since > SLOW_SECONDS
        if blocked or now - self._mark_at > SLOW_SECONDS or (self.end_code and now > self._end_by):
            self._cut()

    def _queue(self, frame: bytes) -> None:
        self._pending.append(frame)
        self._pending_bytes += len(frame)
        self._awake.set()

    def _numbered(self) -> bytes:
        self._sequence += 1
        return frames.numbered(self._sequence - 1)

    def _id(self) -> str:
        return f"{self.epoch}-{self.cursor}"
