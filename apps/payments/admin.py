"""Payments, incomes and expenses in the admin. People see what they see elsewhere; every change is a service's."""

from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.core.admin_base import CappedPaginator, ReadOnlyInline, ShowsRefusals, may
from apps.core.folding import fold, number_key
from apps.crm.models import Policy
from apps.payments import rules
from apps.payments.models import Expense, Income, Operation, Payment
from apps.payments.rules import Kind
from apps.payments.services import operations, payments


class ThroughServices(ShowsRefusals):
    """Rows the person sees, changes by services; what a service refuses becomes a message and the form comes again."""

    list_per_page = 100
    show_full_result_count = False
    paginator = CappedPaginator
    may_add = may_change = ""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(getattr(request.user, "is_staff", False))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may(request, self.may_add)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, self.may_change)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # an action hides rows; nothing is deleted

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: Any = super().get_queryset(request)
        return rows.living().visible_to(request.user)


class OverdueFilter(admin.SimpleListFilter):
    title = _("overdue")
    parameter_name = "overdue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("overdue"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Payment]) -> QuerySet[Payment]:
        if self.value() == "yes":
            return queryset.filter(planned_date__lt=timezone.localdate(), status__in=rules.OPEN_STATUSES)
        return queryset


class OperationInline(ReadOnlyInline):
    """The money of the payment, to look at; it is recorded and corrected on its own pages."""

    fields: ClassVar[Any] = ["posted_at", "amount", "currency", "category", "note", "created_by"]
    readonly_fields: ClassVar[Any] = fields
    ordering = ["posted_at", "created_at", "id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(deleted_at=None).select_related("created_by")


class IncomeInline(OperationInline):
    model = Income


class ExpenseInline(OperationInline):
    model = Expense


def _default_currency() -> str:
    return str(settings.PAYMENTS_ALLOWED_CURRENCIES[0])


class PaymentForm(forms.ModelForm):
    class Meta:
        model = Payment
        fields = ["policy", "planned_amount", "currency", "planned_date", "actual_date", "comment"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "currency" in self.fields:
            self.fields["currency"].initial = _default_currency

    def clean_currency(self) -> str:
        return rules.currency_code(self.cleaned_data["currency"])


@admin.register(Payment)
class PaymentAdmin(ThroughServices):
    may_add = may_change = "payments.edit"
    form = PaymentForm
    list_display = [
        "policy", "sequence", "client", "status", "overdue", "planned_date", "planned_amount", "incomes_total",
        "net_total", "currency", "actual_date",
    ]  # fmt: skip
    list_display_links = ["policy", "sequence"]
    list_select_related = ["policy__client"]
    list_filter = [OverdueFilter, "status", "planned_date", "currency"]
    search_fields = ["policy__policy_number_key"]
    search_help_text = _("A policy's number or a client's name, or a part of it")
    ordering = ["-created_at", "-id"]
    raw_id_fields = ["policy"]
    inlines = [IncomeInline, ExpenseInline]
    actions = ["cancel", "hide"]
    figures = ["status", "incomes_total", "expenses_total", "net_total", "recorded_by", "created_by", "updated_by"]

    @admin.display(description=_("client"), ordering="policy__client__name_key")
    def client(self, payment: Payment) -> str:
        return payment.policy.client.name

    @admin.display(description=_("overdue"), boolean=True)
    def overdue(self, payment: Payment) -> bool:
        return rules.is_overdue(payment.status, payment.planned_date, timezone.localdate())

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Payment], search_term: str
    ) -> tuple[QuerySet[Payment], bool]:
        term = search_term.replace("\0", "").strip()
        if not term:
            return queryset, False
        found = queryset.filter(policy__client__name_key__contains=fold(term))
        if key := number_key(term):
            found |= queryset.filter(policy__policy_number_key__contains=key)
        return found, False

    def get_fields(self, request: HttpRequest, obj: Payment | None = None) -> Any:
        return [*PaymentForm.Meta.fields, *(["deal", "sequence", *self.figures] if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Payment | None = None) -> Any:
        return ["policy", "deal", "sequence", *self.figures] if obj else []

    def get_inlines(self, request: HttpRequest, obj: Payment | None) -> Any:
        return self.inlines if obj else []

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "policy":
            actor: Any = request.user
            kwargs["queryset"] = Policy.objects.living().visible_to(actor).exclude(deal=None)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Payment, form: Any, change: bool) -> None:
        """Sends what the person has changed, and nothing that he has only looked at."""
        actor: Any = request.user
        data = form.cleaned_data
        if change:
            values = {name: data[name] for name in form.changed_data if name in data}
            saved = payments.change_payment(**_ids(obj), values=values, actor=actor)
        else:
            policy = data["policy"]
            saved = payments.create_payment(deal_id=policy.deal_id, policy_id=policy.pk, values=data, actor=actor)
        obj.__dict__.update(saved.__dict__)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return may(request, "payments.cancel")

    def has_hide_permission(self, request: HttpRequest) -> bool:
        return may(request, "payments.delete")

    @admin.action(description=_("Cancel for good"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Payment]) -> None:
        actor: Any = request.user
        values = {"status": rules.CANCELLED}
        self.each(request, queryset, lambda row: payments.change_payment(**_ids(row), values=values, actor=actor))

    @admin.action(description=_("Delete"), permissions=["hide"])
    def hide(self, request: HttpRequest, queryset: QuerySet[Payment]) -> None:
        actor: Any = request.user
        self.each(request, queryset, lambda row: payments.delete_payment(**_ids(row), actor=actor))


