"""`/api/v1/streams/...`: the way in. A refusal is a problem document, anything else an open stream.
(docs/contract.md, "Streams")
"""

import asyncio
import logging
import time
from io import BytesIO
from typing import Any

from channels.exceptions import StopConsumer
from channels.generic.http import AsyncHttpConsumer
from channels.utils import await_many_dispatch
from corsheaders.middleware import CorsMiddleware
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.utils import timezone, translation

from apps.auth import credentials
from apps.core import context
from apps.core.api import problems
from apps.core.api.renderers import dumps
from apps.core.middleware import SchemaGuardMiddleware, access_log
from apps.notifications.access import keys_of, may_listen
from apps.notifications.streams import database, frames
from apps.notifications.streams import log as event_log
from apps.notifications.streams.hub import Hub
from apps.notifications.streams.stream import Stream
from apps.notifications.streams.wire import Wire

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx passes every frame on at once
    "X-Content-Type-Options": "nosniff",
}

_cors = CorsMiddleware(lambda request: HttpResponse())  # Django's chain does not reach here


def open_stream(request: ASGIRequest) -> tuple[credentials.Person, credentials.Credential, str, int]:
    """The caller, by what he comes, the log's epoch and end.

    :raises DomainError: Unavailable, MigrationsPending, Unauthenticated
    """
    SchemaGuardMiddleware.refuse_old_schema()
    return (*credentials.present(request, now=timezone.now()), *event_log.head())


class StreamConsumer(AsyncHttpConsumer):
    """`kind` is what the stream carries."""

    def __init__(self, *, kind: str, hub: Hub) -> None:
        super().__init__()
        self.kind, self.hub = kind, hub
        self._stream: Stream | None = None
        self._pump: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._started = time.monotonic()
        self._status, self._why = 0, "left"
        self._across: dict[str, str] = {}  # headers for browser programs of other origins

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As the base class, without the channel in Redis that it opens for every consumer."""
        self.scope, self.base_send, self._task = scope, send, asyncio.current_task()
        self.trace_id = context.trace_id_from(ASGIRequest(scope, BytesIO()).headers.get("X-Trace-Id"))
        context.enter(trace_id=self.trace_id, via="http")
        try:
            await await_many_dispatch([receive], self.dispatch)
        except StopConsumer:
            pass
        except asyncio.CancelledError:
            if self._why != "cut":
                self._why = "stopped"
                raise
        finally:
            await self.disconnect()

    async def dispatch(self, message: Any) -> None:
        """As the base class; there is no connection of this thread to look after."""
        if message["type"] == "http.disconnect":
            raise StopConsumer
        if not self._status:
            await self.handle(b"")

    async def handle(self, body: bytes) -> None:
        """Opens the stream or refuses; what a body says is not read."""
        request = ASGIRequest(self.scope, BytesIO())
        asked_first = _cors.check_preflight(request)
        across = _cors.add_response_headers(request, asked_first or HttpResponse())
        self._across = {name: value for name, value in across.items() if name != "Content-Type"}
        if asked_first is not None:
            self._why = "preflight"
            await self._answer(200, {})
            await self.send_body(b"")
            return
        try:
            await self._open(request)
        except Exception as error:  # a client that gets no answer would hang
            refusal = problems.as_domain_error(error)
            if refusal is None:
                log.exception("stream not opened")
                refusal = problems.Internal()
            self._why = refusal.code
            with translation.override(translation.get_language_from_request(request)):
                answer = dumps(problems.document(refusal))
            headers = problems.headers(refusal) | {"Content-Type": problems.CONTENT_TYPE}
            if refusal.status == 405:
                headers["Allow"] = "GET"
            await self._answer(refusal.status, headers | {"Content-Length": str(len(answer))})
            await self.send_body(answer)

    async def _open(self, request: ASGIRequest) -> None:
        """:raises DomainError: the caller gets no stream"""
        if request.method != "GET":
            raise problems.MethodNotAllowed
        request.get_host()  # refuses a host that is not ours
        last = request.headers.get("Last-Event-ID", "")
        asked = frames.asked(request.GET, last_event_id=last, with_types=self.kind != "heartbeat")
        caller, credential, epoch, head = await database.ask(open_stream, request)
        context.enter(trace_id=self.trace_id, via="http")
        await self._answer(200, HEADERS)
        if not may_listen(caller):
            self._why = "forbidden"
            await self.send_body(frames.retry() + frames.error("forbidden"))
            return
        self._stream = Stream(
            kind=self.kind, asked=asked, user_id=caller.pk, keys=keys_of(caller), credential=credential, hub=self.hub,
            send=self._write, wire=Wire(self.base_send), cut=self._cut,
        )  # fmt: skip
        self.hub.add(self._stream, epoch=epoch, head=head)
        self._pump = asyncio.create_task(self._run(self._stream, epoch, head))

    async def _run(self, stream: Stream, epoch: str, head: int) -> None:
        try:
            await stream.run(epoch=epoch, head=head)
        except Exception:  # a bug: cut, so that the client comes again instead of waiting in silence
            log.exception("stream failed")
            self._cut()

    async def _answer(self, status: int, headers: dict[str, str]) -> None:
        self._status = status
        lines = {**self._across, **headers, "X-Trace-Id": self.trace_id}
        await self.send_headers(status=status, headers=[(k.lower().encode(), v.encode()) for k, v in lines.items()])

    async def _write(self, chunk: bytes, last: bool) -> None:
        await self.base_send({"type": "http.response.body", "body": chunk, "more_body": not last})

    def _cut(self) -> None:
        """Ends the connection and this consumer, whether or not the client takes anything."""
        self._why = "cut"
        Wire(self.base_send).cut()
        if self._task is not None:
            self._task.cancel()

    async def disconnect(self) -> None:
        """Leaves nothing behind but one line in the log."""
        if self._pump is not None:
            self._pump.cancel()
        if self._stream is not None:
            await self.hub.remove(self._stream)
        access_log.info(
            "stream",
            extra={
                "method": self.scope["method"],
                "route": self.scope["path"],
                "status": self._status,
                "ms": round((time.monotonic() - self._started) * 1000, 1),
                "count": self._stream.events if self._stream else None,
                "actor_id": self._stream.user_id if self._stream else None,
                "reason": (self._stream.end_code if self._stream else "") or self._why,
            },
        )
