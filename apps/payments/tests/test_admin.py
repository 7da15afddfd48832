"""Payments in the admin: who sees what, changes through the services, refusals told row by row, no query per row."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.auth.models import User
from apps.core.models import Event
from apps.crm.models import Deal, Policy
from apps.payments.models import Expense, Income, Payment
from apps.payments.services.operations import PostedInFuture
from apps.payments.tests import factory
from apps.payments.tests.factory import fresh, receive, spend

pytestmark = pytest.mark.usefixtures("noon")
LIST, ADD = "admin:payments_payment_changelist", "admin:payments_payment_add"


@pytest.fixture
def enter() -> Callable[[User], Client]:
    def signed_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return signed_in


def page(payment: Payment) -> str:
    return reverse("admin:payments_payment_change", args=[payment.pk])


def texts(answer: Any) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


def form_of(payment: Payment, **changed: Any) -> dict[str, Any]:
    return {
        "planned_amount": "1000.00", "currency": "RUB", "planned_date": "", "actual_date": "", "comment": "",
        **{f"{kind}-{name}": 0 for kind in ("incomes", "expenses") for name in ("TOTAL_FORMS", "INITIAL_FORMS")},
        **changed,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("who", "status", "rows"),
    [("admin", 200, 1), ("seller", 200, 1), ("executor", 200, 1), ("stranger", 200, 0), ("reader", 302, 0)],
)
def test_who_sees(
    enter: Callable[[User], Client],
    payment: Payment,
    request: pytest.FixtureRequest,
    who: str,
    status: int,
    rows: int,
) -> None:
    client = enter(request.getfixturevalue(who))
    answer = client.get(reverse(LIST))
    assert answer.status_code == status
    if status == 200:
        assert answer.context["cl"].result_count == rows
    assert client.get(page(payment)).status_code == (200 if rows else 302)


@pytest.mark.parametrize("model", ["payment", "income", "expense"])
def test_lists_cost_the_same_at_any_length(
    enter: Callable[[User], Client], deal: Deal, seller: User, model: str
) -> None:
    client, counts = enter(seller), []
    address = reverse(f"admin:payments_{model}_changelist")
    client.get(address)
    for upto in (2, 20):
        for n in range(Policy.objects.count(), upto):
            payment = factory.plan(factory.make_policy(deal, f"AAA {n}"), seller)
            receive(payment, seller, "5")
            spend(payment, seller, "5")
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(address)
        assert len(answer.context["cl"].result_list) == upto
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 15


def test_page_with_its_money_costs_the_same(enter: Callable[[User], Client], payment: Payment, seller: User) -> None:
    client, counts = enter(seller), []
    client.get(page(payment))
    for more in (1, 20):
        for _ in range(more):
            receive(payment, seller, "1")
            spend(payment, seller, "1")
        with CaptureQueriesContext(connection) as queries:
            assert client.get(page(payment)).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("term", "found"), [("xxx0123", 1), ("ххх 01", 1), ("елкина", 1), ("ЁЛК", 1), ("петров", 0), ("9", 0)]
)
def test_search(enter: Callable[[User], Client], payment: Payment, seller: User, term: str, found: int) -> None:
    for model in ("payment", "income"):
        if model == "income":
            receive(payment, seller, "5")
        answer = enter(seller).get(reverse(f"admin:payments_{model}_changelist"), {"q": term})
        assert answer.context["cl"].result_count == found


@pytest.mark.parametrize(
    ("query", "found"), [("overdue=yes", 0), ("status__exact=scheduled", 1), ("status__exact=paid", 0)]
)
def test_filters(enter: Callable[[User], Client], payment: Payment, seller: User, query: str, found: int) -> None:
    assert enter(seller).get(f"{reverse(LIST)}?{query}").context["cl"].result_count == found


class TestForms:
    def test_add(self, enter: Callable[[User], Client], policy: Policy, seller: User) -> None:
        body = {"policy": policy.pk, "planned_amount": "250", "currency": "rub", "comment": "by hand"}
        answer = enter(seller).post(reverse(ADD), body)
        assert answer.status_code == 302
        made = Payment.objects.get()
        assert (made.sequence, made.deal_id, made.created_by_id, made.currency) == (1, policy.deal_id, seller.pk, "RUB")
        assert Event.objects.get().via == "admin"

    def test_add_to_a_policy_one_does_not_see(
        self, enter: Callable[[User], Client], policy: Policy, stranger: User
    ) -> None:
        answer = enter(stranger).post(reverse(ADD), {"policy": policy.pk, "planned_amount": "250", "currency": "RUB"})
        assert "policy" in answer.context["adminform"].form.errors
        assert not Payment.objects.exists()

    def test_change_sends_only_what_changed(
        self, enter: Callable[[User], Client], payment: Payment, seller: User
    ) -> None:
        assert enter(seller).post(page(payment), form_of(payment)).status_code == 302
        assert fresh(payment).version == 1
        assert enter(seller).post(page(payment), form_of(payment, comment="x")).status_code == 302
        assert (fresh(payment).version, fresh(payment).comment) == (2, "x")
        assert set(Event.objects.latest("at").changes) == {"comment"}

    @pytest.mark.parametrize(
        ("changed", "text"),
        [({"actual_date": "11.03.2026"}, "actual_date"), ({"currency": "USD"}, "currency")],
    )
    def test_refusals_are_messages(
        self, enter: Callable[[User], Client], payment: Payment, seller: User, changed: dict[str, str], text: str
    ) -> None:
        answer = enter(seller).post(page(payment), form_of(payment, **changed), follow=True)
        assert answer.status_code == 200
        assert len(texts(answer)) == 1
        assert fresh(payment).version == 1

    def test_observer_is_refused(
        self, enter: Callable[[User], Client], deal: Deal, payment: Payment, stranger: User
    ) -> None:
        factory.join(deal, stranger, "observer")
        answer = enter(stranger).post(page(payment), form_of(payment, comment="x"), follow=True)
        assert len(texts(answer)) == 1
        assert fresh(payment).comment is None

    @pytest.mark.parametrize(("kind", "model"), [("income", Income), ("expense", Expense)])
    def test_money(
        self, enter: Callable[[User], Client], payment: Payment, seller: User, kind: str, model: Any
    ) -> None:
        client = enter(seller)
        body = {"payment": payment.pk, "amount": "40", "category": "premium", "posted_at": "10.03.2026"}
        assert client.post(reverse(f"admin:payments_{kind}_add"), body).status_code == 302
        made = model.objects.get()
        assert (made.created_by_id, made.currency) == (seller.pk, "RUB")
        change = reverse(f"admin:payments_{kind}_change", args=[made.pk])
        assert client.post(change, {**body, "amount": "50"}).status_code == 302
        assert getattr(fresh(payment), f"{kind}s_total") == Decimal(50)
        late = client.post(change, {**body, "posted_at": "11.03.2026"}, follow=True)
        assert texts(late)[-1] == str(PostedInFuture.message)
        assert model.objects.get().amount == Decimal(50)


class TestActions:
    def act(self, client: Client, model: str, action: str, *rows: Any) -> Any:
        body = {"action": action, "_selected_action": [row.pk for row in rows]}
        return client.post(reverse(f"admin:payments_{model}_changelist"), body, follow=True)

    def test_delete_says_which_row_is_refused(
        self, enter: Callable[[User], Client], payment: Payment, policy: Policy, seller: User
    ) -> None:
        paid = factory.plan(policy, seller, "10")
        receive(paid, seller, "10")
        answer = self.act(enter(seller), "payment", "hide", payment, paid)
        assert (fresh(payment).is_deleted, fresh(paid).is_deleted) == (True, False)
        refusal, done = sorted(texts(answer), key=lambda text: not text.startswith("#2"))
        assert refusal.startswith("#2 10.00 RUB: ")
        assert "1" in done

    def test_cancel(self, enter: Callable[[User], Client], payment: Payment, seller: User, admin: User) -> None:
        self.act(enter(seller), "payment", "cancel", payment)
        assert fresh(payment).status == "scheduled"
        self.act(enter(admin), "payment", "cancel", payment)
        assert fresh(payment).status == "cancelled"

    def test_remove_money(self, enter: Callable[[User], Client], payment: Payment, seller: User, admin: User) -> None:
        own, others = receive(payment, seller, "1"), receive(payment, admin, "2")
        answer = self.act(enter(seller), "income", "hide", own, others)
        assert len(texts(answer)) == 2
        assert fresh(payment).incomes_total == Decimal(2)

    def test_nothing_is_deleted_for_good(self, enter: Callable[[User], Client], payment: Payment, admin: User) -> None:
        address = reverse("admin:payments_payment_delete", args=[payment.pk])
        assert enter(admin).post(address, {"post": "yes"}).status_code == 403
        assert "delete_selected" not in enter(admin).get(reverse(LIST)).content.decode()
