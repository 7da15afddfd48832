"""R4: `kill -9` of the leading relay, of API workers and of the reading consumer while all of them work.

Writes come over HTTP, with retries by Idempotency-Key or version, and one in five from a process that emits directly,
in long and rolled-back transactions. Other systems send notifications. Nothing may be lost, doubled or turned.
"""

from tests.chaos.office import Killer, Office, figures, private_office
from tests.chaos.pace import Step

DRAIN_LIMIT = 10.0  # seconds from the last write to the last effect
ZERO = ("lost", "unknown", "dup", "inversions", "gaps", "parked", "dead")


def run(*, writes: int, kills: int) -> tuple[bool, str]:
    """Whether the row passed, and its figures in one line."""
    with private_office() as office:
        paces = [Step(office.ground.folder / f"pace-{name}", kills) for name in ("relay", "worker", "consumer")]
        for _ in range(2):
            office.start_relay()
            office.start_consumer()
        office.start_web()
        office.wait_for_leader()
        office.start_writers(http=writes - writes // 5, direct=writes // 5, paces=paces)
        office.start_sender(good=max(writes // 5, 20 * kills), bad=0, paces=paces)
        killed = _kill(office, kills, paces)
        last_write = office.finish_writing(timeout=300)
        drained = office.drained(since=last_write, within=3 * DRAIN_LIMIT)
        office.wait_for_quiet_consumers()
        found = office.check()
    passed = (
        all(found[name] == 0 for name in ZERO)
        and found["effects"] == found["events"]
        and found["events"] >= writes
        and killed == [kills] * 3
        and drained is not None
        and drained <= DRAIN_LIMIT
    )
    kept = f"kills={'+'.join(map(str, killed))} drained={'never' if drained is None else f'{drained:.1f}s'}"
    return passed, f"{figures(found)} {kept}"


def _kill(office: Office, kills: int, paces: list[Step]) -> list[int]:
    """Kills all three kinds at once; returns how many of each died while writers were writing."""
    with office.ground.connect() as database:

        def leader() -> int | None:
            found = office.leader(database)
            return found.pid if found else None

        def worker() -> int | None:
            return workers[0] if len(workers := office.web_workers()) > 1 else None  # the older of two

        def consumer() -> int | None:
            found = office.reading_consumer()
            return found.pid if found else None

        def bury(pid: int) -> None:
            for each in [*office.relays, *office.consumers]:
                if each.pid == pid:
                    each.wait()

        def replace_relay(pid: int) -> None:
            """The next share of writes waits for a leader; what was being written when this one died does not."""
            bury(pid)
            office.start_relay()
            office.wait_for_leader()

        def replace_consumer(pid: int) -> None:
            bury(pid)
            office.start_consumer()

        killers = [
            Killer(office, kills, paces[0], leader, replace_relay),
            Killer(office, kills, paces[1], worker, lambda _pid: None),
            Killer(office, kills, paces[2], consumer, replace_consumer),
        ]
        for killer in killers:
            killer.peers = killers
        for killer in killers:
            killer.start()
        for killer in killers:
            killer.join()
    return [killer.killed for killer in killers]
