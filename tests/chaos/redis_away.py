"""R23: Redis is flushed, hangs, dies and comes back while people read, write and sign in.

Reads and writes go on; of sign-ins one a second passes in each process; nothing acknowledged is lost, in the database
or on an open stream; soon after its return all parts are well.
"""

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.broker import free_port
from tests.chaos.ground import Ground, private_ground
from tests.chaos.valkey import Valkey, private_valkey

PROCESSES = 2  # of the web server
CALLERS = 4
SELLER, PASSWORD = "sergey.seller@example.com", "Passw0rd!"
LONGEST = 3.0  # seconds for one request, whatever happens to Redis
BEFORE = 8.0  # seconds of load with Redis
WELL_WITHIN = 60.0  # seconds from Redis's return until every part is up
CELERY = ("-m", "celery", "-A", "crm2.celery")


@dataclass
class Seen:
    """What the callers were answered."""

    requests: list[tuple[float, int, float]] = field(default_factory=list)  # when, status, seconds
    written: list[str] = field(default_factory=list)
    sign_ins: list[tuple[float, int]] = field(default_factory=list)  # when, status
    broken: int = 0  # connections that ended without an answer
    heard: list[str] = field(default_factory=list)  # clients that the stream has told of


def run(*, seconds: int) -> tuple[bool, str]:
    """Whether the row passed, and its figures in one line; full size is 60 seconds without Redis."""
    with private_ground() as ground, private_valkey(ground.folder) as valkey:
        port, streams = free_port(), free_port()
        ground.give(
            REDIS_URL=valkey.url, CELERY_BROKER_URL="", RABBITMQ_URL="", BIND=f"127.0.0.1:{port}",
            WEB_CONCURRENCY=str(PROCESSES), LOG_LEVEL="WARNING",
        )  # fmt: skip
        ground.run("manage.py", "load_seeds", "--verbosity=0")
        _start(ground, port, streams)
        token = _token(port, SELLER)
        seen, stop = Seen(), threading.Event()
        with _listening(streams, token, seen), _load(port, token, seen, stop):
            began, ended = _outage(valkey, port, seen, seconds)
        well = None if _well_within(port) is None else time.time() - ended
        counted_again = [_sign_in(port, "nobody@example.com", "wrong") for _ in range(6)]
        lost = len(seen.written) - _kept(ground, seen.written)
    during = [each for each in seen.requests if began <= each[0] < ended]
    failed = sum(status not in (200, 201) for _, status, _ in seen.requests) + seen.broken
    tried = [status for at, status in seen.sign_ins if began + 1 <= at < ended]
    passed_in = sum(status in (200, 401) for status in tried)
    longest = max(took for _, _, took in seen.requests)
    unheard, twice = len(set(seen.written) - set(seen.heard)), len(seen.heard) - len(set(seen.heard))
    passed = (
        failed == lost == unheard == twice == 0
        and longest < LONGEST
        and 0 < passed_in <= PROCESSES * (ended - began)
        and tried.count(429) > 0
        and counted_again == [401] * 5 + [429]
        and well is not None
        and len(during) > 0
    )
    figures = {
        "requests": len(seen.requests), "without_redis": len(during), "failed": failed, "written": len(seen.written),
        "lost": lost, "unheard": unheard, "heard_twice": twice,
        "p95_ms": _p95(seen.requests, before=began), "p95_without_ms": _p95(during),
        "longest_ms": int(longest * 1000),
        "sign_ins": len(tried), "let_in_or_checked": passed_in, "throttled": tried.count(429),
        "well_again": "never" if well is None else f"{well:.0f}s",
    }  # fmt: skip
    return passed, f"seconds={seconds} " + " ".join(f"{name}={value}" for name, value in figures.items())


