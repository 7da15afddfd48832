"""Plain reads of payments: the list of a policy, the operations below it, histories, and what a recount finds."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import (
    Case,
    Count,
    DecimalField,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.functions import Coalesce

from apps.auth.access import Caller
from apps.core.models import Event
from apps.core.reads import Reading
from apps.crm.models import Deal
from apps.crm.queries import Sight
from apps.payments.models import Expense, Income, Operation, Payment
from apps.payments.rules import CANCELLED, PAID, PARTIALLY_PAID, SCHEDULED, Kind

MODELS: dict[Kind, type[Income] | type[Expense]] = {"income": Income, "expense": Expense}
OPERATION_COLUMNS = (
    "id", "payment_id", "amount", "currency", "category", "posted_at", "note", "created_by_id", "updated_by_id",
    "created_at", "updated_at",
)  # fmt: skip
Money = DecimalField(max_digits=30, decimal_places=2)


def payments(caller: Caller, *, deal_id: UUID, policy_id: UUID, filters: Mapping[str, Any]) -> QuerySet[Payment]:
    """Living payments of the policy while it is in that deal, seen by the caller; `status` (any of)."""
    rows = Payment.objects.living().visible_to(caller).filter(policy_id=policy_id, deal_id=deal_id)
    if statuses := filters.get("status"):
        rows = rows.filter(status__in=statuses)
    return rows


def with_total(rows: QuerySet[Payment]) -> QuerySet[Payment]:
    """Each row with `total`, the number of all rows before any limit; in the same query."""
    return rows.annotate(total=Window(Count("*")))


def payments_with_total(
    caller: Caller, *, deal_id: UUID, policy_id: UUID, filters: Mapping[str, Any]
) -> QuerySet[Payment] | Reading:
    """`payments`, each with `total`; a reading unless some statuses are asked for."""
    if filters.get("status"):
        return with_total(payments(caller, deal_id=deal_id, policy_id=policy_id, filters=filters))
    sight = Sight.of(caller)

    def build(values: Mapping[str, Any]) -> QuerySet[Payment]:
        seen = sight.as_caller(values)
        return with_total(payments(seen, deal_id=values["deal"], policy_id=values["policy"], filters={}))

    values = {**sight.values, "deal": deal_id, "policy": policy_id}
    return Reading(Payment, ("of policy", *sight.shape), values, build)


# The most used read of the app: written by hand it costs a fraction of what the ORM takes to build it.
_LIVING_OPERATIONS: dict[Kind, str] = {
    kind: (
        f"SELECT '{kind}', {', '.join(OPERATION_COLUMNS)} FROM {model._meta.db_table}"  # noqa: S608 - the model's own names
        " WHERE payment_id = ANY(%(ids)s) AND deleted_at IS NULL"
    )
    for kind, model in MODELS.items()
}


def operations(kinds: Iterable[Kind], payment_ids: Iterable[UUID]) -> list[tuple[Any, ...]]:
    """(kind, *OPERATION_COLUMNS) of the living operations of the payments, the oldest money first; one query."""
    ids, parts = list(payment_ids), [_LIVING_OPERATIONS[kind] for kind in kinds]
    if not parts or not ids:
        return []
    with connection.cursor() as cursor:
        cursor.execute(f"{' UNION ALL '.join(parts)} ORDER BY posted_at, created_at, id", {"ids": ids})
        return list(cursor.fetchall())


def operations_of(payment_id: UUID, kind: Kind) -> QuerySet[Operation]:
    """Living operations of one kind."""
    return MODELS[kind].objects.filter(payment_id=payment_id, deleted_at=None)


def payment_history(payment_id: UUID) -> QuerySet[Event]:
    """What happened to the payment and to its operations, the deleted ones too."""
    ids = {
        kind: list(model.objects.filter(payment_id=payment_id).values_list("pk", flat=True))
        for kind, model in MODELS.items()
    }
    mine = Q(aggregate="payment", aggregate_id=payment_id)
    for kind, found in ids.items():
        if found:
            mine |= Q(aggregate=kind, aggregate_id__in=found)
    return Event.objects.filter(mine)


def differing_payments() -> QuerySet[Payment]:
    """Payments whose kept totals or status are not those of their rows: there must be none."""
    incomes, expenses = (_sum_of(model) for model in (Income, Expense))
    return Payment.objects.annotate(
        incomes_fresh=incomes,
        expenses_fresh=expenses,
        status_fresh=Case(
            When(status=CANCELLED, then=Value(CANCELLED)),
            When(incomes_fresh__lte=0, then=Value(SCHEDULED)),
            When(incomes_fresh__gte=F("planned_amount"), then=Value(PAID)),
            default=Value(PARTIALLY_PAID),
        ),
    ).exclude(
        incomes_total=F("incomes_fresh"),
        expenses_total=F("expenses_fresh"),
        net_total=F("incomes_fresh") - F("expenses_fresh"),
        status=F("status_fresh"),
    )


def differing_deals() -> QuerySet[Deal]:
    """Deals whose planned total is not the sum of their living, not cancelled payments: there must be none."""
    counted = Payment.objects.filter(deal_id=OuterRef("pk"), deleted_at=None).exclude(status=CANCELLED)
    planned = counted.order_by().values("deal_id").annotate(fresh=Sum("planned_amount")).values("fresh")
    fresh = Coalesce(Subquery(planned), Value(0), output_field=Money)
    return Deal.objects.annotate(planned_fresh=fresh).exclude(planned_total=F("planned_fresh"))


def _sum_of(model: type[Income] | type[Expense]) -> Coalesce:
    living = model.objects.filter(payment_id=OuterRef("pk"), deleted_at=None).order_by()
    return Coalesce(
        Subquery(living.values("payment_id").annotate(s=Sum("amount")).values("s")), Value(0), output_field=Money
    )