def _ids(payment: Payment) -> dict[str, Any]:
    return {"deal_id": payment.deal_id, "policy_id": payment.policy_id, "payment_id": payment.pk}


class OperationForm(forms.ModelForm):
    class Meta:
        fields = ["payment", "amount", "category", "posted_at", "note"]


class OperationAdmin(ThroughServices):
    may_add, may_change = "payments.record", "payments.correct"
    kind: Kind
    form = OperationForm
    list_display = ["posted_at", "amount", "currency", "category", "policy", "client", "payment", "note", "created_by"]
    list_select_related = ["payment__policy__client", "created_by"]
    list_filter = ["posted_at", "category"]
    search_fields = ["category"]
    search_help_text = _("A policy's number or a client's name, or a part of it")
    ordering = ["-posted_at", "-id"]
    raw_id_fields = ["payment"]
    actions = ["hide"]

    @admin.display(description=_("policy"), ordering="payment__policy__policy_number_key")
    def policy(self, operation: Any) -> str:
        return str(operation.payment.policy.policy_number)

    @admin.display(description=_("client"), ordering="payment__policy__client__name_key")
    def client(self, operation: Any) -> str:
        return str(operation.payment.policy.client.name)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.replace("\0", "").strip()
        if not term:
            return queryset, False
        found = queryset.filter(payment__policy__client__name_key__contains=fold(term))
        if key := number_key(term):
            found |= queryset.filter(payment__policy__policy_number_key__contains=key)
        return found, False

    def get_fields(self, request: HttpRequest, obj: Operation | None = None) -> Any:
        return [*OperationForm.Meta.fields, *(["currency", "created_by", "updated_by"] if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Operation | None = None) -> Any:
        return ["payment", "currency", "created_by", "updated_by"] if obj else []

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "payment":
            actor: Any = request.user
            kwargs["queryset"] = Payment.objects.living().visible_to(actor)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        actor: Any = request.user
        data = form.cleaned_data
        if change:
            values = {name: data[name] for name in form.changed_data if name in data}
            saved: Any = operations.correct_operation(
                self.kind, **_ids(obj.payment), operation_id=obj.pk, values=values, actor=actor
            )
        else:
            record = operations.record_income if self.kind == "income" else operations.record_expense
            saved = record(**_ids(data["payment"]), values=data, actor=actor)
        obj.__dict__.update(saved.__dict__)

    def has_hide_permission(self, request: HttpRequest) -> bool:
        return may(request, "payments.correct")

    @admin.action(description=_("Delete"), permissions=["hide"])
    def hide(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        actor: Any = request.user

        def remove(row: Any) -> None:
            operations.remove_operation(self.kind, **_ids(row.payment), operation_id=row.pk, actor=actor)

        self.each(request, queryset, remove)


@admin.register(Income)
class IncomeAdmin(OperationAdmin):
    kind = "income"


@admin.register(Expense)
class ExpenseAdmin(OperationAdmin):
    kind = "expense"
