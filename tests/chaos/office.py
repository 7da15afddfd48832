"""The installation under test in R4 to R7: web workers, relays, consumers, writers, a private database and broker."""

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.broker import Broker, free_port, private_broker
from tests.chaos.ground import Ground, private_ground
from tests.chaos.pace import Step

CAST, RELAY_CAST = ("-m", "tests.chaos.office_cast"), ("-m", "tests.chaos.relay_kill_cast")
PATIENCE = 90.0  # seconds for a process to be ready
LEADER = """
SELECT application_name FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
WHERE locktype = 'advisory' AND granted AND datname = current_database() AND application_name LIKE 'crm2 relay %'
"""
BEHIND = """
SELECT (SELECT count(*) FROM core_event WHERE position IS NULL) + (SELECT count(*) FROM core_parked)
     + coalesce((SELECT sum(head.position - each.position) FROM core_subscription AS each, core_relayhead AS head), 0)
"""
Process = subprocess.Popen[bytes]


class Office:
    """Starts and finds the processes; `ledgers` is the folder the checkers read."""

    def __init__(self, ground: Ground, broker: Broker) -> None:
        self.ground, self.broker = ground, broker
        self.port = free_port()
        self.ledgers = ground.folder / "ledgers"
        self.ledgers.mkdir()
        self.taken = ground.folder / "taken"
        self.taken.touch()
        self.relays: list[Process] = []
        self.consumers: list[Process] = []
        self.writers: list[Process] = []
        self.wanted = 0  # writes over HTTP
        self.web: Process | None = None
        ground.give(RABBITMQ_URL=broker.url, BIND=f"127.0.0.1:{self.port}", WEB_CONCURRENCY="2", LOG_LEVEL="WARNING")
        ground.run(*RELAY_CAST, "tables")
        ground.run(*CAST, "seed")

    def start_web(self) -> None:
        self.web = self.ground.start("-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "crm2.wsgi", log="web.log")
        self._until(self._web_answers, "the web process does not answer")

    def start_relay(self) -> Process:
        """A relay with the harness's handlers."""
        self.relays.append(self.ground.start(*RELAY_CAST, "relay", log="relay.log"))
        return self.relays[-1]

    def start_consumer(self) -> Process:
        self.consumers.append(self.ground.start(*CAST, "consume", str(self.taken), log="consumer.log"))
        return self.consumers[-1]

    def start_writers(self, *, http: int, direct: int, paces: list[Step], processes: int = 3) -> None:
        """Writers over HTTP that make `http` writes, and one that emits directly."""
        steps, self.wanted = [str(each) for each in paces], http
        for number in range(processes):
            share = http // processes + (number < http % processes)
            self.writers.append(self.ground.start(
                *CAST, "write", str(self.port), str(number), str(share), str(self.ledgers / f"http-{number}"), *steps,
                log=f"writer-{number}.log",
            ))  # fmt: skip
        if direct:
            ledger = str(self.ledgers / "direct-0")
            self.writers.append(
                self.ground.start(*RELAY_CAST, "write", "0", str(direct), ledger, *steps, log="writer-direct.log")
            )

    def start_sender(self, *, good: int, bad: int, paces: list[Step]) -> None:
        steps = [str(each) for each in paces]
        ledger = str(self.ledgers / "sent")
        self.writers.append(self.ground.start(*CAST, "send", str(good), str(bad), ledger, *steps, log="sender.log"))

    def writing(self) -> bool:
        return any(writer.poll() is None for writer in self.writers)

    def finish_writing(self, timeout: float) -> float:
        """Waits for the writers; returns when the last write was made.

        :raises RuntimeError: if one failed; with what it said
        """
        for writer in self.writers:
            if writer.wait(timeout):
                said = "".join(path.read_text()[-1500:] for path in self.ground.folder.glob("writer*.log"))
                raise RuntimeError(f"a writer failed:\n{said}{_tail(self.ground.folder / 'sender.log')}")
        return max(path.stat().st_mtime for path in self.ledgers.iterdir())

    def requests(self) -> tuple[int, int]:
        """How many requests the writers made, and how many of them were answered with 2xx."""
        made = [json.loads(path.read_text().splitlines()[-1]) for path in self.ground.folder.glob("writer-[0-9]*.log")]
        return sum(each["attempts"] for each in made), sum(each["answered"] for each in made)

    def written(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self.ledgers.glob("http-*"))

    def share_written(self) -> float:
        """Of the writes over HTTP."""
        return self.written() / max(1, self.wanted)

    def wait_for_writes(self) -> None:
        """Until the writers have signed in and written."""
        self._until(lambda: self.written() > 0, "nobody writes")

    def check(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ground.run(*CAST, "check", str(self.ledgers), timeout=300))
        return found

    def check_inbound(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.ground.run(*CAST, "check-inbound", str(self.ledgers), str(self.taken), timeout=300)
        )
        return found

    def web_workers(self) -> list[int]:
        """The pids of gunicorn's workers."""
        assert self.web is not None
        return _children(self.web.pid)

    def leader(self, database: psycopg.Connection[Any]) -> Process | None:
        """The leading relay, if the database knows one that is alive."""
        row = database.execute(LEADER).fetchone()
        pid = int(row[0].rsplit(" ", 1)[1]) if row else 0
        return next((relay for relay in self.relays if relay.pid == pid and relay.poll() is None), None)

    def reading_consumer(self, most_read: int = 3) -> Process | None:
        """The consumer that the broker feeds, when it has taken some messages since it began."""
        lines = self.taken.read_text().splitlines()[-most_read:]
        pids = {int(line.split()[0]) for line in lines}
        if len(lines) < most_read or len(pids) > 1:
            return None
        return next((each for each in self.consumers if each.pid in pids and each.poll() is None), None)

    def wait_for_leader(self) -> None:
        with self.ground.connect() as database:
            self._until(lambda: self.leader(database) is not None, "no relay leads")

    def wait_for_rabbitmq(self, fact: str, timeout: float) -> float | None:
        """Seconds until the row of the bus shows the fact (SQL); None: it never does."""
        started = time.monotonic()
        with self.ground.connect() as database:
            while time.monotonic() < started + timeout:
                sql = f"SELECT count(*) FROM core_subscription WHERE name = 'rabbitmq' AND {fact}"
                if database.execute(sql).fetchone()[0]:
                    return time.monotonic() - started
                time.sleep(0.05)
        return None

    def drained(self, *, since: float, within: float) -> float | None:
        """Seconds from `since` (a time of day) until all is numbered, handled and published; None: it never is."""
        with self.ground.connect() as database:
            while time.time() < since + within:
                if database.execute(BEHIND).fetchone()[0] == 0:
                    return time.time() - since
                time.sleep(0.05)
        return None

    def wait_for_quiet_consumers(self) -> None:
        """Until no message has been taken for five seconds."""
        size, since = -1, time.monotonic()
        while time.monotonic() < since + 5:
            if (now := self.taken.stat().st_size) != size:
                size, since = now, time.monotonic()
            time.sleep(0.1)

    def _web_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/health", timeout=5):
                return True
        except urllib.error.HTTPError:
            return True  # up, though the relay may not be yet
        except OSError:
            return False

    def _until(self, fact: Callable[[], bool], complaint: str) -> None:
        until = time.monotonic() + PATIENCE
        while not fact():
            if time.monotonic() > until:
                raise TimeoutError(complaint)
            time.sleep(0.05)


class Killer(threading.Thread):
    """`kill -9` of whatever `victim` names, at random moments, `kills` times while writers write.

    The kills spread over the writes: none comes before its share of them is written, and of several killers none is
    more than a kill ahead of its `peers`.
    """

    def __init__(
        self, office: Office, kills: int, pace: Step, victim: Callable[[], int | None], after: Callable[[int], None]
    ) -> None:
        super().__init__(daemon=True)
        self._office, self._kills, self._pace, self._victim, self._after = office, kills, pace, victim, after
        self._dice = random.Random(f"killer/{pace.path.name}")  # noqa: S311 - a seeded die
        self.killed = 0
        self.peers: list[Killer] = []

    def run(self) -> None:
        deadline = time.monotonic() + 120 + 15 * self._kills
        while self.killed < self._kills and time.monotonic() < deadline and self._office.writing():
            ahead = self.killed > self._kills * self._office.share_written() or any(
                self.killed > peer.killed and peer.is_alive() for peer in self.peers
            )
            pid = None if ahead else self._victim()
            if pid is None:
                time.sleep(0.05)
                continue
            time.sleep(self._dice.uniform(0.0, 0.6))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed += 1
                self._after(pid)
                self._pace.done()


def rss_mb(pid: int) -> float:
    """The resident memory of a process in MB; 0 if it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def figures(found: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in found.items())


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-1500:] if path.exists() else ""


@contextmanager
def private_office() -> Iterator[Office]:
    """
    :raises BrokerMissing: if Debian's packages are not installed
    """
    with private_broker() as broker, private_ground() as ground:
        yield Office(ground, broker)
