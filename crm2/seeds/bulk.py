"""Writes the invented agency: COPY into every table, in one transaction, and the kept figures as the triggers would.

The triggers that keep figures are off meanwhile, in this transaction alone; every constraint and foreign key is on.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.db import connection, transaction
from django.utils import timezone

from apps.auth.models import Role, User, UserRole
from apps.crm.models import InsuranceType, Insurer, SalesChannel
from crm2.seeds import PASSWORD, reference
from crm2.seeds.agency import Agency, number_of_users, person, repeatable
from crm2.seeds.shapes import COLUMNS, Catalogs, Chunk, made_id

# Tables whose triggers keep figures row by row, which is what takes the time.
TRIGGERED = ("crm_deal", "payments_payment", "payments_income", "payments_expense")
NAMES = {
    "crm_client": "clients", "crm_deal": "deals", "crm_dealmember": "members", "crm_journalentry": "journal entries",
    "crm_calculation": "calculations", "crm_policy": "policies", "payments_payment": "payments",
    "payments_income": "incomes", "payments_expense": "expenses", "core_event": "events",
}  # fmt: skip

_FIGURES = """
    INSERT INTO crm_stagefigure (owner_id, stage, deals, planned_total, cycles, cycle_days)
    SELECT owner_id, stage, count(*), sum(planned_total), count(*) FILTER (WHERE cycle >= 0), sum(greatest(cycle, 0))
    FROM (SELECT *, crm_deal_cycle(d) AS cycle FROM crm_deal d WHERE owner_id = ANY(%s)) owned
    GROUP BY owner_id, stage
"""


def agencies() -> int:
    """How many invented agencies the database holds."""
    number = 0
    while User.objects.filter(email=_email(number + 1, 1)).exists():
        number += 1
    return number


def load(*, deals: int, agency: int) -> Mapping[str, int]:
    """Writes the agency of that number; how many rows of each kind. Its reference rows must be there.

    Everybody of it has the published password. The same numbers give the same rows but for dates.
    """
    now = timezone.now()
    counts = dict.fromkeys(NAMES, 0)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL gin_pending_list_limit = '64MB'")  # the search indexes take in more at a time
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # a table with checks outstanding cannot be altered
        users = _make_users(agency, number_of_users(deals), now)
        made = Agency(
            number=agency, deals=deals, users=users, catalogs=_catalogs(), now=now, today=timezone.localdate(now)
        )
        _switch_triggers(cursor, "DISABLE")
        for chunk in _ahead(made.chunks()):
            for table, rows in chunk.rows.items():
                counts[table] += len(rows)
            _copy(cursor, chunk)
        cursor.execute(_FIGURES, [users])
        _switch_triggers(cursor, "ENABLE")
        cursor.execute("SELECT gin_clean_pending_list('crm_deal_search'), gin_clean_pending_list('crm_client_search')")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return {"users": len(users), **{NAMES[table]: count for table, count in counts.items()}}


def _email(agency: int, number: int) -> str:
    return f"agency{agency}.user{number}@example.com"


def _make_users(agency: int, count: int, now: datetime) -> list[UUID]:
    """Sellers; every third of them issues policies too."""
    rng = repeatable(agency)
    created_at = now - timedelta(days=1000)
    password = make_password(PASSWORD)  # one hash for all: it takes its time and the password is no secret
    users = [
        User(
            id=made_id(rng), email=_email(agency, number), full_name=person(rng), password=password,
            created_at=created_at, updated_at=created_at,
        )
        for number in range(1, count + 1)
    ]  # fmt: skip
    User.objects.bulk_create(users)
    roles = dict(Role.objects.values_list("name", "pk"))
    held = [
        (user, name)
        for index, user in enumerate(users)
        for name in ("ROLE_USER", "ROLE_SALES_AGENT", *(["ROLE_EXECUTOR"] if index % 3 == 2 else []))
    ]
    UserRole.objects.bulk_create([UserRole(user=user, role_id=roles[name]) for user, name in held])
    return [user.pk for user in users]


def _catalogs() -> Catalogs:
    return Catalogs(
        insurers=list(reference.entries(Insurer, reference.INSURERS).items()),
        types=reference.entries(InsuranceType, reference.INSURANCE_TYPES),
        channels=list(reference.entries(SalesChannel, reference.SALES_CHANNELS).values()),
    )


def _switch_triggers(cursor: Any, how: str) -> None:
    for table in TRIGGERED:
        cursor.execute(f"ALTER TABLE {table} {how} TRIGGER USER")


def _ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same chunks, each made while the database takes in the one before."""
    with ThreadPoolExecutor(max_workers=1) as maker:
        coming = maker.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = maker.submit(next, chunks, None)
            yield chunk


def _copy(cursor: Any, chunk: Chunk) -> None:
    for table, columns in COLUMNS.items():
        with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
            for row in chunk.rows[table]:
                copy.write_row(row)
