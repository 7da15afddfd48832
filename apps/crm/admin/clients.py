from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from apps.core.admin_base import DeletedFilter, ServiceForm, allowed
from apps.crm import access, queries
from apps.crm.admin.base import CrmAdmin, OwnerFilter
from apps.crm.models import Client
from apps.crm.services import clients


class ClientForm(ServiceForm):
    email = forms.EmailField(label=_("e-mail"), max_length=255, required=False, empty_value=None)


@admin.register(Client)
class ClientAdmin(CrmAdmin):
    may_add = may_change = may_delete = "clients.edit"
    form = ClientForm
    list_display = ["name", "phone", "email", "status", "owner", "updated_at"]
    list_select_related = ["owner"]
    list_filter = ["status", OwnerFilter, DeletedFilter]
    search_fields = ["name"]
    search_help_text = _("A part of the name, of the phone or of the e-mail")
    ordering = ["name_key", "id"]
    actions = ["hide_chosen", "restore"]

    def get_fields(self, request: HttpRequest, obj: Client | None = None) -> Any:
        return ["name", "phone", "email", "status", "owner", *(["phone_e164", "created_at"] if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Client | None = None) -> Any:
        readonly = ["phone_e164", "created_at"] if obj else []
        return readonly if getattr(request.user, "is_admin", False) else ["owner", *readonly]

    def found(self, rows: QuerySet[Client], text: str) -> QuerySet[Client]:
        return queries.found_clients(rows, text)

    def events_of(self, obj: Client) -> Any:
        return queries.client_history(obj.pk)

    def may_write(self, request: HttpRequest, obj: Client) -> bool:
        return allowed(access.require_client, request.user, obj)

    def create(self, form: Any, actor: Any) -> Client:
        return clients.create_client(values=form.values(_fields(form)), actor=actor)

    def change(self, obj: Client, form: Any, values: dict[str, Any], actor: Any, version: int | None) -> Client:
        return clients.change_client(client_id=obj.pk, values=values, actor=actor, expected_version=version)

    def hide(self, obj: Client, actor: Any) -> None:
        clients.delete_client(client_id=obj.pk, actor=actor)

    @admin.action(description=_("Restore"), permissions=["hide"])
    def restore(self, request: HttpRequest, queryset: QuerySet[Client]) -> None:
        actor: Any = request.user
        self.each(request, queryset, lambda row: clients.restore_client(client_id=row.pk, actor=actor))


def _fields(form: Any) -> list[str]:
    return [name for name in ("name", "phone", "email", "status", "owner") if name in form.fields]
