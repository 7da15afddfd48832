"""Five streams a user, over all processes: each tells the others which streams it has, the oldest are closed.

Nothing is kept outside the processes. A process that has died is forgotten after a minute; while the channel layer is
away, each process counts its own.
"""

import time
from collections.abc import Iterable
from typing import Any
from uuid import UUID

MOST_STREAMS = 5
COUNTED = "streams.counted"
REPEAT_SECONDS = 20.0
FORGOTTEN_SECONDS = 60.0

Streams = dict[UUID, float]  # when each was opened, seconds since 1970


class Census:
    def __init__(self, process: str) -> None:
        self.process = process
        self._own: dict[UUID, Streams] = {}
        self._others: dict[str, tuple[float, dict[UUID, Streams]]] = {}  # process: when heard, its streams by user
        self._changed: set[UUID] = set()
        self._told_at = 0.0

    def opened(self, user_id: UUID, stream_id: UUID, at: float) -> None:
        self._own.setdefault(user_id, {})[stream_id] = at
        self._changed.add(user_id)

    def closed(self, user_id: UUID, stream_id: UUID) -> None:
        streams = self._own.get(user_id, {})
        streams.pop(stream_id, None)
        if not streams:
            self._own.pop(user_id, None)
        self._changed.add(user_id)

    def surplus(self, user_id: UUID) -> set[UUID]:
        """This process's streams of the user that must close: all but his five newest, wherever those are."""
        own = self._own.get(user_id, {})
        if not own:
            return set()
        since = time.monotonic() - FORGOTTEN_SECONDS
        everywhere = dict(own)
        for heard_at, users in self._others.values():
            if heard_at > since:
                everywhere |= users.get(user_id, {})
        oldest_first = sorted(everywhere, key=lambda stream: (everywhere[stream], stream))
        return own.keys() & set(oldest_first[:-MOST_STREAMS])

    def news(self) -> dict[str, Any] | None:
        """What the other processes should hear now: users with a change, or from time to time all; None for nothing."""
        whole = time.monotonic() - self._told_at > REPEAT_SECONDS
        users = self._own.keys() if whole else self._changed
        if not users and not whole:
            return None
        told = {str(user): {str(k): at for k, at in self._own.get(user, {}).items()} for user in users}
        self._changed = set()
        if whole:
            self._told_at = time.monotonic()
        return {"type": COUNTED, "process": self.process, "whole": whole, "users": told}

    def hear(self, message: dict[str, Any]) -> Iterable[UUID]:
        """Takes another process's news; the users whom they concern."""
        process = message["process"]
        if process == self.process:
            return ()
        _, known = self._others.get(process, (0.0, {}))
        told = {UUID(user): {UUID(k): at for k, at in streams.items()} for user, streams in message["users"].items()}
        merged = told if message["whole"] else {**known, **told}
        now = time.monotonic()
        self._others[process] = now, {user: streams for user, streams in merged.items() if streams}
        self._others = {k: v for k, v in self._others.items() if v[0] > now - FORGOTTEN_SECONDS}
        return told.keys() & self._own.keys()
