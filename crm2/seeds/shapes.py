"""The rows of the invented agency: which columns are written, and what a deal is until then."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from random import Random
from typing import Any
from uuid import UUID

import orjson

Row = tuple[Any, ...]
COLUMNS = {
    "crm_client": (
        "id", "name", "name_key", "email", "phone", "phone_e164", "search_text", "status", "owner_id", "version",
        "created_at", "updated_at",
    ),
    "crm_deal": (
        "id", "client_id", "owner_id", "title", "description", "search_text", "status", "next_review_at",
        "close_reason", "closed_from", "planned_total", "version", "created_at", "updated_at",
    ),
    "crm_dealmember": ("deal_id", "user_id", "role", "via", "created_at"),
    "crm_journalentry": ("id", "deal_id", "author_id", "body", "created_at"),
    "crm_calculation": (
        "id", "deal_id", "owner_id", "created_by_id", "insurance_company", "insurance_company_key", "insurer_id",
        "program_name", "premium_amount", "coverage_sum", "calculation_date", "validity_period", "files", "status",
        "version", "created_at", "updated_at",
    ),
    "crm_policy": (
        "id", "client_id", "deal_id", "owner_id", "calculation_id", "policy_number", "policy_number_key", "status",
        "premium", "effective_from", "effective_to", "insurer_id", "insurance_type_id", "sales_channel_id", "version",
        "created_at", "updated_at",
    ),
    "payments_payment": (
        "id", "policy_id", "deal_id", "sequence", "status", "planned_date", "planned_amount", "currency",
        "actual_date", "recorded_by_id", "created_by_id", "updated_by_id", "incomes_total", "expenses_total",
        "net_total", "version", "created_at", "updated_at",
    ),
    "payments_income": (
        "id", "payment_id", "amount", "currency", "category", "posted_at", "created_by_id", "updated_by_id", "version",
        "created_at", "updated_at",
    ),
}  # fmt: skip
COLUMNS["payments_expense"] = COLUMNS["payments_income"]
COLUMNS["core_event"] = (
    "id", "name", "aggregate", "aggregate_id", "version", "deal_id", "client_id", "actor_id", "via", "trace_id",
    "payload", "changes", "at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Catalogs:
    """Ids of the catalog entries; insurers with their names, kinds of insurance by name."""

    insurers: Sequence[tuple[str, UUID]]
    types: dict[str, UUID]
    channels: Sequence[UUID]


@dataclass(slots=True)
class DealDraft:
    """A deal until it is written: its policies move its beginning and add to its planned total (kopecks)."""

    id: UUID
    client_id: UUID
    owner_id: UUID
    title: str
    kind: str
    description: str | None
    status: str
    born_as: str
    created_at: datetime
    updated_at: datetime
    next_review_at: date
    planned: int = 0


@dataclass(slots=True)
class Chunk:
    """Rows that are written together, by table, in the order of `COLUMNS`."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {table: [] for table in COLUMNS})

    def tell(
        self, rng: Random, name: str, aggregate: str, row_id: UUID, version: int, *, deal_id: UUID, client_id: UUID,
        actor_id: UUID, payload: dict[str, Any], changes: dict[str, tuple[Any, Any]], at: datetime,
    ) -> None:  # fmt: skip
        """An event that `emit` would have written at that time."""
        self.rows["core_event"].append((
            made_id(rng), name, aggregate, row_id, version, deal_id, client_id, actor_id, "command", "",
            orjson.dumps(payload).decode(), orjson.dumps(changes).decode(), at,
        ))  # fmt: skip


def made_id(rng: Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)


def rubles(kopecks: int) -> str:
    """`0.00`; never negative here."""
    return f"{kopecks // 100}.{kopecks % 100:02d}"
