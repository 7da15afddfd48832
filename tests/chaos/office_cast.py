"""Processes of R4 to R7: `seed`, `write` over HTTP, `send` to the inbound queue, `consume`, `check`, `check-inbound`.

Run as `python -m tests.chaos.office_cast <role> ...` on the ground's private database and broker. Ledgers are lines:
`ok <trace>` of a write over HTTP, `ok|fail <event id>` of a direct one, `<kind> <id>` of a message sent.
"""

import argparse
import http.client
import json
import os
import random
import sys
import time
import uuid
from collections import Counter, defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import django

django.setup()

import amqp  # noqa: E402 - models need the setup
from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from kombu.utils.url import parse_url  # noqa: E402

from apps.auth.services import people  # noqa: E402
from apps.core import bus  # noqa: E402
from apps.core.consumer import Delivery  # noqa: E402
from apps.core.models import Event  # noqa: E402
from apps.crm.services import clients  # noqa: E402
from apps.notifications import consumers  # noqa: E402
from tests.chaos.pace import Pace  # noqa: E402

EMAIL, PASSWORD = "chaos@example.com", "Зимний-лес-2026"
PATIENCE = 120.0  # seconds of trying for one write
DEALS_EACH = 40
REVIEW = (date.today() + timedelta(days=30)).isoformat()
QUEUE = consumers.QUEUE


def seed() -> None:
    admin = people.create_user(
        email=EMAIL, password=PASSWORD, full_name="Chaos", roles=["ROLE_ADMIN", "ROLE_SALES_AGENT"], actor=None
    )
    clients.create_client(values={"name": "Client of chaos"}, actor=type(admin).objects.with_roles().get(pk=admin.pk))


# --- write: deals over HTTP, with retries --------------------------------------------------------------------------
class Writer:
    """Creates deals, patches them by version, appends to their journals; tries until each is answered with 2xx."""

    def __init__(self, port: int, number: int) -> None:
        self.port, self.dice = port, random.Random(f"office/{number}")  # noqa: S311 - a seeded die
        self.http = self._new()
        self.attempts = self.answered = 0
        self.asked_at = 0.0
        self.deals: list[list[Any]] = []  # id, version
        body = {"email": EMAIL, "password": PASSWORD}
        self.token = ""
        self.token = self.until_ok("POST", "/api/v1/auth/token", body, "sign-in")["accessToken"]
        self.attempts = self.answered = 0
        self.client = self.until_ok("GET", "/api/v1/clients", None, "client")[0]["id"]

    def _new(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, method: str, path: str, body: Any, trace: str, **headers: str) -> tuple[int, Any]:
        """Status and body; 0 if no answer came."""
        sent = {"X-Trace-Id": trace, "Content-Type": "application/json"} | headers
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        self.attempts += 1
        if time.monotonic() > self.asked_at + 15:  # the server closes connections that are idle for longer
            self.http.close()
        self.asked_at = time.monotonic()
        try:
            self.http.request(method, path, None if body is None else json.dumps(body), sent)
            answer = self.http.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self.http.close()
            self.http = self._new()
            return 0, None
        if answer.status < 300:
            self.answered += 1
        return answer.status, json.loads(text) if text else None

    def until_ok(self, method: str, path: str, body: Any, trace: str, **headers: str) -> Any:
        """
        :raises RuntimeError: if two minutes of trying, or a refusal, bring no 2xx
        """
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            status, answer = self.ask(method, path, body, trace, **headers)
            if 200 <= status < 300:
                return answer
            if status not in (0, 409, 429, 500, 502, 503):
                raise RuntimeError(f"{method} {path}: {status} {answer}")
            time.sleep(0.05)
        raise RuntimeError(f"{method} {path}: no answer")

    def write(self, trace: str) -> None:
        """One write, whose event carries the trace."""
        if len(self.deals) < DEALS_EACH:
            body = {"client_id": self.client, "title": trace, "next_review_at": REVIEW}
            made = self.until_ok("POST", "/api/v1/deals", body, trace, **{"Idempotency-Key": trace})
            self.deals.append([made["id"], made["version"]])
        elif self.dice.random() < 0.4:
            path = f"/api/v1/deals/{self.dice.choice(self.deals)[0]}/journal"
            self.until_ok("POST", path, {"body": trace}, trace, **{"Idempotency-Key": trace})
        else:
            self._patch(self.dice.choice(self.deals), trace)

    def _patch(self, deal: list[Any], trace: str) -> None:
        """By version; when no answer came, a look at the deal says whether it was done."""
        path, until = f"/api/v1/deals/{deal[0]}", time.monotonic() + PATIENCE
        while time.monotonic() < until:
            status, answer = self.ask("PATCH", path, {"title": trace}, trace, **{"If-Match": f'"{deal[1]}"'})
            if status != 200:
                answer = self.until_ok("GET", path, None, f"{trace}-look")
            deal[1] = answer["version"]
            if answer["title"] == trace:
                return
            if status in (400, 403, 404):
                raise RuntimeError(f"PATCH {path}: {status}")
        raise RuntimeError(f"PATCH {path}: no answer")


