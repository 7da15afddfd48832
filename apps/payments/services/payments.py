"""Payments: planned, changed, cancelled, deleted. Locks are taken deal, policy, payment, operation, in this order."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller, author_of
from apps.auth.models import User
from apps.core import changes, softdelete
from apps.core.errors import DomainError, FieldError, Invalid, NotFound, invalid
from apps.crm import access
from apps.crm.models import Policy
from apps.crm.services.clients import OwnerNotFound
from apps.crm.services.deals import DealNotFound, locked_deal
from apps.crm.services.policies import PolicyNotFound
from apps.payments import events, rules
from apps.payments.models import Income, Payment, PaymentQuerySet
from apps.payments.rules import Figures
from apps.payments.services import told

FIELDS = ("planned_date", "planned_amount", "comment", "actual_date")
SHOWN = (*FIELDS, "policy_id", "sequence", "status", "currency", "recorded_by_id")


class PaymentNotFound(NotFound):
    code = "payment_not_found"
    message = _("There is no such payment.")


class PaymentHasTransactions(DomainError):
    """Money has moved for it: it is neither deleted nor turned into another currency."""

    code = "payment_has_transactions"
    message = _("The payment is paid or has incomes or expenses.")


class ActualDateBeforePlannedDate(Invalid):
    code = "actual_date_before_planned_date"
    message = _("The day of payment is before the planned day.")

    def __init__(self) -> None:
        super().__init__(errors=[FieldError("actual_date", self.code, self.message)])


class ActualDateInFuture(Invalid):
    code = "actual_date_in_future"
    message = _("The day of payment has not come yet.")

    def __init__(self) -> None:
        super().__init__(errors=[FieldError("actual_date", self.code, self.message)])


def visible_policy(*, deal_id: UUID, policy_id: UUID, actor: Caller) -> None:
    """:raises PolicyNotFound: not in that deal, deleted, the deal deleted, or not visible"""
    rows = Policy.objects.living().visible_to(actor).filter(pk=policy_id, deal_id=deal_id, deal__deleted_at=None)
    if not rows.exists():
        raise PolicyNotFound


@transaction.atomic
def create_payment(*, deal_id: UUID, policy_id: UUID, values: Mapping[str, Any], actor: Caller) -> Payment:
    """A new instalment from `planned_amount, currency?, planned_date?, comment?, actual_date?`.

    Its number is the next of the policy, deleted ones counted. `created_by_id` and `recorded_by_id` count from an admin
    or a service token.

    :raises PolicyNotFound: not in that deal, or not visible
    :raises ActualDateInFuture, ActualDateBeforePlannedDate: the day of payment cannot be
    """
    deal = _lock_deal(deal_id, actor)
    rows = Policy.objects.living().select_for_update(no_key=True, of=("self",))
    policy = rows.filter(pk=policy_id, deal_id=deal.pk).first()
    if policy is None:
        raise PolicyNotFound
    access.require_work(actor, "payments.edit", deal.pk)
    actual_date = values.get("actual_date")
    _check_actual_date(actual_date, values.get("planned_date"))
    author = author_for(actor, values.get("created_by_id"))
    recorder = author_for(actor, values.get("recorded_by_id")) if actual_date or values.get("recorded_by_id") else None
    last = Payment.objects.filter(policy_id=policy.pk).aggregate(last=Max("sequence"))["last"] or 0
    payment = Payment(
        policy=policy,
        deal=deal,
        sequence=last + 1,
        currency=_allowed_currency(values.get("currency")),
        created_by=author,
        updated_by=author,
        recorded_by=recorder if actual_date or actor.is_admin else None,
        **{name: values[name] for name in FIELDS if name in values},
    )
    payment.updated_at = payment.created_at
    payment.save(force_insert=True)
    given: changes.Changes = {name: (None, getattr(payment, name)) for name in SHOWN}
    told.tell_payment(
        events.PAYMENT_CREATED, payment, actor, {name: pair for name, pair in given.items() if pair[1] is not None}
    )
    return payment


@transaction.atomic
def change_payment(
    *,
    deal_id: UUID,
    policy_id: UUID,
    payment_id: UUID,
    values: Mapping[str, Any],
    actor: Caller,
    expected_version: int | None = None,
) -> Payment:
    """Changes what is given of `planned_date, planned_amount, currency, comment, actual_date, status, recorded_by_id`.

    Of the words of `status` only `cancelled` has an effect, which is final.

    :raises PolicyNotFound, PaymentNotFound: absent or not visible
    :raises Forbidden: no working place in the deal; cancelling by anyone but an admin
    :raises PaymentHasTransactions: another currency while operations live
    :raises ActualDateInFuture, ActualDateBeforePlannedDate: the day of payment cannot be
    """
    cancels = values.get("status") == rules.CANCELLED
    if cancels or "planned_amount" in values:  # the deal's planned total will change: its row comes first
        _lock_deal(deal_id, actor)
    payment = locked_payment(deal_id=deal_id, policy_id=policy_id, payment_id=payment_id, actor=actor)
    access.require_work(actor, "payments.edit", deal_id)
    if cancels:
        access.require_work(actor, "payments.cancel", deal_id)
    changes.expect_version(payment, expected_version)
    changed = changes.differing(payment, _wanted(payment, values, actor))
    if not changed:
        return payment
    if "actual_date" in values and changed.keys() & {"actual_date", "planned_date"}:
        _check_actual_date(values["actual_date"], values.get("planned_date", payment.planned_date))
    _write(payment, changed, actor)
    return payment


@transaction.atomic
def delete_payment(
    *, deal_id: UUID, policy_id: UUID, payment_id: UUID, actor: Caller, expected_version: int | None = None
) -> None:
    """Hides a payment for which no money has moved.

    :raises PolicyNotFound, PaymentNotFound: absent or not visible
    :raises PaymentHasTransactions: it is paid or has operations
    """
    _lock_deal(deal_id, actor)
    payment = locked_payment(deal_id=deal_id, policy_id=policy_id, payment_id=payment_id, actor=actor)
    access.require_work(actor, "payments.delete", deal_id)
    changes.expect_version(payment, expected_version)
    if payment.blocking_deletion(payment):
        raise PaymentHasTransactions
    softdelete.delete(payment)
    told.tell_payment_deleted(payment, actor)


def locked_payment(*, deal_id: UUID, policy_id: UUID, payment_id: UUID, actor: Caller) -> Payment:
    """The payment locked for a write.

    :raises PolicyNotFound: the policy is not in that deal, or not visible
    :raises PaymentNotFound: the payment is absent or deleted
    """
    _hold_policy(policy_id)
    rows = Payment.objects.select_for_update(no_key=True, of=("self",))
    return _found(rows, deal_id, policy_id, payment_id, actor)


def visible_payment(*, deal_id: UUID, policy_id: UUID, payment_id: UUID, actor: Caller) -> Payment:
    """As `locked_payment`, for reading."""
    return _found(Payment.objects.all(), deal_id, policy_id, payment_id, actor)


def author_for(actor: Caller, user_id: UUID | None) -> User | None:
    """Who stands as the author: the caller; an admin or a service token may name another.

    :raises OwnerNotFound: the named user does not exist
    """
    if user_id is None or not actor.is_admin:
        return actor.author
    named = User.objects.filter(pk=user_id).first()
    if named is None:
        raise OwnerNotFound
    return author_of(actor, named)


def figures(payment: Payment) -> Figures:
    return Figures(payment.status, payment.planned_amount, payment.incomes_total, payment.expenses_total)


def settle(payment: Payment, after: Figures, actor: Caller, changed: changes.Changes | None = None) -> None:
    """Writes the locked payment's changes, raises its version and tells; `after` is what the triggers make of it.

    On the way to paid an empty day of payment becomes the day of the latest income.
    """
    before, written = figures(payment), dict(changed or {})
    if after.status == rules.PAID != before.status and payment.actual_date is None and "actual_date" not in written:
        living = Income.objects.filter(payment_id=payment.pk, deleted_at=None)
        written["actual_date"] = (None, living.aggregate(latest=Max("posted_at"))["latest"])
    also: dict[str, Any] = {"updated_by_id": actor.author.pk if actor.author else None}
    if "actual_date" in written and "recorded_by_id" not in written:
        also["recorded_by_id"] = also["updated_by_id"] if written["actual_date"][1] else None
    changes.apply(payment, written, also=also)
    for name in ("incomes_total", "expenses_total", "net_total", "status"):
        pair = (getattr(before, name), getattr(after, name))
        if pair[0] != pair[1]:
            written[name] = pair
        setattr(payment, name, pair[1])
    told.tell_payment(events.PAYMENT_UPDATED, payment, actor, written)


def _hold_policy(policy_id: UUID) -> None:
    """Keeps the policy from moving to another deal, and forbids nothing else.

    The second write of a payment in one transaction makes PostgreSQL check its key to the policy once more: without
    this the policy's row would be locked after the payment's, against the order, and meet a move coming the other way.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM crm_policy WHERE id = %s FOR KEY SHARE", [policy_id])


