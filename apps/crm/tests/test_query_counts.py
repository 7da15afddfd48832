"""Every list of crm costs the same for 10 and for 200 rows."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from apps.auth.models import User
from apps.crm.models import (
    Calculation,
    Catalog,
    Client,
    Deal,
    DealMember,
    InsuranceType,
    Insurer,
    JournalEntry,
    Policy,
    SalesChannel,
)
from apps.crm.services import deals
from tests.query_counts import check_list

pytestmark = pytest.mark.django_db

CATALOGS: dict[str, type[Catalog]] = {
    "insurers": Insurer,
    "insurance-types": InsuranceType,
    "sales-channels": SalesChannel,
}


@pytest.fixture
def grow(deal: Deal, seller: User, make_user: Callable[..., User]) -> Callable[[str, int], None]:
    """Adds rows to the list of a route; the deal's own rows are cleared first where it has some."""

    def more_deals(n: int) -> None:
        made = Deal.objects.bulk_create(
            Deal(client_id=deal.client_id, owner=seller, title=str(i), next_review_at=date(2026, 5, 1), search_text="")
            for i in range(n)
        )
        DealMember.objects.bulk_create(DealMember(deal=each, user=seller, role="seller", via="owner") for each in made)

    def more_people(n: int) -> None:
        start = User.objects.count()
        people = User.objects.bulk_create(User(email=f"u{start + i}@example.com") for i in range(n))
        DealMember.objects.bulk_create(DealMember(deal=deal, user=p, role="observer", via="manual") for p in people)

    def make(route: str, n: int) -> None:
        name = route.rsplit("/", 1)[-1]
        start = n * 1000
        if name == "clients":
            Client.objects.bulk_create(
                Client(name=str(i), name_key=str(i), search_text=str(i), owner=seller) for i in range(n)
            )
        elif name == "deals":
            more_deals(n)
        elif name == "members":
            more_people(n)
        elif name == "journal":
            JournalEntry.objects.bulk_create(JournalEntry(deal=deal, author=seller, body=str(i)) for i in range(n))
        elif name == "calculations":
            Calculation.objects.bulk_create(
                Calculation(
                    deal=deal, owner=seller, insurance_company=str(i), insurance_company_key=str(i),
                    calculation_date=date(2026, 3, 1), premium_amount=5,
                )
                for i in range(n)
            )  # fmt: skip
        elif name == "policies":
            Policy.objects.bulk_create(
                Policy(
                    client_id=deal.client_id, deal=deal, owner=seller, policy_number=str(start + i),
                    policy_number_key=str(start + i),
                )
                for i in range(n)
            )  # fmt: skip
        elif name == "history":
            for i in range(n):
                deals.change_deal(deal_id=deal.pk, values={"title": f"{start + i}"}, actor=seller)
        else:
            CATALOGS[name].objects.bulk_create(
                CATALOGS[name](name=str(start + i), name_key=str(start + i)) for i in range(n)
            )

    return make


@pytest.mark.parametrize(
    "route",
    [
        "clients", "deals", "policies", "insurers", "insurance-types", "sales-channels", "deals/{id}/members",
        "deals/{id}/journal", "deals/{id}/calculations", "deals/{id}/history",
    ],
)  # fmt: skip
def test_a_list_costs_the_same(api: Any, grow: Any, deal: Deal, seller: User, route: str) -> None:
    already = {"clients": 1, "deals": 1, "deals/{id}/members": 2, "deals/{id}/history": 2}.get(route, 0)
    first = True

    def add(n: int) -> None:
        nonlocal first
        grow(route, n - already if first else n)
        first = False

    check_list(route, api(seller), f"/api/v1/{route.format(id=deal.pk)}", add)
