"""R10: clients are thrown off again and again while events are written; each hears exactly what it may see, once."""

import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.chaos.ground import Ground, private_ground

CAST = ("-m", "tests.chaos.streams_cast")
CLIENTS, WRITERS = 20, 3
RECONNECTS_A_KILL = 50  # of kills: one of either server or of either relay for so many reconnects
ZERO = ("missing", "dup", "inversions", "alien", "altered", "bad", "gaps")
PATIENCE = 60.0


def run(*, writes: int, kills: int) -> tuple[bool, str]:
    """Whether the row passed, and its figures; `kills` is the number of forced reconnects."""
    with private_ground() as ground:
        tokens, pace = ground.folder / "tokens", ground.folder / "pace"
        pace.touch()
        ground.run(*CAST, "seed", str(CLIENTS), str(tokens))
        ports = [free_port(), free_port()]
        webs = {port: start_web(ground, port) for port in ports}
        relays = [ground.start("manage.py", "relay", log="relay.log") for _ in range(2)]
        for port in ports:
            wait_until_up(port)
        listening = ground.start(
            *CAST, "listen", ",".join(map(str, ports)), str(tokens), str(ground.folder), str(kills), str(pace),
            log="listen.log",
        )  # fmt: skip
        writers = [
            ground.start(*CAST, "write", str(n), str(writes // WRITERS + (n < writes % WRITERS)), str(pace), str(kills),
                         log="writers.log")
            for n in range(WRITERS)
        ]  # fmt: skip
        killed = _kill_servers(ground, webs, relays, writers, pace, kills)
        broken = [writer for writer in writers if writer.wait(timeout=600)]
        (ground.folder / "finish.part").write_text(str(_numbered(ground)))
        (ground.folder / "finish.part").rename(ground.folder / "finish")
        try:
            broken += [listening] if listening.wait(timeout=PATIENCE) else []
        except subprocess.TimeoutExpired:
            broken.append(listening)
        found = json.loads(ground.run(*CAST, "check", str(ground.folder)))
        counted = json.loads(_text(ground.folder / "counts") or '{"broken": 0}')
    reconnects = counted["broken"]
    passed = not broken and all(found[name] == 0 for name in ZERO) and found["heard"] > writes
    passed = passed and reconnects >= kills and min(killed.values()) > 0
    figures = " ".join(f"{name}={found[name]}" for name in (*ZERO, "heard"))
    return passed, (
        f"{figures} events={writes} reconnects={reconnects} web_kills={killed['web']} relay_kills={killed['relay']}"
        + (f" broken={len(broken)}" if broken else "")
    )


def _kill_servers(
    ground: Ground, webs: dict[int, subprocess.Popen[bytes]], relays: list[subprocess.Popen[bytes]],
    writers: list[subprocess.Popen[bytes]], pace: Path, reconnects: int,
) -> dict[str, int]:  # fmt: skip
    """Kills servers and relays in turn, each time starting another; returns how many of each."""
    dice, killed = random.Random("R10/killer"), {"web": 0, "relay": 0}  # noqa: S311 - a seeded die
    while any(writer.poll() is None for writer in writers):
        time.sleep(0.1)
        if pace.stat().st_size < (sum(killed.values()) + 1) * min(RECONNECTS_A_KILL, reconnects // 6):
            continue
        if killed["web"] <= killed["relay"]:
            port = dice.choice(list(webs))
            _end(webs[port], dice.choice([signal.SIGKILL, signal.SIGTERM]))
            webs[port] = start_web(ground, port)
            wait_until_up(port)
            killed["web"] += 1
        else:
            relay = relays.pop(0)
            _end(relay, signal.SIGKILL)
            relays.append(ground.start("manage.py", "relay", log="relay.log"))
            killed["relay"] += 1
    return killed


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    os.kill(process.pid, how)
    process.wait(timeout=30)


def _numbered(ground: Ground) -> int:
    """The last position, when every event has one."""
    deadline = time.monotonic() + PATIENCE
    with ground.connect() as database:
        while database.execute("SELECT count(*) FROM core_event WHERE position IS NULL").fetchone()[0]:
            if time.monotonic() > deadline:
                raise TimeoutError("the relay does not number")
            time.sleep(0.1)
        return int(database.execute("SELECT position FROM core_relayhead").fetchone()[0])


def start_web(ground: Ground, port: int) -> subprocess.Popen[bytes]:
    return ground.start(
        "-m", "uvicorn", "crm2.asgi:application", "--host=127.0.0.1", f"--port={port}", "--no-access-log",
        "--log-level=warning", "--timeout-graceful-shutdown=3", log=f"web-{port}.log",
    )  # fmt: skip


def wait_until_up(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"nothing answers at port {port}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
