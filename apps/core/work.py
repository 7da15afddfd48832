"""Work for the workers: how it is handed over without waiting for the broker, and how often it may kill them.

The broker never holds the only copy of a fact. What must happen stands in PostgreSQL with the time when it is due, and
a periodic job finds it; a message only makes it happen at once.
"""

import logging
import os
import queue
import threading
from typing import Any
from uuid import UUID

from celery import Task
from celery.exceptions import Ignore
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError

from apps.core import context
from apps.core.errors import NotFound, Unavailable
from apps.core.models import CrashedJob

log = logging.getLogger(__name__)

MOST_RUNS = 6
WAITING_AT_MOST = 1000  # messages; more are dropped, for the rows they are about say the same
CONNECT_SECONDS = 2
CONFIRM_SECONDS = 5

Message = tuple[str, dict[str, Any], str]


def hand_over(job: str, **kwargs: Any) -> None:
    """Asks a worker to run the job soon, once the transaction commits. Neither waits for the broker nor fails.

    `job` is its registered name, `kwargs` are JSON. A broker that is away is waited for in the background; a process
    that ends meanwhile takes its requests with it.
    """
    trace_id = context.trace_id() or context.new_trace_id()
    transaction.on_commit(lambda: _courier().take((job, kwargs, trace_id)))


class Courier:
    """Publishes from a thread of its own, in the order of handing over."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._waiting: queue.Queue[Message] = queue.Queue(WAITING_AT_MOST)
        threading.Thread(target=self._work, name="courier", daemon=True).start()

    def take(self, message: Message) -> None:
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            log.warning("work not handed over", extra={"job": message[0], "reason": "too much waits for the broker"})

    def _work(self) -> None:
        while True:
            job, kwargs, trace_id = self._waiting.get()
            context.enter(trace_id=trace_id, via="job")
            try:
                send(job, kwargs)
            except Exception as error:
                log.warning("work not handed over", extra={"job": job, "reason": type(error).__name__})
            finally:
                context.leave()


_the_courier: Courier | None = None
_making = threading.Lock()


def _courier() -> Courier:
    """This process's own: a thread does not live through a fork."""
    global _the_courier
    with _making:
        if _the_courier is None or _the_courier.pid != os.getpid():
            _the_courier = Courier()
        return _the_courier


def send(job: str, kwargs: dict[str, Any]) -> None:
    """Publishes now; waits for the broker, if need be until it is back.

    :raises Exception: the broker's client's, if it does not take the message
    """
    app = import_string(settings.JOBS_APP)
    app.tasks[job].apply_async(kwargs=kwargs, retry=False, confirm_timeout=CONFIRM_SECONDS)


class Guarded(Task):
    """The base of all jobs: one whose worker has died at it six times is put aside, where an admin sees it.

    Runs are counted in the database and only from the second delivery on: a job that goes well costs nothing.
    """

    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        if not self._delivered_again():
            return
        row, _made = CrashedJob.objects.get_or_create(id=UUID(task_id), defaults={"job": self.name, "kwargs": kwargs})
        if row.runs >= MOST_RUNS:
            CrashedJob.objects.filter(pk=row.pk, dead_at=None).update(dead_at=timezone.now())
            log.error("job put aside", extra={"job": self.name, "count": row.runs})
            raise Ignore
        CrashedJob.objects.filter(pk=row.pk).update(runs=row.runs + 1, last_run_at=timezone.now())

    def after_return(self, status: Any, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        if self._delivered_again():
            CrashedJob.objects.filter(pk=UUID(task_id), dead_at=None).delete()

    def _delivered_again(self) -> bool:
        return bool((self.request.delivery_info or {}).get("redelivered"))


class CrashedJobNotFound(NotFound):
    message = _("There is no such job that was put aside.")


class BrokerAway(Unavailable):
    message = _("The broker of the jobs does not answer. Try again later.")


def run_again(*, pk: UUID) -> None:
    """Hands a job that was put aside to the workers anew, with six runs to come. Waits for the broker some seconds.

    :raises CrashedJobNotFound: it is not there, was not put aside, or the code does not know it any more
    :raises BrokerAway: nobody took it; it stays where it was
    """
    row = CrashedJob.objects.filter(pk=pk).exclude(dead_at=None).first()
    app = import_string(settings.JOBS_APP)
    if row is None or row.job not in app.tasks:
        raise CrashedJobNotFound
    try:
        with app.connection_for_write(connect_timeout=CONNECT_SECONDS) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0.2, timeout=CONNECT_SECONDS)
            app.tasks[row.job].apply_async(
                kwargs=row.kwargs, connection=broker, retry=False, confirm_timeout=CONFIRM_SECONDS
            )
    except broker_errors(app) as error:
        log.warning("work not handed over", extra={"job": row.job, "reason": type(error).__name__})
        raise BrokerAway from None
    row.delete()  # after the broker has it: better twice than never


def broker_errors(app: Any) -> tuple[type[Exception], ...]:
    transport = app.connection_for_write().transport
    return (OSError, OperationalError, *transport.connection_errors, *transport.channel_errors)
