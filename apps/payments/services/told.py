"""What payments tell: the contract's shapes, one place for the services that emit and the API that answers."""

from typing import Any
from uuid import UUID

from apps.core.changes import Changes
from apps.core.events import Actor, emit
from apps.payments import events, queries
from apps.payments.models import Operation, Payment
from apps.payments.rules import Kind, money

EVENTS = {
    ("income", "created"): events.INCOME_CREATED,
    ("income", "updated"): events.INCOME_UPDATED,
    ("income", "deleted"): events.INCOME_DELETED,
    ("expense", "created"): events.EXPENSE_CREATED,
    ("expense", "updated"): events.EXPENSE_UPDATED,
    ("expense", "deleted"): events.EXPENSE_DELETED,
}


def payment_read(payment: Payment, *, nested: bool = True) -> dict[str, Any]:
    """PaymentRead; `nested` reads the living operations, else the lists stay empty."""
    lists: dict[str, list[dict[str, Any]]] = {"incomes": [], "expenses": []}
    if nested:
        for kind, *row in queries.operations(("income", "expense"), [payment.pk]):
            read = dict(zip(queries.OPERATION_COLUMNS, row, strict=True))
            lists[f"{kind}s"].append({**read, "amount": money(read["amount"]), "is_deleted": False})
    return {
        "id": payment.pk,
        "deal_id": payment.deal_id,
        "policy_id": payment.policy_id,
        "sequence": payment.sequence,
        "status": payment.status,
        "planned_date": payment.planned_date,
        "planned_amount": money(payment.planned_amount),
        "currency": payment.currency,
        "comment": payment.comment,
        "actual_date": payment.actual_date,
        "recorded_by_id": payment.recorded_by_id,
        "created_by_id": payment.created_by_id,
        "updated_by_id": payment.updated_by_id,
        "incomes_total": money(payment.incomes_total),
        "expenses_total": money(payment.expenses_total),
        "net_total": money(payment.net_total),
        "is_deleted": payment.is_deleted,
        "version": payment.version,
        "created_at": payment.created_at,
        "updated_at": payment.updated_at,
        **lists,
    }


def operation_read(operation: Operation) -> dict[str, Any]:
    """The API's operation."""
    return {
        "id": operation.pk,
        "payment_id": operation.payment_id,
        "amount": money(operation.amount),
        "currency": operation.currency,
        "category": operation.category,
        "posted_at": operation.posted_at,
        "note": operation.note,
        "created_by_id": operation.created_by_id,
        "updated_by_id": operation.updated_by_id,
        "is_deleted": operation.is_deleted,
        "created_at": operation.created_at,
        "updated_at": operation.updated_at,
    }


def operation_block(operation: Operation) -> dict[str, Any]:
    """The operation as events carry it, without its id."""
    read = operation_read(operation)
    return {name: value for name, value in read.items() if name not in ("id", "is_deleted")}


def tell_payment(name: str, payment: Payment, actor: Actor | None, changed: Changes) -> None:
    """Emits `deal.payment.created` or `.updated` with the whole payment; its version has been raised."""
    payload = {"deal_id": payment.deal_id, "policy_id": payment.policy_id, "payment": payment_read(payment)}
    emit(name, payment, actor=actor, payload=payload, changes=changed, deal_id=payment.deal_id)


def tell_payment_deleted(payment: Payment, actor: Actor | None) -> None:
    payload = {
        "deal_id": payment.deal_id,
        "policy_id": payment.policy_id,
        "payment_id": payment.pk,
        "deleted_at": payment.deleted_at,
    }
    changed: Changes = {"is_deleted": (False, True)}
    emit(events.PAYMENT_DELETED, payment, actor=actor, payload=payload, changes=changed, deal_id=payment.deal_id)


def tell_operation(
    what: str,
    kind: Kind,
    operation: Operation,
    payment: Payment,
    actor: Actor,
    changed: Changes,
    previous: dict[str, Any] | None = None,
) -> None:
    """Emits the operation's own event: `what` is created, updated (with `previous`) or deleted."""
    block: dict[str, Any] = {f"{kind}_id": operation.pk}
    if what == "deleted":
        block |= {"deleted_at": operation.deleted_at, "deleted_by_id": operation.deleted_by_id}
    else:
        block |= operation_block(operation)
    payload: dict[str, UUID | dict[str, Any]] = {
        "deal_id": payment.deal_id,
        "policy_id": payment.policy_id,
        "payment_id": payment.pk,
        kind: block,
    }
    if previous is not None:
        payload["previous"] = previous
    emit(EVENTS[kind, what], operation, actor=actor, payload=payload, changes=changed, deal_id=payment.deal_id)
