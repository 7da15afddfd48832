"""R7: bad messages among good ones: no JSON, a field missing, a handler that raises, a handler that ends the process.

The harness is the supervisor: it starts the consumer again whenever it has ended.
"""

import time

from tests.chaos.office import Office, cpu_seconds, figures, private_office

MOST_TRIES = 5
QUIET_CPU = 0.1  # cores, when all is done
ZERO = ("good_lost", "good_twice", "bad_done", "bad_not_dead", "dead_twice", "good_dead", "no_reason", "over_5_tries",
        "left")  # fmt: skip


def run(*, writes: int, kills: int) -> tuple[bool, str]:
    """Whether the row passed, and its figures in one line. `writes` messages are good, a hundredth as many bad."""
    bad = max(10, writes // 100)
    exiting = bad // 10  # as office_cast.send deals them
    with private_office() as office:
        office.start_consumer()
        office.start_sender(good=writes, bad=bad, paces=[])
        restarts = _supervise(office, total=writes, deadline=120 + writes / 20 + exiting * 60)
        cpu = _quiet_cpu(office)
        found = office.check_inbound()
    passed = (
        all(found[name] == 0 for name in ZERO)
        and (found["good"], found["bad"]) == (writes, bad)
        and restarts <= exiting * MOST_TRIES
        and cpu <= QUIET_CPU
    )
    return passed, f"{figures(found)} restarts={restarts} (at most {exiting * MOST_TRIES}) idle_cpu={cpu:.2f}"


def _supervise(office: Office, *, total: int, deadline: float) -> int:
    """Keeps the consumer running until every message has been dealt with; returns how often it had to be restarted."""
    restarts, until = 0, time.monotonic() + deadline
    quiet_since, size = time.monotonic(), -1
    while time.monotonic() < until:
        if office.consumers[-1].poll() is not None:
            restarts += 1
            office.start_consumer()
        now = office.taken.stat().st_size
        if office.writing() or now != size or office.consumers[-1].poll() is not None:
            quiet_since, size = time.monotonic(), now
        if time.monotonic() > quiet_since + 15:
            return restarts
        time.sleep(0.05)
    return restarts


def _quiet_cpu(office: Office) -> float:
    """Cores that the consumer uses when there is nothing to do."""
    pid = office.consumers[-1].pid
    before = cpu_seconds(pid)
    time.sleep(5)
    return (cpu_seconds(pid) - before) / 5
