"""What the figures stand on: a database of its own with an agency in it, the two servers, and callers with tokens."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.auth.models import User
from apps.auth.services import sessions
from crm2.seeds import PASSWORD

ROOT = Path(__file__).resolve().parents[1]
DATABASE = "crm2_bench"
MARK = "Bench"  # the title of deals that row 7 makes, for taking them away
START_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a token for us, a WHERE for raw."""

    name: str
    user: User
    sees: str  # of X-Caller: the user's id, or `all`

    def headers(self) -> dict[str, str]:
        """With a fresh token: one lives for a quarter of an hour."""
        pair = sessions.sign_in(
            email=self.user.email, password=PASSWORD, address=None, user_agent="bench", now=timezone.now()
        )
        return {"Authorization": f"Bearer {pair.access_token}", "X-Caller": self.sees}


class Ground:
    """Makes the database, or takes the one that an earlier run has kept; `start_*` run the servers on it."""

    def __init__(self, deals: int, folder: Path) -> None:
        self.deals, self.folder = deals, folder
        parts = urlsplit(settings.DATABASE_URL)
        self._server = urlunsplit(parts._replace(path="/postgres"))
        self.url = urlunsplit(parts._replace(path=f"/{DATABASE}"))
        self.children: list[subprocess.Popen[bytes]] = []
        # Children must accept the tokens that this process makes.
        self.environment = os.environ | {
            "DATABASE_URL": self.url,
            "RAW_DATABASE_URL": self.url,
            "REDIS_URL": settings.REDIS_URL,
            "CRM_ENV": "development",
            "DB_POOL_SIZE": "8",
            "SECRET_KEY": settings.SECRET_KEY,
            "AUTH_JWT_SECRET": settings.AUTH_JWT_SECRET,
            "TZ": settings.TIME_ZONE,
        }

    def prepare(self) -> None:
        """The database with that many deals; made anew unless it is there already."""
        if not self._is_ready():
            self.drop()
            self._sql(self._server, f"CREATE DATABASE {DATABASE}")
            self._manage("migrate", "--verbosity=0")
            print(self._manage("load_seeds", f"--bulk={self.deals}").strip(), flush=True)
        self._sql(self.url, "VACUUM ANALYZE", "CHECKPOINT")
        connections.settings["default"]["NAME"] = DATABASE

    def _is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url) as connection:
                found = connection.execute("SELECT count(*) FROM crm_deal").fetchone()
        except psycopg.Error:
            return False
        if not found or found[0] < self.deals or found[0] > self.deals + 10:
            return False
        self._manage("migrate", "--verbosity=0")
        return True

    def drop(self) -> None:
        self._sql(self._server, f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")

    def forget_made_deals(self) -> None:
        """Takes away what row 7 made, so that a kept database stays as it was."""
        self._sql(
            self.url,
            "ALTER TABLE core_event DISABLE TRIGGER USER",
            f"DELETE FROM core_event e USING crm_deal d WHERE d.title = '{MARK}' AND e.deal_id = d.id",
            "ALTER TABLE core_event ENABLE TRIGGER USER",
            f"DELETE FROM crm_dealmember m USING crm_deal d WHERE d.title = '{MARK}' AND m.deal_id = d.id",
            f"DELETE FROM crm_deal WHERE title = '{MARK}'",
            "DELETE FROM crm_stagefiguredelta",  # what was added and taken away sums to nothing
            "VACUUM ANALYZE crm_deal, crm_dealmember, core_event, crm_stagefiguredelta",
        )

    def admin(self) -> Caller:
        return Caller("admin", User.objects.get(email="anna.admin@example.com"), "all")

    def seller(self) -> Caller:
        user = User.objects.get(email="agency1.user1@example.com")
        return Caller("seller", user, str(user.pk))

    def start_ours(self) -> str:
        """gunicorn: one worker, four threads; the address."""
        port = _free_port()
        return self._start(
            "ours", port, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "crm2.wsgi",
            f"--bind=127.0.0.1:{port}", "--workers=1", "--threads=4", "--keep-alive=75", "--max-requests=0",
            "--log-level=warning",
        )  # fmt: skip

    def start_raw(self) -> str:
        """uvicorn: one worker; the address."""
        port = _free_port()
        return self._start(
            "raw", port, "-m", "uvicorn", "bench.raw:app", "--host=127.0.0.1", f"--port={port}", "--no-access-log",
            "--log-level=warning", "--timeout-keep-alive=75",
        )  # fmt: skip

    def start_streams(self) -> tuple[str, int]:
        """uvicorn with the event streams: the address and the process id."""
        port = _free_port()
        address = self._start(
            "streams", port, "-m", "uvicorn", "crm2.asgi:application", "--host=127.0.0.1", f"--port={port}",
            "--no-access-log", "--log-level=warning", "--timeout-graceful-shutdown=3",
        )  # fmt: skip
        return address, self.children[-1].pid

    def start_raw_streams(self) -> str:
        port = _free_port()
        return self._start(
            "raw streams", port, "-m", "uvicorn", "bench.raw_streams:app", "--host=127.0.0.1", f"--port={port}",
            "--no-access-log", "--log-level=warning", "--timeout-graceful-shutdown=3",
        )  # fmt: skip

    def start_process(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A process that serves nothing."""
        with (self.folder / f"{name}.log").open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=self.environment, stdout=output, stderr=output
            )
        self.children.append(child)
        return child

    def write_events(self, aggregate: str, count: int) -> None:
        """As many committed events, without a number yet."""
        self._sql(
            self.url,
            f"""INSERT INTO core_event (id, name, aggregate, aggregate_id, version, via, trace_id, payload, changes, at)
            SELECT gen_random_uuid(), 'deal.updated', '{aggregate}', gen_random_uuid(), 1, 'command', '',
                jsonb_build_object('filler', repeat('x', 400)), '{{}}', now() FROM generate_series(1, {count})""",
        )

    def forget_events(self, aggregate: str) -> None:
        """Takes away the events of an aggregate that rows have made up."""
        self._sql(
            self.url,
            "ALTER TABLE core_event DISABLE TRIGGER USER",
            f"DELETE FROM core_event WHERE aggregate = '{aggregate}'",
            "ALTER TABLE core_event ENABLE TRIGGER USER",
        )

    def end(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _start(self, name: str, port: int, *arguments: str) -> str:
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=self.environment, stdout=output, stderr=output
            )
        self.children.append(child)
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and child.poll() is None:
            try:
                urllib.request.urlopen(f"{address}/healthz", timeout=2).close()  # noqa: S310 - our own address
                return address
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"{name} did not start:\n{log.read_text()[-2000:]}")

    def _manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"manage.py {arguments[0]} failed:\n{done.stderr[-2000:]}")
        return done.stdout

    def _sql(self, url: str, *statements: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


def fetch(address: str, request: "tuple[str, str, str]", headers: dict[str, str]) -> tuple[int, bytes]:
    """One request, its status and body."""
    method, path, body = request
    asked = urllib.request.Request(  # noqa: S310 - our own address
        address + path,
        method=method,
        data=body.encode() or None,
        headers={**headers, "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310 - our own address
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def read(body: bytes) -> Any:
    return json.loads(body)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
