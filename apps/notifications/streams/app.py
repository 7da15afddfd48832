"""The ASGI application of the streams: their addresses before everything else's."""

from typing import Any

from apps.notifications.streams.consumer import StreamConsumer
from apps.notifications.streams.hub import Hub

PREFIX = "/api/v1/streams/"
KINDS = {"deals": "crm", "crm": "crm", "notifications": "notifications", "heartbeat": "heartbeat"}


class Streams:
    """Answers the streams' addresses, with and without the slash, and leaves all others to `inner`."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.hub = Hub()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path: str = scope["path"]
        kind = KINDS.get(path.removeprefix(PREFIX).removesuffix("/")) if path.startswith(PREFIX) else None
        if kind is None:
            await self.inner(scope, receive, send)
        else:
            await StreamConsumer(kind=kind, hub=self.hub)(scope, receive, send)
