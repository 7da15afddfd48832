"""What payments and operations look like: forms of requests, documented answers, the plain reads of both faces."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.request import Request

from apps.core.api.faces import is_camel
from apps.core.api.fields import DayField, MoneyField
from apps.core.api.pages import ListQuery, Shape
from apps.payments import queries, rules
from apps.payments.models import Payment
from apps.payments.rules import Kind
from apps.payments.services import told

COLUMNS = (
    "id", "deal_id", "policy_id", "sequence", "status", "planned_date", "planned_amount", "currency", "comment",
    "actual_date", "recorded_by_id", "created_by_id", "updated_by_id", "incomes_total", "expenses_total", "net_total",
    "version", "created_at", "updated_at",
)  # fmt: skip
STATUS, PLANNED_DATE = COLUMNS.index("status"), COLUMNS.index("planned_date")
LIVING = Shape(COLUMNS, {"is_deleted": False})
OPERATION = Shape(queries.OPERATION_COLUMNS, {"is_deleted": False})
KIND_OF: dict[str, Kind] = {"incomes": "income", "expenses": "expense"}


class CurrencyField(serializers.CharField):
    """A code in any case and spacing."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_length=1, max_length=12, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        return rules.currency_code(super().to_internal_value(data))


class StatusWordField(serializers.ChoiceField):
    """A word that a client may send back; only `cancelled` has an effect."""

    default_error_messages = {"invalid_choice": _("There is no such payment status.")}


class PaymentIn(serializers.Serializer[Any]):
    planned_amount = MoneyField()
    currency = CurrencyField(required=False, help_text="The first allowed one unless given.")
    planned_date = DayField(required=False, allow_null=True)
    comment = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=500)
    actual_date = DayField(required=False, allow_null=True, help_text="Not in the future, not before planned_date.")
    recorded_by_id = serializers.UUIDField(required=False, allow_null=True, help_text="Counts from an admin only.")
    created_by_id = serializers.UUIDField(required=False, allow_null=True, help_text="Counts from an admin only.")


class PaymentPatch(serializers.Serializer[Any]):
    planned_amount = MoneyField(required=False)
    currency = CurrencyField(required=False)
    planned_date = DayField(required=False, allow_null=True)
    comment = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=500)
    actual_date = DayField(required=False, allow_null=True, help_text="Not in the future, not before planned_date.")
    status = StatusWordField(
        choices=rules.WRITABLE_STATUSES,
        required=False,
        help_text="`cancelled` (admins), which is final; others do nothing.",
    )
    recorded_by_id = serializers.UUIDField(required=False, allow_null=True, help_text="Counts from an admin only.")


class OperationIn(serializers.Serializer[Any]):
    amount = MoneyField()
    currency = CurrencyField(required=False, help_text="The payment's; another is refused.")
    category = serializers.CharField(max_length=64)
    posted_at = DayField(help_text="The day the money moved; not in the future.")
    note = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=300)
    created_by_id = serializers.UUIDField(required=False, allow_null=True, help_text="Counts from an admin only.")


class OperationPatch(serializers.Serializer[Any]):
    amount = MoneyField(required=False)
    currency = CurrencyField(required=False)
    category = serializers.CharField(required=False, max_length=64)
    posted_at = DayField(required=False)
    note = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=300)
    updated_by_id = serializers.UUIDField(required=False, allow_null=True, help_text="Counts from an admin only.")


class RemovalQuery(ListQuery):
    """One parameter and no pages."""

    limit = cursor = offset = count = None  # type: ignore[assignment]
    deleted_by_id = serializers.UUIDField(required=False, help_text="Counts from an admin only.")


def _include() -> serializers.ListField:
    return serializers.ListField(
        child=serializers.ChoiceField(choices=list(KIND_OF)), required=False, max_length=4, help_text="Lists to fill."
    )


class IncludeQuery(ListQuery):
    limit = cursor = offset = count = None  # type: ignore[assignment]
    include = _include()
    repeatable = ("include",)


class PaymentQuery(ListQuery):
    status = serializers.ListField(child=serializers.ChoiceField(choices=rules.STATUSES), required=False, max_length=8)
    include = _include()
    repeatable = ("status", "include")


class OperationOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    payment_id = serializers.UUIDField()
    amount = serializers.CharField(help_text='`"0.00"`')
    currency = serializers.CharField()
    category = serializers.CharField()
    posted_at = serializers.DateField()
    note = serializers.CharField(allow_null=True)
    created_by_id = serializers.UUIDField(allow_null=True)
    updated_by_id = serializers.UUIDField(allow_null=True)
    is_deleted = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class PaymentOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    deal_id = serializers.UUIDField()
    policy_id = serializers.UUIDField()
    sequence = serializers.IntegerField()
    status = serializers.ChoiceField(choices=rules.STATUSES)
    is_overdue = serializers.BooleanField(help_text="The planned day has passed and money is still expected.")
    planned_date = serializers.DateField(allow_null=True)
    planned_amount = serializers.CharField(help_text='`"0.00"`')
    currency = serializers.CharField()
    comment = serializers.CharField(allow_null=True)
    actual_date = serializers.DateField(allow_null=True)
    recorded_by_id = serializers.UUIDField(allow_null=True)
    created_by_id = serializers.UUIDField(allow_null=True)
    updated_by_id = serializers.UUIDField(allow_null=True)
    incomes_total = serializers.CharField(help_text='`"0.00"`')
    expenses_total = serializers.CharField(help_text='`"0.00"`')
    net_total = serializers.CharField(help_text='`"0.00"`, may be negative.')
    is_deleted = serializers.BooleanField()
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    incomes = OperationOut(many=True)
    expenses = OperationOut(many=True)


class PaymentPage(serializers.Serializer[Any]):
    items = PaymentOut(many=True)
    total = serializers.IntegerField(help_text="Of all pages.")


def payment_rows(
    request: Request, rows: Sequence[tuple[Any, ...]], include: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Rows of `values_list(*COLUMNS)` as the request's face spells them, with the included operations: one query."""
    today = timezone.localdate()
    overdue = "isOverdue" if is_camel(request) else "is_overdue"
    shown = LIVING.rows(request, rows)
    by_id: dict[UUID, dict[str, Any]] = {}
    for row, payment in zip(rows, shown, strict=True):
        payment[overdue] = rules.is_overdue(row[STATUS], row[PLANNED_DATE], today)
        payment["incomes"], payment["expenses"] = [], []
        by_id[row[0]] = payment
    found = queries.operations([KIND_OF[name] for name in dict.fromkeys(include)], by_id)
    for row, operation in zip(found, OPERATION.rows(request, [row[1:] for row in found]), strict=True):
        by_id[row[2]][f"{row[0]}s"].append(operation)
    return shown


def payment_out(payment: Payment, *, nested: bool = True) -> dict[str, Any]:
    """The answer to a write, in snake_case."""
    overdue = rules.is_overdue(payment.status, payment.planned_date, timezone.localdate())
    return {**told.payment_read(payment, nested=nested), "is_overdue": overdue}
