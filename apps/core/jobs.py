"""Periodic work: each slot of a job is done once however many beats and workers there are, whoever dies meanwhile."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

from celery import shared_task
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.timesince import timesince

from apps.core.models import CrashedJob, IdempotencyKey, JobRun
from apps.core.subscriptions import describe

log = logging.getLogger(__name__)
KEYS_KEPT = timedelta(hours=48)
RUNS_KEPT = timedelta(days=30)
MOST_TRIES = 6  # of one slot: a job that kills its worker is not let in for ever
LATE_PERIODS = 2  # a slot that is offered later than this is over: the next one does its work
LOST_AT_ONCE = 20
RUN_LOCK = 0x4A6F6252  # the class of the advisory locks held by runs; their second number is the run's

Job = Callable[[], dict[str, Any]]
PERIODIC: dict[str, timedelta] = {}  # every periodic job that was imported


def periodic(*, every: timedelta) -> Callable[[Job], Any]:
    """Makes a function a Celery job that runs once per slot of `every`, counted from the epoch.

    Whatever the function writes commits together with the mark that the slot is done, so a slot whose worker dies
    leaves nothing and is taken again with the next offer of the job, at most 6 times. One transaction means no network:
    a job that sends something finds what is due and hands each piece to a worker. The function returns its outcome, a
    small dict of numbers, which the row keeps. An error is kept too and ends the slot; the next slot tries anew.
    """

    def decorate(function: Job) -> Any:
        name = f"{function.__module__}.{function.__name__}"
        PERIODIC[name] = every

        # An option, not set afterwards: the modules of jobs may be imported before the Celery app is made.
        @shared_task(name=name, every=every)  # type: ignore[call-overload]  # options are free
        @wraps(function)
        def run(*, slot: int | None = None, **_: Any) -> None:
            """`slot` is the beginning of the slot that is offered, in seconds of the epoch; the present one if None."""
            offered = _slot(every, slot)
            _do(name, offered, function)
            for lost in _lost(name, offered):
                _do(name, lost, function)

        return run

    return decorate


def slot_at(seconds: float, every: timedelta) -> int:
    """The beginning of the slot which that moment lies in; both in seconds of the epoch."""
    period = int(every.total_seconds())
    return int(seconds) // period * period


def _slot(every: timedelta, offered: int | None) -> datetime:
    """The offered slot; the present one when none is offered, or one that is long over or has not begun.

    A beat whose clock is wrong thus cannot spend the slots of tomorrow.
    """
    now, period = timezone.now().timestamp(), int(every.total_seconds())
    if offered is None or not now - (LATE_PERIODS + 1) * period < offered <= now + period:
        offered = slot_at(now, every)
    return datetime.fromtimestamp(slot_at(offered, every), UTC)


def _lost(name: str, offered: datetime) -> list[datetime]:
    """Other slots that somebody began and nobody has finished."""
    rows = JobRun.objects.filter(job=name, finished_at=None).exclude(slot=offered).order_by("slot")
    return list(rows.values_list("slot", flat=True)[:LOST_AT_ONCE])


def _do(name: str, slot: datetime, function: Job) -> None:
    """Does the slot unless it is done or somebody is at it.

    :raises Exception: what the job raised, after it was written down
    """
    row, _new = JobRun.objects.get_or_create(job=name, slot=slot)
    if row.finished_at:
        return
    with _alone_with(row) as mine:
        if not mine or JobRun.objects.get(pk=row.pk).finished_at:
            return
        this_run = JobRun.objects.filter(pk=row.pk)
        if not this_run.filter(tries__lt=MOST_TRIES).update(tries=F("tries") + 1, started_at=timezone.now()):
            this_run.update(finished_at=timezone.now(), error=f"its worker has died {MOST_TRIES} times")
            log.error("job given up", extra={"job": name, "count": MOST_TRIES})
            return
        try:
            with transaction.atomic():
                outcome = function()
                this_run.update(finished_at=timezone.now(), outcome=outcome, error="")
        except Exception as error:
            # Without a database nothing can be written down: the slot stays unfinished and is taken again.
            with suppress(DatabaseError):
                this_run.update(finished_at=timezone.now(), error=describe(error))
            raise
    log.info("job done", extra={"job": name})


@contextmanager
def _alone_with(row: JobRun) -> Iterator[bool]:
    """Whether nobody else is at this run. The lock is the session's: it goes with the worker, however that ends."""
    keys = [RUN_LOCK, row.pk % 2**31]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", keys)
        mine = bool(cursor.fetchone()[0])
    try:
        yield mine
    finally:
        if mine:
            with suppress(DatabaseError), connection.cursor() as cursor:  # a lost session has lost its locks
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", keys)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one periodic job fares: its newest run, its newest failure, and when its next slot begins."""

    job: str
    every: timedelta
    last: JobRun | None
    failed: JobRun | None
    due_at: datetime
    overdue: bool

    @property
    def period(self) -> str:
        """How often it runs, for a person."""
        return timesince(self.due_at - self.every, self.due_at)


def standings(*, now: datetime) -> list[Standing]:
    """Every periodic job of the code, by name; overdue when two whole slots have gone by without a finished run."""
    newest = JobRun.objects.filter(job__in=PERIODIC).order_by("job", "-slot").distinct("job")
    last = {run.job: run for run in newest}
    done = {run.job: run for run in newest.exclude(finished_at=None)}
    failed = {run.job: run for run in newest.exclude(error="")}
    result = []
    for job, every in sorted(PERIODIC.items()):
        present = datetime.fromtimestamp(slot_at(now.timestamp(), every), UTC)
        overdue = job not in done or done[job].slot < present - LATE_PERIODS * every
        begun = job in last and last[job].slot >= present
        result.append(Standing(job, every, last.get(job), failed.get(job), present + every * begun, overdue))
    return result


@periodic(every=timedelta(hours=1))
def purge_idempotency_keys() -> dict[str, Any]:
    """Forgets keys older than 48 hours; job runs and crashed jobs older than 30 days."""
    now = timezone.now()
    keys, _ = IdempotencyKey.objects.filter(created_at__lt=now - KEYS_KEPT).delete()
    runs, _ = JobRun.objects.filter(started_at__lt=now - RUNS_KEPT).delete()
    crashed, _ = CrashedJob.objects.filter(last_run_at__lt=now - RUNS_KEPT).delete()
    return {"keys": keys, "runs": runs, "crashed": crashed}
