"""The last guard: what the database refuses whoever asks, and the figures it keeps on every path."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from apps.auth.models import User
from apps.core import softdelete
from apps.core.api.problems import as_domain_error
from apps.core.models import JobRun
from apps.crm.models import Deal, Policy
from apps.crm.services import policies
from apps.payments import jobs, queries
from apps.payments.models import Expense, Income, Payment
from apps.payments.services import operations, payments
from apps.payments.tests import factory
from apps.payments.tests.factory import TODAY, fresh, ids, receive, spend

pytestmark = pytest.mark.usefixtures("noon")


def sql(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


@contextmanager
def refused(constraint: str, code: str, status: int = 400) -> Iterator[None]:
    """The database names the constraint, and the caller hears `code`."""
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        yield
    assert caught.value.__cause__.diag.constraint_name == constraint
    error = as_domain_error(caught.value)
    assert error is not None
    assert (error.errors[0].code if error.code == "validation_error" else error.code, error.status) == (code, status)


class TestPayment:
    @pytest.mark.parametrize(
        ("assignment", "constraint", "code", "status"),
        [
            ("planned_amount = 0", "payments_payment_amount_positive", "must_be_positive", 400),
            ("currency = 'rub'", "payments_payment_currency_is_code", "invalid", 400),
            ("currency = 'RUBL'", "payments_payment_currency_is_code", "invalid", 400),
            ("planned_date = '1999-12-31'", "payments_payment_dates_in_reason", "out_of_range", 400),
            ("actual_date = '2101-01-01'", "payments_payment_dates_in_reason", "out_of_range", 400),
            ("incomes_total = 5", "payments_payment_totals_are_sums", "totals_are_sums", 409),
            ("expenses_total = 5", "payments_payment_totals_are_sums", "totals_are_sums", 409),
            ("deal_id = NULL", "payments_payment_has_deal", "policy_has_payments", 409),
            ("deal_id = gen_random_uuid()", "payments_payment_in_deal_of_policy", "policy_not_found", 404),
            ("policy_id = gen_random_uuid()", "payments_payment_in_deal_of_policy", "policy_not_found", 404),
        ],
    )
    def test_refuses(self, payment: Payment, assignment: str, constraint: str, code: str, status: int) -> None:
        with refused(constraint, code, status):
            sql(f"UPDATE payments_payment SET {assignment} WHERE id = %s", payment.pk)

    def test_unknown_status(self, payment: Payment) -> None:
        with pytest.raises(IntegrityError, match="payments_payment_status_known"), transaction.atomic():
            sql("UPDATE payments_payment SET status = 'posted' WHERE id = %s", payment.pk)

    def test_number_twice(self, payment: Payment, policy: Policy, seller: User) -> None:
        payments.delete_payment(**ids(payment), actor=seller)
        other = factory.plan(policy, seller)
        with refused("payments_payment_sequence_once_in_policy", "payment_sequence_exists", 409):
            Payment.objects.filter(pk=other.pk).update(sequence=1)

    def test_status_and_net_are_computed_whatever_is_written(self, payment: Payment) -> None:
        sql("UPDATE payments_payment SET status = 'paid', net_total = 77 WHERE id = %s", payment.pk)
        now = fresh(payment)
        assert (now.status, now.net_total) == ("scheduled", 0)

    def test_cancelled_stays(self, payment: Payment) -> None:
        for status in ("cancelled", "paid"):
            sql("UPDATE payments_payment SET status = %s WHERE id = %s", status, payment.pk)
        assert fresh(payment).status == "cancelled"

    def test_sums_begin_at_nothing(self, payment: Payment) -> None:
        made = Payment.objects.create(
            policy=payment.policy, deal=payment.deal, sequence=9, planned_amount=5, currency="RUB",
            incomes_total=5, expenses_total=1, net_total=4,
        )  # fmt: skip
        now = fresh(made)
        assert (now.incomes_total, now.expenses_total, now.net_total, now.status) == (0, 0, 0, "scheduled")

    @pytest.mark.parametrize(
        ("assignment", "constraint"),
        [("net_total = 5", "net_is_difference"), ("incomes_total = -5, net_total = -5", "totals_not_negative")],
    )
    def test_beneath_the_triggers_checks_hold(self, payment: Payment, assignment: str, constraint: str) -> None:
        sql("SET CONSTRAINTS ALL IMMEDIATE")
        sql("ALTER TABLE payments_payment DISABLE TRIGGER USER")
        with pytest.raises(IntegrityError, match=f"payments_payment_{constraint}"), transaction.atomic():
            sql(f"UPDATE payments_payment SET {assignment} WHERE id = %s", payment.pk)

    def test_hard_deletion_of_what_money_hangs_from(self, payment: Payment, seller: User) -> None:
        receive(payment, seller, "5")
        for table, row in (("payments_payment", payment.pk), ("crm_policy", payment.policy_id)):
            with pytest.raises(IntegrityError), transaction.atomic():
                sql(f"DELETE FROM {table} WHERE id = %s", row)

    def test_a_policy_with_payments_keeps_its_deal(self, payment: Payment) -> None:
        with refused("payments_payment_has_deal", "policy_has_payments", 409):
            Policy.objects.filter(pk=payment.policy_id).update(deal=None)


@pytest.mark.parametrize(("model", "record"), [("income", receive), ("expense", spend)])
class TestOperation:
    @pytest.mark.parametrize(
        ("assignment", "constraint", "code"),
        [
            ("amount = 0", "amount_positive", "must_be_positive"),
            ("amount = -1", "amount_positive", "must_be_positive"),
            ("currency = 'USD'", "in_currency_of_payment", "currency_mismatch"),
            ("category = ''", "category_given", "blank"),
            ("posted_at = '1999-12-31'", "date_in_reason", "out_of_range"),
        ],
    )
    def test_refuses(
        self, payment: Payment, seller: User, model: str, record: Any, assignment: str, constraint: str, code: str
    ) -> None:
        operation = record(payment, seller, "5")
        with refused(f"payments_{model}_{constraint}", code):
            sql(f"UPDATE payments_{model} SET {assignment} WHERE id = %s", operation.pk)

    def test_does_not_move(self, payment: Payment, policy: Policy, seller: User, model: str, record: Any) -> None:
        operation, other = record(payment, seller, "5"), factory.plan(policy, seller)
        with refused(f"payments_{model}_stays_with_its_payment", "operation_stays", 409):
            sql(f"UPDATE payments_{model} SET payment_id = %s WHERE id = %s", other.pk, operation.pk)

    def test_needs_its_payment(self, payment: Payment, seller: User, model: str, record: Any) -> None:
        operation = record(payment, seller, "5")
        operation.pk, operation.payment_id = uuid4(), uuid4()
        with refused(f"payments_{model}_in_currency_of_payment", "currency_mismatch"):
            operation.save(force_insert=True)

    def test_every_path_counts(self, payment: Payment, seller: User, model: str, record: Any) -> None:
        """Inserted, changed, hidden, shown and deleted by hand: the totals are the rows'."""
        operation = record(payment, seller, "5")
        total = f"{model}s_total"
        for statement, after in (
            ("UPDATE payments_{0} SET amount = 7.50 WHERE id = %s", "7.50"),
            ("UPDATE payments_{0} SET deleted_at = now() WHERE id = %s", "0"),
            ("UPDATE payments_{0} SET amount = 9 WHERE id = %s", "0"),
            ("UPDATE payments_{0} SET deleted_at = NULL WHERE id = %s", "9"),
            ("DELETE FROM payments_{0} WHERE id = %s", "0"),
        ):
            sql(statement.format(model), operation.pk)
            assert getattr(fresh(payment), total) == Decimal(after)
        assert not queries.differing_payments().exists()


