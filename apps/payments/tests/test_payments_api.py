"""Plan, change, cancel, delete: the API's way in. (docs/contract.md, "Payments")"""

from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.test import override_settings

from apps.auth.models import User
from apps.core import softdelete
from apps.core.models import Event
from apps.crm.models import Policy
from apps.payments.models import Payment
from apps.payments.tests import factory
from apps.payments.tests.factory import url

pytestmark = pytest.mark.usefixtures("noon")
MADE = {"planned_amount": "1500", "planned_date": "2026-06-01", "comment": "first"}
FIELDS = {
    "id", "deal_id", "policy_id", "sequence", "status", "planned_date", "planned_amount", "currency", "comment",
    "actual_date", "recorded_by_id", "created_by_id", "updated_by_id", "incomes_total", "expenses_total", "net_total",
    "is_deleted", "version", "is_overdue", "created_at", "updated_at", "incomes", "expenses",
}  # fmt: skip


class TestCreate:
    def test_works(self, api: Callable[..., Any], policy: Policy, seller: User) -> None:
        answer = api(seller).post(url(policy), MADE)
        assert answer.status_code == 201, answer.json()
        made = answer.json()
        assert set(made) == FIELDS
        assert made["planned_amount"] == "1500.00"
        assert (made["incomes_total"], made["expenses_total"], made["net_total"]) == ("0.00", "0.00", "0.00")
        assert (made["sequence"], made["status"], made["currency"], made["version"]) == (1, "scheduled", "RUB", 1)
        assert (made["created_by_id"], made["recorded_by_id"]) == (str(seller.pk), None)
        assert answer["ETag"] == '"1"'

    def test_numbers_count_the_deleted(self, api: Callable[..., Any], policy: Policy, seller: User) -> None:
        first, second = (api(seller).post(url(policy), MADE).json() for _ in range(2))
        assert api(seller).delete(url(policy, second["id"])).status_code == 204
        third = api(seller).post(url(policy), MADE).json()
        assert [first["sequence"], second["sequence"], third["sequence"]] == [1, 2, 3]

    @pytest.mark.parametrize(
        ("change", "code", "field"),
        [
            ({"planned_amount": "0"}, "must_be_positive", "planned_amount"),
            ({"planned_amount": "-5"}, "must_be_positive", "planned_amount"),
            ({"planned_amount": "1.005"}, "max_decimal_places", "planned_amount"),
            ({"planned_amount": "1000000000000"}, "max_whole_digits", "planned_amount"),
            ({"planned_amount": "abc"}, "invalid", "planned_amount"),
            ({"planned_amount": None}, "null", "planned_amount"),
            ({"currency": "EUR"}, "currency_not_allowed", "currency"),
            ({"currency": ""}, "blank", "currency"),
            ({"currency": "R" * 13}, "max_length", "currency"),
            ({"planned_date": "1999-12-31"}, "out_of_range", "planned_date"),
            ({"planned_date": "soon"}, "invalid", "planned_date"),
            ({"comment": "x" * 501}, "max_length", "comment"),
            ({"recorded_by_id": "me"}, "invalid", "recorded_by_id"),
        ],
    )
    def test_refuses_malformed(
        self, api: Callable[..., Any], policy: Policy, seller: User, change: dict[str, Any], code: str, field: str
    ) -> None:
        answer = api(seller).post(url(policy), {**MADE, **change})
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
        assert [(each["field"], each["code"]) for each in answer.json()["errors"]] == [(field, code)]

    def test_needs_an_amount(self, api: Callable[..., Any], policy: Policy, seller: User) -> None:
        answer = api(seller).post(url(policy), {})
        assert answer.json()["errors"][0] | {"message": ""} == {
            "field": "planned_amount", "code": "required", "message": "",
        }  # fmt: skip

    @pytest.mark.parametrize(("typed", "kept"), [(" rub ", "RUB"), ("usd", "USD")])
    def test_currency_is_trimmed_and_raised(
        self, api: Callable[..., Any], policy: Policy, seller: User, typed: str, kept: str
    ) -> None:
        with override_settings(PAYMENTS_ALLOWED_CURRENCIES=["RUB", "USD"]):
            assert api(seller).post(url(policy), {**MADE, "currency": typed}).json()["currency"] == kept

    @pytest.mark.parametrize(
        ("actual", "planned", "code"),
        [
            ("2026-03-11", None, "actual_date_in_future"),
            ("2026-03-09", "2026-03-10", "actual_date_before_planned_date"),
            ("2026-03-10", "2026-03-10", None),
            ("2026-03-10", None, None),
        ],
    )
    def test_day_of_payment(
        self, api: Callable[..., Any], policy: Policy, seller: User, actual: str, planned: str | None, code: str | None
    ) -> None:
        answer = api(seller).post(url(policy), {"planned_amount": 5, "actual_date": actual, "planned_date": planned})
        assert (answer.status_code, answer.json().get("code")) == ((400, code) if code else (201, None))
        if not code:
            assert answer.json()["recorded_by_id"] == str(seller.pk)

    @pytest.mark.parametrize("field", ["created_by_id", "recorded_by_id"])
    def test_author_is_the_caller_unless_an_admin_says(
        self, api: Callable[..., Any], policy: Policy, seller: User, admin: User, stranger: User, field: str
    ) -> None:
        body = {**MADE, "actual_date": "2026-03-10", "planned_date": None, field: str(stranger.pk)}
        assert api(seller).post(url(policy), body).json()[field] == str(seller.pk)
        assert api(admin).post(url(policy), body).json()[field] == str(stranger.pk)
        unknown = api(admin).post(url(policy), {**body, field: str(uuid4())})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "user_not_found")

    def test_totals_are_not_writable(self, api: Callable[..., Any], policy: Policy, seller: User) -> None:
        body = {**MADE, "incomes_total": "9", "status": "paid", "sequence": 7, "is_deleted": True, "version": 9}
        made = api(seller).post(url(policy), body).json()
        assert (made["incomes_total"], made["status"], made["sequence"], made["version"]) == ("0.00", "scheduled", 1, 1)


