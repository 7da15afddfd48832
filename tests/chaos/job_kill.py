"""R8: `kill -9` of worker children and of the master while jobs are done; none is lost, none has its effect twice.

Among the jobs are some that kill their worker every time: they are put aside after six runs, where an admin sees them.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.broker import private_broker
from tests.chaos.ground import Ground, private_ground
from tests.chaos.valkey import private_valkey

CAST = ("-m", "tests.chaos.job_kill_cast")
WORKER = ("-m", "celery", "-A", "tests.chaos.job_kill_cast", "worker", "--concurrency", "4", "--loglevel", "WARNING",
          "--without-gossip", "--without-mingle", "--pool", "prefork")  # fmt: skip
LEDGER = "CHAOS_LEDGER"  # the variable that names it
QUEUE = "crm.default"
POISONS = 5
ZERO = ("lost", "never_run", "dup_effects", "over_6_runs", "being_tried")
DRAIN_LIMIT = 180.0  # seconds after the last kill: a poison job needs six deaths, each noticed within ten seconds


def run_on_rabbitmq(*, jobs: int, kills: int) -> tuple[bool, str]:
    """Whether the row passed, and its figures in one line."""
    with private_ground() as ground, private_broker() as broker:
        ground.give(RABBITMQ_URL=broker.url, CELERY_BROKER_URL=broker.url)

        def waiting() -> int:
            lines = broker.control("list_queues", "name", "messages", "--no-table-headers").splitlines()
            return sum(int(line.split()[1]) for line in lines if line.split()[0] == QUEUE)

        return _run(ground, waiting, jobs, kills)


def run_on_redis(*, jobs: int, kills: int) -> tuple[bool, str]:
    with private_ground() as ground, private_valkey(ground.folder) as valkey:
        ground.give(CELERY_BROKER_URL=valkey.url, RABBITMQ_URL="")

        def waiting() -> int:
            with valkey.client() as client:
                return int(client.llen(QUEUE)) + int(client.hlen("unacked"))

        return _run(ground, waiting, jobs, kills)


def _run(ground: Ground, waiting: Callable[[], int], jobs: int, kills: int) -> tuple[bool, str]:
    ledger = ground.folder / "ledger"
    ledger.touch()
    ground.give(**{LEDGER: str(ledger)})
    ground.run(*CAST, "tables")
    ground.run(*CAST, "publish", str(jobs), str(POISONS), timeout=300)
    killed, masters = _kill(ground, ledger, jobs, kills)
    emptied = _drain(waiting)
    found = json.loads(ground.run(*CAST, "check", str(jobs), str(POISONS)))
    passed = (
        all(found[name] == 0 for name in ZERO)
        and found["dead"] == found["dead_of_poison"] == POISONS
        and found["again"] > 0
        and killed == kills
        and masters == kills // 10
        and emptied is not None
    )
    figures = " ".join(f"{name}={value}" for name, value in found.items())
    queue = "not empty" if emptied is None else f"empty after {emptied:.0f}s"
    return passed, f"jobs={jobs} {figures} children_killed={killed} masters_killed={masters} queue={queue}"


def _kill(ground: Ground, ledger: Path, jobs: int, kills: int) -> tuple[int, int]:
    """Kills children at random moments, and a master after each tenth of them, spread over the whole work."""
    dice, killed, masters = random.Random("R8"), 0, 0  # noqa: S311 - a seeded die
    worker = _start(ground, ledger)
    deadline = time.monotonic() + 120 + 10 * kills
    while killed < kills and time.monotonic() < deadline:
        if _runs(ledger) < jobs * killed / (kills + 1) or not (children := _children(worker)):
            time.sleep(0.02)
            continue
        time.sleep(dice.uniform(0, 0.1))
        try:
            os.kill(dice.choice(children), signal.SIGKILL)
        except ProcessLookupError:  # poison was quicker
            continue
        killed += 1
        if killed % 10 == 0:
            worker.kill()
            worker.wait()
            masters += 1
            worker = _start(ground, ledger)
    return killed, masters


def _start(ground: Ground, ledger: Path) -> subprocess.Popen[bytes]:
    """A worker that has begun to work."""
    before = _runs(ledger)
    worker = ground.start(*WORKER, log="worker.log")
    deadline = time.monotonic() + 60
    while _runs(ledger) <= before and time.monotonic() < deadline:
        time.sleep(0.05)
    return worker


def _runs(ledger: Path) -> int:
    return ledger.read_bytes().count(b"\n")


def _children(worker: subprocess.Popen[bytes]) -> list[int]:
    path = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def _drain(waiting: Callable[[], int]) -> float | None:
    """Seconds until the broker holds nothing any more; None: it never happens."""
    started = time.monotonic()
    while time.monotonic() - started < DRAIN_LIMIT:
        if waiting() == 0:
            return time.monotonic() - started
        time.sleep(1)
    return None
