"""The clock of the jobs: offers each job at the beginning of each of its slots, and says that it turns.

Beats know nothing of each other. Each offers every slot, a worker does it once. Slots are counted from the epoch, not
from the last offer, so that offers neither drift nor depend on what another beat has written to the schedule.
"""

import time
from typing import Any, ClassVar

from celery import schedules
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from apps.core import alive
from apps.core.jobs import LATE_PERIODS, slot_at

AGAIN_SECONDS = 2.0  # after an offer: the broker may not have taken it


class SlotEntry(ModelEntry):
    """A periodic job: due once in each interval. What an admin has planned otherwise stays as Django's beat has it."""

    offered: ClassVar[dict[str, int]] = {}  # by name: the beginning of the interval of the last offer, not its time

    def is_due(self) -> schedules.schedstate:
        if not self._plain():
            return super().is_due()
        now, every = time.time(), self.schedule.run_every
        slot = slot_at(now, every)
        left = slot + every.total_seconds() - now
        # Unequal, not later: a clock that was set back must not stop the jobs until it has caught up.
        due = self.offered.get(self.name) != slot
        return schedules.schedstate(due, min(left, AGAIN_SECONDS) if due else left)

    def _plain(self) -> bool:
        """Whether this is a job of ours, at its interval, without a beginning, an end or a switch."""
        row = self.model
        planned = row.start_time or row.expires or row.one_off or not row.enabled or not row.interval
        return not planned and hasattr(self.app.tasks.get(self.task), "every")


class SlotScheduler(DatabaseScheduler):
    Entry = SlotEntry
    turned_at = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.slots: dict[str, int] = {}  # by name: the last slot that was offered
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        alive.say("beat")
        now = time.time()
        if now < self.turned_at:  # the clock was set back: what waits until then would wait that long
            self._heap = None
        self.turned_at = now
        return float(super().tick(*args, **kwargs))

    def enabled_models_qs(self) -> Any:
        return super().enabled_models_qs().select_related("interval")

    def update_from_dict(self, mapping: dict[str, Any]) -> None:
        """Writes only what differs: each write has every other beat read the whole schedule anew."""
        rows = {row.name: row for row in self.Model.objects.filter(name__in=mapping).select_related("interval")}
        super().update_from_dict({name: each for name, each in mapping.items() if not _is(rows.get(name), each)})

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Offers the job's present slot, and those that this beat was too late for; counts once the broker has them."""
        every = getattr(self.app.tasks.get(entry.task), "every", None)
        if every is None:
            return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        now, sent = time.time(), None
        for slot in self._missed(entry.name, slot_at(now, every), int(every.total_seconds())):
            offer = self.Entry(entry.model, app=self.app)
            offer.kwargs = {**entry.kwargs, "slot": slot}
            sent = super().apply_async(offer, producer=producer, advance=advance, **kwargs)
            self.slots[entry.name] = slot
        SlotEntry.offered[entry.name] = slot_at(now, entry.schedule.run_every)
        return sent

    def _missed(self, name: str, present: int, period: int) -> range:
        """The present slot and before it those since the last offer, two at most; only the present at a first offer."""
        last = self.slots.get(name, present)
        first = max(last + period, present - LATE_PERIODS * period) if last < present else present
        return range(first, present + 1, period)


def _is(row: PeriodicTask | None, wanted: dict[str, Any]) -> bool:
    """Whether the row says already what the code wants."""
    return bool(
        row and row.interval and row.task == wanted["task"] and row.interval.schedule.run_every == wanted["schedule"]
    )