class TestNotThere:
    """404 `policy_not_found` on every route when the policy is not in that deal, deleted, its deal deleted, unseen."""

    ROUTES = [
        ("get", "", None), ("post", "", MADE), ("get", "{id}", None), ("patch", "{id}", {"comment": "x"}),
        ("delete", "{id}", None), ("get", "{id}/history", None), ("get", "{id}/incomes", None),
        ("post", "{id}/expenses", {"amount": 1, "category": "a", "posted_at": "2026-03-01"}),
        ("patch", "{id}/incomes/{op}", {"amount": 5}), ("delete", "{id}/expenses/{op}", None),
    ]  # fmt: skip

    @pytest.mark.parametrize(("method", "tail", "body"), ROUTES)
    @pytest.mark.parametrize("why", ["other deal", "policy deleted", "deal deleted", "not visible"])
    def test_policy(
        self,
        api: Callable[..., Any],
        payment: Payment,
        seller: User,
        admin: User,
        other_seller: User,
        why: str,
        method: str,
        tail: str,
        body: Any,
    ) -> None:
        deal_id, caller = payment.deal_id, admin
        if why == "other deal":
            deal_id, caller = factory.make_deal(seller).pk, seller
        elif why == "policy deleted":
            softdelete.delete(payment.policy)
        elif why == "deal deleted":
            softdelete.delete(payment.deal)
        else:
            caller = other_seller
        tail = tail.format(id=payment.pk, op=uuid4())
        path = f"/api/v1/deals/{deal_id}/policies/{payment.policy_id}/payments"
        answer = getattr(api(caller), method)(f"{path}/{tail}" if tail else path, body)
        assert (answer.status_code, answer.json()["code"]) == (404, "policy_not_found")

    @pytest.mark.parametrize(("method", "tail", "body"), [route for route in ROUTES if route[1]])
    @pytest.mark.parametrize("why", ["unknown", "deleted", "of another policy"])
    def test_payment(
        self,
        api: Callable[..., Any],
        payment: Payment,
        policy: Policy,
        seller: User,
        why: str,
        method: str,
        tail: str,
        body: Any,
    ) -> None:
        payment_id: Any = payment.pk
        if why == "unknown":
            payment_id = uuid4()
        elif why == "deleted":
            api(seller).delete(url(policy, payment.pk))
        else:
            payment_id = factory.plan(factory.make_policy(payment.deal, "AAA 2"), seller).pk
        answer = getattr(api(seller), method)(url(policy, tail.format(id=payment_id, op=uuid4())), body)
        assert (answer.status_code, answer.json()["code"]) == (404, "payment_not_found")


