"""Incomes and expenses: recorded, corrected, removed, and what they make of the payment."""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.test import override_settings

from apps.auth.models import ServiceToken, User
from apps.core.models import Event
from apps.crm.models import Deal, Policy
from apps.payments.models import Payment
from apps.payments.services import operations, payments
from apps.payments.tests import factory
from apps.payments.tests.factory import TODAY, fresh, ids, receive, spend, url

pytestmark = pytest.mark.usefixtures("noon")
MONEY = {"amount": "400", "category": "premium", "posted_at": "2026-03-10"}


def test_worked_example(api: Callable[..., Any], payment: Payment, policy: Policy, seller: User) -> None:
    """Planned 1,000; 400 and 700 come in, 100 goes out and is taken back."""

    def seen() -> tuple[str, str, str, str]:
        now = api(seller).get(url(policy, payment.pk)).json()
        return now["status"], now["incomes_total"], now["expenses_total"], now["net_total"]

    assert api(seller).post(url(policy, payment.pk, "incomes"), MONEY).status_code == 201
    assert seen() == ("partially_paid", "400.00", "0.00", "400.00")
    api(seller).post(url(policy, payment.pk, "incomes"), {**MONEY, "amount": 700})
    assert seen() == ("paid", "1100.00", "0.00", "1100.00")
    expense = api(seller).post(url(policy, payment.pk, "expenses"), {**MONEY, "amount": "100.00"}).json()
    assert seen() == ("paid", "1100.00", "100.00", "1000.00")
    api(seller).delete(url(policy, payment.pk, "expenses", expense["id"]))
    assert seen() == ("paid", "1100.00", "0.00", "1100.00")


@pytest.mark.parametrize(
    ("incomes", "expenses", "status", "net"),
    [
        ([], [], "scheduled", "0"),
        ([], ["500"], "scheduled", "-500"),
        (["999.99"], [], "partially_paid", "999.99"),
        (["999.99", "0.01"], [], "paid", "1000"),
        (["1000"], ["1000"], "paid", "0"),
    ],
)
def test_status_follows_incomes(
    payment: Payment, seller: User, incomes: list[str], expenses: list[str], status: str, net: str
) -> None:
    for amount in incomes:
        receive(payment, seller, amount)
    for amount in expenses:
        spend(payment, seller, amount)
    now = fresh(payment)
    assert (now.status, now.net_total) == (status, Decimal(net))


def test_status_follows_the_plan(payment: Payment, seller: User) -> None:
    receive(payment, seller, "400")
    for amount, status in (("400", "paid"), ("400.01", "partially_paid"), ("5", "paid")):
        told = payments.change_payment(**ids(payment), values={"planned_amount": Decimal(amount)}, actor=seller)
        assert (told.status, fresh(payment).status) == (status, status)


class TestRecord:
    @pytest.mark.parametrize("kind", ["incomes", "expenses"])
    def test_answer(self, api: Callable[..., Any], payment: Payment, policy: Policy, executor: User, kind: str) -> None:
        answer = api(executor).post(url(policy, payment.pk, kind), {**MONEY, "currency": " rub", "note": "cash"})
        made = answer.json()
        assert answer.status_code == 201
        assert made | {"id": 0, "created_at": 0, "updated_at": 0} == {
            "id": 0, "payment_id": str(payment.pk), "amount": "400.00", "currency": "RUB", "category": "premium",
            "posted_at": "2026-03-10", "note": "cash", "created_by_id": str(executor.pk),
            "updated_by_id": str(executor.pk), "is_deleted": False, "created_at": 0, "updated_at": 0,
        }  # fmt: skip
        assert api(executor).get(url(policy, payment.pk, kind)).json() == [made]
        shown = api(executor).get(url(policy, payment.pk), {"include[]": kind}).json()
        assert shown[kind] == [made]

    @pytest.mark.parametrize("kind", ["incomes", "expenses"])
    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"currency": "USD"}, "currency_mismatch"),
            ({"posted_at": "2026-03-11"}, "posted_at_in_future"),
            ({"amount": "0"}, "must_be_positive"),
            ({"amount": "-1"}, "must_be_positive"),
            ({"amount": "0.001"}, "max_decimal_places"),
            ({"amount": True}, "invalid"),
            ({"category": ""}, "blank"),
            ({"category": "c" * 65}, "max_length"),
            ({"note": "n" * 301}, "max_length"),
            ({"posted_at": None}, "null"),
            ({"posted_at": "1999-01-01"}, "out_of_range"),
        ],
    )
    def test_refuses(
        self,
        api: Callable[..., Any],
        payment: Payment,
        policy: Policy,
        seller: User,
        kind: str,
        change: dict[str, Any],
        code: str,
    ) -> None:
        answer = api(seller).post(url(policy, payment.pk, kind), {**MONEY, **change})
        named = code in ("currency_mismatch", "posted_at_in_future")
        assert (answer.status_code, answer.json()["code"]) == (400, code if named else "validation_error")
        assert [(each["field"], each["code"]) for each in answer.json()["errors"]] == [(next(iter(change)), code)]
        assert fresh(payment).version == 1

    @pytest.mark.parametrize("missing", ["amount", "category", "posted_at"])
    def test_needs(self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, missing: str) -> None:
        body = {name: value for name, value in MONEY.items() if name != missing}
        answer = api(seller).post(url(policy, payment.pk, "incomes"), body)
        assert [(each["field"], each["code"]) for each in answer.json()["errors"]] == [(missing, "required")]

    def test_today_is_moscow_s(self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User) -> None:
        with time_machine.travel("2026-03-10T21:00:01Z"):  # a second past midnight in Moscow
            for day, status in (("2026-03-11", 201), ("2026-03-12", 400)):
                body = {**MONEY, "posted_at": day}
                assert api(seller).post(url(policy, payment.pk, "incomes"), body).status_code == status

    def test_too_much_money_is_a_refusal_not_a_crash(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User
    ) -> None:
        body = {**MONEY, "amount": "999999999999.99"}
        assert api(seller).post(url(policy, payment.pk, "incomes"), body).status_code == 201
        assert api(seller).post(url(policy, payment.pk, "incomes"), body).status_code == 400

    def test_repeat_with_one_key_is_one(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User
    ) -> None:
        answers = [
            api(seller).post(url(policy, payment.pk, "incomes"), MONEY, HTTP_IDEMPOTENCY_KEY="k1") for _ in range(3)
        ]
        assert len({answer.content for answer in answers}) == 1
        assert [answer["ETag"] for answer in answers] == ['"2"'] * 3
        assert fresh(payment).incomes_total == Decimal("400.00")


