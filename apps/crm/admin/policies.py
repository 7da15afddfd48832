from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from apps.core.admin_base import DeletedFilter, ServiceForm, allowed
from apps.core.folding import number_key
from apps.crm import access, queries
from apps.crm.admin.base import CrmAdmin, OwnerFilter
from apps.crm.models import Policy
from apps.crm.services import policies

FIELDS = [
    "client", "deal", "policy_number", "status", "premium", "effective_from", "effective_to", "insurer",
    "insurance_type", "sales_channel",
]  # fmt: skip


class PolicyForm(ServiceForm):
    def clean_policy_number(self) -> str:
        number = str(self.cleaned_data["policy_number"])
        if not number_key(number):
            self.add_error("policy_number", _("A policy number has letters or digits."))
        return number


@admin.register(Policy)
class PolicyAdmin(CrmAdmin):
    may_add = may_change = "policies.edit"
    may_delete = "policies.delete"
    form = PolicyForm
    list_display = ["policy_number", "client", "deal", "insurer", "status", "premium", "effective_from", "effective_to"]
    list_select_related = ["client", "deal", "insurer"]
    list_filter = ["status", OwnerFilter, DeletedFilter]
    search_fields = ["policy_number"]
    search_help_text = _("A part of the number, with or without its spaces")
    ordering = ["-created_at", "-id"]
    autocomplete_fields = ["client", "deal", "insurer", "insurance_type", "sales_channel"]
    actions = ["hide_chosen", "restore"]

    def get_fields(self, request: HttpRequest, obj: Policy | None = None) -> Any:
        return [*FIELDS, *(["owner", "calculation", "policy_number_key", "created_at"] if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Policy | None = None) -> Any:
        return ["owner", "calculation", "policy_number_key", "created_at"] if obj else []

    def found(self, rows: QuerySet[Policy], text: str) -> QuerySet[Policy]:
        return queries.found_policies(rows, text)

    def may_write(self, request: HttpRequest, obj: Policy) -> bool:
        return allowed(access.require_policy, request.user, self.may_change, obj)

    def may_hide(self, request: HttpRequest, obj: Policy) -> bool:
        return allowed(access.require_policy, request.user, self.may_delete, obj)

    def create(self, form: Any, actor: Any) -> Policy:
        return policies.create_policy(values=form.values(FIELDS), actor=actor)

    def change(self, obj: Policy, form: Any, values: dict[str, Any], actor: Any, version: int | None) -> Policy:
        return policies.change_policy(policy_id=obj.pk, values=values, actor=actor, expected_version=version)

    def hide(self, obj: Policy, actor: Any) -> None:
        policies.delete_policy(policy_id=obj.pk, actor=actor)

    @admin.action(description=_("Restore"), permissions=["hide"])
    def restore(self, request: HttpRequest, queryset: QuerySet[Policy]) -> None:
        actor: Any = request.user
        self.each(request, queryset, lambda row: policies.restore_policy(policy_id=row.pk, actor=actor))
