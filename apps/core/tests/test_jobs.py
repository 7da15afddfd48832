"""Periodic jobs: once per slot, however many are handed it; what is old is forgotten."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from apps.core.jobs import periodic, purge_idempotency_keys
from apps.core.models import IdempotencyKey, JobRun

NOW = datetime(2026, 3, 2, 9, 17, 5, tzinfo=UTC)


@pytest.fixture
def job():
    calls: list[datetime] = []

    def count_calls() -> dict[str, int]:
        calls.append(timezone.now())
        return {"calls": len(calls)}

    count_calls.__name__ += uuid4().hex  # Celery knows a job by its name: each test has one of its own
    registered = periodic(every=timedelta(minutes=10))(count_calls)
    registered.calls = calls
    return registered


@pytest.mark.django_db
class TestPeriodic:
    def test_once_per_slot(self, job):
        with time_machine.travel(NOW, tick=False) as clock:
            for _ in range(3):
                job()
            assert len(job.calls) == 1
            clock.move_to(datetime(2026, 3, 2, 9, 20, tzinfo=UTC))
            job()
        assert len(job.calls) == 2

    def test_the_slot_is_counted_from_the_epoch_and_keeps_the_outcome(self, job):
        with time_machine.travel(NOW, tick=False):
            job()
        run = JobRun.objects.get()
        assert run.slot == datetime(2026, 3, 2, 9, 10, tzinfo=UTC)
        assert (run.outcome, run.finished_at) == ({"calls": 1}, NOW)
        assert ".count_calls" in run.job

    def test_tolerates_arguments_of_another_version(self, job):
        job(added_later=1)
        assert len(job.calls) == 1

    def test_a_failed_run_is_seen_as_unfinished_and_its_slot_is_spent(self):
        tried = []

        @periodic(every=timedelta(hours=1))
        def stumble() -> dict[str, int]:
            tried.append(1)
            raise RuntimeError

        with time_machine.travel(NOW, tick=False):
            with pytest.raises(RuntimeError):
                stumble()
            stumble()
        assert tried == [1]
        assert JobRun.objects.get().finished_at is None


def test_of_ten_workers_one_does_it(committed, job):
    gate = threading.Barrier(10)

    def work() -> None:
        try:
            gate.wait(10)
            job()
        finally:
            connection.close()

    with time_machine.travel(NOW, tick=False):
        threads = [threading.Thread(target=work) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(job.calls) == 1
    assert JobRun.objects.count() == 1


@pytest.mark.django_db
def test_old_keys_and_runs_are_forgotten():
    now = timezone.now()
    for age in (timedelta(hours=47), timedelta(hours=49)):
        IdempotencyKey.objects.create(owner=uuid4(), key="k", route="/", fingerprint=b"", created_at=now - age)
    for number, age in enumerate((timedelta(days=29), timedelta(days=31))):
        run = JobRun.objects.create(job=f"old {number}", slot=now - age)
        JobRun.objects.filter(pk=run.pk).update(started_at=now - age)
    purge_idempotency_keys()
    assert IdempotencyKey.objects.get().created_at > now - timedelta(hours=48)
    assert list(JobRun.objects.filter(job__startswith="old").values_list("job", flat=True)) == ["old 0"]
    assert JobRun.objects.get(job__contains="purge").outcome == {"keys": 1, "runs": 1}
