"""`make bench`: our answers against raw's, on the same machine in the same run; only ratios count.

Both servers are driven in turn, A B A B; a row's figure is the median of the ratios of its repeats. A row fails below
0.85 of its target.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from django.contrib.auth.hashers import check_password, make_password
from django.db import connection
from django.test import Client as HttpClient
from django.test.utils import CaptureQueriesContext

from bench.ground import Caller, Ground, fetch, read
from bench.rows import ROWS, Request, Row
from bench.streams import MOST_MEMORY, MUST_HEAR_MS, MUST_NUMBER, SUBSCRIBERS, Streams, resident
from crm2.seeds import PASSWORD

SCRIPT = Path(__file__).with_name("load.lua")
ALARM = 0.85
METRICS_MS = 5.0
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
_FAILED = re.compile(r"(Non-2xx or 3xx responses|Socket errors): (.+)")


@dataclass(slots=True)
class Figure:
    """What a row came to with one number of connections."""

    row: int
    title: str
    caller: str
    connections: int
    must: float | None
    ours: float
    raw: float
    ratios: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    def line(self) -> str:
        spread = f"{min(self.ratios):.2f}..{max(self.ratios):.2f}"
        target = f"{self.must:.2f}" if self.must is not None else "   -"
        return (
            f"{self.row:>3}  {self.title:<34} {self.caller:<7} {self.connections:>3}"
            f"  {self.ours:>8.0f} {self.raw:>8.0f}   {self.ratio:.3f}  {spread:<11} {target}"
            f"  {verdict(self.ratio, self.must)}"
        )


def verdict(ratio: float, must: float | None) -> str:
    if must is None:
        return "-"
    return "pass" if ratio >= must else f"within {ALARM}" if ratio >= must * ALARM else "BELOW"


class Bench:
    def __init__(self, ground: Ground, *, repeats: int, seconds: float) -> None:
        self.ground, self.repeats, self.seconds = ground, repeats, seconds
        self.ours, self.raw = ground.start_ours(), ground.start_raw()
        self.callers = {"admin": ground.admin(), "seller": ground.seller()}
        self.figures: list[Figure] = []
        self.faults: list[str] = []

    def measure(self, row: Row) -> None:
        for name in row.callers:
            caller = self.callers[name]
            requests = row.requests(caller)
            self._check(row, caller, requests)
            for connections, must in ((16, row.must), (1, row.must_alone)):
                self._compare(row, caller, requests, connections, must)
        if row.number == 7:
            self.ground.forget_made_deals()

    def _check(self, row: Row, caller: Caller, requests: list[Request]) -> None:
        """Both servers give the same, the answer is no longer than it may be, and so are its statements."""
        headers = caller.headers()
        for request in requests[:5]:
            (status, ours), (raw_status, raw) = (fetch(each, request, headers) for each in (self.ours, self.raw))
            if status != raw_status or status >= 300:
                raise RuntimeError(f"{request}: {status} {ours[:300]!r}, raw {raw_status} {raw[:300]!r}")
            mine, its = read(ours), read(raw)
            same = mine == its if row.same_body else mine.keys() == its.keys()
            if not same:
                raise RuntimeError(f"{request}: the answers differ\nours {ours[:1500]!r}\nraw  {raw[:1500]!r}")
            if row.most_bytes and len(ours) > row.most_bytes:
                self._fault(f"row {row.number}: {len(ours)} bytes, at most {row.most_bytes}")
        count, length = statements(requests[0], headers), len(ours)
        print(f"     {caller.name}: {count} statements, {length:,} bytes", flush=True)
        if row.statements is not None and count > row.statements:
            self._fault(f"row {row.number} as {caller.name}: {count} statements, at most {row.statements}")

    def _compare(self, row: Row, caller: Caller, requests: list[Request], connections: int, must: float | None) -> None:
        headers = caller.headers()
        for address in (self.ours, self.raw):
            self._drive(address, requests, headers, connections, 1)
        rates = [
            [self._drive(address, requests, headers, connections, self.seconds) for address in (self.ours, self.raw)]
            for _ in range(self.repeats)
        ]
        ours, raw = (statistics.median(column) for column in zip(*rates, strict=True))
        self._keep(Figure(row.number, row.title, caller.name, connections, must, ours, raw, [a / b for a, b in rates]))
        if row.number == 6 and connections == 1 and 1000 / ours > METRICS_MS:
            self._fault(f"row 6: {1000 / ours:.1f} ms alone, at most {METRICS_MS:.0f}")

    def measure_sign_in(self) -> None:
        """Row 9: sign-ins a second against one core's hashes a second."""
        encoded = make_password(PASSWORD)
        body = json.dumps({"email": self.callers["seller"].user.email, "password": PASSWORD})
        request = ("POST", "/api/v1/auth/token", body)
        ratios, rates = [], []
        for _ in range(self.repeats):
            hashing = [_timed(lambda: check_password(PASSWORD, encoded)) for _ in range(20)]
            rates.append((self._drive(self.ours, [request], {}, 16, self.seconds), 1 / statistics.median(hashing)))
            ratios.append(rates[-1][0] / rates[-1][1])
        ours, hashes = (statistics.median(column) for column in zip(*rates, strict=True))
        self._keep(Figure(9, "sign-in, against 1 / hash time", "seller", 16, 0.85, ours, hashes, ratios))

    def measure_streams(self) -> None:
        """Row 10: the 99th percentile from a write to its subscribers, raw's over ours; microseconds."""
        streams = Streams(self.ground)
        try:
            (address, pid), raw = self.ground.start_streams(), self.ground.start_raw_streams()
            ours_port, raw_port = _port(address), _port(raw)
            for port in (ours_port, raw_port):
                streams.fan_out([port], 40)  # what is loaded once is no subscriber's
            for subscribers in SUBSCRIBERS:
                self._compare_streams(streams, ours_port, raw_port, pid, subscribers)
            second, _ = self.ground.start_streams()
            found = streams.fan_out([ours_port, _port(second)], max(SUBSCRIBERS))
            print(f"     over two processes: {found['lost']:.0f} lost, p99 {found['p99'] * 1000:.1f} ms", flush=True)
            if found["lost"]:
                self._fault(f"row 10: {found['lost']:.0f} events lost over two processes")
        finally:
            streams.forget()

    def _compare_streams(self, streams: Streams, ours_port: int, raw_port: int, pid: int, subscribers: int) -> None:
        before, lost, late = resident(pid), 0.0, []
        for _ in range(self.repeats):
            ours, raw = (streams.fan_out([port], subscribers) for port in (ours_port, raw_port))
            lost += ours["lost"]
            late.append((ours["p99"] * 1e6, raw["p99"] * 1e6))
        memory = (resident(pid) - before) / subscribers
        print(f"     {subscribers} subscribers: {lost:.0f} lost, {memory:.1f} KiB each", flush=True)
        if lost or memory > MOST_MEMORY:
            self._fault(f"row 10: {lost:.0f} events lost, {memory:.1f} KiB a subscriber")
        ours_us, raw_us = (statistics.median(column) for column in zip(*late, strict=True))
        ratios = [raw / ours for ours, raw in late]
        self._keep(Figure(10, "stream fan-out, p99 in µs", "program", subscribers, 0.5, ours_us, raw_us, ratios))

    def measure_relay(self) -> None:
        """Row 17: events numbered a second, and from a write to a stream, against the figures to be met."""
        streams = Streams(self.ground)
        try:
            port = _port(self.ground.start_streams()[0])
            rates = [streams.numbered_a_second() for _ in range(self.repeats)]
            self._keep(
                Figure(17, "relay, events numbered a second", "-", 1, 1.0, statistics.median(rates), MUST_NUMBER,
                       [rate / MUST_NUMBER for rate in rates])
            )  # fmt: skip
            streams.fan_out([port], 1, events=5)
            idle = [streams.fan_out([port], 1)["p95"] * 1e6 for _ in range(self.repeats)]
            held = []
            for _ in range(self.repeats):
                with streams.a_long_write():
                    held.append(streams.fan_out([port], 1)["p95"] * 1e6)
            must = MUST_HEAR_MS * 1000
            for title, late in (("commit to stream, p95 in µs", idle), ("the same beside a long write", held)):
                ratios = [must / each for each in late]
                self._keep(Figure(17, title, "program", 1, 1.0, statistics.median(late), must, ratios))
        finally:
            streams.forget()

    def _drive(
        self, address: str, requests: list[Request], headers: dict[str, str], connections: int, seconds: float
    ) -> float:
        """Requests a second.

        :raises RuntimeError: if any answer was a refusal
        """
        listed = self.ground.folder / "requests"
        listed.write_text("".join("\t".join(each) + "\n" for each in requests), encoding="utf-8")
        all_headers = {**headers, "Content-Type": "application/json"}
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT), address],
            env=os.environ
            | {
                "BENCH_REQUESTS": str(listed),
                "BENCH_HEADERS": "".join(f"{name}: {value}\n" for name, value in all_headers.items()),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        if failed := _FAILED.search(done.stdout):
            raise RuntimeError(f"{requests[0]}: {failed[0]}")
        rate = _RATE.search(done.stdout)
        if rate is None:
            raise RuntimeError(f"wrk said: {done.stdout}{done.stderr}")
        return float(rate[1])

    def _keep(self, figure: Figure) -> None:
        self.figures.append(figure)
        print(figure.line(), flush=True)

    def _fault(self, text: str) -> None:
        self.faults.append(text)
        print(f"     FAULT {text}", flush=True)


def statements(request: Request, headers: dict[str, str]) -> int:
    """SQL statements of one request in this process, without BEGIN, COMMIT and the look-up of the caller."""
    method, path, body = request
    client = HttpClient(raise_request_exception=True)
    given = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}

    def ask() -> None:
        client.generic(method, path, body, content_type="application/json", **given)

    ask()  # what is asked once per process is not the request's
    with CaptureQueriesContext(connection) as asked:
        ask()
    told = [query["sql"] or "(prepared)" for query in asked.captured_queries]
    own = [sql for sql in told if sql.split()[0] not in ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")]
    return max(0, len(own) - ("Authorization" in headers))  # the look-up of the caller is one


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _timed(act: object) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--deals", type=int, default=100_000, help="rows of the agency (100,000 is 1x)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of every repeat")
    parser.add_argument("--rows", default="", help="numbers with commas; all unless given")
    parser.add_argument("--quick", action="store_true", help="5,000 deals, 3 repeats of 2 seconds: a look, no figure")
    parser.add_argument("--keep", action="store_true", help="leave the database for the next run")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is missing: install Debian's package of that name (apt-get install wrk).")
        return 2
    if options.quick:
        options.deals, options.repeats, options.seconds = 5000, 3, 2
    wanted = {int(number) for number in options.rows.split(",") if number}
    with tempfile.TemporaryDirectory(prefix="crm2_bench_") as folder:
        ground = Ground(options.deals, Path(folder))
        try:
            ground.prepare()
            bench = Bench(ground, repeats=options.repeats, seconds=options.seconds)
            _print_head(options.deals)
            for row in ROWS:
                if not wanted or row.number in wanted:
                    bench.measure(row)
            if not wanted or 9 in wanted:
                bench.measure_sign_in()
            if not wanted or 10 in wanted:
                bench.measure_streams()
            if not wanted or 17 in wanted:
                bench.measure_relay()
        finally:
            ground.end()
            connection.close()
            if not options.keep:
                ground.drop()
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in bench.figures], ensure_ascii=False, indent=1))
    below = [each for each in bench.figures if verdict(each.ratio, each.must) == "BELOW"]
    return 1 if below or bench.faults else 0


def _print_head(deals: int) -> None:
    print(f"\n{deals:,} deals; gunicorn 1 worker, 4 threads, pool of 8; raw: uvicorn 1 worker; requests a second")
    print("row  what                               as     conn      ours      raw   ratio  min..max    must  verdict")