class TestDayOfPayment:
    def test_is_the_latest_income_s_when_it_becomes_paid(self, payment: Payment, seller: User, executor: User) -> None:
        receive(payment, seller, "500", TODAY - timedelta(days=1))
        assert fresh(payment).actual_date is None
        receive(payment, executor, "500", TODAY - timedelta(days=4))
        now = fresh(payment)
        assert (now.actual_date, now.recorded_by_id) == (TODAY - timedelta(days=1), executor.pk)

    def test_given_by_hand_stays(self, payment: Payment, seller: User) -> None:
        day = date(2026, 2, 1)
        payments.change_payment(**ids(payment), values={"actual_date": day}, actor=seller)
        receive(payment, seller, "1000")
        assert fresh(payment).actual_date == day

    def test_when_the_plan_shrinks_or_an_income_grows(self, policy: Policy, seller: User) -> None:
        shrunk, grown = (factory.plan(policy, seller) for _ in range(2))
        receive(shrunk, seller, "10")
        payments.change_payment(**ids(shrunk), values={"planned_amount": Decimal(10)}, actor=seller)
        income = receive(grown, seller, "10")
        values = {"amount": Decimal(1000), "posted_at": date(2026, 3, 2)}
        operations.correct_operation("income", **ids(grown), operation_id=income.pk, values=values, actor=seller)
        assert (fresh(shrunk).actual_date, fresh(grown).actual_date) == (TODAY, date(2026, 3, 2))


