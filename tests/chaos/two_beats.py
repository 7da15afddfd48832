"""R9: two beats offer thirty schedules of 5 to 60 seconds, one of them is killed again and again.

Every slot of every schedule is done once, and none later than two of its periods.
"""

import json
import random
import time
from typing import Any

import psycopg

from tests.chaos.broker import private_broker
from tests.chaos.ground import private_ground

CAST = ("-m", "tests.chaos.two_beats_cast")
CELERY = ("-m", "celery", "-A", "tests.chaos.two_beats_cast")
BEAT = (*CELERY, "beat", "--loglevel", "WARNING", "--pidfile=")
WORKER = (*CELERY, "worker", "--concurrency", "2", "--loglevel", "WARNING", "--without-gossip", "--without-mingle")
LONGEST = 60  # seconds, of the schedules
ZERO = ("missing", "late", "dup", "without_effect", "failed")


def run(*, minutes: int) -> tuple[bool, str]:
    """Whether the row passed, and its figures in one line; one beat is killed each minute, full size is ten."""
    with private_ground() as ground, private_broker() as broker:
        ground.give(RABBITMQ_URL=broker.url, CELERY_BROKER_URL=broker.url)
        ground.run(*CAST, "tables")
        ground.start(*WORKER, log="worker.log")
        beats = [ground.start(*BEAT, log="beat.log") for _ in range(2)]
        with ground.connect() as database:
            _first_run(database)
        began, killed = time.time(), 0
        dice = random.Random("R9")  # noqa: S311 - a seeded die
        for _ in range(minutes):
            time.sleep(60)
            victim = beats.pop(dice.randrange(2))
            victim.kill()
            victim.wait()
            killed += 1
            beats.append(ground.start(*BEAT, log="beat.log"))
        time.sleep(2.5 * LONGEST)  # what the last kill could delay has its two periods
        ended = time.time()
        for beat in beats:
            beat.terminate()
            beat.wait()
        with ground.connect() as database:
            _come_to_rest(database)
        found = json.loads(ground.run(*CAST, "check", str(began), str(ended)))
    passed = all(found[name] == 0 for name in ZERO) and found["slots"] > 30 and killed == minutes
    figures = " ".join(f"{name}={value}" for name, value in found.items())
    return passed, f"minutes={minutes} {figures} beats_killed={killed}"


def _first_run(database: psycopg.Connection[Any]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        row = database.execute("SELECT count(*) FROM core_jobrun WHERE finished_at IS NOT NULL").fetchone()
        if row and row[0]:
            return
        time.sleep(0.1)
    raise TimeoutError("no job runs")


def _come_to_rest(database: psycopg.Connection[Any]) -> None:
    """Waits until the worker has done what was offered: rows and effects are counted when none is on its way."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 5:
        row = database.execute("SELECT count(*) FROM core_jobrun WHERE finished_at IS NOT NULL").fetchone()
        if row and row[0] != before:
            before, since = row[0], time.monotonic()
        time.sleep(0.2)