class TestPlannedTotal:
    def total(self, deal: Deal) -> Decimal:
        return Deal.objects.get(pk=deal.pk).planned_total

    def test_plan_change_cancel_delete(self, deal: Deal, policy: Policy, admin: User) -> None:
        first, second, third = (factory.plan(policy, admin, amount) for amount in ("100", "20.50", "3"))
        assert self.total(deal) == Decimal("123.50")
        payments.change_payment(**ids(first), values={"planned_amount": Decimal(200)}, actor=admin)
        assert self.total(deal) == Decimal("223.50")
        payments.change_payment(**ids(second), values={"status": "cancelled"}, actor=admin)
        assert self.total(deal) == Decimal(203)
        payments.change_payment(**ids(second), values={"planned_amount": Decimal(999)}, actor=admin)
        assert self.total(deal) == Decimal(203)
        payments.delete_payment(**ids(third), actor=admin)
        assert self.total(deal) == Decimal(200)
        receive(first, admin, "50")
        assert self.total(deal) == Decimal(200)

    def test_moves_with_the_policy(self, deal: Deal, policy: Policy, seller: User) -> None:
        for amount in ("100", "20"):
            factory.plan(policy, seller, amount)
        target = factory.make_deal(seller)
        policies.change_policy(policy_id=policy.pk, values={"deal_id": target.pk}, actor=seller)
        assert (self.total(deal), self.total(target)) == (0, 120)
        assert set(Payment.objects.values_list("deal_id", flat=True)) == {target.pk}
        assert not queries.differing_deals().exists()

    @pytest.mark.parametrize("root", ["deal", "policy"])
    def test_deleted_and_restored_in_a_batch(self, deal: Deal, policy: Policy, seller: User, root: str) -> None:
        kept, gone = factory.plan(policy, seller, "100"), factory.plan(policy, seller, "20")
        payments.delete_payment(**ids(gone), actor=seller)
        top = {"deal": Deal, "policy": Policy}[root].objects.get(pk=deal.pk if root == "deal" else policy.pk)
        batch = softdelete.delete(top)
        assert kept.pk in {row.pk for row in batch.rows}
        assert (self.total(deal), fresh(kept).is_deleted) == (0, True)
        top.refresh_from_db()
        softdelete.restore(top)
        assert (self.total(deal), fresh(kept).is_deleted, fresh(gone).is_deleted) == (100, False, True)
        assert not queries.differing_deals().exists()

    def test_written_only_when_it_differs(self, deal: Deal, payment: Payment, seller: User) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT xmin::text, ctid::text FROM crm_deal WHERE id = %s", [deal.pk])
            before = cursor.fetchone()
            payments.change_payment(**ids(payment), values={"comment": "x"}, actor=seller)
            receive(payment, seller, "5")
            cursor.execute("SELECT xmin::text, ctid::text FROM crm_deal WHERE id = %s", [deal.pk])
            assert cursor.fetchone() == before


