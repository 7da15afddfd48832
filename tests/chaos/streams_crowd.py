"""R12: a thousand streams of two hundred people and ten who read a byte a second, directly and through nginx.

The API runs beside them as in production: gunicorn for it, uvicorn for the streams. nginx has its default settings, but
for room: a stream takes two of its connections, and it has 768 of them for all.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.chaos.ground import ROOT, Ground, private_ground
from tests.chaos.streams_resume import CAST as STREAMS_CAST
from tests.chaos.streams_resume import PATIENCE, free_port, start_web, wait_until_up

CAST = ("-m", "tests.chaos.streams_crowd_cast")
PEOPLE, EACH, SLOW_PEOPLE = 200, 5, 2
EVENTS_A_SECOND, TO_EVERYONE_A_SECOND = 20, 1
PROBED_SECONDS, PROBES_A_SECOND = 30, 40  # a 95th percentile of fewer says more of the machine than of us
HELD_SECONDS = 45  # long enough for heartbeats, and for the slow to be closed
STREAMS_NICE = 10  # as README.md starts the streams: whoever waits for an answer comes first
FLOOD = (4000, 2000)  # events, bytes each: what fills every buffer on a slow reader's way
MOST = {"late": 1.0, "memory": 32.0, "slow": 30.0, "api": 1.2, "gap": 15.0}  # s, KiB a stream, s, ratio, s
FLOODED = """
INSERT INTO core_event (id, name, aggregate, aggregate_id, version, deal_id, via, trace_id, payload, changes, at)
SELECT gen_random_uuid(), 'deal.flooded', 'flood', gen_random_uuid(), 1, %s, 'command', '',
    jsonb_build_object('filler', repeat('x', %s)), '{}', now() FROM generate_series(1, %s)
