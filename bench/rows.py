"""The rows: what is asked, as whom, and the figures that must be reached and would be fine. (docs/performance.md)"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from apps.crm.models import Client, Deal
from apps.payments.models import Payment
from bench.ground import MARK, Caller

Request = tuple[str, str, str]  # method, path, body
SAMPLE = 500  # different ids in turn


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `must` and `must_alone`: ratios to raw at 16 connections and at 1."""

    number: int
    title: str
    requests: Callable[[Caller], list[Request]]
    callers: Sequence[str]
    must: float
    beyond: float
    must_alone: float | None = None
    statements: int | None = None  # at most, the look-up of the caller not counted
    most_bytes: int | None = None
    same_body: bool = True


def _details(caller: Caller) -> list[Request]:
    rows = Deal.objects.living().visible_to(caller.user).order_by("id")
    return [("GET", f"/api/v1/deals/{pk}", "") for pk in rows.values_list("pk", flat=True)[:SAMPLE]]


def _filters(caller: Caller) -> list[Request]:
    """By stage and manager: one's own for a seller, anyone's for an admin."""
    owners = Deal.objects.living().filter(owner__email__startswith="agency1.").order_by("owner_id")
    if caller.sees != "all":
        owners = owners.filter(owner=caller.user)
    stages = ("negotiation", "proposal", "closedWon")
    found = owners.values_list("owner_id", flat=True).distinct()[:20]
    return [("GET", f"/api/v1/deals?stage={stage}&manager={owner}", "") for owner in found for stage in stages]


def _searches(caller: Caller) -> list[Request]:
    words = ("octavia", "camry", "duster", "tiguan", "qashqai", "vesta", "jolion", "sportage")
    return [("GET", f"/api/v1/deals?search={word}%20{year}", "") for word in words for year in range(2018, 2026)]


def _payments(caller: Caller) -> list[Request]:
    rows = Payment.objects.living().visible_to(caller.user).filter(sequence=1).order_by("id")
    return [
        ("GET", f"/api/v1/deals/{deal}/policies/{policy}/payments?include=incomes", "")
        for deal, policy in rows.values_list("deal_id", "policy_id")[:SAMPLE]
    ]


def _new_deals(caller: Caller) -> list[Request]:
    review = timezone.localdate() + timedelta(days=14)
    clients = Client.objects.living().filter(owner=caller.user).order_by("id").values_list("pk", flat=True)[:SAMPLE]
    body = {"title": MARK, "description": "Octavia 2021", "next_review_at": str(review)}
    return [("POST", "/api/v1/deals", json.dumps({**body, "client_id": str(pk)})) for pk in clients]


def _always(*request: str) -> Callable[[Caller], list[Request]]:
    method, path = request
    return lambda caller: [(method, path, "")]


BOTH = ("admin", "seller")
ROWS = (
    Row(1, "/healthz", _always("GET", "/healthz"), ("admin",), 0.07, 0.15, statements=0),
    Row(2, "deal detail", _details, BOTH, 0.20, 0.30, 0.35, statements=3),
    Row(3, "deal list, 50 rows", _always("GET", "/api/v1/deals"), BOTH, 0.22, 0.30, 0.33, statements=4,
        most_bytes=30 * 1024),
    Row(4, "stage and manager filter", _filters, BOTH, 0.23, 0.30, 0.33, statements=4),
    Row(5, "search, 50 rows", _searches, ("admin",), 0.25, 0.35, statements=4),
    Row(6, "stage metrics", _always("GET", "/api/v1/deals/stage-metrics"), ("admin",), 0.12, 0.25, statements=4),
    Row(8, "payments of a policy with incomes", _payments, BOTH, 0.20, 0.30, 0.30, statements=2),
    Row(7, "create a deal", _new_deals, ("seller",), 0.09, 0.12, statements=6, same_body=False),
)  # fmt: skip
