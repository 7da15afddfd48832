"""Work for the workers: put aside when it has killed its worker six times, and run again by hand."""

import socket
import time
from uuid import UUID, uuid4

import pytest
from celery.app.trace import build_tracer
from django.conf import settings
from django.utils.module_loading import import_string

from apps.core import work
from apps.core.models import CrashedJob

app = import_string(settings.JOBS_APP)


@pytest.fixture
def job():
    """A job of the test's own: `job.calls` are the arguments it was called with."""
    calls = []

    @app.task(name=f"tests.{uuid4().hex}", bind=True)
    def note(self, **kwargs):
        if kwargs.get("fail"):
            raise ValueError
        calls.append(kwargs)

    note.calls = calls
    yield note
    app.tasks.unregister(note.name)


@pytest.mark.django_db
class TestGuarded:
    def deliver(self, job, message, *, again, **kwargs):
        """One delivery, by Celery's own way around a job."""
        request = {"delivery_info": {"redelivered": again}, "is_eager": False}
        build_tracer(job.name, job, app=app)(str(message), (), kwargs, request)

    def test_what_goes_well_leaves_no_row(self, job):
        self.deliver(job, uuid4(), again=False, deal_id="7")
        assert job.calls == [{"deal_id": "7"}]
        assert not CrashedJob.objects.exists()

    @pytest.mark.parametrize("fail", [False, True])
    def test_what_ends_at_the_second_delivery_leaves_no_row(self, job, fail):
        self.deliver(job, uuid4(), again=True, fail=fail)
        assert not CrashedJob.objects.exists()

    def test_six_runs_and_no_more(self, job, monkeypatch):
        monkeypatch.setattr(type(job), "after_return", lambda *_, **__: None)  # a worker that dies comes to no end
        message = uuid4()
        for delivery in range(9):
            self.deliver(job, message, again=delivery > 0, deal_id="7")
        assert len(job.calls) == work.MOST_RUNS == 6
        row = CrashedJob.objects.get()
        assert (row.id, row.job, row.kwargs, row.runs) == (message, job.name, {"deal_id": "7"}, 6)
        assert row.dead_at is not None

    def test_another_message_of_the_same_job_is_not_concerned(self, job):
        CrashedJob.objects.create(id=uuid4(), job=job.name, runs=6)
        self.deliver(job, uuid4(), again=True)
        assert len(job.calls) == 1
        assert CrashedJob.objects.count() == 1


@pytest.mark.django_db
class TestRunAgain:
    @pytest.fixture
    def dead(self, job):
        return CrashedJob.objects.create(
            id=uuid4(), job=job.name, kwargs={"deal_id": "7"}, runs=6, dead_at="2026-03-02T09:00:00Z"
        )

    def test_goes_to_the_broker_and_the_row_goes(self, dead, job):
        work.run_again(pk=dead.pk)
        assert not CrashedJob.objects.exists()
        with app.connection_for_read() as broker:
            queue = broker.SimpleQueue(app.conf.task_default_queue)
            message = queue.get(timeout=5)
            message.ack()
            queue.close()
        assert message.headers["task"] == job.name
        assert message.payload[1] == {"deal_id": "7"}
        assert UUID(message.headers["id"]) != dead.pk

    def test_a_broker_that_is_away_keeps_the_row(self, dead, monkeypatch):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # bound and not listening: refuses
            monkeypatch.setattr(app.conf, "broker_write_url", f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
            started = time.monotonic()
            with pytest.raises(work.BrokerAway):
                work.run_again(pk=dead.pk)
        assert time.monotonic() - started < 6
        assert CrashedJob.objects.filter(pk=dead.pk).exists()

    def test_only_what_was_put_aside_and_is_still_known(self, dead, job):
        CrashedJob.objects.filter(pk=dead.pk).update(dead_at=None)
        with pytest.raises(work.CrashedJobNotFound):
            work.run_again(pk=dead.pk)
        CrashedJob.objects.filter(pk=dead.pk).update(dead_at="2026-03-02T09:00:00Z", job="gone.since")
        with pytest.raises(work.CrashedJobNotFound):
            work.run_again(pk=dead.pk)
