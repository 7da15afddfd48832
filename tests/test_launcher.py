"""The one-terminal launcher: what it prints, when it starts again, and that it leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Stubborn, with a child of its own in the same group that is as stubborn.
STUBBORN = r"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
os.write(1, b"pid %d\n" % os.getpid())  # at once: the two share a pipe
time.sleep(60)
"""
POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("bye"), sys.exit(0)))
print("pid", __import__("os").getpid())
time.sleep(60)
"""


class Launched:
    """A launcher in a process of its own, and what it has printed."""

    def __init__(self, folder: Path, commands: dict[str, str], prelude: str = "") -> None:
        programs = {name: [sys.executable, "-c", code] for name, code in commands.items()}
        start = f"raise SystemExit(launcher.run({programs!r}, on_ready=lambda: print('all started', flush=True)))"
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"from crm2 import launcher\n{prelude}\n{start}"],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def text(self) -> str:
        return self.output.read_text()

    def pids(self) -> list[int]:
        return [int(line.rpartition(" ")[2]) for line in self.text().splitlines() if " | pid " in line]

    def sees(self, wanted: str, count: int = 1) -> None:
        until(lambda: self.text().count(wanted) >= count, lambda: f"{count} x {wanted!r} in {self.text()!r}")


def until(done: Callable[[], bool], what: Callable[[], str], patience: float = 15) -> None:
    deadline = time.monotonic() + patience
    while not done():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    launched: list[Launched] = []

    def start(commands: dict[str, str], prelude: str = "") -> Launched:
        launched.append(Launched(tmp_path, commands, prelude))
        return launched[-1]

    yield start
    for one in launched:
        one.process.kill()
        one.process.wait()
        for pid in filter(lives, one.pids()):
            os.kill(pid, signal.SIGKILL)


def test_lines_carry_names_and_a_stop_is_clean(launch):
    up = launch({"web": POLITE, "worker": POLITE})
    up.sees(" | pid ", 2)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(10) == 0
    assert "web    | bye\n" in up.text()
    assert "worker | bye\n" in up.text()
    assert up.text().count("all started\n") == 1
    assert not any(map(lives, up.pids()))


def test_children_have_groups_of_their_own(launch):
    up = launch({"web": POLITE})
    up.sees(" | pid ")
    (pid,) = up.pids()
    assert os.getpgid(pid) == pid != os.getpgid(up.process.pid)


def test_a_dead_child_starts_again_after_a_growing_pause(launch):
    up = launch({"web": POLITE})
    for deaths in (1, 2):
        up.sees(" | pid ", deaths)
        os.kill(up.pids()[-1], signal.SIGKILL)
        up.sees(f"web | was killed by SIGKILL; starting again in {deaths} s")
    up.sees(" | pid ", 3)
    up.process.terminate()
    assert up.process.wait(10) == 0


def test_the_third_death_within_a_minute_stops_all(launch):
    up = launch({"web": "raise SystemExit(3)", "worker": POLITE})
    assert up.process.wait(15) == 1
    assert "launcher: web ended with code 3, and died 3 times within a minute; stopping all" in up.text()
    assert "worker | bye" in up.text()
    assert up.text().count("starting again") == 2


def test_a_missing_program_stops_all():
    script = "from crm2 import launcher; raise SystemExit(launcher.run({'web': ['no-such-program']}))"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert ran.returncode == 1
    assert "web cannot be started" in ran.stdout


def test_the_stubborn_are_killed_after_the_grace(launch):
    up = launch({"web": STUBBORN}, "launcher.GRACE = 1.0")
    up.sees(" | pid ", 2)
    started = time.monotonic()
    up.process.terminate()
    assert up.process.wait(8) == 0
    assert time.monotonic() - started > 0.9
    assert not any(map(lives, up.pids()))


def test_a_second_interrupt_does_not_wait(launch):
    up = launch({"web": STUBBORN})
    up.sees(" | pid ", 2)
    up.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(5) == 0
    assert not any(map(lives, up.pids()))


def test_what_a_dead_child_leaves_is_ended_too(launch):
    up = launch({"web": STUBBORN})
    up.sees(" | pid ", 2)
    leader = next(pid for pid in up.pids() if os.getpgid(pid) == pid)
    (left,) = set(up.pids()) - {leader}
    os.kill(leader, signal.SIGKILL)
    until(lambda: not lives(left), lambda: "the orphan is still there")


def test_a_killed_launcher_leaves_nothing(launch):
    up = launch({"web": POLITE, "worker": POLITE})
    up.sees(" | pid ", 2)
    up.process.kill()
    until(lambda: not any(map(lives, up.pids())), lambda: "children outlived the launcher")
