"""The clock of the jobs: each slot offered, once, with its name on it; a clock that is set changes nothing else."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks
from kombu.exceptions import OperationalError

from apps.core import alive
from crm2.beat import SlotEntry, SlotScheduler
from crm2.celery import OFTEN, app

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 2, 9, 17, 5, 250_000, tzinfo=UTC)
MINUTELY, DAILY = "apps.crm.jobs.fold_stage_figures", "apps.crm.jobs.recount_stage_figures"


def new_beat():
    """A beat that does not write its schedule when the suite ends: the database is gone then."""
    made = SlotScheduler(app=app)
    made._finalize.cancel()
    return made


@pytest.fixture
def beat(monkeypatch):
    """A beat whose offers are kept instead of sent: `beat.offers` are `(job, slot)`."""
    monkeypatch.setattr(alive, "say", lambda _name: None)
    monkeypatch.setattr(SlotEntry, "offered", {})
    offers = []

    def publish(self, args=None, kwargs=None, **_):
        if beat.broker_away:
            raise OperationalError("away")
        offers.append((self.name, datetime.fromtimestamp(kwargs["slot"], UTC)))

    for name in (MINUTELY, DAILY):
        monkeypatch.setattr(type(app.tasks[name]), "apply_async", publish)
    # Between turns beat closes connections and commits: the test's transaction is to live on.
    monkeypatch.setattr("django_celery_beat.schedulers.close_old_connections", lambda: None)
    whole = app.conf.beat_schedule
    app.conf.beat_schedule = {name: whole[name] for name in (MINUTELY, DAILY)}
    monkeypatch.setattr(SlotScheduler, "producer", None)
    with time_machine.travel(NOW, tick=False):
        beat = new_beat()
    beat.offers, beat.broker_away = offers, False
    yield beat
    app.conf.beat_schedule = whole


def turn(beat, clock, seconds, step=0.5):
    """Lets the beat turn for so long."""
    for _ in range(int(seconds / step)):
        while beat.tick() == 0:
            pass
        clock.shift(step)


def minutes(*pairs):
    return [(MINUTELY, datetime(2026, 3, 2, hour, minute, tzinfo=UTC)) for hour, minute in pairs]


def of(beat, job):
    return [offer for offer in beat.offers if offer[0] == job]


def test_at_once_then_at_the_beginning_of_each_slot(beat):
    with time_machine.travel(NOW, tick=False) as clock:
        turn(beat, clock, 180)
    assert of(beat, MINUTELY) == minutes((9, 17), (9, 18), (9, 19), (9, 20))


def test_a_rare_job_is_offered_often_and_its_slot_is_the_day(beat):
    with time_machine.travel(NOW, tick=False) as clock:
        turn(beat, clock, OFTEN.total_seconds() * 2, step=5)
    assert of(beat, DAILY) == [(DAILY, datetime(2026, 3, 2, tzinfo=UTC))] * 3


def test_offered_until_the_broker_has_it(beat):
    beat.broker_away = True
    with time_machine.travel(NOW, tick=False) as clock:
        turn(beat, clock, 10)
        assert beat.offers == []
        beat.broker_away = False
        turn(beat, clock, 10)
    assert of(beat, MINUTELY) == minutes((9, 17))


def test_a_clock_set_an_hour_ahead_and_back(beat):
    with time_machine.travel(NOW, tick=False) as clock:
        turn(beat, clock, 60)
        clock.shift(timedelta(hours=1))
        turn(beat, clock, 60)
        clock.shift(-timedelta(hours=1))
        turn(beat, clock, 60)
    assert of(beat, MINUTELY) == minutes(
        (9, 17), (9, 18), (10, 16), (10, 17), (10, 18), (10, 19), (9, 19), (9, 20)
    )  # fmt: skip


def test_a_beat_that_stalled_offers_what_it_was_too_late_for_but_no_more_than_two(beat):
    with time_machine.travel(NOW, tick=False) as clock:
        turn(beat, clock, 10)
        clock.shift(timedelta(minutes=2))
        turn(beat, clock, 10)
        clock.shift(timedelta(hours=1))
        turn(beat, clock, 10)
    assert of(beat, MINUTELY) == minutes((9, 17), (9, 18), (9, 19), (10, 17), (10, 18), (10, 19))


def test_a_beat_that_starts_writes_nothing_that_is_there(beat):
    before = PeriodicTasks.last_change()
    new_beat()
    assert PeriodicTasks.last_change() == before
    IntervalSchedule.objects.update(every=7)  # somebody changed it
    new_beat()
    assert PeriodicTask.objects.get(name=MINUTELY).interval.schedule.run_every == timedelta(minutes=1)


def test_what_another_beat_wrote_to_the_schedule_holds_nothing_back(beat):
    PeriodicTask.objects.update(last_run_at=NOW + timedelta(hours=1))
    other = new_beat()
    with time_machine.travel(NOW, tick=False) as clock:
        turn(other, clock, 60)
    assert of(beat, MINUTELY) == minutes((9, 17), (9, 18))


def test_a_beginning_that_was_planned_in_the_admin_is_kept(beat):
    PeriodicTask.objects.filter(name=MINUTELY).update(start_time=NOW + timedelta(minutes=2))
    SlotEntry.offered.clear()
    other = new_beat()
    with time_machine.travel(NOW, tick=False) as clock:
        turn(other, clock, 60)
        assert of(beat, MINUTELY) == []
        turn(other, clock, 180)
    assert of(beat, MINUTELY)


def test_a_job_that_was_switched_off_in_the_admin_is_not_offered(beat):
    PeriodicTask.objects.filter(name=MINUTELY).update(enabled=False)
    SlotEntry.offered.clear()
    other = new_beat()
    with time_machine.travel(NOW, tick=False) as clock:
        turn(other, clock, 60)
    assert of(beat, MINUTELY) == []
    assert of(beat, DAILY)
