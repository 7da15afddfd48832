"""Rows 10 and 17: how soon subscribers hear, against a bare server; how many events the relay numbers, and how soon."""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

from django.db import connection, transaction
from django.utils import timezone

from apps.auth.models import ServiceToken
from apps.auth.services import service_tokens
from apps.core.events import emit
from apps.core.models import Event, RelayHead
from apps.crm.models import Deal
from bench.ground import ROOT, Ground

SUBSCRIBERS = (200, 1000)
A_TOKEN = 5  # streams of one caller
EVENTS, A_SECOND = 50, 10
MOST_MEMORY = 32.0  # KiB a subscriber
BACKLOG, MUST_NUMBER = 15_000, 3000
MUST_HEAR_MS = 30.0
HELD_SECONDS = 10.0
NAME = "bench"
NUMBERING_TIMEOUT = 300.0


class Streams:
    """The servers of the streams, the relay beside them, and callers enough for the subscribers."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        logging.getLogger("crm2.security").setLevel(logging.WARNING)  # of two hundred new tokens nobody need hear
        self.deal_id = Deal.objects.living().order_by("id").values_list("pk", flat=True).first()
        self.texts = [
            service_tokens.create_service_token(name=NAME, scopes=["events.view"], actor=None)[1]
            for _ in range(max(SUBSCRIBERS) // A_TOKEN)
        ]
        self.relay = self._relay()
        self._wait_until_numbered()  # what the bulk data has written

    def forget(self) -> None:
        self.relay.terminate()
        self.relay.wait()
        self.ground.forget_events(NAME)
        ServiceToken.objects.filter(name=NAME).delete()

    def fan_out(self, ports: list[int], subscribers: int, *, events: int = EVENTS) -> dict[str, float]:
        """Opens the streams and writes; `p50`, `p95`, `p99` in seconds from before the write, `lost`."""
        with self._subscribed(ports, subscribers) as process:
            for number in range(events):
                time.sleep(1 / A_SECOND)
                self._emit(f"{time.time():.6f}", number)
            time.sleep(1.5)
            told, _ = process.communicate("\n", timeout=60)
        found: dict[str, float] = json.loads(told)
        return found | {"lost": subscribers * events - found["heard"]}

    def numbered_a_second(self) -> float:
        """The rate at which a relay numbers what has been written while there was none."""
        self.relay.terminate()
        self.relay.wait()
        self.ground.write_events(NAME, BACKLOG)
        self.relay = self._relay()
        head = RelayHead.objects.get().position
        first = None
        while Event.objects.filter(position=None).exists():
            if first is None and RelayHead.objects.get().position > head:
                first = time.monotonic(), RelayHead.objects.get().position
            time.sleep(0.01)
        if first is None:
            raise RuntimeError("the relay numbered between two looks")
        return (head + BACKLOG - first[1]) / (time.monotonic() - first[0])

    @contextmanager
    def a_long_write(self) -> Iterator[None]:
        """Another transaction has written an event and does not commit for ten seconds."""
        written, enough = threading.Event(), threading.Event()

        def hold() -> None:
            with transaction.atomic():
                self._emit_now("held", -1)
                written.set()
                enough.wait(HELD_SECONDS)
            connection.close()

        holder = threading.Thread(target=hold)
        holder.start()
        written.wait()
        try:
            yield
        finally:
            enough.set()
            holder.join()

    def _emit(self, title: str, number: int) -> None:
        with transaction.atomic():
            self._emit_now(title, number)

    def _emit_now(self, title: str, number: int) -> None:
        payload = {"deal_id": self.deal_id, "title": title, "changed": ["title"], "updated_at": timezone.now()}
        subject = SimpleNamespace(pk=uuid4(), version=1)
        emit("deal.updated", subject, actor=None, payload=payload, aggregate=NAME, deal_id=self.deal_id)

    def _wait_until_numbered(self) -> None:
        until = time.monotonic() + NUMBERING_TIMEOUT
        while Event.objects.filter(position=None).exists():
            if time.monotonic() > until:
                raise TimeoutError("the relay does not come to the end of the log")
            time.sleep(0.2)

    def _relay(self) -> subprocess.Popen[bytes]:
        return self.ground.start_process("relay", "manage.py", "relay")

    @contextmanager
    def _subscribed(self, ports: list[int], subscribers: int) -> Iterator["subprocess.Popen[str]"]:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.subscribers", ",".join(map(str, ports)), str(subscribers)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        try:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("the subscribers cannot be spoken to")
            process.stdin.write(json.dumps(self.texts) + "\n")
            if process.stdout.readline().strip() != "open":
                raise RuntimeError("the streams do not open")
            yield process
        finally:
            process.kill()
            process.wait()


def resident(pid: int) -> float:
    """KiB."""
    return float(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])
