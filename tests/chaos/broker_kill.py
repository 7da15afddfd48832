"""R5: `kill -9` of RabbitMQ three times for 5 s while deals are written, then away for 60 s. Writes do not need it."""

import time

from tests.chaos.office import Office, figures, private_office
from tests.chaos.pace import Step

OUTAGES = (5.0, 5.0, 5.0, 60.0)  # seconds
BACKLOG_LIMIT = 30.0  # seconds from the broker's return to the last confirm
SUCCESS = 0.999
ZERO = ("lost", "unknown", "dup", "inversions", "gaps", "parked", "dead")


def run(*, writes: int, kills: int) -> tuple[bool, str]:
    """Whether the row passed, and its figures in one line. The outages are always four."""
    with private_office() as office:
        pace = Step(office.ground.folder / "pace", len(OUTAGES) + 1)
        office.start_relay()
        office.start_web()
        office.wait_for_leader()
        office.start_writers(http=writes, direct=0, paces=[pace])
        office.wait_for_writes()
        backlogs, meanwhile = [], []
        for away in OUTAGES:
            time.sleep(3.0)
            office.broker.kill()
            before = office.written()
            pace.done()  # the writers' next share falls into the outage
            time.sleep(away)
            meanwhile.append(office.written() - before)
            office.broker.start()
            head = _head(office)
            backlogs.append(office.wait_for_rabbitmq(f"position >= {head}", 3 * BACKLOG_LIMIT))
        office.finish_writing(timeout=300)
        drained = office.drained(since=time.time(), within=60)
        attempts, answered = office.requests()
        found = office.check()
    success = answered / attempts
    passed = (
        all(found[name] == 0 for name in ZERO)
        and success >= SUCCESS
        and all(each is not None and each <= BACKLOG_LIMIT for each in backlogs)
        and all(meanwhile)
        and drained is not None
    )
    shown = "+".join("never" if each is None else f"{each:.1f}s" for each in backlogs)
    return passed, (
        f"{figures(found)} success={100 * success:.2f}% outages={'+'.join(f'{each:.0f}s' for each in OUTAGES)}"
        f" writes_meanwhile={'+'.join(map(str, meanwhile))} backlog_gone={shown}"
    )


def _head(office: Office) -> int:
    with office.ground.connect() as database:
        return int(database.execute("SELECT position FROM core_relayhead").fetchone()[0])
