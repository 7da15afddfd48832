"""A deal with a policy, straight through the ORM, and short words for what the tests do with them."""

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from apps.auth.models import User
from apps.crm.models import Client, Deal, DealMember, Policy
from apps.payments.models import Income, Payment
from apps.payments.services import operations, payments

TODAY = date(2026, 3, 10)
NOON = "2026-03-10T12:00:00+03:00"


def make_deal(owner: User, title: str = "Octavia 2021") -> Deal:
    client = Client.objects.create(
        name="Ёлкина Анна", owner=owner, **Client.twins(name="Ёлкина Анна", phone=None, email=None)
    )
    deal = Deal.objects.create(
        client=client, owner=owner, title=title, next_review_at=TODAY, **Deal.twins(title=title, description=None)
    )
    DealMember.objects.create(deal=deal, user=owner, role="seller", via="owner")
    return deal


def make_policy(deal: Deal, number: str = "ХХХ 0123") -> Policy:
    return Policy.objects.create(
        client=deal.client, deal=deal, owner=deal.owner, policy_number=number, **Policy.twins(policy_number=number)
    )


def join(deal: Deal, user: User, role: str) -> None:
    DealMember.objects.create(deal=deal, user=user, role=role, via="manual")


def plan(policy: Policy, actor: User, amount: str = "1000.00", **values: Any) -> Payment:
    return payments.create_payment(
        deal_id=deal_id_of(policy),
        policy_id=policy.pk,
        values={"planned_amount": Decimal(amount), **values},
        actor=actor,
    )


def ids(payment: Payment) -> dict[str, UUID]:
    return {"deal_id": payment.deal_id, "policy_id": payment.policy_id, "payment_id": payment.pk}


def receive(payment: Payment, actor: User, amount: str, posted_at: date = TODAY, **values: Any) -> Income:
    values = {"amount": Decimal(amount), "category": "premium", "posted_at": posted_at, **values}
    return operations.record_income(**ids(payment), values=values, actor=actor)


def spend(payment: Payment, actor: User, amount: str, posted_at: date = TODAY, **values: Any) -> Any:
    values = {"amount": Decimal(amount), "category": "partner", "posted_at": posted_at, **values}
    return operations.record_expense(**ids(payment), values=values, actor=actor)


def fresh(payment: Payment) -> Payment:
    return Payment.objects.get(pk=payment.pk)


def url(policy: Policy, *rest: object) -> str:
    return "/".join([f"/api/v1/deals/{policy.deal_id}/policies/{policy.pk}/payments", *map(str, rest)])


def deal_id_of(policy: Policy) -> UUID:
    assert policy.deal_id
    return policy.deal_id
