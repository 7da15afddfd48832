"""One hub for the streams of a process: it reads the log once for all of them and gives each what its user may see.

It reads when the channel layer wakes it and, whatever became of the wake-up, once a second. It starts with the first
stream and ends with the last. Everything here runs on the event loop; only reading the database does not.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

from channels.layers import get_channel_layer
from django.utils import timezone

from apps.auth import credentials
from apps.core.wakeups import GROUP, NUMBERED
from apps.notifications.access import keys_of, may_listen
from apps.notifications.streams import database
from apps.notifications.streams import log as event_log
from apps.notifications.streams.census import Census
from apps.notifications.streams.log import Batch, Item
from apps.notifications.streams.stream import TICK_SECONDS, Stream

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
CHECK_SECONDS = 2.0  # between two looks at who may still listen
EVENTS_AT_ONCE = 200
DELIVERIES_AT_ONCE = 5000  # then the streams get a turn
MOST_RECENT = 1024 * 1024  # bytes of frames
LAYER_SECONDS = 2.0  # for anything asked of the channel layer


class Hub:
    """Streams join with `add`; a stream that has been served up to the hub's position goes live with `join`."""

    def __init__(self) -> None:
        self.epoch, self.position = "", 0
        self.streams: set[Stream] = set()
        self._live: dict[tuple[str, Hashable], set[Stream]] = {}
        self._joined: set[Stream] = set()
        # What was given out last: a stream that has just read the log is behind by what came meanwhile.
        self._recent: deque[Item] = deque()
        self._recent_bytes = self._recent_after = 0
        self._awake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._census = Census(uuid4().hex)

    # --- streams come and go ------------------------------------------------------------------------------------------
    def add(self, stream: Stream, *, epoch: str, head: int) -> None:
        """`epoch` and `head` are the log's as the stream has just read them."""
        self.streams.add(stream)
        self._census.opened(stream.user_id, stream.id, stream.opened_at)
        if not self._tasks:
            self._set(epoch, head)
            parts = (self._follow(), self._listen(), self._tick(), self._check())
            self._tasks = [asyncio.create_task(part) for part in parts]
            for task in self._tasks:
                task.add_done_callback(self._broken)
        self._close_the_oldest(stream.user_id)

    async def remove(self, stream: Stream) -> None:
        self.leave(stream)
        if stream in self.streams:
            self.streams.discard(stream)
            self._census.closed(stream.user_id, stream.id)
        if not self.streams and self._tasks:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=LAYER_SECONDS)
            await self._tell()

    def _broken(self, task: asyncio.Task[None]) -> None:
        """A part of the hub has failed, which is a bug: no stream must go on in silence. They come again."""
        if not task.cancelled() and (error := task.exception()):
            log.error("the hub of the streams failed", exc_info=error)
            for stream in self.streams:
                stream.end("internal_error")

    def join(self, stream: Stream) -> bool:
        """From here on the stream is given what is new; False while it is too far behind, or of another epoch."""
        if stream.epoch != self.epoch or stream.cursor < self._recent_after:
            return False
        for item in self._recent:
            if item.kind == stream.kind and not item.audience.isdisjoint(stream.keys) and not stream.push(item):
                return False
        self._joined.add(stream)
        for key in stream.keys:
            self._live.setdefault((stream.kind, key), set()).add(stream)
        return True

    def leave(self, stream: Stream) -> None:
        """The stream is given nothing more until it joins again."""
        self._joined.discard(stream)
        for key in stream.keys:
            if listeners := self._live.get((stream.kind, key)):
                listeners.discard(stream)
                if not listeners:
                    del self._live[stream.kind, key]

    def _close_the_oldest(self, user_id: UUID) -> None:
        surplus = self._census.surplus(user_id)
        for stream in [each for each in self.streams if each.id in surplus]:
            stream.end("too_many_streams")

    # --- what is new --------------------------------------------------------------------------------------------------
    async def _follow(self) -> None:
        well = True
        while True:
            self._awake.clear()
            try:
                batch: Batch = await database.ask(event_log.read, live=True, after=self.position, limit=EVENTS_AT_ONCE)
            except Exception as error:  # the position stays: the same events are read when the database is back
                if well:
                    log.warning("streams cannot read the log", extra={"reason": type(error).__name__})
                well = False
                await asyncio.sleep(POLL_SECONDS)
                continue
            well = True
            await self._take(batch)
            if batch.position < batch.head:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._awake.wait()

    async def _take(self, batch: Batch) -> None:
        if batch.epoch != self.epoch or batch.head < self.position:
            self._set(batch.epoch, batch.head)
            for stream in self._joined:
                stream.start_over(batch.epoch, batch.head)
            return
        delivered = 0
        for item in batch.items:
            listeners = self._listeners(item)
            for stream in listeners:
                if not stream.push(item):
                    self.leave(stream)
            self.position = item.position
            self._remember(item)
            delivered += len(listeners)
            if delivered > DELIVERIES_AT_ONCE:
                delivered = 0
                await asyncio.sleep(0)
        self.position = batch.position

    def _remember(self, item: Item) -> None:
        self._recent.append(item)
        self._recent_bytes += len(item.frame)
        while self._recent_bytes > MOST_RECENT:
            oldest = self._recent.popleft()
            self._recent_bytes -= len(oldest.frame)
            self._recent_after = oldest.position

    def _set(self, epoch: str, position: int) -> None:
        self.epoch, self.position = epoch, position
        self._recent.clear()
        self._recent_bytes, self._recent_after = 0, position

    def _listeners(self, item: Item) -> set[Stream]:
        found: set[Stream] = set()
        for key in item.audience:
            if listeners := self._live.get((item.kind, key)):
                found |= listeners
        return found

    # --- news of other processes --------------------------------------------------------------------------------------
    async def _listen(self) -> None:
        """Takes the wake-ups; without a channel layer, or while it is away, there is the poll."""
        layer: Any = get_channel_layer()
        while layer is not None:
            try:
                async with asyncio.timeout(LAYER_SECONDS):
                    channel = await layer.new_channel()
                    await layer.group_add(GROUP, channel)
                try:
                    while True:
                        self._hear(await layer.receive(channel))
                finally:
                    with suppress(Exception):
                        async with asyncio.timeout(LAYER_SECONDS):
                            await layer.group_discard(GROUP, channel)
            except Exception as error:  # the layer's own kinds are many; meanwhile the poll goes on
                log.warning("no wake-ups", extra={"reason": type(error).__name__})
                await asyncio.sleep(LAYER_SECONDS)

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == NUMBERED:
            self._awake.set()
            return
        for user_id in self._census.hear(message):
            self._close_the_oldest(user_id)

    async def _tell(self) -> None:
        message, layer = self._census.news(), get_channel_layer()
        if message is not None and layer is not None:
            with suppress(Exception):
                async with asyncio.timeout(LAYER_SECONDS):
                    await layer.group_send(GROUP, message)

    # --- time passes --------------------------------------------------------------------------------------------------
    async def _tick(self) -> None:
        telling: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                now, moment = time.monotonic(), timezone.now()
                for stream in list(self.streams):
                    if stream.credential.expires_at and stream.credential.expires_at <= moment:
                        stream.end("session_ended")
                    stream.beat(now, self.position)
                    stream.watch(now)
                if telling is None or telling.done():  # a Redis that hangs must not stop the clock
                    telling = asyncio.create_task(self._tell())
        finally:
            if telling is not None:
                telling.cancel()

    async def _check(self) -> None:
        """Ends the streams of those who may no longer listen, and learns what the others have become."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            asked = list(self.streams)
            if not asked:
                continue
            try:
                people = await database.ask(
                    credentials.standing, credentials={each.credential for each in asked}, now=timezone.now()
                )
            except Exception as error:  # nobody is sent away because the database is
                log.warning("sessions of streams cannot be read", extra={"reason": type(error).__name__})
                continue
            for stream in asked:
                caller = people.get(stream.credential)
                if caller is None:
                    stream.end("session_ended")
                elif not may_listen(caller):
                    stream.end("forbidden")
                elif (keys := keys_of(caller)) != stream.keys:
                    joined = stream in self._joined
                    self.leave(stream)
                    stream.keys = keys
                    if joined:
                        self.join(stream)
