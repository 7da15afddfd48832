"""One terminal for many processes: what ``manage.py up`` does with its commands.

Children run in process groups of their own, their lines carry their names, a dead child is started again after a
pause. The third death of one child within a minute stops them all and says why. A small guard process of its own
outlives a launcher that is killed and stops what it left; it runs this file as a program, hence no Django here.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO

GRACE = 10.0  # seconds between the request to end and the kill
MINUTE = 60.0
DEATHS_A_MINUTE = 3
LONGEST_PAUSE = 30.0
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92)


class LauncherError(RuntimeError):
    """The reason why the launcher stopped everything, for a person."""


def run(
    commands: Mapping[str, list[str]],
    *,
    env: Mapping[str, str] | None = None,
    on_ready: Callable[[], None] | None = None,
) -> int:
    """Run the commands until Ctrl-C or SIGTERM (0), or until one of them keeps dying (1, the reason printed).

    ``env`` is the children's whole environment (ours if None). ``on_ready`` is called once, when all were started.
    """
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda got, _frame: received.append(got)) for number in numbers}
    guard = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, start_new_session=True
    )
    width = max(map(len, commands), default=0)
    surroundings = {**(os.environ if env is None else env), "PYTHONUNBUFFERED": "1"}
    children = [
        _Child(name, command, _label(name, index, width), surroundings, guard)
        for index, (name, command) in enumerate(commands.items())
    ]
    try:
        for child in children:
            child.start()
        if on_ready is not None:
            on_ready()
        while not received:
            for child in children:
                child.look_after()
            time.sleep(0.1)
        return 0
    except LauncherError as reason:
        _say(f"launcher: {reason}; stopping all")
        return 1
    finally:
        _stop(children, received)
        with contextlib.suppress(OSError):  # it may have been killed
            guard.communicate()
        for number, handler in before.items():
            signal.signal(number, handler)


class _Child:
    """One command: its process group now, and how often it has died."""

    def __init__(
        self, name: str, command: list[str], label: str, env: Mapping[str, str], guard: subprocess.Popen[bytes]
    ) -> None:
        self.name, self.command, self.label, self.env, self.guard = name, command, label, env, guard
        self.process: subprocess.Popen[bytes] | None = None
        self.pump: threading.Thread | None = None
        self.started = 0.0
        self.due: float | None = None  # when to start it again
        self.pause = 0.0
        self.deaths: list[float] = []

    def start(self) -> None:
        """Start the command; its lines go to our output.

        :raises LauncherError: if there is no such program
        """
        try:
            self.process = subprocess.Popen(  # noqa: S603 - the caller's commands
                self.command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except OSError as error:
            raise LauncherError(f"{self.name} cannot be started: {error}") from error
        self._tell_guard()
        self.started, self.due = time.monotonic(), None
        self.pump = threading.Thread(target=_pump, args=(self.process.stdout, self.label), daemon=True)
        self.pump.start()

    def look_after(self) -> None:
        """Notice a death; start again when the pause is over.

        :raises LauncherError: if it died too often, or its program is gone
        """
        now = time.monotonic()
        if self.due is not None:
            if now >= self.due:
                self.signal(signal.SIGKILL)
                self._tell_guard()
                self.start()
        elif not self.running():
            self._bury(now)

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """To whatever is left of the group."""
        if self.process is not None:
            _signal_group(self.process.pid, number)

    def _bury(self, now: float) -> None:
        code = self.process.returncode if self.process is not None else 0
        ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        self.signal(signal.SIGTERM)  # workers it left behind would hold its port
        if self.pump is not None:
            self.pump.join(0.5)  # its last words first; a worker may keep the pipe open
        self.deaths = [moment for moment in self.deaths if moment > now - MINUTE] + [now]
        if len(self.deaths) >= DEATHS_A_MINUTE:
            raise LauncherError(f"{self.name} {ended}, and died {len(self.deaths)} times within a minute")
        lived = now - self.started >= MINUTE
        self.pause = 1.0 if lived or not self.pause else min(self.pause * 2, LONGEST_PAUSE)
        self.due = now + self.pause
        _say(f"{self.label}{ended}; starting again in {self.pause:.0f} s")

    def _tell_guard(self) -> None:
        """Enter the group into the guard's list, or take it out."""
        if self.process is not None and self.guard.stdin is not None:
            with contextlib.suppress(OSError):
                self.guard.stdin.write(b"%d\n" % self.process.pid)
                self.guard.stdin.flush()


def _stop(children: list[_Child], received: list[int]) -> None:
    """Ask all to end, wait, kill the rest; a second Ctrl-C does not wait."""
    so_far = len(received)
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while any(child.running() for child in children) and time.monotonic() < deadline and len(received) < so_far + 1:
        time.sleep(0.05)
    for child in children:
        child.signal(signal.SIGKILL)
    for child in children:
        if child.process is not None and child.pump is not None:
            child.process.wait()
            child.pump.join(1)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _pump(lines: IO[bytes], label: str) -> None:
    with lines:
        for line in lines:
            _say(f"{label}{line.decode(errors='replace').rstrip()}")


def _say(line: str) -> None:
    """One write per line, so that the lines of several threads do not mix."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads any more: no reason to die
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _label(name: str, index: int, width: int) -> str:
    label = f"{name:{width}} | "
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return f"\033[{COLOURS[index % len(COLOURS)]}m{label}\033[0m" if coloured else label


def _guard() -> None:
    """Remember the groups named on standard input (again: forget it); when it closes, end those that remain."""
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        groups ^= {int(line)}
    for group in groups:
        _signal_group(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while groups and time.monotonic() < deadline:
        time.sleep(0.1)
        groups = {group for group in groups if _exists(group)}
    for group in groups:
        _signal_group(group, signal.SIGKILL)


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    _guard()
