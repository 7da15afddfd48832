"""The Celery app: jobs live in each app's `jobs` module and say themselves how often they run.

The trace id travels in the message header, so that what a job writes carries the trace of what asked for it.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import django
from celery import Celery
from celery.signals import before_task_publish, heartbeat_sent, setup_logging, task_postrun, task_prerun
from django.conf import settings
from kombu import Exchange, Queue

from apps.core import context
from crm2 import servers

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm2.settings.base")
servers.hold()
django.setup()

from apps.core import alive  # noqa: E402 - needs the setup

OFTEN = timedelta(minutes=15)

app = Celery("crm2", task_cls="apps.core.work:Guarded")
app.config_from_object("django.conf:settings", namespace="CELERY")
if settings.JOBS_ON_RABBITMQ:
    app.conf.task_queues = [
        Queue(
            settings.CELERY_TASK_DEFAULT_QUEUE,
            Exchange(settings.CELERY_TASK_DEFAULT_EXCHANGE, type=settings.CELERY_TASK_DEFAULT_EXCHANGE_TYPE),
            routing_key=settings.CELERY_TASK_DEFAULT_ROUTING_KEY,
            # Runs are counted by apps.core.work; the broker's own limit (20 where none is given) would drop a message
            # that was only prefetched by workers that died.
            queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": 1000},
        )
    ]
app.autodiscover_tasks(related_name="jobs", force=True)


def schedule(tasks: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Beat's schedule of the periodic jobs among these.

    A rare job is offered often and does its slot once: a worker that dies at a daily one costs minutes, not a day.
    """
    return {
        name: {"task": name, "schedule": min(job.every, OFTEN)} for name, job in tasks.items() if hasattr(job, "every")
    }


app.conf.beat_schedule = schedule(app.tasks)


@setup_logging.connect
def keep_our_logging(**_: Any) -> None:
    """Django has configured the logs; that this is connected keeps Celery from doing it again."""


@heartbeat_sent.connect
def say_alive(**_: Any) -> None:
    """From the loop of the worker's main process, every few seconds while it is joined to the broker."""
    alive.say("worker")


@before_task_publish.connect
def carry_trace(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None:
        headers["trace_id"] = context.trace_id() or context.new_trace_id()


@task_prerun.connect
def enter_job(task: Any = None, **_: Any) -> None:
    trace_id = getattr(task.request, "trace_id", None) if task else None
    context.enter(trace_id=trace_id or context.new_trace_id(), via="job")


@task_postrun.connect
def leave_job(**_: Any) -> None:
    context.leave()