"""
NGINX = """
user root; worker_processes auto; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; gzip on;
    server {{
        listen 127.0.0.1:{port};
        location /api/v1/streams/ {{ proxy_pass http://127.0.0.1:{streams}; }}
        location / {{ proxy_pass http://127.0.0.1:{api}; }}
    }}
}}
"""


def run(*, writes: int, kills: int) -> tuple[bool, str]:
    """Whether the row passed, and its figures; the sizes are its own."""
    if shutil.which("nginx") is None:
        return False, "nginx is missing: install Debian's package of that name (apt-get install nginx-light)"
    with private_ground() as ground:
        tokens = ground.folder / "tokens"
        ground.run(*STREAMS_CAST, "seed", str(2 + PEOPLE + SLOW_PEOPLE), str(tokens), timeout=300)
        ground.start("manage.py", "relay", log="relay.log")
        stage = Stage(ground, json.loads(tokens.read_text()))
        lines = [stage.direct(), stage.through_nginx()]
    return all(passed for passed, _ in lines), "; ".join(figures for _, figures in lines)


class Stage:
    def __init__(self, ground: Ground, tokens: dict[str, str]) -> None:
        self.ground = ground
        people = list(tokens)
        self.admin = tokens[people[0]]
        crowd, slow = people[2 : 2 + PEOPLE], people[2 + PEOPLE :]
        self.crowd, self.slow = ground.folder / "crowd", ground.folder / "slow"
        self.crowd.write_text(json.dumps([tokens[each] for each in crowd]))
        self.slow.write_text(json.dumps([tokens[each] for each in slow]))
        with ground.connect() as database:
            owned = database.execute(
                "SELECT min(id::text) FROM crm_deal WHERE owner_id = ANY(%s) GROUP BY owner_id", [crowd]
            ).fetchall()
            self.deals = [row[0] for row in owned]
            self.common, self.flooded = self.deals[0], database.execute(
                "SELECT min(id::text) FROM crm_deal WHERE owner_id = %s", [slow[0]]
            ).fetchone()[0]  # fmt: skip
            member = (
                "INSERT INTO crm_dealmember (deal_id, user_id, role, via, created_at)"
                " VALUES (%s, %s, 'observer', 'manual', now()) ON CONFLICT DO NOTHING"
            )
            for deal, people_ in ((self.common, crowd[1:]), (self.flooded, slow[1:])):
                for user in people_:
                    database.execute(member, [deal, user])

    def direct(self) -> tuple[bool, str]:
        api, streams = self._api(), free_port()
        return self._measure("direct", api, streams, streams)

    def through_nginx(self) -> tuple[bool, str]:
        api, streams, front = self._api(), free_port(), free_port()
        settings = {"folder": self.ground.folder, "port": front, "streams": streams, "api": api}
        config = self.ground.folder / "nginx.conf"
        config.write_text(NGINX.format(**settings))
        nginx = subprocess.Popen(
            ["nginx", "-e", str(self.ground.folder / "nginx.log"), "-c", str(config), "-g", "daemon off;"]
        )
        try:
            return self._measure("nginx", front, streams, front)
        finally:
            nginx.terminate()
            nginx.wait(timeout=30)

    def _api(self) -> int:
        port = free_port()
        self.ground.start(
            "-m", "gunicorn", "crm2.wsgi", f"--bind=127.0.0.1:{port}", "--worker-class=gthread", "--threads=4",
            "--log-level=warning", log="api.log",
        )  # fmt: skip
        wait_until_up(port)
        return port

    def _measure(self, name: str, api: int, streams: int, front: int) -> tuple[bool, str]:
        """`streams` is the server's own port, `front` what clients use, `api` where the API is asked."""
        web = start_web(self.ground, streams)
        os.setpriority(os.PRIO_PROCESS, web.pid, STREAMS_NICE)
        wait_until_up(streams)
        writer = self._write()
        self._hold("crowd", front, self.crowd, each=1, seconds=1)  # what is loaded once is not a stream's
        before, resident = [self._probe(api)], _resident(web.pid)
        with ExitStack() as stack:
            crowd = stack.enter_context(self._open("crowd", front, self.crowd, EACH))
            stack.enter_context(self._open("slow", front, self.slow, EACH))
            opened = time.monotonic()
            flooded_at = time.time()
            self._flood()
            time.sleep(8)
            among = self._probe(api)
            time.sleep(max(0.0, opened + HELD_SECONDS - time.monotonic()))
            streams_open = PEOPLE * EACH + SLOW_PEOPLE * EACH
            memory = (_resident(web.pid) - resident) / streams_open
            found = crowd.end()
        before.append(self._probe(api))
        writer.terminate()
        writer.wait()
        closed = _closed_for_slowness(self.ground.folder / f"web-{streams}.log", flooded_at)
        web.terminate()
        web.wait(timeout=30)
        figures = {
            "late": found["p95"], "memory": memory, "slow": max(closed, default=float("inf")),
            "api": among / statistics.mean(before), "gap": found["gap"],
        }  # fmt: skip
        passed = all(figures[each] <= most for each, most in MOST.items())
        passed = passed and len(closed) == SLOW_PEOPLE * EACH and found["open"] == PEOPLE * EACH and not found["broken"]
        return passed, (
            f"{name}: streams={found['open']} broken={found['broken']} heard={found['heard']}"
            f" p95={figures['late'] * 1000:.0f}ms max={found['max'] * 1000:.0f}ms memory={memory:.1f}KiB"
            f" slow_closed={len(closed)} in {figures['slow']:.0f}s api={figures['api']:.2f} ({among:.1f}ms)"
            f" gap={figures['gap']:.2f}s"
        )

    def _write(self) -> subprocess.Popen[bytes]:
        rotation = []
        for number in range(len(self.deals) * EVENTS_A_SECOND):
            everyone = number % EVENTS_A_SECOND < TO_EVERYONE_A_SECOND
            rotation.append(self.common if everyone else self.deals[1 + number % (len(self.deals) - 1)])
        arguments = ("3600", str(EVENTS_A_SECOND), ",".join(rotation[:1000]))
        return self.ground.start(*STREAMS_CAST, "write-steadily", *arguments, log="writer.log")

    def _flood(self) -> None:
        events, size = FLOOD
        with self.ground.connect() as database:
            database.execute(FLOODED, [self.flooded, size, events])

    def _probe(self, port: int) -> float:
        arguments = (str(port), self.admin, self.deals[0], str(PROBED_SECONDS), str(PROBES_A_SECOND))
        return float(self.ground.run(*CAST, "probe", *arguments))

    def _open(self, part: str, port: int, tokens: Path, each: int) -> "Held":
        return Held([sys.executable, *CAST, part, str(port), str(tokens), str(each)])

    def _hold(self, part: str, port: int, tokens: Path, *, each: int, seconds: float) -> None:
        with self._open(part, port, tokens, each) as held:
            time.sleep(seconds)
            held.end()


class Held:
    """A process that holds streams from `open` to the end of its input.

    In life the crowd sits at machines of its own: here it must not take the API's share of this one.
    """

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            ["nice", *command], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def __enter__(self) -> "Held":
        assert self._process.stdout
        if self._process.stdout.readline().strip() != "open":
            raise RuntimeError("the streams do not open")
        return self

    def end(self) -> dict[str, Any]:
        """What the process has measured."""
        told, _ = self._process.communicate("\n", timeout=PATIENCE)
        found: dict[str, Any] = json.loads(told)
        return found

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


def _resident(pid: int) -> float:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(status.split("VmRSS:")[1].split()[0])


def _closed_for_slowness(log: Path, since: float) -> list[float]:
    """Seconds from `since` to each line of a stream that was cut."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    cut = [line for line in lines if line.get("reason") == "cut"]
    return [datetime.fromisoformat(line["at"]).timestamp() - since for line in cut]
