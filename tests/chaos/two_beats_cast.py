"""The processes of R9: a Celery app with thirty periodic jobs that count themselves, and `check`.

`celery -A tests.chaos.two_beats_cast beat` and `... worker`.
"""

import argparse
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from crm2.celery import app, schedule  # first: it sets Django up

from django.db import connection  # isort: skip
from django.db.models import Count  # isort: skip

from apps.core.jobs import periodic, slot_at  # isort: skip
from apps.core.models import JobRun  # isort: skip

MODULE = "tests.chaos.two_beats_cast"  # as the workers know it; `check` runs as __main__
TABLES = "CREATE TABLE chaos_run (job text NOT NULL);"
PERIODS = [5, 6, 8, 10, 12, 15, 20, 30, 45, 60] * 3  # seconds


def counting(name: str) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO chaos_run VALUES (%s)", [f"{MODULE}.{name}"])
        return {}

    run.__name__, run.__module__ = name, MODULE
    return run


JOBS = {
    job.name: job
    for number, period in enumerate(PERIODS)
    for job in [periodic(every=timedelta(seconds=period))(counting(f"job_{number}_every_{period}"))]
}
app.conf.beat_schedule = schedule({name: app.tasks[name] for name in JOBS})


def check(began: float, ended: float) -> dict[str, float]:
    """What the time from `began` to `ended` has left; both in seconds of the epoch."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT job, count(*) FROM chaos_run GROUP BY job")
        effects = dict(cursor.fetchall())
    slots = missing = late = 0
    worst = 0.0
    for name, job in JOBS.items():
        period = int(job.every.total_seconds())
        runs = {int(run.slot.timestamp()): run for run in JobRun.objects.filter(job=name)}
        for slot in range(slot_at(began, job.every) + period, int(ended) - 2 * period, period):
            slots += 1
            run = runs.get(slot)
            if run is None or run.finished_at is None:
                missing += 1
                continue
            delay = (run.finished_at - datetime.fromtimestamp(slot, run.finished_at.tzinfo)).total_seconds() / period
            late += delay > 2
            worst = max(worst, delay)
    rows = dict(JobRun.objects.filter(job__in=JOBS).values_list("job").annotate(Count("pk")))
    return {
        "slots": slots,
        "missing": missing,
        "late": late,
        "dup": sum(max(0, effects.get(name, 0) - rows.get(name, 0)) for name in JOBS),
        "without_effect": sum(max(0, rows.get(name, 0) - effects.get(name, 0)) for name in JOBS),
        "failed": JobRun.objects.filter(job__in=JOBS).exclude(error="").count(),
        "worst_delay_in_periods": round(worst, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("tables")
    checker = roles.add_parser("check")
    checker.add_argument("began", type=float)
    checker.add_argument("ended", type=float)
    options = parser.parse_args()
    if options.role == "tables":
        with connection.cursor() as cursor:
            cursor.execute(TABLES)
    else:
        print(json.dumps(check(options.began, options.ended)))


if __name__ == "__main__":
    main()
