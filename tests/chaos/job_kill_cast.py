"""The processes of R8: a Celery app with jobs whose runs can be counted, `publish` and `check`.

The worker is `celery -A tests.chaos.job_kill_cast worker`. Every run of a job appends its number to the ledger named in
the environment; its effect in the database is one row and one step of a total, in one transaction.
"""

import argparse
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from crm2.celery import app  # first: it sets Django up

from celery import shared_task  # isort: skip
from django.db import connection, transaction  # isort: skip

from apps.core.models import CrashedJob  # isort: skip
from tests.chaos.job_kill import LEDGER  # isort: skip

TABLES = """
CREATE TABLE chaos_done (n int PRIMARY KEY);
CREATE TABLE chaos_total (total int NOT NULL);
INSERT INTO chaos_total VALUES (0);
"""
QUICKLY_VISIBLE = 8  # seconds: Redis hands out again what a dead worker held; five minutes outside of the experiment

if "visibility_timeout" in app.conf.broker_transport_options:
    app.conf.broker_transport_options |= {"visibility_timeout": QUICKLY_VISIBLE}


def _note(n: int) -> None:
    with open(os.environ[LEDGER], "ab", buffering=0) as ledger:  # one write, appended whole
        ledger.write(b"%d\n" % n)


@shared_task(name="chaos.effect")
def effect(*, n: int, **_: Any) -> None:
    """Leaves a line for each run and an effect once; slow enough to be killed in every stage."""
    dice = random.Random()  # noqa: S311 - a die
    _note(n)
    time.sleep(dice.uniform(0, 0.03))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO chaos_done VALUES (%s) ON CONFLICT DO NOTHING", [n])
        if cursor.rowcount:
            cursor.execute("UPDATE chaos_total SET total = total + 1")
        time.sleep(dice.uniform(0, 0.01))
    time.sleep(dice.uniform(0, 0.02))


@shared_task(name="chaos.poison")
def poison(*, n: int, **_: Any) -> None:
    """Kills its worker every time."""
    _note(n)
    os.kill(os.getpid(), signal.SIGKILL)


def publish(jobs: int, poisons: int) -> None:
    """Numbers from 0 do their effect, negative ones are poison, among them."""
    for n in range(jobs):
        effect.apply_async(kwargs={"n": n, "added_later": True})
        if poisons and n % (jobs // poisons) == 0 and n // (jobs // poisons) < poisons:
            poison.apply_async(kwargs={"n": -1 - n // (jobs // poisons)})


def check(jobs: int, poisons: int, ledger: Path) -> dict[str, int]:
    runs = Counter(int(line) for line in ledger.read_text().split())
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), (SELECT total FROM chaos_total) FROM chaos_done")
        done, total = cursor.fetchone()
    dead = CrashedJob.objects.exclude(dead_at=None)
    return {
        "lost": jobs - done,
        "never_run": sum(n not in runs for n in range(jobs)),
        "dup_effects": total - done,
        "over_6_runs": sum(count > 6 for count in runs.values()),
        "again": sum(count > 1 for n, count in runs.items() if n >= 0),
        "most_runs": max(runs.values()),
        "dead": dead.count(),
        "dead_of_poison": dead.filter(job=poison.name).count(),
        "being_tried": CrashedJob.objects.filter(dead_at=None).count(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("tables")
    for role in ("publish", "check"):
        each = roles.add_parser(role)
        each.add_argument("jobs", type=int)
        each.add_argument("poisons", type=int)
    options = parser.parse_args()
    if options.role == "tables":
        with connection.cursor() as cursor:
            cursor.execute(TABLES)
    elif options.role == "publish":
        publish(options.jobs, options.poisons)
    else:
        print(json.dumps(check(options.jobs, options.poisons, Path(os.environ[LEDGER]))))


if __name__ == "__main__":
    main()
