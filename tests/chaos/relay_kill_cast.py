"""Processes of R4: `relay` with the harness's handlers, `write` that emits in hard ways, with its ledger.

Run as `python -m tests.chaos.relay_kill_cast tables | relay | write ...` on the ground's private database.
"""

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import django

django.setup()

from django.core.management import call_command  # noqa: E402 - models need the setup
from django.db import connection, transaction  # noqa: E402

from apps.core.events import emit, on  # noqa: E402
from apps.core.models import Event, Parked  # noqa: E402
from tests.chaos.pace import Pace  # noqa: E402

PLAIN, FLAKY = "chaos.plain", "chaos.flaky"
TABLES = """
CREATE TABLE chaos_thing (id uuid PRIMARY KEY, deal_id uuid, version int NOT NULL DEFAULT 0);
CREATE TABLE chaos_effect (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subscription text NOT NULL,
    event_id uuid NOT NULL, aggregate_id uuid NOT NULL, version int NOT NULL, position bigint NOT NULL);
"""
THINGS = 60


# --- relay: handlers whose effects can be counted --------------------------------------------------------------------
def _effect(subscription: str, event: Event) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO chaos_effect (subscription, event_id, aggregate_id, version, position)"
            " VALUES (%s, %s, %s, %s, %s)",
            [subscription, event.id, event.aggregate_id, event.version, event.position],
        )


@on("*", subscription=PLAIN)
def count_event(event: Event) -> None:
    _effect(PLAIN, event)


def fails_first(event_id: UUID) -> bool:
    """Seldom enough that one deal's events do not queue up behind each other's second tries, a second apart."""
    return event_id.int % 200 == 0


@on("*", subscription=FLAKY)
def count_event_at_second_try(event: Event) -> None:
    """Leaves its effect and fails at the first try of one event in two hundred: the effect must go with the failure."""
    _effect(FLAKY, event)
    if fails_first(event.id) and not Parked.objects.filter(subscription=FLAKY, event=event, tries__gt=0).exists():
        raise RuntimeError("not this time")


# --- write: versioned aggregates, some transactions long, some rolled back ----------------------------------------
@dataclass
class Thing:
    pk: UUID
    deal_id: UUID | None
    version: int


class RolledBack(Exception):
    pass


def write(number: int, writes: int, ledger: Path, pace: Pace) -> None:
    """Commits `writes` events; the ledger gets `ok|fail <event id>` lines, flushed after each outcome."""
    dice = random.Random(f"R4/{number}")  # noqa: S311 - a seeded die
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM chaos_thing ORDER BY id")
        things = [row[0] for row in cursor.fetchall()]
    done = 0
    with ledger.open("a", buffering=1) as book:
        while done < writes:
            pace.keep(done / writes)
            fate = dice.random()
            held = dice.uniform(0.2, 1.0) if fate < 0.02 else 0.0
            event_id = None
            try:
                with transaction.atomic():
                    event_id = _bump(dice.choice(things))
                    time.sleep(held)
                    if dice.random() < 0.05:
                        raise RolledBack
            except RolledBack:
                print("fail", event_id, file=book)
            else:
                print("ok", event_id, file=book)
                done += 1


def _bump(thing_id: UUID) -> UUID:
    with connection.cursor() as cursor:
        cursor.execute("SELECT deal_id, version FROM chaos_thing WHERE id = %s FOR UPDATE", [thing_id])
        deal_id, version = cursor.fetchone()
        cursor.execute("UPDATE chaos_thing SET version = version + 1 WHERE id = %s", [thing_id])
    thing = Thing(thing_id, deal_id, version + 1)
    return emit("deal.thing.changed", thing, actor=None, payload={"thing_id": thing_id}, deal_id=deal_id).id


def make_tables() -> None:
    """Things; every second one belongs to one of ten deals, whose things wait for each other when one fails."""
    dice = random.Random("R4/things")  # noqa: S311 - a seeded die
    deals = [UUID(int=dice.getrandbits(128), version=4) for _ in range(10)]
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        for number in range(THINGS):
            thing_id = UUID(int=dice.getrandbits(128), version=4)
            deal_id = dice.choice(deals) if number % 2 else None
            cursor.execute("INSERT INTO chaos_thing (id, deal_id) VALUES (%s, %s)", [thing_id, deal_id])


def main() -> None:
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("tables")
    roles.add_parser("relay")
    writer = roles.add_parser("write")
    for name in ("number", "writes"):
        writer.add_argument(name, type=int)
    writer.add_argument("ledger", type=Path)
    writer.add_argument("paces", nargs="*")
    options = parser.parse_args()
    if options.role == "tables":
        make_tables()
    elif options.role == "relay":
        call_command("relay")
    else:
        write(options.number, options.writes, options.ledger, Pace(options.paces))


if __name__ == "__main__":
    main()
