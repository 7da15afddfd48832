"""Work for the workers: how often a job may kill them, and how one that was put aside is run again.

The broker never holds the only copy of a fact. What must happen stands in PostgreSQL with the time when it is due, and
a periodic job finds it; a message only makes it happen at once.
"""

import logging
from typing import Any
from uuid import UUID

from celery import Task
from celery.exceptions import Ignore
from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError

from apps.core.errors import NotFound, Unavailable
from apps.core.models import CrashedJob

log = logging.getLogger(__name__)

MOST_RUNS = 6
CONNECT_SECONDS = 2
CONFIRM_SECONDS = 5


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
