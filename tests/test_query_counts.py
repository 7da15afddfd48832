"""The lists of people and of money cost the same for 10 and for 200 rows, and no list is without a baseline."""

import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.utils import timezone

from apps.auth.models import Role, ServiceToken, User
from apps.crm.models import Client
from apps.crm.services import clients
from apps.payments.models import Expense, Income, Payment
from apps.payments.services import payments
from apps.payments.tests import factory
from tests.query_counts import BASELINES, check_list

pytestmark = pytest.mark.django_db
OPENAPI = Path(__file__).resolve().parents[1] / "docs" / "api" / "openapi.yaml"
PAYMENTS = "deals/{deal}/policies/{policy}/payments"


def test_every_list_has_a_baseline() -> None:
    paths = yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))["paths"]
    lists = {
        re.sub(r"\{\w+\}", "{}", path.removeprefix("/api/v1/"))
        for path, item in paths.items()
        if any(each["name"] == "limit" for each in item.get("get", {}).get("parameters", []))
    }
    assert {re.sub(r"\{\w+\}", "{}", route) for route in json.loads(BASELINES.read_text())} == lists


@pytest.fixture
def payment(seller: User) -> Payment:
    return factory.plan(factory.make_policy(factory.make_deal(seller)), seller)


@pytest.fixture
def add(payment: Payment, seller: User) -> dict[str, Callable[[int], None]]:
    """How each list grows by n rows."""
    policy = payment.policy
    entry = {"payment": payment, "amount": 1, "currency": "RUB", "category": "x", "posted_at": date(2026, 1, 1)}
    client = Client.objects.get()

    def rename(n: int) -> None:
        for i in range(n):
            clients.change_client(client_id=client.pk, values={"name": f"{n} {i}"}, actor=seller)

    def comment(n: int) -> None:
        for i in range(n):
            payments.change_payment(**factory.ids(payment), values={"comment": f"{n} {i}"}, actor=seller)

    def tokens(n: int) -> None:
        ServiceToken.objects.bulk_create(
            ServiceToken(prefix=f"{n:04d}{i:04d}", secret_hash=b"", name=str(i), created_at=timezone.now())
            for i in range(n)
        )

    def plan(n: int) -> None:
        for _ in range(n):
            factory.plan(policy, seller)

    return {
        "users": lambda n: _people(n),
        "users/assignable": lambda n: _people(n),
        "roles": lambda n: _create(Role, n, lambda i: {"name": f"ROLE_{n}_{i}"}),
        "service-tokens": tokens,
        "clients/{client}/history": rename,
        PAYMENTS: plan,
        f"{PAYMENTS}/{{payment}}/history": comment,
        f"{PAYMENTS}/{{payment}}/incomes": lambda n: _create(Income, n, lambda i: entry),
        f"{PAYMENTS}/{{payment}}/expenses": lambda n: _create(Expense, n, lambda i: entry),
    }


def _create(model: Any, n: int, fields: Callable[[int], dict[str, Any]]) -> None:
    model.objects.bulk_create(model(**fields(i)) for i in range(n))


def _people(n: int) -> None:
    _create(User, n, lambda i: {"email": f"p{n}-{i}@example.com", "full_name": str(i)})


@pytest.mark.parametrize(
    ("route", "already"),
    [
        ("users", 2), ("users/assignable", 2), ("roles", 6), ("service-tokens", 0), ("clients/{client}/history", 0),
        (PAYMENTS, 1), (f"{PAYMENTS}/{{payment}}/history", 1), (f"{PAYMENTS}/{{payment}}/incomes", 0),
        (f"{PAYMENTS}/{{payment}}/expenses", 0),
    ],
)  # fmt: skip
def test_a_list_costs_the_same(
    api: Any, admin: User, payment: Payment, add: dict[str, Callable[[int], None]], route: str, already: int
) -> None:
    path = route.format(
        client=Client.objects.get().pk, deal=payment.deal_id, policy=payment.policy_id, payment=payment.pk
    )
    rest = iter([already])
    check_list(route, api(admin), f"/api/v1/{path}", lambda n: add[route](n - next(rest, 0)))