def _start(ground: Ground, port: int, streams: int) -> None:
    ground.start("-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "crm2.wsgi", log="web.log")
    serve = ("-m", "uvicorn", "crm2.asgi:application", "--port", str(streams), "--no-access-log")
    ground.start(*serve, "--log-level", "warning", log="streams.log")
    ground.start("manage.py", "relay", log="relay.log")
    ground.start(*CELERY, "worker", "--concurrency", "1", "--loglevel", "WARNING", log="worker.log")
    ground.start(*CELERY, "beat", "--loglevel", "WARNING", "--pidfile=", log="beat.log")
    if _well_within(port) is None:
        raise RuntimeError(f"the parts do not come up; see {ground.folder}")


def _outage(valkey: Valkey, port: int, seen: Seen, seconds: int) -> tuple[float, float]:
    """A flush, then a Redis that hangs, then none; returns from when to when there was none that answered."""
    time.sleep(BEFORE / 2)
    with valkey.client() as client:
        client.flushall()
    time.sleep(BEFORE / 2)
    began = time.time()
    os.kill(valkey.pid, signal.SIGSTOP)
    _knock(port, seen, until=began + seconds / 3)
    valkey.kill()
    _knock(port, seen, until=began + seconds)
    ended = time.time()
    valkey.start()
    time.sleep(6)  # it is asked again after five seconds
    return began, ended


def _knock(port: int, seen: Seen, *, until: float) -> None:
    """Tries passwords, right and wrong ones, ten a second."""
    number = 0
    while time.time() < until:
        number += 1
        right = number % 3 == 0
        email = SELLER if right else f"guess{number}@example.com"
        seen.sign_ins.append((time.time(), _sign_in(port, email, PASSWORD if right else "wrong")))
        time.sleep(0.1)


@contextmanager
def _listening(port: int, token: str, seen: Seen) -> Iterator[None]:
    """One stream, open from before the flush until all that was written has been told, or 20 seconds more."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST + 20)
    connection.request(
        "GET", "/api/v1/streams/deals?types=client.created", headers={"Authorization": f"Bearer {token}"}
    )
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"no stream: {answer.status} {answer.read()!r}")
    listener = threading.Thread(target=_hear, args=(answer, seen), daemon=True)
    listener.start()
    try:
        yield
    finally:
        until = time.time() + 20
        while time.time() < until and not set(seen.written) <= set(seen.heard):
            time.sleep(0.2)
        connection.sock.shutdown(socket.SHUT_RDWR)
        listener.join(10)
        connection.close()


def _hear(stream: http.client.HTTPResponse, seen: Seen) -> None:
    """Notes the clients that the stream tells of, until it ends."""
    name = ""
    try:
        for line in stream:
            kind, _, value = line.decode().strip().partition(": ")
            if kind == "event":
                name = value
            elif kind == "data" and name == "client.created":
                seen.heard.append(json.loads(value)["client_id"])
    except (OSError, http.client.HTTPException, ValueError):
        return


@contextmanager
def _load(port: int, token: str, seen: Seen, stop: threading.Event) -> Iterator[None]:
    callers = [threading.Thread(target=_call_on, args=(port, token, seen, stop, n)) for n in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        stop.set()
        for caller in callers:
            caller.join(30)


def _call_on(port: int, token: str, seen: Seen, stop: threading.Event, caller: int) -> None:
    """Reads two lists, writes a client, and so on."""
    connection, number = http.client.HTTPConnection("127.0.0.1", port, timeout=30), 0
    while not stop.is_set():
        number += 1
        started = time.time()
        try:
            if number % 3:
                status, _ = _ask(connection, "GET", "/api/v1/deals?limit=20", token)
            else:
                body = {"name": f"Клиент {caller}-{number}", "email": f"c{caller}-{number}@example.com"}
                status, answer = _ask(connection, "POST", "/api/v1/clients", token, body)
                if status == 201:
                    seen.written.append(answer["id"])
        except (OSError, http.client.HTTPException):
            seen.broken += 1
            connection.close()
            continue
        seen.requests.append((started, status, time.time() - started))
        time.sleep(0.03)
    connection.close()


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, token: str = "", body: Any = None
) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"null")


def _once(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        return _ask(connection, method, path, body=body)
    finally:
        connection.close()


def _sign_in(port: int, email: str, password: str) -> int:
    return _once(port, "POST", "/api/v1/auth/token", {"email": email, "password": password})[0]


def _token(port: int, email: str) -> str:
    return str(_once(port, "POST", "/api/v1/auth/token", {"email": email, "password": PASSWORD})[1]["accessToken"])


def _well_within(port: int) -> float | None:
    """Seconds until health is ok; None: it never is."""
    started = time.monotonic()
    while time.monotonic() - started < WELL_WITHIN:
        try:
            if _once(port, "GET", "/api/v1/health")[0] == 200:
                return time.monotonic() - started
        except OSError:
            pass
        time.sleep(0.5)
    return None


def _kept(ground: Ground, ids: list[str]) -> int:
    with ground.connect() as database:
        row = database.execute("SELECT count(*) FROM crm_client WHERE id = ANY(%s::uuid[])", [ids]).fetchone()
    return int(row[0]) if row else 0


def _p95(requests: list[tuple[float, int, float]], *, before: float = float("inf")) -> int:
    took = sorted(took for at, _, took in requests if at < before)
    return int(took[int(len(took) * 0.95)] * 1000) if took else -1
