"""Money under many hands at once: exact totals, numbers without gaps or twins, nothing deadlocks."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from apps.auth.models import User
from apps.core.errors import DomainError
from apps.core.models import Event
from apps.crm.models import Policy
from apps.crm.services import policies
from apps.payments import queries
from apps.payments.models import Expense, Income, Payment
from apps.payments.services import operations, payments
from apps.payments.tests import factory
from apps.payments.tests.factory import TODAY, fresh, ids, receive, spend

pytestmark = [pytest.mark.django_db(transaction=True, serialized_rollback=True), pytest.mark.usefixtures("noon")]


def at_once(workers: int, works: list[Callable[[], Any]]) -> list[Any]:
    """Does the works on threads with connections of their own; results and refusals in order."""

    def one(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except DomainError as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, works))


def assert_kept() -> None:
    assert not queries.differing_payments().exists()
    assert not queries.differing_deals().exists()
    for model in (Payment, Income, Expense):
        for row in model.objects.all():
            told = Event.objects.filter(aggregate=model.__name__.lower(), aggregate_id=row.pk)
            assert sorted(told.values_list("version", flat=True)) == list(range(1, row.version + 1)), row


def test_thirty_payers(payment: Payment, seller: User) -> None:
    works = [lambda: receive(payment, seller, "33.33")] * 20 + [lambda: spend(payment, seller, "0.01")] * 10
    at_once(10, works)
    now = fresh(payment)
    assert (now.incomes_total, now.expenses_total, now.net_total) == (
        Decimal("666.60"), Decimal("0.10"), Decimal("666.50"),
    )  # fmt: skip
    assert (now.status, now.version) == ("partially_paid", 31)
    assert_kept()


def test_numbers_under_races(policy: Policy, seller: User) -> None:
    made = at_once(8, [lambda: factory.plan(policy, seller, "10")] * 20)
    assert sorted(each.sequence for each in made) == list(range(1, 21))
    policy.deal.refresh_from_db()
    assert policy.deal.planned_total == 200
    assert_kept()


def test_create_edit_delete_cancel_and_move(policy: Policy, admin: User, seller: User) -> None:
    """A mixture on few rows: every worker may be refused, none may fail, nothing may differ afterwards."""
    dice = random.Random(20260310)  # noqa: S311 - a fixed seed
    targets = [factory.plan(policy, admin, "100") for _ in range(4)]
    other_deal = factory.make_deal(seller)
    deals = [policy.deal_id, other_deal.pk]

    def where(payment: Payment) -> dict[str, Any]:
        return ids(fresh(payment))

    def money() -> Decimal:
        return Decimal(dice.randint(1, 12000)) / 100

    def work() -> Callable[[], Any]:
        payment, amount, roll = dice.choice(targets), money(), dice.random()
        kind: Any = dice.choice(["income", "expense"])
        values = {"amount": amount, "category": "c", "posted_at": TODAY}
        record = operations.record_income if kind == "income" else operations.record_expense

        def some_operation() -> Any:
            rows = queries.MODELS[kind].objects.filter(payment=payment, deleted_at=None)
            return rows.order_by("?").values_list("pk", flat=True).first()

        def edit() -> Any:
            found = some_operation()
            return found and operations.correct_operation(
                kind, **where(payment), operation_id=found, values={"amount": amount}, actor=admin
            )

        def remove() -> Any:
            found = some_operation()
            return found and operations.remove_operation(kind, **where(payment), operation_id=found, actor=admin)

        def move() -> Any:
            return policies.change_policy(policy_id=policy.pk, values={"deal_id": dice.choice(deals)}, actor=admin)

        def replan() -> Any:
            return payments.change_payment(**where(payment), values={"planned_amount": amount}, actor=admin)

        if roll < 0.40:
            return lambda: record(**where(payment), values=values, actor=admin)
        if roll < 0.60:
            return edit
        if roll < 0.75:
            return remove
        if roll < 0.85:
            return replan
        if roll < 0.90:
            return lambda: factory.plan(Policy.objects.get(pk=policy.pk), admin, "7")
        if roll < 0.95:
            return lambda: payments.delete_payment(**where(payment), actor=admin)
        return move

    results = at_once(8, [work() for _ in range(200)])
    refusals = {type(each).__name__ for each in results if isinstance(each, DomainError)}
    expected = {"PolicyNotFound", "PaymentNotFound", "PaymentHasTransactions", "IncomeNotFound", "ExpenseNotFound"}
    assert refusals <= expected
    assert sum(not isinstance(each, DomainError) for each in results) > 100
    assert_kept()