class TestChange:
    def test_works(self, api: Callable[..., Any], payment: Payment, policy: Policy, executor: User) -> None:
        body = {"planned_amount": "2000.5", "planned_date": "2026-04-01", "comment": "moved"}
        answer = api(executor).patch(url(policy, payment.pk), body)
        assert answer.status_code == 200
        changed = answer.json()
        assert (changed["planned_amount"], changed["planned_date"], changed["comment"]) == (
            "2000.50", "2026-04-01", "moved",
        )  # fmt: skip
        assert (changed["version"], changed["updated_by_id"]) == (2, str(executor.pk))
        assert answer["ETag"] == '"2"'

    def test_answers_with_both_lists(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User
    ) -> None:
        factory.receive(payment, seller, "10")
        factory.spend(payment, seller, "4")
        changed = api(seller).patch(url(policy, payment.pk), {"comment": "x"}).json()
        assert [each["amount"] for each in changed["incomes"]] == ["10.00"]
        assert [each["amount"] for each in changed["expenses"]] == ["4.00"]

    @pytest.mark.parametrize(
        "body",
        [
            {}, {"planned_amount": "1000"}, {"currency": " rub"}, {"comment": None}, {"actual_date": None},
            {"recorded_by_id": str(uuid4())}, {"incomes_total": "5"},
            *({"status": word} for word in ("scheduled", "partially_paid", "paid", "overdue", "pending", "posted")),
        ],
    )  # fmt: skip
    def test_nothing_changed_bumps_and_tells_nothing(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, body: dict[str, Any]
    ) -> None:
        before = Event.objects.count()
        answer = api(seller).patch(url(policy, payment.pk), body)
        assert (answer.status_code, answer.json()["version"], answer.json()["status"]) == (200, 1, "scheduled")
        assert Event.objects.count() == before

    def test_other_words_are_refused(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, admin: User
    ) -> None:
        answer = api(admin).patch(url(policy, payment.pk), {"status": "frozen"})
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "invalid_choice")

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"actual_date": "2026-03-11"}, "actual_date_in_future"),
            ({"actual_date": "2026-02-28"}, "actual_date_before_planned_date"),
            ({"actual_date": "2026-03-05", "planned_date": "2026-03-06"}, "actual_date_before_planned_date"),
            ({"actual_date": "2026-02-28", "planned_date": None}, None),
            ({"actual_date": "2026-03-10"}, None),
        ],
    )
    def test_day_of_payment(
        self, api: Callable[..., Any], policy: Policy, seller: User, body: dict[str, Any], code: str | None
    ) -> None:
        payment = factory.plan(policy, seller, planned_date=date(2026, 3, 1))
        answer = api(seller).patch(url(policy, payment.pk), body)
        assert (answer.status_code, answer.json().get("code")) == ((400, code) if code else (200, None))

    def test_early_money_does_not_forbid_other_changes(
        self, api: Callable[..., Any], policy: Policy, seller: User
    ) -> None:
        payment = factory.plan(policy, seller, "100", planned_date=date(2026, 6, 1))
        factory.receive(payment, seller, "100")
        kept = api(seller).get(url(policy, payment.pk)).json()
        assert kept["actual_date"] == "2026-03-10"
        form = {name: kept[name] for name in ("planned_date", "planned_amount", "currency", "actual_date")}
        answer = api(seller).patch(url(policy, payment.pk), {**form, "comment": "paid early"})
        assert answer.status_code == 200, answer.json()
        assert api(seller).patch(url(policy, payment.pk), {"planned_date": "2026-07-01"}).status_code == 200

    @pytest.mark.parametrize("moment", ["2026-03-10T21:30:00Z", "2026-03-11T00:30:00+03:00"])
    def test_today_is_moscow_s(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, moment: str
    ) -> None:
        with time_machine.travel(moment):
            assert api(seller).patch(url(policy, payment.pk), {"actual_date": "2026-03-12"}).status_code == 400
            assert api(seller).patch(url(policy, payment.pk), {"actual_date": "2026-03-11"}).status_code == 200

    def test_currency_with_operations(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User
    ) -> None:
        with override_settings(PAYMENTS_ALLOWED_CURRENCIES=["RUB", "USD"]):
            assert api(seller).patch(url(policy, payment.pk), {"currency": "usd"}).json()["currency"] == "USD"
            income = factory.receive(payment, seller, "10")
            answer = api(seller).patch(url(policy, payment.pk), {"currency": "RUB"})
            assert (answer.status_code, answer.json()["code"]) == (409, "payment_has_transactions")
            assert income.currency == "USD"
            api(seller).delete(url(policy, payment.pk, "incomes", income.pk))
            assert api(seller).patch(url(policy, payment.pk), {"currency": "RUB"}).json()["currency"] == "RUB"

    def test_recorder_is_named_by_an_admin_only(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, admin: User, executor: User
    ) -> None:
        body = {"recorded_by_id": str(executor.pk)}
        assert api(seller).patch(url(policy, payment.pk), body).json()["recorded_by_id"] is None
        assert api(admin).patch(url(policy, payment.pk), body).json()["recorded_by_id"] == str(executor.pk)


