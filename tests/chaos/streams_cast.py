"""The processes of R10 to R12: `seed` makes people with tokens and their deals, `write` works, `listen` follows,
`check` judges from the database and the clients' ledgers. Run as `python -m tests.chaos.streams_cast ...`.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django

django.setup()

from django.contrib.auth.hashers import make_password  # noqa: E402 - models need the setup
from django.db import connections  # noqa: E402
from django.utils import timezone  # noqa: E402

from apps.auth.models import Role, User, UserRole  # noqa: E402
from apps.auth.services import sessions  # noqa: E402
from apps.core import services as core_services  # noqa: E402
from apps.core.models import Event  # noqa: E402
from apps.crm.models import Client, Deal, DealMember, Policy  # noqa: E402
from apps.crm.services import clients, deals, policies  # noqa: E402
from tests.chaos import sse  # noqa: E402
from tests.chaos.sse import ADDRESS  # noqa: E402

PASSWORD = "Зимний-лес-2026"


# --- seed ------------------------------------------------------------------------------------------------------------
def seed(people: int, tokens: Path) -> None:
    """Sellers with two deals each and a place in a third, an admin, a lead who sees all; their tokens go to a file."""
    dice = random.Random("streams/seed")  # noqa: S311 - a seeded die
    encoded = make_password(PASSWORD)
    users = [User(email=f"p{n}@example.com", full_name=f"P {n}", password=encoded) for n in range(people)]
    User.objects.bulk_create(users)
    roles = {name: Role.objects.get_or_create(name=f"ROLE_{name}")[0] for name in ("ADMIN", "TEAM_LEAD", "SALES_AGENT")}
    for number, user in enumerate(users):
        UserRole.objects.create(user=user, role=roles[{0: "ADMIN", 1: "TEAM_LEAD"}.get(number, "SALES_AGENT")])
    made = []
    for owner in users[2:]:
        caller = User.objects.with_roles().get(pk=owner.pk)
        client = clients.create_client(values={"name": f"C {owner.email}"}, actor=caller)
        made += [
            deals.create_deal(client_id=client.pk, actor=caller, title=f"D{n}", next_review_at="2027-04-01")
            for n in range(2)
        ]
    for user in users[2:]:
        deal = dice.choice([each for each in made if each.owner_id != user.pk])
        DealMember.objects.create(deal=deal, user=user, role="executor", via="manual")
    given = {
        str(user.pk): sessions.sign_in(
            email=user.email, password=PASSWORD, address=None, user_agent="chaos", now=timezone.now()
        ).access_token
        for user in users
    }
    tokens.write_text(json.dumps(given))


# --- write -----------------------------------------------------------------------------------------------------------
def write(number: int, writes: int, pace: Path, kills: int) -> None:
    """Changes deals, now and then a client or a new policy without a deal; keeps pace with the reconnects."""
    dice = random.Random(f"streams/{number}")  # noqa: S311 - a seeded die
    everything = list(Deal.objects.values_list("pk", "owner_id", "client_id"))
    admin = User.objects.with_roles().get(email="p0@example.com")
    for done in range(writes):
        while kills and done / writes > (pace.stat().st_size + kills // 20) / kills:
            if os.getppid() == 1:
                sys.exit("the harness is gone")
            time.sleep(0.01)
        deal_id, owner_id, client_id = dice.choice(everything)
        fate = dice.random()
        if fate < 0.9:
            deals.change_deal(deal_id=deal_id, values={"title": f"{number}/{done}"}, actor=admin)
        elif fate < 0.95:
            clients.change_client(client_id=client_id, values={"name": f"{number}/{done}"}, actor=admin)
        else:
            policies.create_policy(
                values={"client_id": client_id, "policy_number": f"N {number} {done}", "owner_id": owner_id},
                actor=admin,
            )


def write_steadily(seconds: float, a_second: float, deal_ids: list[str]) -> None:
    """Changes these deals in turn at this rate; the title is the moment of writing."""
    admin = User.objects.with_roles().get(email="p0@example.com")
    started = time.monotonic()
    for number in range(int(seconds * a_second)):
        time.sleep(max(0.0, started + number / a_second - time.monotonic()))
        deal_id = deal_ids[number % len(deal_ids)]
        deals.change_deal(deal_id=deal_id, values={"title": f"{time.time():.6f}"}, actor=admin)


def retitle(email: str, title: str) -> None:
    """One change of a deal that the person owns."""
    owner = User.objects.with_roles().get(email=email)
    deal = Deal.objects.filter(owner=owner).order_by("pk").first()
    deals.change_deal(deal_id=deal.pk, values={"title": title}, actor=owner)


# --- listen: clients behind a proxy that fails them ------------------------------------------------------------------
class Proxy:
    """Passes each client's connection to a living server; `fail` breaks one in a way of its own."""

    def __init__(self, servers: list[int]) -> None:
        self.servers = servers
        self.links: dict[str, tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = {}
        self.bad_gateway: set[str] = set()

    async def serve(self) -> int:
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = None
        with suppress(OSError, EOFError):
            head = await reader.readuntil(b"\r\n\r\n")
            name = head.split(b"X-Client: ")[1].split(b"\r\n")[0].decode()
            if name not in self.bad_gateway:
                upstream = await self._connect()
            if upstream is None:
                self.bad_gateway.discard(name)
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                self.links[name] = writer, upstream[1]
                upstream[1].write(head)
                while data := await upstream[0].read(2**16):
                    writer.write(data)
                    await writer.drain()
        for each in (writer, upstream and upstream[1]):
            if each:
                each.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for port in random.sample(self.servers, len(self.servers)):
            with suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None

    def fail(self, name: str, how: str) -> bool:
        """`rst`, `fin`, or `502`: closed, and the next attempt is told of a bad gateway; False: nothing is open."""
        link = self.links.pop(name, None)
        if link is None or link[0].is_closing():
            return False
        client, server = link
        if how == "rst":
            client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.transport.abort()
            server.transport.abort()
        else:
            if how == "502":
                self.bad_gateway.add(name)
            server.close()
            client.close()
        return True


async def listen(servers: list[int], tokens: dict[str, str], folder: Path, reconnects: int, pace: Path) -> None:
    """Clients that go on from their last id; the proxy fails one at a time until `reconnects`, then all finish.

    The file `finish` names the position at which everything has been heard. Servers that are killed count too: as
    many reconnects as they had clients.
    """
    proxy = Proxy(servers)
    port = await proxy.serve()
    dice, counts = random.Random("R10/faults"), {"connects": 0, "broken": 0}  # noqa: S311 - a seeded die
    following = [asyncio.create_task(_follow(port, user, token, folder, counts)) for user, token in tokens.items()]
    while counts["connects"] < len(tokens):
        await asyncio.sleep(0.05)
    forced = 0
    while forced < reconnects:
        await asyncio.sleep(dice.uniform(0.0, 0.06))
        if proxy.fail(dice.choice(list(tokens)), dice.choice(["rst", "fin", "502"])):
            forced += 1
        forced = max(forced, counts["broken"])  # a killed server has done some
        with pace.open("ab") as file:
            file.write(b"." * (forced - pace.stat().st_size))
    await asyncio.gather(*following)
    (folder / "counts").write_text(json.dumps(counts | {"forced": forced}))


async def _follow(port: int, user: str, token: str, folder: Path, counts: dict[str, int]) -> None:
    last, finish, connected = "", folder / "finish", False
    dice = random.Random(user)  # noqa: S311 - a seeded die
    with (folder / f"ledger-{user}").open("a", buffering=1) as book:
        while True:
            headers = {"Authorization": f"Bearer {token}", "X-Client": user} | ({"Last-Event-ID": last} if last else {})
            try:
                async for frame in sse.frames(port, ADDRESS, headers):
                    if frame.event == "heartbeat" and not connected:
                        counts["connects"] += 1
                        connected = True
                    if frame.id and not last:
                        print("start", frame.position, file=book)
                    last = frame.id or last
                    if frame.event in ("reset", "error"):
                        print("bad", frame.event, frame.data, file=book)
                    elif frame.event not in ("", "heartbeat"):
                        print("got", frame.position, frame.event, frame.data, file=book)
                    if finish.exists() and int(last.rpartition("-")[2]) >= int(finish.read_text()):
                        return
            except (OSError, EOFError, sse.Refused, asyncio.LimitOverrunError):
                pass
            connected = False
            counts["broken"] += 1
            await asyncio.sleep(dice.uniform(0.0, 0.1))


# --- check -----------------------------------------------------------------------------------------------------------
def check(folder: Path) -> dict[str, int]:
    """Against what `visible_to` says of each event, as counts; all but `events` and `heard` ought to be 0."""
    total = dict.fromkeys(("missing", "dup", "inversions", "alien", "altered", "bad", "heard"), 0)
    events = {e.position: e for e in Event.objects.filter(position__isnull=False).order_by("position")}
    for ledger in folder.glob("ledger-*"):
        user = User.objects.with_roles().get(pk=ledger.name.removeprefix("ledger-"))
        lines = [line.split(" ", 3) for line in ledger.read_text().splitlines()]
        start = int(next(line[1] for line in lines if line[0] == "start"))
        got = [(int(line[1]), line[2], line[3]) for line in lines if line[0] == "got"]
        expected = {position for position in _visible(user, events) if position > start}
        positions = [position for position, _, _ in got]
        total["missing"] += len(expected - set(positions))
        total["alien"] += len(set(positions) - expected)
        total["dup"] += len(positions) - len(set(positions))
        total["inversions"] += sum(b < a for a, b in pairwise(positions))
        total["bad"] += sum(line[0] == "bad" for line in lines)
        total["altered"] += sum(
            (events[position].name, events[position].payload) != (name, json.loads(data))
            for position, name, data in got
            if position in events
        )
        total["heard"] += len(positions)
    return total | {"gaps": 0 if sorted(events) == list(range(1, len(events) + 1)) else 1}


def _visible(user: User, events: dict[int, Event]) -> list[int]:
    seen: dict[Any, set[Any]] = {
        model: set(model.objects.visible_to(user).values_list("pk", flat=True)) for model in (Client, Deal, Policy)
    }
    found = []
    for position, event in events.items():
        kind, subject = (
            (Client, event.aggregate_id)
            if event.name.startswith("client.")
            else (Deal, event.deal_id) if event.deal_id else (Policy, event.aggregate_id)
        )  # fmt: skip
        if event.name.startswith(("client.", "deal.", "policy.")) and subject in seen[kind]:
            found.append(position)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.streams_cast")
    parser.add_argument("part", choices=["seed", "write", "write-steadily", "retitle", "new-epoch", "listen", "check"])
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    given = options.arguments
    match options.part:
        case "seed":
            seed(int(given[0]), Path(given[1]))
        case "write":
            write(int(given[0]), int(given[1]), Path(given[2]), int(given[3]))
        case "write-steadily":
            write_steadily(float(given[0]), float(given[1]), given[2].split(","))
        case "retitle":
            retitle(*given)
        case "new-epoch":
            connections.settings["default"]["NAME"] = urlsplit(given[0]).path.removeprefix("/")
            core_services.new_epoch()
        case "listen":
            servers = [int(port) for port in given[0].split(",")]
            tokens = json.loads(Path(given[1]).read_text())
            asyncio.run(listen(servers, tokens, Path(given[2]), int(given[3]), Path(given[4])))
        case "check":
            print(json.dumps(check(Path(given[0]))))


if __name__ == "__main__":
    main()
