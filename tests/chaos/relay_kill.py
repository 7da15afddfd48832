"""R4: `kill -9` of the leading relay again and again while writers write; nothing may be lost, doubled or turned.

Two relays run, the killer asks the database which one leads and starts another in its place.
"""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.ground import Ground, private_ground

CAST = ("-m", "tests.chaos.relay_kill_cast")
WRITERS = 4
DRAIN_LIMIT = 10.0  # seconds from the last write to the last effect
LEADER = """
SELECT application_name FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
WHERE locktype = 'advisory' AND granted AND datname = current_database() AND application_name LIKE 'crm2 relay %'
"""
BEHIND = """
SELECT (SELECT count(*) FROM core_event WHERE position IS NULL) + (SELECT count(*) FROM core_parked)
     + (SELECT sum(head.position - each.position) FROM core_subscription AS each, core_relayhead AS head)
"""
ZERO = ("lost", "unknown", "dup", "inversions", "gaps", "parked")


def run(*, writes: int, kills: int) -> tuple[bool, str]:
    """Whether the row passed, and its figures in one line."""
    with private_ground() as ground:
        ground.run(*CAST, "tables")
        pace, ledgers = ground.folder / "pace", [ground.folder / f"ledger-{n}" for n in range(WRITERS)]
        pace.touch()
        relays = [ground.start(*CAST, "relay", log="relay.log") for _ in range(2)]
        with ground.connect() as database:
            _leader(database, deadline=time.monotonic() + 60)
            writers = _start_writers(ground, writes, kills, ledgers, pace)
            killed = _kill_leaders(ground, database, relays, writers, kills, pace)
            broken = [writer for writer in writers if writer.wait(timeout=120)]
            last_write = max(ledger.stat().st_mtime for ledger in ledgers)
            drained = _drain(database, since=last_write)
        found = json.loads(ground.run(*CAST, "check", *map(str, ledgers)))
    passed = (
        not broken
        and all(found[name] == 0 for name in ZERO)
        and found["effects"] == writes
        and found["retried"] > 0
        and killed == kills
        and drained is not None
        and drained <= DRAIN_LIMIT
    )
    figures = " ".join(f"{name}={found[name]}" for name in (*ZERO, "effects", "retried"))
    return passed, f"{figures} kills={killed} drained={'never' if drained is None else f'{drained:.1f}s'}"


def _start_writers(
    ground: Ground, writes: int, kills: int, ledgers: list[Path], pace: Path
) -> list[subprocess.Popen[bytes]]:
    shares = [writes // WRITERS + (number < writes % WRITERS) for number in range(WRITERS)]
    return [
        ground.start(
            *CAST, "write", str(number), str(share), str(kills), str(ledgers[number]), str(pace), log="writers.log"
        )
        for number, share in enumerate(shares)
    ]


def _kill_leaders(
    ground: Ground,
    database: psycopg.Connection[Any],
    relays: list[subprocess.Popen[bytes]],
    writers: list[subprocess.Popen[bytes]],
    kills: int,
    pace: Path,
) -> int:
    """Kills the leader at random moments of its work; returns how often, while writers were writing."""
    dice, killed = random.Random("R4/killer"), 0  # noqa: S311
    deadline = time.monotonic() + 60 + 10 * kills
    while killed < kills and time.monotonic() < deadline and any(writer.poll() is None for writer in writers):
        pid = _leader(database, deadline)
        victim = next((relay for relay in relays if relay.pid == pid), None)
        if victim is None:  # the server still holds the session of one that is dead
            time.sleep(0.02)
            continue
        time.sleep(dice.uniform(0.0, 0.6))
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        killed += 1
        with pace.open("ab") as file:
            file.write(b".")
        relays.remove(victim)
        relays.append(ground.start(*CAST, "relay", log="relay.log"))
    return killed


def _leader(database: psycopg.Connection[Any], deadline: float) -> int:
    """The process id of the leading relay, waited for."""
    while time.monotonic() < deadline:
        row = database.execute(LEADER).fetchone()
        if row:
            return int(row[0].rsplit(" ", 1)[1])
        time.sleep(0.02)
    raise TimeoutError("no relay leads")


def _drain(database: psycopg.Connection[Any], *, since: float) -> float | None:
    """Seconds from `since` until every subscription is at the head and nothing is parked; None: it never happens."""
    while time.time() < since + 3 * DRAIN_LIMIT:
        if database.execute(BEHIND).fetchone()[0] == 0:
            return time.time() - since
        time.sleep(0.05)
    return None