class TestCancel:
    def test_is_final(self, api: Callable[..., Any], payment: Payment, policy: Policy, admin: User) -> None:
        income = factory.receive(payment, admin, "400")
        assert api(admin).patch(url(policy, payment.pk), {"status": "cancelled"}).json()["status"] == "cancelled"
        assert api(admin).patch(url(policy, payment.pk), {"status": "scheduled"}).json()["status"] == "cancelled"
        assert api(admin).patch(url(policy, payment.pk), {"planned_amount": 400}).json()["status"] == "cancelled"
        for kind in ("incomes", "expenses"):
            answer = api(admin).post(
                url(policy, payment.pk, kind), {"amount": 1, "category": "x", "posted_at": "2026-03-01"}
            )
            assert (answer.status_code, answer.json()["code"]) == (409, "payment_cancelled")
        assert api(admin).delete(url(policy, payment.pk, "incomes", income.pk)).status_code == 204
        assert factory.fresh(payment).status == "cancelled"

    def test_twice_is_once(self, api: Callable[..., Any], payment: Payment, policy: Policy, admin: User) -> None:
        versions = [
            api(admin).patch(url(policy, payment.pk), {"status": "cancelled"}).json()["version"] for _ in range(2)
        ]
        assert versions == [2, 2]


class TestDelete:
    def test_works(self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User) -> None:
        assert api(seller).delete(url(policy, payment.pk)).status_code == 204
        assert api(seller).get(url(policy)).json() == {"items": [], "total": 0}
        assert factory.fresh(payment).is_deleted

    @pytest.mark.parametrize("record", [factory.receive, factory.spend])
    def test_refuses_when_money_has_moved(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, record: Any
    ) -> None:
        operation = record(payment, seller, "1")
        answer = api(seller).delete(url(policy, payment.pk))
        assert (answer.status_code, answer.json()["code"]) == (409, "payment_has_transactions")
        kind = "incomes" if record is factory.receive else "expenses"
        api(seller).delete(url(policy, payment.pk, kind, operation.pk))
        assert api(seller).delete(url(policy, payment.pk)).status_code == 204

    def test_refuses_a_stale_version(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User
    ) -> None:
        factory.plan(policy, seller)
        api(seller).patch(url(policy, payment.pk), {"comment": "x"})
        answer = api(seller).delete(url(policy, payment.pk), HTTP_IF_MATCH='"1"')
        assert (answer.status_code, answer.json()["code"], answer["ETag"]) == (412, "version_mismatch", '"2"')


class TestVersions:
    @pytest.mark.parametrize(
        ("method", "tail", "body"),
        [
            ("patch", "", {"comment": "x"}),
            ("post", "/incomes", {"amount": 5, "category": "x", "posted_at": "2026-03-01"}),
            ("post", "/expenses", {"amount": 5, "category": "x", "posted_at": "2026-03-01"}),
            ("patch", "/incomes/{income}", {"amount": 5}),
            ("delete", "/expenses/{expense}", None),
        ],
    )
    def test_writes_take_and_return_the_payment_s(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, method: str, tail: str, body: Any
    ) -> None:
        income, expense = factory.receive(payment, seller, "10"), factory.spend(payment, seller, "10")
        path = url(policy, payment.pk) + tail.format(income=income.pk, expense=expense.pk)
        assert api(seller).get(url(policy, payment.pk))["ETag"] == '"3"'
        stale = getattr(api(seller), method)(path, body, HTTP_IF_MATCH='"2"')
        assert (stale.status_code, stale["ETag"]) == (412, '"3"')
        answer = getattr(api(seller), method)(path, body, HTTP_IF_MATCH='W/"3"')
        assert (answer.status_code // 100, answer["ETag"]) == (2, '"4"')
        assert factory.fresh(payment).version == 4

    def test_required_where_strict(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User
    ) -> None:
        with override_settings(STRICT_IF_MATCH=True):
            assert api(seller).patch(url(policy, payment.pk), {"comment": "x"}).status_code == 428
            assert api(seller).patch(url(policy, payment.pk), {"comment": "x"}, HTTP_IF_MATCH="*").status_code == 200