def _found(rows: PaymentQuerySet, deal_id: UUID, policy_id: UUID, payment_id: UUID, actor: Caller) -> Payment:
    payment = rows.living().visible_to(actor).filter(pk=payment_id, policy_id=policy_id, deal_id=deal_id).first()
    if payment is None:
        visible_policy(deal_id=deal_id, policy_id=policy_id, actor=actor)
        raise PaymentNotFound
    return payment


def _write(payment: Payment, changed: changes.Changes, actor: Caller) -> None:
    after = figures(payment).planned(changed.get("planned_amount", (None, payment.planned_amount))[1])
    if "status" in changed:
        after = Figures(rules.CANCELLED, after.planned_amount, after.incomes_total, after.expenses_total)
    settle(payment, after, actor, changed)


def _wanted(payment: Payment, values: Mapping[str, Any], actor: Caller) -> dict[str, Any]:
    """What the row should hold after the change, of what is given."""
    wanted = {name: values[name] for name in FIELDS if name in values}
    if values.get("status") == rules.CANCELLED:
        wanted["status"] = rules.CANCELLED
    if "currency" in values and rules.currency_code(values["currency"]) != payment.currency:
        if payment.blocking_deletion(payment):
            raise PaymentHasTransactions
        wanted["currency"] = _allowed_currency(values["currency"])
    if "recorded_by_id" in values and actor.is_admin:
        named = values["recorded_by_id"]
        recorder = author_for(actor, named) if named else None
        wanted["recorded_by_id"] = recorder.pk if recorder else None
    return wanted


def _lock_deal(deal_id: UUID, actor: Caller) -> Any:
    """The deal's row: whoever changes its planned total queues here first."""
    try:
        return locked_deal(deal_id, actor)
    except DealNotFound:
        raise PolicyNotFound from None


def _allowed_currency(text: str | None) -> str:
    allowed = [rules.currency_code(each) for each in settings.PAYMENTS_ALLOWED_CURRENCIES]
    code = allowed[0] if text is None else rules.currency_code(text)
    if code not in allowed:
        raise invalid("currency", "currency_not_allowed", _("Payments are not made in this currency."))
    return code


def _check_actual_date(actual_date: date | None, planned_date: date | None) -> None:
    """Early and future days are refused where a person gives the day; money that comes early is no fault."""
    if actual_date is None:
        return
    if actual_date > timezone.localdate():
        raise ActualDateInFuture
    if planned_date is not None and actual_date < planned_date:
        raise ActualDateBeforePlannedDate
