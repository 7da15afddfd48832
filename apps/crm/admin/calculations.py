from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminDateWidget
from django.db.backends.postgresql.psycopg_any import DateRange
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from apps.core.admin_base import DeletedFilter, ServiceForm, allowed
from apps.core.folding import fold
from apps.crm import access, rules
from apps.crm.admin.base import CrmAdmin, OwnerFilter
from apps.crm.models import Calculation, Policy
from apps.crm.services import calculations

FIELDS = ["insurance_company", "program_name", "premium_amount", "coverage_sum", "calculation_date", "comments"]
PERIOD = ["valid_from", "valid_to"]
MOVE = ["move_to", "bind_policy"]


class LinesField(forms.CharField):
    """A list of texts, one a line."""

    widget = forms.Textarea(attrs={"rows": 3})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(self.prepare_value(initial)) != self.to_python(data)


class CalculationForm(ServiceForm):
    valid_from = forms.DateField(label=_("valid from"), required=False, widget=AdminDateWidget)
    valid_to = forms.DateField(label=_("valid to"), required=False, widget=AdminDateWidget)
    files: Any = LinesField(label=_("files"), required=False, help_text=_("One a line."))
    move_to = forms.ChoiceField(label=_("move to"), required=False)
    bind_policy = forms.ModelChoiceField(
        Policy.objects.none(), label=_("policy"), required=False, help_text=_("Bound when confirmed.")
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        row = self.instance
        if row._state.adding:
            return
        days = rules.inclusive(row.validity_period) or {"start": None, "end": None}
        self.initial.update({"valid_from": days["start"], "valid_to": days["end"]})
        choice: Any = self.fields["move_to"]
        choice.choices = [("", "---------"), *((move, _(move)) for move in sorted(rules.CALCULATION_MOVES[row.status]))]
        of_deal: Any = self.fields["bind_policy"]
        of_deal.queryset = Policy.objects.living().filter(deal=row.deal_id)

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        start, end = cleaned.get("valid_from"), cleaned.get("valid_to")
        if start and end and end < start:
            self.add_error("valid_to", _("It ends before it begins."))
        return cleaned

    def period(self) -> Any:
        start, end = self.cleaned_data["valid_from"], self.cleaned_data["valid_to"]
        if start is None and end is None:
            return None
        return DateRange(start, end + timedelta(days=1) if end else None, "[)" if start else "()")


@admin.register(Calculation)
class CalculationAdmin(CrmAdmin):
    may_add = may_change = may_delete = "calculations.edit"
    form = CalculationForm
    list_display = [
        "insurance_company",
        "program_name",
        "deal",
        "premium_amount",
        "calculation_date",
        "status",
        "owner",
    ]
    list_select_related = ["deal", "owner"]
    list_filter = ["status", OwnerFilter, DeletedFilter]
    search_fields = ["insurance_company"]
    ordering = ["-updated_at", "-id"]
    autocomplete_fields = ["deal"]

    def get_fields(self, request: HttpRequest, obj: Calculation | None = None) -> Any:
        shown = ["deal", *FIELDS, "files"]
        if obj is None:
            return [*shown, *PERIOD]
        writes = self.has_change_permission(request, obj)
        frozen = obj.status in rules.FROZEN_CALCULATIONS
        period = PERIOD if writes and not frozen else ["period"]
        return [*shown, *period, "status", "insurer", "owner", "created_by", *(MOVE if writes else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Calculation | None = None) -> Any:
        if obj is None:
            return []
        readonly = ["deal", "status", "insurer", "owner", "created_by", "period"]
        return [*readonly, *FIELDS, "files"] if obj.status in rules.FROZEN_CALCULATIONS else readonly

    @admin.display(description=_("valid"))
    def period(self, row: Calculation) -> str:
        days = rules.inclusive(row.validity_period)
        return f"{days['start'] or ''} – {days['end'] or ''}" if days else "-"

    def found(self, rows: QuerySet[Calculation], text: str) -> QuerySet[Calculation]:
        key = fold(text)
        return rows.filter(insurance_company_key__contains=key) if key else rows

    def may_write(self, request: HttpRequest, obj: Calculation) -> bool:
        return allowed(access.require_work, request.user, self.may_change, obj.deal_id)

    def may_hide(self, request: HttpRequest, obj: Calculation) -> bool:
        actor: Any = request.user
        return self.may_write(request, obj) and access.may_delete_calculation(actor, obj)

    def create(self, form: Any, actor: Any) -> Calculation:
        values = {**form.values([*FIELDS, "files"]), "validity_period": form.period()}
        return calculations.create_calculation(deal_id=form.cleaned_data["deal"].pk, values=values, actor=actor)

    def change(
        self, obj: Calculation, form: Any, values: dict[str, Any], actor: Any, version: int | None
    ) -> Calculation:
        """The fields first, then the move: a calculation is filled in and made ready in one go."""
        ids: dict[str, Any] = {"deal_id": obj.deal_id, "calculation_id": obj.pk, "actor": actor}
        status, policy = values.pop("move_to", ""), values.pop("bind_policy_id", None)
        written = {name: value for name, value in values.items() if name not in PERIOD}
        if values.keys() & set(PERIOD):
            written["validity_period"] = form.period()
        saved = Calculation.objects.get(pk=obj.pk)
        if written:
            saved = calculations.change_calculation(**ids, values=written, expected_version=version)
            version = None
        if status:
            saved = calculations.change_status(**ids, status=status, policy_id=policy, expected_version=version)
        return saved

    def hide(self, obj: Calculation, actor: Any) -> None:
        calculations.delete_calculation(deal_id=obj.deal_id, calculation_id=obj.pk, actor=actor)
