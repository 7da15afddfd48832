"""Periodic work of the kernel, and the guard that lets each slot run once however many beats there are."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

from celery import shared_task
from django.utils import timezone

from apps.core.models import IdempotencyKey, JobRun

log = logging.getLogger(__name__)
KEYS_KEPT = timedelta(hours=48)
RUNS_KEPT = timedelta(days=30)

Job = Callable[[], dict[str, Any]]


def periodic(*, every: timedelta) -> Callable[[Job], Any]:
    """Makes a function a Celery job that runs once per slot of `every`, counted from the epoch.

    The slot's row is inserted in its own transaction before the work: of any number of workers that are handed the
    same slot one does it. The function returns its outcome, a small dict of numbers, which the row keeps.
    """

    def decorate(function: Job) -> Any:
        name = f"{function.__module__}.{function.__name__}"

        @shared_task(name=name)
        @wraps(function)
        def run(**_: Any) -> None:
            slot = _slot(timezone.now(), every)
            row, mine = JobRun.objects.get_or_create(job=name, slot=slot)
            if not mine:
                return
            outcome = function()
            JobRun.objects.filter(pk=row.pk).update(finished_at=timezone.now(), outcome=outcome)
            log.info("job done", extra={"job": name})

        run.every = every  # type: ignore[attr-defined]
        return run

    return decorate


def _slot(now: datetime, every: timedelta) -> datetime:
    seconds = int(every.total_seconds())
    return datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, UTC)


@periodic(every=timedelta(hours=1))
def purge_idempotency_keys() -> dict[str, Any]:
    """Forgets keys older than 48 hours, and job runs older than 30 days."""
    keys, _ = IdempotencyKey.objects.filter(created_at__lt=timezone.now() - KEYS_KEPT).delete()
    runs, _ = JobRun.objects.filter(started_at__lt=timezone.now() - RUNS_KEPT).delete()
    return {"keys": keys, "runs": runs}
