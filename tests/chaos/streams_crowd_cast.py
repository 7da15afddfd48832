"""The processes of R12: `crowd` holds the streams and the slow readers, `probe` asks the API, `flood` fills the slow.

Run as `python -m tests.chaos.streams_crowd_cast ...`.
"""

import argparse
import asyncio
import http.client
import json
import select
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.chaos import sse
from tests.chaos.sse import ADDRESS

OPENED_A_SECOND = 100
TICK = 0.02


# --- crowd -----------------------------------------------------------------------------------------------------------
class Crowd:
    """Streams that measure: how late events are, how long heartbeats leave them alone, whether any ends."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.gap = 0.0
        self.open = self.broken = 0
        self.ended = False

    async def one(self, port: int, token: str) -> None:
        beat_at = 0.0
        with suppress(OSError, EOFError, sse.Refused):
            async for frame in sse.frames(port, ADDRESS, {"Authorization": f"Bearer {token}"}, limit=2**14):
                now = time.time()
                if frame.event == "heartbeat":
                    if not beat_at:
                        self.open += 1
                    else:
                        self.gap = max(self.gap, now - beat_at)
                    beat_at = now
                elif frame.event == "deal.updated":
                    self.late.append(now - float(json.loads(frame.data)["title"]))
        self.broken += not self.ended

    async def hold(self, port: int, tokens: list[str], each: int) -> None:
        """Opens `each` streams of every token; says `open` on the output; closes all at the input's end."""
        tasks = []
        for token in tokens * each:
            tasks.append(asyncio.create_task(self.one(port, token)))
            await asyncio.sleep(1 / OPENED_A_SECOND)
        while self.open < len(tasks) and not self.broken:
            await asyncio.sleep(0.05)
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        self.ended = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        late = sorted(self.late) or [float("inf")]
        figures = {"p95": late[int(len(late) * 0.95)], "max": late[-1], "heard": len(self.late)}
        print(json.dumps(figures | {"gap": self.gap, "open": self.open, "broken": self.broken}), flush=True)


def read_slowly(port: int, tokens: list[str], each: int) -> None:
    """Reads a byte a second from each stream; says when each was seen to end, until all have or the input ends."""
    sockets = []
    for token in tokens * each:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", port))
        slow.sendall(f"GET {ADDRESS} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        sockets.append(slow)
    print("open", flush=True)
    while not select.select([sys.stdin], [], [], 1)[0]:
        for slow in sockets:
            with suppress(OSError):
                slow.recv(1, socket.MSG_DONTWAIT)


# --- probe -----------------------------------------------------------------------------------------------------------
def probe(port: int, token: str, deal_id: str, seconds: float, a_second: float) -> float:
    """The 95th percentile of a deal's detail, in milliseconds, asked at this rate."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    took = []
    started = time.monotonic()
    for number in range(int(seconds * a_second)):
        time.sleep(max(0.0, started + number / a_second - time.monotonic()))
        asked = time.perf_counter()
        connection.request("GET", f"/api/v1/deals/{deal_id}", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the API answers {answer.status}")
        took.append((time.perf_counter() - asked) * 1000)
    return sorted(took)[int(len(took) * 0.95)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.streams_crowd_cast")
    parser.add_argument("part", choices=["crowd", "slow", "probe"])
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    given: list[Any] = options.arguments
    if options.part == "probe":
        print(probe(int(given[0]), given[1], given[2], float(given[3]), float(given[4])))
        return
    tokens = json.loads(Path(given[1]).read_text())
    if options.part == "crowd":
        asyncio.run(Crowd().hold(int(given[0]), tokens, int(given[2])))
    else:
        read_slowly(int(given[0]), tokens, int(given[2]))


if __name__ == "__main__":
    main()
