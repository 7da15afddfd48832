"""The yardstick of the streams: a bare ASGI app that is woken as we are and gives every subscriber every event.

One connection, one query a wake-up, a queue for each subscriber; no rights, no resuming, no limits, no heartbeats.
"""

import asyncio
import os
from typing import Any

import orjson
import psycopg
from redis import asyncio as redis

WAKE = "asgi__group__crm2.events"  # where the channel layer publishes for the group
AFTER = """SELECT position, name, payload FROM core_event WHERE position > %s AND name LIKE 'deal.%%' ORDER BY position
    LIMIT 500"""
HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]

subscribers: set["asyncio.Queue[bytes]"] = set()


async def follow(ready: asyncio.Event) -> None:
    """Reads what is new with every wake-up and hands it out."""
    connection = await psycopg.AsyncConnection.connect(os.environ["RAW_DATABASE_URL"], autocommit=True)
    connection.prepare_threshold = 0
    listening = redis.Redis.from_url(os.environ["REDIS_URL"]).pubsub()
    await listening.subscribe(WAKE)
    cursor = await connection.execute("SELECT position FROM core_relayhead")
    (last,) = await cursor.fetchone() or (0,)
    ready.set()
    while True:
        if await listening.get_message(ignore_subscribe_messages=True, timeout=1) is None:
            continue
        cursor = await connection.execute(AFTER, [last])
        for position, name, payload in await cursor.fetchall():
            frame = f"id: {position}\nevent: {name}\ndata: ".encode() + orjson.dumps(payload) + b"\n\n"
            for queue in subscribers:
                queue.put_nowait(frame)
            last = position


async def stream(receive: Any, send: Any) -> None:
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    subscribers.add(queue)
    pump = asyncio.create_task(_pump(queue, send))
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        subscribers.discard(queue)
        pump.cancel()


async def _pump(queue: "asyncio.Queue[bytes]", send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"event: heartbeat\ndata: {}\n\n", "more_body": True})
    while True:
        await send({"type": "http.response.body", "body": await queue.get(), "more_body": True})


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        ready = asyncio.Event()
        following = asyncio.create_task(follow(ready))
        await ready.wait()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        following.cancel()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["path"] == "/healthz":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
    else:
        await stream(receive, send)
