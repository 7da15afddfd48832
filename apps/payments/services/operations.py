"""Incomes and expenses: recorded, corrected, removed. One implementation: the two differ in the total they add to."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller
from apps.core import changes
from apps.core.errors import DomainError, FieldError, Forbidden, Invalid, NotFound
from apps.crm import access
from apps.payments import rules
from apps.payments.models import Expense, Income, Operation, Payment
from apps.payments.queries import MODELS
from apps.payments.rules import Kind
from apps.payments.services import told
from apps.payments.services.payments import author_for, figures, locked_payment, settle

FIELDS = ("amount", "category", "posted_at", "note")


class IncomeNotFound(NotFound):
    code = "income_not_found"
    message = _("There is no such income.")


class ExpenseNotFound(NotFound):
    code = "expense_not_found"
    message = _("There is no such expense.")


class CurrencyMismatch(Invalid):
    code = "currency_mismatch"
    message = _("The currency is not that of the payment.")

    def __init__(self) -> None:
        super().__init__(errors=[FieldError("currency", self.code, self.message)])


class PostedInFuture(Invalid):
    code = "posted_at_in_future"
    message = _("The day of the money has not come yet.")

    def __init__(self) -> None:
        super().__init__(errors=[FieldError("posted_at", self.code, self.message)])


class PaymentCancelled(DomainError):
    code = "payment_cancelled"
    message = _("The payment is cancelled: it takes no incomes or expenses.")


NOT_FOUND: dict[Kind, type[NotFound]] = {"income": IncomeNotFound, "expense": ExpenseNotFound}


def record_income(
    *,
    deal_id: UUID,
    policy_id: UUID,
    payment_id: UUID,
    values: Mapping[str, Any],
    actor: Caller,
    expected_version: int | None = None,
) -> Income:
    """Records money that came in for the payment, from `amount, category, posted_at, currency?, note?`.

    `created_by_id` counts from an admin or a service token. The payment's version grows by one.

    :raises PolicyNotFound, PaymentNotFound: absent or not visible
    :raises PaymentCancelled: it takes no more money
    :raises CurrencyMismatch: another currency than the payment's
    :raises PostedInFuture: the money is dated after today
    """
    ids = {"deal_id": deal_id, "policy_id": policy_id, "payment_id": payment_id}
    recorded = _record("income", ids, values, actor, expected_version)
    assert isinstance(recorded, Income)  # noqa: S101 - narrows the type
    return recorded


def record_expense(
    *,
    deal_id: UUID,
    policy_id: UUID,
    payment_id: UUID,
    values: Mapping[str, Any],
    actor: Caller,
    expected_version: int | None = None,
) -> Expense:
    """As `record_income`, for money spent on the payment; expenses never change its status."""
    ids = {"deal_id": deal_id, "policy_id": policy_id, "payment_id": payment_id}
    recorded = _record("expense", ids, values, actor, expected_version)
    assert isinstance(recorded, Expense)  # noqa: S101 - narrows the type
    return recorded


@transaction.atomic
def correct_operation(
    kind: Kind,
    *,
    deal_id: UUID,
    policy_id: UUID,
    payment_id: UUID,
    operation_id: UUID,
    values: Mapping[str, Any],
    actor: Caller,
    expected_version: int | None = None,
) -> Operation:
    """Changes what is given of `amount, currency, category, posted_at, note`; before and after stay in the event.

    One's own entry, or anyone's for an admin. Possible on a cancelled payment too: a wrong fact must be mendable.

    :raises IncomeNotFound, ExpenseNotFound: no such living operation of the payment
    :raises Forbidden: somebody else's entry
    :raises CurrencyMismatch, PostedInFuture: as when recording
    """
    ids = {"deal_id": deal_id, "policy_id": policy_id, "payment_id": payment_id}
    payment, operation = _locked(kind, ids, operation_id, actor, expected_version)
    _check(payment, values)
    changed = changes.differing(operation, {name: values[name] for name in FIELDS if name in values})
    if not changed:
        return operation
    previous, was = told.operation_block(operation), operation.amount
    author = author_for(actor, values.get("updated_by_id"))
    changes.apply(operation, changed, also={"updated_by_id": author.pk if author else None})
    told.tell_operation("updated", kind, operation, payment, actor, changed, previous)
    settle(payment, figures(payment).plus(kind, operation.amount - was), actor)
    return operation


@transaction.atomic
def remove_operation(
    kind: Kind,
    *,
    deal_id: UUID,
    policy_id: UUID,
    payment_id: UUID,
    operation_id: UUID,
    actor: Caller,
    deleted_by_id: UUID | None = None,
    expected_version: int | None = None,
) -> Payment:
    """Hides an operation, which no longer counts; returns its payment. Who may: as for `correct_operation`.

    :raises IncomeNotFound, ExpenseNotFound: no such living operation of the payment
    :raises Forbidden: somebody else's entry
    """
    ids = {"deal_id": deal_id, "policy_id": policy_id, "payment_id": payment_id}
    payment, operation = _locked(kind, ids, operation_id, actor, expected_version)
    author = author_for(actor, deleted_by_id)
    gone: dict[str, Any] = {"deleted_at": timezone.now(), "deleted_by_id": author.pk if author else None}
    changes.apply(operation, {}, also=gone)
    told.tell_operation("deleted", kind, operation, payment, actor, {"is_deleted": (False, True)})
    settle(payment, figures(payment).plus(kind, -operation.amount), actor)
    return payment


@transaction.atomic
def _record(
    kind: Kind, ids: Mapping[str, UUID], values: Mapping[str, Any], actor: Caller, expected_version: int | None
) -> Operation:
    payment = locked_payment(**ids, actor=actor)
    access.require_work(actor, "payments.record", payment.deal_id)
    changes.expect_version(payment, expected_version)
    if payment.status == rules.CANCELLED:
        raise PaymentCancelled
    _check(payment, values)
    author = author_for(actor, values.get("created_by_id"))
    operation = MODELS[kind](
        payment=payment,
        currency=payment.currency,
        created_by=author,
        updated_by=author,
        **{name: values[name] for name in FIELDS if name in values},
    )
    operation.updated_at = operation.created_at
    operation.save(force_insert=True)
    given: changes.Changes = {
        name: (None, getattr(operation, name)) for name in FIELDS if getattr(operation, name) is not None
    }
    told.tell_operation("created", kind, operation, payment, actor, given)
    settle(payment, figures(payment).plus(kind, Decimal(operation.amount)), actor)
    return operation


def _locked(
    kind: Kind, ids: Mapping[str, UUID], operation_id: UUID, actor: Caller, expected_version: int | None
) -> tuple[Payment, Operation]:
    """The payment and its operation, locked in this order, after every question about the caller."""
    payment = locked_payment(**ids, actor=actor)
    rows = MODELS[kind].objects.select_for_update(no_key=True, of=("self",))
    operation = rows.filter(pk=operation_id, payment_id=payment.pk, deleted_at=None).first()
    if operation is None:
        raise NOT_FOUND[kind]
    access.require_work(actor, "payments.correct", payment.deal_id)
    if not (actor.is_admin or operation.created_by_id == actor.pk):
        raise Forbidden
    changes.expect_version(payment, expected_version)
    operation.payment = payment
    return payment, operation


def _check(payment: Payment, values: Mapping[str, Any]) -> None:
    currency: str | None = values.get("currency")
    if currency is not None and rules.currency_code(currency) != payment.currency:
        raise CurrencyMismatch
    posted_at: date | None = values.get("posted_at")
    if posted_at is not None and posted_at > timezone.localdate():
        raise PostedInFuture