def write(port: int, number: int, writes: int, ledger: Path, pace: Pace) -> None:
    """`writes` writes; prints how many requests were made and answered with 2xx."""
    writer = Writer(port, number)
    with ledger.open("a", buffering=1) as book:
        for done in range(writes):
            pace.keep(done / writes)
            trace = f"w{number}-{done}"
            writer.write(trace)
            print("ok", trace, file=book)
    print(json.dumps({"attempts": writer.attempts, "answered": writer.answered}))


# --- send: messages for the inbound queue ------------------------------------------------------------------------
def send(good: int, bad: int, ledger: Path, pace: Pace) -> None:
    """`good` notifications, one in ten sent twice, some of other shapes among them, and `bad` of four bad kinds."""
    dice = random.Random("office/send")  # noqa: S311 - a seeded die
    kinds = ["good"] * good + [("not_json", "missing", "raise", "exit")[n % 10 // 3 if n % 10 < 9 else 3]
                               for n in range(bad)]  # fmt: skip
    dice.shuffle(kinds)
    with _broker() as link, ledger.open("a", buffering=1) as book:
        channel = link.channel()
        QUEUE.declare(channel)
        for done, kind in enumerate(kinds):
            pace.keep(done / len(kinds))
            message_id = str(uuid.UUID(int=dice.getrandbits(128), version=4))
            print(kind, message_id, file=book)
            for _ in range(2 if kind == "good" and dice.random() < 0.1 else 1):
                _publish(channel, kind, message_id, _body(kind, message_id))
            if dice.random() < 0.02:
                _publish(channel, "other", f"other-{message_id}", json.dumps({"notificationId": "x", "eventKey": "x"}))


def _body(kind: str, message_id: str) -> str:
    if kind == "not_json":
        return f"{{{message_id}"
    body = {"id": message_id, "source": "chaos", "type": f"chaos.{kind}", "time": "2026-03-10T09:00:00Z",
            "data": {"kind": kind}}  # fmt: skip
    if kind == "missing":
        del body["time"]
    return json.dumps(body)


def _publish(channel: Any, kind: str, message_id: str, body: str) -> None:
    message = amqp.Message(body, delivery_mode=2, application_headers={"chaos-id": message_id, "chaos-kind": kind})
    channel.basic_publish_confirm(message, QUEUE.exchange, f"notifications.{kind}", mandatory=True)


def _broker() -> amqp.Connection:
    parts = parse_url(settings.RABBITMQ_URL)
    return amqp.Connection(f"127.0.0.1:{parts['port']}", "guest", "guest", virtual_host="/", read_timeout=30)


# --- consume: the product's consumer; the handler leaves a line of each try, and can be poisoned ---------------------
def consume(taken: Path) -> None:
    real = consumers.handle

    def handle(delivery: Delivery) -> bool:
        with taken.open("a") as file:
            file.write(f"{os.getpid()} {delivery.headers.get('chaos-id')}\n")
        if delivery.key == "notifications.raise":
            raise ValueError("poison")
        if delivery.key == "notifications.exit":
            os._exit(17)
        return real(delivery)

    consumers.handle = handle
    call_command("consume")


# --- check: reads the database, the queues and the ledgers -----------------------------------------------------------
def check(folder: Path) -> dict[str, Any]:
    """What the run has left behind: counts that ought to be 0, then others."""
    events = list(Event.objects.order_by("position").values_list("id", "name", "aggregate_id", "version", "position",
                                                                 "trace_id"))  # fmt: skip
    known = {row[0]: row for row in events}
    leaving = {row[0] for row in events if row[1].partition(".")[0] in bus.routes()}
    of_trace = Counter(row[5] for row in events if row[5])
    book = _ledger(folder, "direct-*")
    direct = {uuid.UUID(each) for outcome, each in book if outcome == "ok"}
    failed = {uuid.UUID(each) for outcome, each in book if outcome == "fail"}
    traces = {each for _ok, each in _ledger(folder, "http-*")}
    sent = {uuid.UUID(each) for kind, each in _ledger(folder, "sent") if kind == "good"}
    received = Counter(row[2] for row in events if row[1] == "notification.received")
    feed = _taken_from(bus.FEED)
    ours = [
        uuid.UUID(each.properties["message_id"]) for each in feed if "event" in each.properties["application_headers"]
    ]
    emitted = {row[0] for row in events if row[1] == "deal.thing.changed"}
    effects = _effects()
    wrong = {
        "lost": len(direct - emitted) + sum(of_trace[each] == 0 for each in traces) + len(sent - set(received))
        + len(leaving - set(ours)) + sum(len(known.keys() - set(each)) for each in effects.values()),
        "unknown": len(emitted - direct) + len(failed & emitted) + len(set(received) - sent) + len(set(ours) - leaving)
        + sum(len(set(each) - known.keys()) for each in effects.values()),
        "dup": sum(of_trace[each] > 1 for each in traces) + sum(count > 1 for count in received.values())
        + sum(len(each) - len(set(each)) for each in effects.values()),
        "inversions": _inversions(events) + _inversions([known[each] for each in dict.fromkeys(ours) if each in known])
        + _one("SELECT count(*) FROM (SELECT version, lag(version) OVER (PARTITION BY subscription, aggregate_id"
               " ORDER BY n) AS past FROM chaos_effect) AS seen WHERE version < past"),
        "gaps": _one("SELECT count(*) FROM core_event WHERE position IS NULL")
        + _one("SELECT coalesce(max(position), 0) - count(position) + coalesce(min(position), 1) - 1 FROM core_event")
        + _one("SELECT abs(position - (SELECT count(*) FROM core_event)) FROM core_relayhead"),
        "parked": _one("SELECT count(*) FROM core_parked"),
        "dead": len(_taken_from(QUEUE.dead)),
    }  # fmt: skip
    return wrong | {
        "events": len(events),
        "published": len(leaving),
        "repeats": len(ours) - len(set(ours)),
        "received": len(received),
        "effects": min((len(each) for each in effects.values()), default=0),
    }


def _inversions(rows: list[Any]) -> int:
    """Rows that come before one of their own aggregate with a smaller version, or (as a log) of a smaller position."""
    wrong, last_position, last_version = 0, 0, defaultdict(int)
    for row in rows:
        wrong += row[3] <= last_version[row[2]] or (row[4] or 0) <= last_position
        last_version[row[2]], last_position = row[3], row[4] or 0
    return wrong


def _effects() -> dict[str, list[Any]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT subscription, event_id FROM chaos_effect")
        found: dict[str, list[Any]] = defaultdict(list)
        for name, event_id in cursor.fetchall():
            found[name].append(event_id)
    return found


def check_inbound(folder: Path, taken: Path) -> dict[str, Any]:
    """R7: every good message had its effect once, every bad one is dead once, with a reason, after 5 tries at most."""
    sent = {each: kind for kind, each in _ledger(folder, "sent")}
    received = Counter(str(each) for each in Event.objects.filter(name="notification.received").values_list(
        "aggregate_id", flat=True))  # fmt: skip
    tries = Counter(line.split()[1] for line in taken.read_text().splitlines())
    dead = [each.properties["application_headers"] for each in _taken_from(QUEUE.dead)]
    buried = Counter(each["chaos-id"] for each in dead)
    good = {each for each, kind in sent.items() if kind == "good"}
    return {
        "good_lost": len(good - received.keys()),
        "good_twice": sum(count > 1 for count in received.values()),
        "bad_done": len(received.keys() - good),
        "bad_not_dead": len(sent.keys() - good - buried.keys()),
        "dead_twice": sum(count > 1 for count in buried.values()),
        "good_dead": len(buried.keys() & good),
        "no_reason": sum(not _reason(each) for each in dead),
        "over_5_tries": sum(tries[each] > 5 for each in sent.keys() - good),
        "left": _left(QUEUE.name),
        "good": len(good),
        "bad": len(sent) - len(good),
        "reasons": dict(sorted(Counter(_reason(each).split(":")[0] for each in dead).items())),
    }


def _reason(headers: dict[str, Any]) -> str:
    return headers.get("x-reason") or next((each["reason"] for each in headers.get("x-death", [])), "")


def _taken_from(queue: str) -> list[Any]:
    """Empties the queue."""
    found: list[Any] = []
    with _broker() as link:
        channel = link.channel()
        try:
            channel.queue_declare(queue, passive=True)
        except amqp.NotFound:
            return []
        channel.basic_consume(queue, no_ack=True, callback=found.append)
        while True:
            try:
                link.drain_events(timeout=3)
            except TimeoutError:
                return found


def _left(queue: str) -> int:
    with _broker() as link:
        return int(link.channel().queue_declare(queue, passive=True).message_count)


def _ledger(folder: Path, pattern: str) -> list[list[str]]:
    return [line.split() for path in folder.glob(pattern) for line in path.read_text().splitlines()]


def _one(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.fetchone()[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("seed")
    writer = roles.add_parser("write")
    for name in ("port", "number", "writes"):
        writer.add_argument(name, type=int)
    sender = roles.add_parser("send")
    for name in ("good", "bad"):
        sender.add_argument(name, type=int)
    for each in (writer, sender):
        each.add_argument("ledger", type=Path)
        each.add_argument("paces", nargs="*")
    roles.add_parser("consume").add_argument("taken", type=Path)
    roles.add_parser("check").add_argument("folder", type=Path)
    inbound = roles.add_parser("check-inbound")
    for name in ("folder", "taken"):
        inbound.add_argument(name, type=Path)
    options = parser.parse_args()
    if options.role == "seed":
        seed()
    elif options.role == "write":
        write(options.port, options.number, options.writes, options.ledger, Pace(options.paces))
    elif options.role == "send":
        send(options.good, options.bad, options.ledger, Pace(options.paces))
    elif options.role == "consume":
        consume(options.taken)
    elif options.role == "check":
        print(json.dumps(check(options.folder)))
    else:
        print(json.dumps(check_inbound(options.folder, options.taken)))


if __name__ == "__main__":
    sys.exit(main())
