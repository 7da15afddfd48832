"""A stream as its client sees it, over a hub whose database reads happen in the test's own transaction."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from channels.layers import get_channel_layer
from django.db import connection, connections
from django.utils import timezone

from apps.auth.models import User
from apps.auth.services import service_tokens, sessions
from apps.core.models import RelayHead
from apps.core.relay import number_events
from apps.core.wakeups import GROUP, NUMBERED
from apps.crm.services import deals
from apps.crm.tests.conftest import client_of, deal, deal_of, policy  # noqa: F401 - fixtures
from apps.notifications.streams import database, hub, stream
from apps.notifications.streams.app import Streams
from conftest import PASSWORD

PATIENCE = 3.0


@dataclass(slots=True)
class Frame:
    event: str = ""
    id: str = ""
    data: Any = None
    retry: int = 0

    @property
    def position(self) -> int:
        return int(self.id.rpartition("-")[2])


@dataclass
class Listener:
    """Collects what the application sends; `stalled` makes it take nothing more."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""
    complete: bool = False
    task: "asyncio.Task[None] | None" = None

    def __post_init__(self) -> None:
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.started, self.flowing = asyncio.Event(), asyncio.Event()
        self.flowing.set()
        self._rest = ""

    async def take(self, message: dict[str, Any]) -> None:
        await self.flowing.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            return
        self.raw += message["body"]
        *whole, self._rest = (self._rest + message["body"].decode()).split("\n\n")
        for text in whole:
            self.frames.put_nowait(_frame(text))
        self.complete = not message.get("more_body")
        self.started.set()
        if self.complete:
            self.inbox.put_nowait({"type": "http.disconnect"})

    async def next(self) -> Frame:
        async with asyncio.timeout(PATIENCE):
            return await self.frames.get()

    async def event(self) -> Frame:
        """The next frame that is no heartbeat."""
        while (frame := await self.next()).event == "heartbeat":
            pass
        return frame

    async def opening(self) -> Frame:
        """The heartbeat after `retry:`."""
        assert (await self.next()).retry
        return await self.next()

    async def closed(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(self.task)


def _frame(text: str) -> Frame:
    frame = Frame()
    for line in text.split("\n"):
        name, _, value = line.partition(": ")
        if name == "data":
            frame.data = json.loads(value)
        elif name == "retry":
            frame.retry = int(value)
        else:
            setattr(frame, name, value)
    return frame


async def _nothing_inside(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError(f"{scope['path']} is no stream")


class Office:
    """The streams of one process, and what happens in it."""

    app: Streams

    @asynccontextmanager
    async def listen(self, who: Any = None, stream: str = "deals", query: str = "", *, method: str = "GET",
                     **headers: str) -> Any:  # fmt: skip
        """Opens a stream as a user, a token's text, or with headers alone; leaves it at the end."""
        if isinstance(who, User):
            who = token_of(who)
        if who:
            headers["authorization"] = f"Bearer {who}"
        listener = Listener()
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": f"/api/v1/streams/{stream}",
            "query_string": quote(query, safe="=&,*%").encode(),
            "headers": [
                (b"host", b"testserver"),
                *((k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()),
            ],
            "server": ("testserver", 80),
        }
        listener.inbox.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        listener.task = asyncio.create_task(self.app(scope, listener.inbox.get, listener.take))
        started = asyncio.create_task(listener.started.wait())
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([started, listener.task], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        try:
            yield listener
        finally:
            listener.inbox.put_nowait({"type": "http.disconnect"})
            listener.flowing.set()
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait([listener.task])

    async def joined(self, count: int = 1) -> None:
        """Waits until so many streams are given what is new."""
        async with asyncio.timeout(PATIENCE):
            while len(self.app.hub._joined) < count:
                await asyncio.sleep(0.005)

    def run(self, scenario: Callable[[], Any]) -> Any:
        """Runs it on an event loop that uses the test's own connection."""
        own = connections["default"]

        async def go() -> Any:
            connections["default"] = own
            self.app = Streams(_nothing_inside)
            return await scenario()

        return asyncio.run(go())

    async def tell(self) -> None:
        """What a relay does: numbers what has happened and wakes the hub."""
        with connection.cursor() as cursor:
            while number_events(cursor):
                pass
        await get_channel_layer().group_send(GROUP, {"type": NUMBERED})


def rename(renamed: Any, actor: Any, title: str = "КАСКО") -> None:
    deals.change_deal(deal_id=renamed.pk, values={"title": title}, actor=actor)


def program(*scopes: str) -> str:
    return service_tokens.create_service_token(name="program", scopes=list(scopes), actor=None)[1]


def token_of(user: User) -> str:
    return sessions.sign_in(
        email=user.email, password=PASSWORD, address=None, user_agent="test", now=timezone.now()
    ).access_token


def head() -> str:
    return str(RelayHead.objects.get())


@pytest.fixture
def office(db: None, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Office]:
    async def ask(function: Callable[..., Any], /, *arguments: Any, live: bool = False, **named: Any) -> Any:
        await asyncio.sleep(0)
        return function(*arguments, **named)

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    monkeypatch.setattr(database, "ask", ask)
    monkeypatch.setattr(hub, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(hub, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(stream, "TICK_SECONDS", 0.02)
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    RelayHead.objects.get_or_create(id=1, defaults={"epoch": "test"})
    return Office()
