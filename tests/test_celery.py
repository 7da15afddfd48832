"""How the jobs travel: by RabbitMQ where there is one, else by Redis; acknowledged late, JSON, tolerant."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crm2.celery import app

ROOT = Path(__file__).resolve().parents[1]
OURS = sorted(name for name in app.tasks if name.startswith("apps."))
SCRIPT = """
import json
from crm2.celery import app
queues = {name: queue.queue_arguments for name, queue in app.amqp.queues.items()}
schedule = list(app.conf.beat_schedule)
json.dump([app.conf.broker_url, app.conf.broker_transport_options, queues, schedule], __import__("sys").stdout)
"""
REDIS, RABBITMQ = "redis://127.0.0.1:6379/0", "amqp://crm2:x@127.0.0.1:5672/crm2"


def configured(**variables: str):
    """Broker, its options, queues and schedule of a worker in that environment; no broker is asked."""
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CRM_DOTENV": os.devnull, "CRM_ENV": "development",
        "SECRET_KEY": "x", "AUTH_JWT_SECRET": "x", "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "REDIS_URL": REDIS, **variables,
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_over_rabbitmq_where_there_is_one():
    broker, options, queues, schedule = configured(RABBITMQ_URL=RABBITMQ)
    assert broker == RABBITMQ
    assert options["confirm_publish"] is True
    assert queues == {"crm.default": {"x-queue-type": "quorum", "x-delivery-limit": 1000}}
    assert sorted(schedule) == OURS  # in a process of its own, whoever imports the jobs first


def test_a_broker_of_its_own_wins():
    broker, options, queues, _schedule = configured(RABBITMQ_URL=RABBITMQ, CELERY_BROKER_URL=REDIS)
    assert broker == REDIS
    assert options["visibility_timeout"] == 300
    assert "confirm_publish" not in options
    assert list(queues) == ["crm.default"]


def test_over_redis_where_there_is_no_rabbitmq(settings):
    assert not settings.RABBITMQ_URL
    assert app.conf.broker_url.startswith("redis")
    assert app.conf.broker_transport_options["visibility_timeout"] == 300


def test_acknowledged_after_the_work_and_in_json_only():
    conf = app.conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert (conf.task_serializer, conf.accept_content) == ("json", ["json"])
    assert conf.task_ignore_result
    assert not conf.task_always_eager
    assert conf.task_time_limit < conf.broker_transport_options["visibility_timeout"]


@pytest.mark.parametrize("name", OURS)
def test_every_job_ignores_arguments_that_it_does_not_know(name):
    kinds = [each.kind for each in inspect.signature(app.tasks[name].run, follow_wrapped=False).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD in kinds
    assert inspect.Parameter.POSITIONAL_ONLY not in kinds


def test_there_are_jobs():
    assert len(OURS) >= 5
