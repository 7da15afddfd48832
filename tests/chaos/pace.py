"""Pace: writers go no faster than the harness's steps (kills, outages), so that all of them fall among writes."""

import os
import sys
import time
from pathlib import Path


class Step:
    """The harness's side: a file that grows by a byte with every step."""

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.steps = path, steps
        path.touch()

    def __str__(self) -> str:
        return f"{self.steps}={self.path}"

    def done(self) -> None:
        with self.path.open("ab") as file:
            file.write(b".")


class Pace:
    """The writer's side; each of `given` is a Step as text."""

    def __init__(self, given: list[str]) -> None:
        self._steps = [(int(steps), Path(path)) for steps, path in (each.split("=", 1) for each in given)]

    def keep(self, done: float) -> None:
        """Waits until the share of the work that is done is not ahead of any of the steps."""
        while any(steps and done > (path.stat().st_size + 1) / steps for steps, path in self._steps):
            if os.getppid() == 1:
                sys.exit("the harness is gone")
            time.sleep(0.05)
