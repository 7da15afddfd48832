"""Periodic jobs: once per slot, however many are handed it; what is old is forgotten."""

import os
import signal
import threading
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from apps.core import jobs, relay
from apps.core.jobs import periodic, purge_idempotency_keys
from apps.core.models import CrashedJob, IdempotencyKey, JobRun

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
    yield registered
    del jobs.PERIODIC[registered.name]


def at(*args):
    return datetime(2026, 3, 2, *args, tzinfo=UTC)


@contextmanager
def a_worker_at(run):
    """Another session that is at this run."""
    with relay.connect("test") as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", [jobs.RUN_LOCK, run.pk])
        yield other


@pytest.fixture
def failing():
    def stumble() -> dict[str, int]:
        JobRun.objects.create(job="its work", slot=NOW)
        raise ValueError("no room for 'Ivanov'")

    stumble.__name__ += uuid4().hex
    registered = periodic(every=timedelta(hours=1))(stumble)
    yield registered
    del jobs.PERIODIC[registered.name]


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

    def test_a_failed_run_is_finished_with_its_error_and_leaves_nothing_else(self, failing):
        with time_machine.travel(NOW, tick=False):
            for expected in (pytest.raises(ValueError), nullcontext()):
                with expected:
                    failing()
            run = JobRun.objects.get(job=failing.name)
            assert (run.finished_at, run.tries, run.outcome) == (NOW, 1, {})
            assert run.error == "ValueError: no room for …"
            assert not JobRun.objects.filter(job="its work").exists()
            with time_machine.travel(NOW + timedelta(hours=1), tick=False), pytest.raises(ValueError):
                failing()
        assert JobRun.objects.filter(job=failing.name).count() == 2

    def test_the_offered_slot_is_done_though_the_message_is_late(self, job):
        with time_machine.travel(NOW, tick=False):
            job(slot=int(at(9, 0).timestamp()))
            job()
        assert list(JobRun.objects.order_by("slot").values_list("slot", flat=True)) == [at(9, 0), at(9, 10)]

    @pytest.mark.parametrize("wrong", [at(8, 40), at(10, 10), at(9, 30), at(0, 0)])
    def test_a_slot_that_is_over_or_has_not_begun_is_the_present_one(self, job, wrong):
        with time_machine.travel(NOW, tick=False):
            job(slot=int(wrong.timestamp()))
        assert JobRun.objects.get().slot == at(9, 10)

    def test_a_clock_that_is_set_an_hour_ahead_and_back_costs_no_slot_of_its_own(self, job):
        """The beat's clock: its workers keep theirs."""
        with time_machine.travel(NOW, tick=False) as clock:
            for minute in range(0, 60, 10):
                clock.move_to(at(10, minute, 1))
                ahead = timedelta(hours=1) if 20 <= minute < 40 else timedelta(0)
                job(slot=int((at(10, minute) + ahead).timestamp()))
        slots = list(JobRun.objects.order_by("slot").values_list("slot", flat=True))
        assert slots == [at(10, minute) for minute in range(0, 60, 10)]
        assert len(job.calls) == 6

    def test_a_workers_clock_that_is_set_an_hour_ahead(self, job):
        with time_machine.travel(NOW, tick=False) as clock:
            job()
            clock.move_to(NOW + timedelta(hours=1))
            for _ in range(2):
                job()
        assert [run.slot for run in JobRun.objects.order_by("slot")] == [at(9, 10), at(10, 10)]
        assert len(job.calls) == 2


class TestDeadWorkers:
    """What a worker that was killed leaves: an unfinished row, and no lock."""

    @pytest.fixture
    def dead(self, committed, job):
        return JobRun.objects.create(job=job.name, slot=at(8, 50), tries=1, started_at=at(8, 50))

    def test_its_slot_is_taken_again_with_the_next_offer(self, dead, job):
        with time_machine.travel(NOW, tick=False):
            job()
            job()
        dead.refresh_from_db()
        assert (dead.finished_at, dead.tries) == (NOW, 2)
        assert len(job.calls) == 2  # the lost slot and the present one

    def test_not_while_somebody_is_at_it(self, dead, job):
        with time_machine.travel(NOW, tick=False), a_worker_at(dead) as other:
            job()
            dead.refresh_from_db()
            assert (dead.finished_at, len(job.calls)) == (None, 1)
            with connection.cursor() as cursor:  # the server frees what a session held
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [other.info.backend_pid])
            job()
        dead.refresh_from_db()
        assert dead.finished_at == NOW
        assert len(job.calls) == 2

    def test_a_slot_that_kills_its_workers_is_given_up(self, dead, job):
        JobRun.objects.filter(pk=dead.pk).update(tries=jobs.MOST_TRIES)
        with time_machine.travel(NOW, tick=False):
            job()
        dead.refresh_from_db()
        assert dead.error == "its worker has died 6 times"
        assert JobRun.objects.get(slot=at(9, 10)).error == ""

    def test_killed_at_work_it_leaves_nothing(self, committed):
        """The whole way, with a real death: the process is killed after its work and before its commit."""
        connection.close()  # the child must not share it
        pid = os.fork()
        if pid == 0:

            def dies():
                JobRun.objects.create(job="its work", slot=NOW)
                os.kill(os.getpid(), signal.SIGKILL)

            periodic(every=timedelta(minutes=10))(dies)()
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        run = JobRun.objects.get()
        assert (run.tries, run.finished_at) == (1, None)
        jobs._do(run.job, run.slot, lambda: {"done": 1})
        run.refresh_from_db()
        assert (run.tries, run.outcome) == (2, {"done": 1})
        assert not JobRun.objects.filter(job="its work").exists()


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
        CrashedJob.objects.create(id=uuid4(), job=f"crashed {number}", last_run_at=now - age)
    purge_idempotency_keys()
    assert IdempotencyKey.objects.get().created_at > now - timedelta(hours=48)
    assert list(JobRun.objects.filter(job__startswith="old").values_list("job", flat=True)) == ["old 0"]
    assert JobRun.objects.get(job__contains="purge").outcome == {"keys": 1, "runs": 1, "crashed": 1}
    assert CrashedJob.objects.get().job == "crashed 0"


@pytest.mark.django_db
class TestStandings:
    def of(self, job, now=NOW):
        return next(each for each in jobs.standings(now=now) if each.job == job.name)

    def test_a_job_that_never_ran(self, job):
        standing = self.of(job)
        assert (standing.last, standing.failed, standing.overdue) == (None, None, True)
        assert standing.due_at == at(9, 10)

    def test_a_job_that_runs(self, job):
        with time_machine.travel(NOW, tick=False):
            job()
        standing = self.of(job)
        assert (standing.last.outcome, standing.due_at, standing.overdue) == ({"calls": 1}, at(9, 20), False)

    def test_a_job_that_fails_shows_why_and_its_next_slot(self, failing):
        with time_machine.travel(NOW, tick=False), pytest.raises(ValueError):
            failing()
        standing = self.of(failing)
        assert (standing.failed.error, standing.due_at) == ("ValueError: no room for …", at(10, 0))

    @pytest.mark.parametrize(("now", "overdue"), [(at(9, 39, 59), False), (at(9, 40), True)])
    def test_two_whole_slots_without_a_run_are_overdue(self, job, now, overdue):
        with time_machine.travel(NOW, tick=False):
            job()
        assert self.of(job, now).overdue is overdue