class TestBlocksDeletion:
    @pytest.mark.parametrize(("amount", "reason"), [("1000", "paid"), ("1", "has_transactions")])
    def test_money_keeps_what_it_hangs_from(
        self, deal: Deal, policy: Policy, payment: Payment, seller: User, amount: str, reason: str
    ) -> None:
        receive(payment, seller, amount)
        for root in (deal, policy):
            with pytest.raises(softdelete.DeletionBlocked) as blocked:
                softdelete.delete(root)
            (blocker,) = blocked.value.extra["blockers"]
            assert (blocker["type"], blocker["id"], blocker["reason"]) == ("payment", str(payment.pk), reason)
            assert blocker["label"] == "#1 1000.00 RUB"

    def test_removed_operations_do_not(self, deal: Deal, payment: Payment, seller: User) -> None:
        income = receive(payment, seller, "1")
        operations.remove_operation("income", **ids(payment), operation_id=income.pk, actor=seller)
        softdelete.delete(deal)
        assert fresh(payment).is_deleted


class TestRecount:
    def run(self) -> dict[str, int]:
        JobRun.objects.all().delete()
        jobs.recount()
        outcome: dict[str, int] = JobRun.objects.get(job="apps.payments.jobs.recount").outcome
        return outcome

    def test_nothing_differs(self, payment: Payment, seller: User) -> None:
        receive(payment, seller, "5")
        spend(payment, seller, "7")
        assert self.run() == {"differences": 0, "payments": 0, "deals": 0}

    @pytest.mark.parametrize(
        ("table", "assignment", "payments_", "deals"),
        [
            ("payments_payment", "incomes_total = 6, net_total = 6", 1, 0),
            ("payments_payment", "expenses_total = 6, net_total = -1", 1, 0),
            ("payments_payment", "status = 'paid'", 1, 0),
            ("payments_income", "amount = 6", 1, 0),
            ("payments_payment", "planned_amount = 6", 0, 1),
            ("crm_deal", "planned_total = 5", 0, 1),
        ],
    )
    def test_finds_and_says_what_differs(
        self,
        payment: Payment,
        seller: User,
        caplog: pytest.LogCaptureFixture,
        table: str,
        assignment: str,
        payments_: int,
        deals: int,
    ) -> None:
        receive(payment, seller, "5")
        sql("SET CONSTRAINTS ALL IMMEDIATE")
        sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        sql(f"UPDATE {table} SET {assignment}")
        assert self.run() == {"differences": payments_ + deals, "payments": payments_, "deals": deals}
        assert [record.levelname for record in caplog.records if record.name == jobs.__name__] == ["ERROR"]
        assert queries.differing_payments().count() == payments_, "it mends nothing"


def test_models_and_tables_agree(django_assert_num_queries: Callable[..., Any], payment: Payment, seller: User) -> None:
    """What the services say after a write is what the triggers have made of the row."""
    for step in (
        lambda: receive(payment, seller, "400").payment,
        lambda: receive(payment, seller, "700").payment,
        lambda: spend(payment, seller, "2000").payment,
        lambda: payments.change_payment(**ids(payment), values={"planned_amount": Decimal(1200)}, actor=seller),
    ):
        said, kept = step(), fresh(payment)
        for name in ("status", "incomes_total", "expenses_total", "net_total", "actual_date", "version", "updated_at"):
            assert getattr(said, name) == getattr(kept, name), name
    assert (Income.objects.count(), Expense.objects.count(), TODAY) == (2, 1, kept.actual_date)
