"""What payments tell, to the letter; histories; and following a policy that moves."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.db.models.expressions import RawSQL

from apps.auth.models import User
from apps.core import softdelete
from apps.core.models import Event
from apps.crm.models import Deal, Policy
from apps.crm.services import deals, policies
from apps.payments import handlers
from apps.payments.models import Payment
from apps.payments.services import operations, payments
from apps.payments.tests import factory
from apps.payments.tests.factory import fresh, ids, receive, spend, url

pytestmark = pytest.mark.usefixtures("noon")


def told() -> list[Event]:
    """Events in the order they were written."""
    return list(Event.objects.order_by(RawSQL("core_event.seq", [])))


def names(events: list[Event]) -> list[tuple[str, str, int]]:
    return [(event.name, event.aggregate, event.version) for event in events]


def test_created(payment: Payment, seller: User, deal: Any, policy: Policy) -> None:
    (event,) = told()
    assert names([event]) == [("deal.payment.created", "payment", 1)]
    assert (event.aggregate_id, event.deal_id, event.actor_id) == (payment.pk, deal.pk, seller.pk)
    assert event.payload == {
        "deal_id": str(deal.pk),
        "policy_id": str(policy.pk),
        "payment": {
            "id": str(payment.pk), "deal_id": str(deal.pk), "policy_id": str(policy.pk), "sequence": 1,
            "status": "scheduled", "planned_date": None, "planned_amount": "1000.00", "currency": "RUB",
            "comment": None, "actual_date": None, "recorded_by_id": None, "created_by_id": str(seller.pk),
            "updated_by_id": str(seller.pk), "incomes_total": "0.00", "expenses_total": "0.00", "net_total": "0.00",
            "is_deleted": False, "version": 1, "created_at": payment.created_at.isoformat(),
            "updated_at": payment.updated_at.isoformat(), "incomes": [], "expenses": [],
        },
    }  # fmt: skip
    assert event.changes == {
        "planned_amount": [None, "1000.00"], "policy_id": [None, str(policy.pk)], "sequence": [None, 1],
        "status": [None, "scheduled"], "currency": [None, "RUB"],
    }  # fmt: skip


def test_updated(payment: Payment, seller: User) -> None:
    values = {"planned_date": date(2026, 4, 1), "comment": "later"}
    payments.change_payment(**ids(payment), values=values, actor=seller)
    event = told()[-1]
    assert names([event]) == [("deal.payment.updated", "payment", 2)]
    assert event.changes == {"planned_date": [None, "2026-04-01"], "comment": [None, "later"]}
    assert set(event.payload) == {"deal_id", "policy_id", "payment"}
    assert (event.payload["payment"]["planned_date"], event.payload["payment"]["version"]) == ("2026-04-01", 2)


def test_cancelled(payment: Payment, admin: User) -> None:
    payments.change_payment(**ids(payment), values={"status": "cancelled"}, actor=admin)
    assert told()[-1].changes == {"status": ["scheduled", "cancelled"]}
    assert told()[-1].payload["payment"]["status"] == "cancelled"


def test_deleted(payment: Payment, seller: User) -> None:
    payments.delete_payment(**ids(payment), actor=seller)
    event, gone = told()[-1], fresh(payment)
    assert names([event]) == [("deal.payment.deleted", "payment", 2)]
    assert event.payload == {
        "deal_id": str(payment.deal_id),
        "policy_id": str(payment.policy_id),
        "payment_id": str(payment.pk),
        "deleted_at": gone.deleted_at.isoformat() if gone.deleted_at else None,
    }


@pytest.mark.parametrize(("kind", "record"), [("income", receive), ("expense", spend)])
class TestOperation:
    def test_created(self, payment: Payment, seller: User, kind: Any, record: Any) -> None:
        operation = record(payment, seller, "400", note="cash")
        own, whole = told()[-2:]
        assert names([own, whole]) == [
            (f"deal.payment.{kind}.created", kind, 1), ("deal.payment.updated", "payment", 2),
        ]  # fmt: skip
        assert own.payload == {
            "deal_id": str(payment.deal_id),
            "policy_id": str(payment.policy_id),
            "payment_id": str(payment.pk),
            kind: {
                f"{kind}_id": str(operation.pk), "payment_id": str(payment.pk), "amount": "400.00", "currency": "RUB",
                "category": operation.category, "posted_at": "2026-03-10", "note": "cash",
                "created_by_id": str(seller.pk), "updated_by_id": str(seller.pk),
                "created_at": operation.created_at.isoformat(), "updated_at": operation.updated_at.isoformat(),
            },
        }  # fmt: skip
        total = f"{kind}s_total"
        assert whole.payload["payment"][total] == "400.00"
        assert [each["amount"] for each in whole.payload["payment"][f"{kind}s"]] == ["400.00"]
        assert whole.changes[total] == ["0.00", "400.00"]
        assert ("status" in whole.changes) == (kind == "income")

    def test_updated(self, payment: Payment, seller: User, kind: Any, record: Any) -> None:
        operation = record(payment, seller, "400")
        before = dict(told()[-2].payload[kind])
        values = {"amount": Decimal("500"), "note": "more"}
        operations.correct_operation(kind, **ids(payment), operation_id=operation.pk, values=values, actor=seller)
        own, whole = told()[-2:]
        assert names([own, whole]) == [
            (f"deal.payment.{kind}.updated", kind, 2), ("deal.payment.updated", "payment", 3),
        ]  # fmt: skip
        assert set(own.payload) == {"deal_id", "policy_id", "payment_id", kind, "previous"}
        assert own.payload["previous"] == {name: each for name, each in before.items() if name != f"{kind}_id"}
        assert (own.payload[kind]["amount"], own.payload[kind]["note"]) == ("500.00", "more")
        assert "id" not in own.payload[kind]
        assert own.changes == {"amount": ["400.00", "500.00"], "note": [None, "more"]}

    def test_deleted(self, payment: Payment, seller: User, kind: Any, record: Any) -> None:
        operation = record(payment, seller, "400")
        operations.remove_operation(kind, **ids(payment), operation_id=operation.pk, actor=seller)
        own, whole = told()[-2:]
        assert names([own, whole]) == [
            (f"deal.payment.{kind}.deleted", kind, 2), ("deal.payment.updated", "payment", 3),
        ]  # fmt: skip
        gone = type(operation).objects.get(pk=operation.pk)
        assert own.payload == {
            "deal_id": str(payment.deal_id),
            "policy_id": str(payment.policy_id),
            "payment_id": str(payment.pk),
            kind: {
                f"{kind}_id": str(operation.pk),
                "deleted_at": gone.deleted_at.isoformat(),
                "deleted_by_id": str(seller.pk),
            },
        }
        assert whole.payload["payment"][f"{kind}s"] == []
        assert whole.payload["payment"][f"{kind}s_total"] == "0.00"


class TestHistory:
    def test_newest_first_with_before_and_after(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, admin: User
    ) -> None:
        income = receive(payment, seller, "1000")
        operations.remove_operation("income", **ids(payment), operation_id=income.pk, actor=admin)
        rows = api(seller).get(url(policy, payment.pk, "history")).json()
        assert [row["event"] for row in rows] == [
            "deal.payment.updated", "deal.payment.income.deleted", "deal.payment.updated",
            "deal.payment.income.created", "deal.payment.created",
        ]  # fmt: skip
        assert set(rows[0]) == {"id", "at", "actor", "via", "event", "aggregate", "aggregate_id", "changes"}
        assert rows[0]["actor"] == {"id": str(admin.pk), "email": admin.email}
        assert {"field": "status", "before": "paid", "after": "scheduled"} in rows[0]["changes"]
        assert {"field": "actual_date", "before": None, "after": "2026-03-10"} in rows[2]["changes"]
        assert (rows[1]["aggregate"], rows[1]["aggregate_id"]) == ("income", str(income.pk))

    def test_of_this_payment_only(
        self, api: Callable[..., Any], payment: Payment, policy: Policy, seller: User
    ) -> None:
        receive(factory.plan(policy, seller), seller, "5")
        assert len(api(seller).get(url(policy, payment.pk, "history")).json()) == 1


class TestFollowPolicy:
    @pytest.fixture
    def moved(self, payment: Payment, policy: Policy, seller: User) -> Event:
        """The policy has gone to the seller's other deal."""
        policies.change_policy(policy_id=policy.pk, values={"deal_id": factory.make_deal(seller).pk}, actor=seller)
        return Event.objects.get(name="policy.updated")

    def test_tells_once_however_often_it_is_handled(self, payment: Payment, moved: Event) -> None:
        for _ in range(3):
            handlers.follow_policy(moved)
        now, event = fresh(payment), told()[-1]
        assert now.deal_id != payment.deal_id
        assert names([event]) == [("deal.payment.updated", "payment", 2)]
        assert (event.deal_id, event.actor_id) == (now.deal_id, moved.actor_id)
        assert event.payload["deal_id"] == event.payload["payment"]["deal_id"] == str(now.deal_id)
        assert event.changes == {"deal_id": [str(payment.deal_id), str(now.deal_id)]}
        assert (now.version, Event.objects.filter(aggregate="payment").count()) == (2, 2)

    def test_other_changes_of_the_policy_are_none_of_its_business(
        self, payment: Payment, policy: Policy, seller: User
    ) -> None:
        policies.change_policy(policy_id=policy.pk, values={"premium": Decimal(5)}, actor=seller)
        handlers.follow_policy(Event.objects.get(name="policy.updated"))
        assert fresh(payment).version == 1

    def test_deleted_payments_stay_silent(self, payment: Payment, policy: Policy, seller: User) -> None:
        softdelete.delete(payment)
        policies.change_policy(policy_id=policy.pk, values={"deal_id": factory.make_deal(seller).pk}, actor=seller)
        handlers.follow_policy(Event.objects.get(name="policy.updated"))
        assert fresh(payment).version == 2


