"""A client of event streams, close to the socket: what the rows need to see is what a browser hides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NamedTuple

ADDRESS = "/api/v1/streams/deals"


class Frame(NamedTuple):
    event: str
    id: str
    data: str

    @property
    def position(self) -> int:
        return int(self.id.rpartition("-")[2] or 0)


class Refused(Exception):
    """The answer is no stream; `args[0]` is its status."""


async def frames(
    port: int, path: str, headers: dict[str, str], *, host: str = "127.0.0.1", limit: int = 2**16
) -> AsyncIterator[Frame]:
    """The frames of one connection, until it breaks: `retry:` is one too, without event and data.

    :raises Refused: another status than 200
    :raises OSError, EOFError: the connection broke, or was never made
    """
    reader, writer = await asyncio.open_connection(host, port, limit=limit)
    try:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode())
        status = int((await _line(reader)).split()[1])
        chunked = False
        while line := await _line(reader):
            chunked |= line.lower() == b"transfer-encoding: chunked"
        if status != 200:
            raise Refused(status)
        rest = b""
        while True:
            rest += await _chunk(reader) if chunked else await _some(reader)
            *whole, rest = rest.split(b"\n\n")
            for text in whole:
                yield _frame(text.decode())
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _line(reader: asyncio.StreamReader) -> bytes:
    return (await reader.readuntil(b"\r\n")).rstrip()


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await _line(reader), 16)
    data = await reader.readexactly(size)
    await reader.readexactly(2)
    if not size:
        raise EOFError
    return data


async def _some(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(2**16)
    if not data:
        raise EOFError
    return data


def _frame(text: str) -> Frame:
    fields = dict(line.split(": ", 1) for line in text.split("\n"))
    return Frame(fields.get("event", ""), fields.get("id", ""), fields.get("data", ""))
