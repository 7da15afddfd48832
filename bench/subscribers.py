"""`python -m bench.subscribers`: holds streams and says how late their events were; how many on which ports is given.

Says `open` when all have had their first frame; at a line of input it prints what it has measured and ends. The moment
of writing stands in each event's title.
"""

import asyncio
import json
import re
import sys
import time

_WRITTEN = re.compile(rb'"title":\s?"([0-9.]+)"')
OPENED_AT_ONCE = 50


class Subscriber(asyncio.Protocol):
    def __init__(self, request: bytes, late: list[float], opened: asyncio.Semaphore) -> None:
        self.request, self.late, self.opened = request, late, opened
        self.rest, self.started = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        *whole, self.rest = (self.rest + data).split(b"\n\n")
        for frame in whole:
            if not self.started and b"event: heartbeat" in frame:
                self.started = True
                self.opened.release()
            elif written := _WRITTEN.search(frame):
                self.late.append(now - float(written[1]))


async def hold(ports: list[int], tokens: list[str], count: int) -> None:
    loop, late, opened = asyncio.get_running_loop(), [], asyncio.Semaphore(0)
    for number in range(count):
        token = tokens[number % len(tokens)]
        head = "GET /api/v1/streams/deals HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        request = f"{head}Authorization: Bearer {token}\r\n\r\n".encode()
        port = ports[number % len(ports)]
        # B023: the factory is called before the loop goes on
        await loop.create_connection(lambda: Subscriber(request, late, opened), "127.0.0.1", port)  # noqa: B023
        if number % OPENED_AT_ONCE == 0:
            await asyncio.sleep(0.05)
    for _ in range(count):
        await opened.acquire()
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    late.sort()
    figures = {f"p{n}": late[min(len(late) - 1, int(len(late) * n / 100))] for n in (50, 95, 99)} if late else {}
    print(json.dumps({"heard": len(late), **figures}), flush=True)


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    asyncio.run(hold([int(port) for port in sys.argv[1].split(",")], given, int(sys.argv[2])))