class TestCorrect:
    def test_works(self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User) -> None:
        income = receive(payment, seller, "400")
        body = {"amount": "1000", "category": "bonus", "posted_at": "2026-03-01", "note": None, "currency": "RUB"}
        answer = api(seller).patch(url(policy, payment.pk, "incomes", income.pk), body)
        corrected = answer.json()
        assert (answer.status_code, corrected["amount"], corrected["category"]) == (200, "1000.00", "bonus")
        assert fresh(payment).status == "paid"

    @pytest.mark.parametrize(
        ("body", "code"),
        [({"currency": "EUR"}, "currency_mismatch"), ({"posted_at": "2026-03-11"}, "posted_at_in_future")],
    )
    def test_refuses(
        self,
        api: Callable[..., Any],
        payment: Payment,
        policy: Policy,
        seller: User,
        body: dict[str, Any],
        code: str,
    ) -> None:
        expense = spend(payment, seller, "1")
        answer = api(seller).patch(url(policy, payment.pk, "expenses", expense.pk), body)
        assert (answer.status_code, answer.json()["code"]) == (400, code)

    def test_nothing_changed(self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User) -> None:
        income = receive(payment, seller, "400")
        before = Event.objects.count()
        answer = api(seller).patch(url(policy, payment.pk, "incomes", income.pk), {"amount": 400, "currency": "RUB"})
        assert (answer.status_code, answer["ETag"], Event.objects.count()) == (200, '"2"', before)

    @pytest.mark.parametrize("method", ["patch", "delete"])
    @pytest.mark.parametrize(("kind", "code"), [("incomes", "income_not_found"), ("expenses", "expense_not_found")])
    @pytest.mark.parametrize("why", ["unknown", "other kind", "deleted", "of another payment"])
    def test_not_there(
        self,
        api: Callable[..., Any],
        payment: Payment,
        policy: Policy,
        seller: User,
        method: str,
        kind: str,
        code: str,
        why: str,
    ) -> None:
        own, other = (receive, spend) if kind == "incomes" else (spend, receive)
        target = uuid4()
        if why == "other kind":
            target = other(payment, seller, "1").pk
        elif why == "of another payment":
            target = own(factory.plan(policy, seller), seller, "1").pk
        elif why == "deleted":
            target = own(payment, seller, "1").pk
            assert api(seller).delete(url(policy, payment.pk, kind, target)).status_code == 204
        answer = getattr(api(seller), method)(url(policy, payment.pk, kind, target), {"amount": 2})
        assert (answer.status_code, answer.json()["code"]) == (404, code)

    @pytest.mark.parametrize(
        ("who", "patched", "deleted"),
        [
            ("seller", 200, 204),
            ("executor", 403, 403),
            ("reader", 403, 403),
            ("admin", 200, 204),
            ("stranger", 404, 404),
        ],
    )
    def test_who_may(
        self,
        api: Callable[..., Any],
        payment: Payment,
        policy: Policy,
        seller: User,
        request: pytest.FixtureRequest,
        who: str,
        patched: int,
        deleted: int,
    ) -> None:
        """One's own entry, or an admin: here it is the seller's."""
        client = api(request.getfixturevalue(who))
        path = url(policy, payment.pk, "incomes", receive(payment, seller, "400").pk)
        assert client.patch(path, {"note": "x"}).status_code == patched
        assert client.delete(path).status_code == deleted

    def test_on_a_cancelled_payment_a_wrong_fact_can_be_mended(
        self, payment: Payment, seller: User, admin: User
    ) -> None:
        income = receive(payment, seller, "400")
        payments.change_payment(**ids(payment), values={"status": "cancelled"}, actor=admin)
        operations.correct_operation(
            "income", **ids(payment), operation_id=income.pk, values={"amount": Decimal(40)}, actor=seller
        )
        now = fresh(payment)
        assert (now.status, now.incomes_total) == ("cancelled", Decimal(40))


class TestAuthors:
    def test_named_by_an_admin_only(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, admin: User, stranger: User
    ) -> None:
        named = str(stranger.pk)
        for caller, author in ((seller, str(seller.pk)), (admin, named)):
            made = api(caller).post(url(policy, payment.pk, "incomes"), {**MONEY, "created_by_id": named}).json()
            assert made["created_by_id"] == author
            path = url(policy, payment.pk, "incomes", made["id"])
            changed = api(caller).patch(path, {"amount": 5, "updated_by_id": named}).json()
            assert changed["updated_by_id"] == author
            assert api(caller).delete(f"{path}?deleted_by_id={named}").status_code == 204
            told = Event.objects.get(name="deal.payment.income.deleted", aggregate_id=made["id"])
            assert told.payload["income"]["deleted_by_id"] == author

    @pytest.mark.parametrize("query", ["deleted_by_id=me", "deletedById=1", "who=me"])
    def test_bad_query(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, query: str
    ) -> None:
        income = receive(payment, seller, "4")
        answer = api(seller).delete(f"{url(policy, payment.pk, 'incomes', income.pk)}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_filters")

    def test_a_service_token_is_nobody(self, payment: Payment) -> None:
        token = ServiceToken.objects.create(
            prefix="0a0b0c0d",
            secret_hash=b"x" * 32,
            name="1c",
            scopes=["payments.record"],
            created_at=payment.created_at,
        )
        income = operations.record_income(
            **ids(payment), values={"amount": Decimal(5), "category": "c", "posted_at": TODAY}, actor=token
        )
        assert income.created_by_id is None
        assert Event.objects.filter(aggregate_id=income.pk).get().actor_id == token.pk


def test_finance_manager_corrects_his_own_everywhere(
    api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, make_user: Callable[..., User]
) -> None:
    client = api(make_user("finance", "ROLE_FINANCE_MANAGER"))
    made = client.post(url(policy, payment.pk, "expenses"), MONEY).json()
    assert client.patch(url(policy, payment.pk, "expenses", made["id"]), {"amount": 1}).status_code == 200
    others = spend(payment, seller, "5")
    assert client.delete(url(policy, payment.pk, "expenses", others.pk)).status_code == 403


def test_allowed_currency_may_change_under_old_payments(
    api: Callable[..., Any], deal: Deal, policy: Policy, seller: User
) -> None:
    with override_settings(PAYMENTS_ALLOWED_CURRENCIES=["USD"]):
        payment = factory.plan(policy, seller)
    assert api(seller).patch(url(policy, payment.pk), {"currency": "USD", "comment": "old"}).status_code == 200
    assert api(seller).post(url(policy, payment.pk, "incomes"), {**MONEY, "currency": "usd"}).status_code == 201