class TestFollowBatch:
    """What goes or comes back with its policy or deal says so itself."""

    @pytest.mark.parametrize("root", ["policy", "deal"])
    def test_deleted_and_restored(self, payment: Payment, policy: Policy, deal: Deal, seller: User, root: str) -> None:
        gone_before = factory.plan(policy, seller)
        payments.delete_payment(**ids(gone_before), actor=seller)
        service = {"policy": policies, "deal": deals}[root]
        follow = {"policy": handlers.follow_batch_of_policy, "deal": handlers.follow_batch_of_deal}[root]
        target: dict[str, Any] = {"policy": {"policy_id": policy.pk}, "deal": {"deal_id": deal.pk}}[root]

        getattr(service, f"delete_{root}")(**target, actor=seller)
        for _ in range(2):
            follow(Event.objects.get(name=f"{root}.deleted"))
        assert names(told()[-1:]) == [("deal.payment.deleted", "payment", 2)]
        assert (told()[-1].aggregate_id, told()[-1].actor_id) == (payment.pk, seller.pk)

        getattr(service, f"restore_{root}")(**target, actor=seller)
        for _ in range(2):
            follow(Event.objects.get(name=f"{root}.restored"))
        assert names(told()[-1:]) == [("deal.payment.updated", "payment", 3)]
        assert told()[-1].changes == {"is_deleted": [True, False]}
        assert Event.objects.filter(aggregate_id=gone_before.pk).count() == 2

    def test_restored_before_it_was_told(self, payment: Payment, policy: Policy, seller: User) -> None:
        policies.delete_policy(policy_id=policy.pk, actor=seller)
        policies.restore_policy(policy_id=policy.pk, actor=seller)
        for name in ("policy.deleted", "policy.restored"):
            handlers.follow_batch_of_policy(Event.objects.get(name=name))
        assert names(told()[-1:]) == [("deal.payment.updated", "payment", 3)]
        assert Event.objects.filter(aggregate="payment").count() == 2
