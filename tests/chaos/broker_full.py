"""R6: the feed loses its binding, then the broker its memory: nothing is sent, everyone is told, nothing is lost."""

import threading
import time

from tests.chaos.office import Office, figures, private_office, rss_mb
from tests.chaos.pace import Step

ALARM_LIMIT, MOST_RSS = 30.0, 300.0  # seconds, MB
UNBOUND, BLOCKED = 20.0, 60.0  # seconds
ZERO = ("lost", "unknown", "dup", "inversions", "gaps", "parked", "dead")


def run(*, writes: int, kills: int) -> tuple[bool, str]:
    """Whether the row passed, and its figures in one line."""
    with private_office() as office:
        pace = Step(office.ground.folder / "pace", 4)
        relay = office.start_relay()
        office.start_web()
        office.wait_for_leader()
        office.start_writers(http=writes, direct=0, paces=[pace])
        office.wait_for_writes()
        watch = _Watch(relay.pid)
        time.sleep(3.0)
        _bind(office, False)
        pace.done()
        unroutable = office.wait_for_rabbitmq("error = 'unroutable' AND failing_since IS NOT NULL", ALARM_LIMIT)
        held = _held(office, UNBOUND)
        _bind(office, True)
        repaired = office.wait_for_rabbitmq("error = ''", 60)
        office.broker.memory_alarm(True)
        pace.done()
        blocked = office.wait_for_rabbitmq("error = 'blocked' AND failing_since IS NOT NULL", ALARM_LIMIT)
        held &= _held(office, BLOCKED)
        office.broker.memory_alarm(False)
        pace.done()
        cleared = office.wait_for_rabbitmq("error = ''", 60)
        office.finish_writing(timeout=300)
        drained = office.drained(since=time.time(), within=60)
        most = watch.stop()
        attempts, answered = office.requests()
        found = office.check()
    passed = (
        all(found[name] == 0 for name in ZERO)
        and None not in (unroutable, blocked, repaired, cleared, drained)
        and held
        and most < MOST_RSS
        and attempts == answered
    )
    return passed, (
        f"{figures(found)} alarm_unroutable={_seconds(unroutable)} alarm_blocked={_seconds(blocked)}"
        f" unpublished_meanwhile={'yes' if held else 'no'} repaired={_seconds(repaired)}+{_seconds(cleared)}"
        f" relay_rss={most:.0f}MB requests={attempts} answered={answered}"
    )


def _bind(office: Office, on: bool) -> None:
    with office.broker.connect() as link:
        channel = link.channel()
        (channel.queue_bind if on else channel.queue_unbind)("crm.feed", "crm.events", "#")


def _held(office: Office, seconds: float) -> bool:
    """Whether the cursor of the bus stands still for so long while the log grows."""
    look = (
        "SELECT each.position, head.position FROM core_subscription AS each, core_relayhead AS head"
        " WHERE name = 'rabbitmq'"
    )
    with office.ground.connect() as database:
        cursor, head = database.execute(look).fetchone()
        time.sleep(seconds)
        later = database.execute(look).fetchone()
    return bool(later[0] == cursor and later[1] > cursor and later[1] >= head)


class _Watch(threading.Thread):
    """The most memory that a process had."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._most, self._ending = pid, 0.0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ending.wait(0.5):
            self._most = max(self._most, rss_mb(self._pid))

    def stop(self) -> float:
        self._ending.set()
        self.join()
        return self._most


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}s"
