"""R11: ids that are of no use get one `reset` with the head's position and then what is new; never silence or a 5xx.

The log is longer than what replay reaches; a backup is restored while clients hold ids of what came after it.
"""

import asyncio
import json
import os
import subprocess
import time
from contextlib import suppress
from urllib.parse import urlsplit

import psycopg
from django.conf import settings

from crm2 import embedded
from tests.chaos import sse
from tests.chaos.ground import Ground, private_ground
from tests.chaos.sse import ADDRESS
from tests.chaos.streams_resume import CAST, PATIENCE, free_port, start_web, wait_until_up

LONG_AGO = 100_100  # events, more than replay reaches back
GARBAGE = ["junk", "-", "0", "1-", "{epoch}", "{epoch}-x", "{epoch}--1", "{epoch}-1 OR 1=1", "x" * 4000, "\xff\xfe",
           "{epoch}-00000000000000000000001", "{epoch}-1.5", "{epoch}-9999999999999999999999"]  # fmt: skip
LONGER = """
INSERT INTO core_event (id, name, aggregate, aggregate_id, version, via, trace_id, payload, changes, at)
SELECT gen_random_uuid(), 'thing.changed', 'thing', gen_random_uuid(), 1, 'command', '', '{}', '{}', now()
FROM generate_series(1, %s)
"""


def run(*, writes: int, kills: int) -> tuple[bool, str]:
    """Whether the row passed, and its figures; the sizes are its own."""
    with private_ground() as ground:
        tokens = ground.folder / "tokens"
        ground.run(*CAST, "seed", "6", str(tokens))
        given: dict[str, str] = json.loads(tokens.read_text())
        port = free_port()
        found = asyncio.run(_row(ground, port, given))
    wrong = [name for name, well in found.items() if not well]
    return not wrong, f"cases={len(found)} wrong={len(wrong)} {' '.join(wrong)}".strip()


async def _row(ground: Ground, port: int, tokens: dict[str, str]) -> dict[str, bool]:
    relay = ground.start("manage.py", "relay", log="relay.log")
    web = start_web(ground, port)
    await asyncio.to_thread(wait_until_up, port)
    found: dict[str, bool] = {}
    admin, _lead, seller, other, *_ = tokens
    _numbered(ground)
    early, epoch = _head(ground), _head(ground).split("-")[0]
    with ground.connect() as database:
        database.execute(LONGER, [LONG_AGO])
    _numbered(ground)

    async def case(name: str, last: str, reason: str | None, who: str = seller, by: str = "header") -> None:
        found[name.replace(" ", "_")] = await _heard(ground, port, tokens[who], last, reason, by=by)

    await case("too old", early, "too_old")
    await case("too old, admin", f"{epoch}-0", "too_old", admin, "parameter")
    head = int(_head(ground).split("-")[1])
    await case("the oldest kept", f"{epoch}-{head - 90_000}", None)
    await case("future", f"{epoch}-{head + 1000}", "unknown")
    await case("another epoch", f"ffffffff-{head}", "unknown")
    for number, text in enumerate(GARBAGE):
        await case(f"garbage {number}", text.format(epoch=epoch) if text != "{}" else text, "unknown")
    await case("anothers id", await _last_of(port, tokens[other]), None)

    # A restore: what clients have heard since the backup is not in the log any more.
    _backup(ground)
    _change(ground)
    after = await _last_of(port, tokens[seller])
    relay.kill()
    relay.wait()
    open_stream = asyncio.create_task(_resets_of_an_open_stream(port, tokens[seller]))
    await asyncio.sleep(2)
    await asyncio.to_thread(_restore, ground)
    ground.start("manage.py", "relay", log="relay.log")
    found["open_during_a_restore"] = await open_stream == [_head(ground)]
    await case("after a restore", after, "unknown")
    web.terminate()
    web.wait(timeout=30)
    start_web(ground, port)
    await asyncio.to_thread(wait_until_up, port)
    await case("after a restore and a restart", after, "unknown")
    return found


async def _heard(ground: Ground, port: int, token: str, last: str, reason: str | None, *, by: str) -> bool:
    """One `reset` with the head for a reason, none without; then what is new, and nothing a second time."""
    headers = {"Authorization": f"Bearer {token}"}
    path = ADDRESS
    if by == "header":
        headers["Last-Event-ID"] = last.encode("latin-1", "replace").decode("latin-1")
    else:
        path = f"{ADDRESS}?last_event_id={last}"
    head, resets, new = _head(ground), [], []
    with suppress(TimeoutError, OSError, EOFError):
        async with asyncio.timeout(PATIENCE):
            async for frame in sse.frames(port, path, headers):
                if frame.event == "reset":
                    resets.append((frame.id, json.loads(frame.data)))
                elif frame.event == "heartbeat" and not new:
                    new.append(await asyncio.to_thread(_change, ground))
                elif frame.event == "deal.updated" and json.loads(frame.data)["title"] == new[0]:
                    break
            else:
                return False
            if reason is None:
                return not resets
            return resets == [(head, {"position": head, "reason": reason})]
    return False


async def _last_of(port: int, token: str) -> str:
    """The id of the first heartbeat: the present, as this client would send it."""
    async for frame in sse.frames(port, ADDRESS, {"Authorization": f"Bearer {token}"}):
        if frame.event == "heartbeat":
            return frame.id
    return ""


async def _resets_of_an_open_stream(port: int, token: str) -> list[str]:
    """The positions of the resets until a few seconds after the first."""
    found: list[str] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE) as limit:
            async for frame in sse.frames(port, ADDRESS, {"Authorization": f"Bearer {token}"}):
                if frame.event == "reset" and json.loads(frame.data)["reason"] == "unknown":
                    found.append(frame.id)
                    limit.reschedule(asyncio.get_running_loop().time() + 3)
    return found


def _change(ground: Ground) -> str:
    """Changes the deal of the first seller, and waits for its number; returns the title."""
    title = f"T {time.time_ns()}"
    ground.run(*CAST, "retitle", "p2@example.com", title)
    return title


def _head(ground: Ground) -> str:
    with ground.connect() as database:
        return "{}-{}".format(*database.execute("SELECT epoch, position FROM core_relayhead").fetchone())


def _numbered(ground: Ground) -> None:
    deadline = time.monotonic() + PATIENCE
    with ground.connect() as database:
        while database.execute("SELECT EXISTS (SELECT FROM core_event WHERE position IS NULL)").fetchone()[0]:
            if time.monotonic() > deadline:
                raise TimeoutError("the relay does not number")
            time.sleep(0.2)


def _backup(ground: Ground) -> None:
    _tool("pg_dump", "--format=custom", f"--file={ground.folder / 'backup'}", ground.database_url)


def _restore(ground: Ground) -> None:
    """Into a database beside it, which gets a new epoch and then takes the place, under the open connections."""
    parts = urlsplit(ground.database_url)
    name = parts.path.removeprefix("/")
    beside = parts._replace(path=f"/{name}_restored").geturl()
    with psycopg.connect(parts._replace(path="/postgres").geturl(), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}_restored")
        _tool("pg_restore", "--exit-on-error", f"--dbname={beside}", str(ground.folder / "backup"))
        ground.run(*CAST, "new-epoch", beside)
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        server.execute(f"ALTER DATABASE {name}_restored RENAME TO {name}")


def _tool(*command: str) -> None:
    """A program of the server's own version: the wheel's where the server is the wheel's."""
    path = os.environ["PATH"]
    if settings.EMBEDDED_POSTGRES:
        path = f"{embedded.postgres_programs(settings.EMBEDDED_HOME)}:{path}"
    done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-1000:]}")
