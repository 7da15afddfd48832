"""A small agency: a client, a deal with its team, a policy."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from apps.auth.models import User
from apps.crm.models import Calculation, Client, Deal, Policy
from apps.crm.services import calculations, clients, deals, members, policies

PERIOD = {"start": "2026-03-01", "end": "2026-03-31"}


@pytest.fixture
def client_of(db: None) -> Callable[..., Client]:
    def make(owner: User, name: str = "Ёлкина Анна", **values: Any) -> Client:
        return clients.create_client(values={"name": name, "phone": "8 (912) 000-00-01", **values}, actor=owner)

    return make


@pytest.fixture
def deal_of(client_of: Callable[..., Client]) -> Callable[..., Deal]:
    """`deal_of(seller, title=...)`: a deal of a new client, owned by the seller."""

    def make(owner: User, *, client: Client | None = None, **values: Any) -> Deal:
        client = client or client_of(owner)
        fields = {"title": "Октавия 2021", "next_review_at": date(2026, 4, 1), **values}
        return deals.create_deal(client_id=client.pk, actor=owner, **fields)

    return make


@pytest.fixture
def deal(deal_of: Callable[..., Deal], seller: User, executor: User) -> Deal:
    """The seller's deal with the executor in its team."""
    made = deal_of(seller)
    members.add_member(deal=made, user_id=executor.pk, role="executor", actor=seller)
    return made


@pytest.fixture
def policy(deal: Deal, seller: User) -> Policy:
    return policies.create_policy(
        values={"client_id": deal.client_id, "deal_id": deal.pk, "policy_number": "ХХХ 0123"}, actor=seller
    )


@pytest.fixture
def calculation(deal: Deal, executor: User) -> Calculation:
    return calculations.create_calculation(
        deal_id=deal.pk, values={"insurance_company": "РЕСО", "calculation_date": date(2026, 3, 1)}, actor=executor
    )
