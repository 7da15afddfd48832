"""The clock of the jobs: Django's beat, that also says that it turns."""

from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler

from apps.core import alive


class SlotScheduler(DatabaseScheduler):
    def tick(self, *args: Any, **kwargs: Any) -> float:
        alive.say("beat")
        return float(super().tick(*args, **kwargs))
