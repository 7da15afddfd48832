from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet

from apps.core.admin_base import ServiceForm
from apps.core.folding import fold
from apps.crm.admin.base import CrmAdmin
from apps.crm.models import Catalog, InsuranceType, Insurer, SalesChannel
from apps.crm.services import catalogs


class CatalogForm(ServiceForm):
    """Aliases are written with commas between them."""


@admin.register(Insurer, InsuranceType, SalesChannel)
class CatalogAdmin(CrmAdmin):
    """Read by all, written by admins; an entry goes out of use, it is not deleted."""

    may_add = may_change = "catalogs.edit"
    form = CatalogForm
    fields = ["name", "code", "aliases", "is_active"]
    list_display = ["name", "code", "aliases", "is_active"]
    list_filter = ["is_active"]
    search_fields = ["name"]
    ordering = ["name_key"]
    actions: Any = []

    def found(self, rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        key = fold(text)
        return rows.filter(Q(name_key__contains=key) | Q(alias_keys__contains=[key])) if key else rows

    def create(self, form: Any, actor: Any) -> Catalog:
        return catalogs.create_entry(self.model, values=form.values(self.fields), actor=actor)

    def change(self, obj: Catalog, form: Any, values: dict[str, Any], actor: Any, version: int | None) -> Catalog:
        return catalogs.change_entry(self.model, entry_id=obj.pk, values=values, actor=actor, expected_version=version)
