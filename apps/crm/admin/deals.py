from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _

from apps.auth.models import User
from apps.core.admin_base import DeletedFilter, ReadOnlyInline, ServiceForm, allowed
from apps.crm import access, labels, queries, rules
from apps.crm.admin.base import CrmAdmin, OwnerFilter
from apps.crm.models import Calculation, Deal, DealMember, JournalEntry, Policy
from apps.crm.services import deals, journal, members

FIELDS = ["title", "description", "next_review_at", "status", "owner"]
POLICY: list[Any] = ["policy_number", "status", "premium", "effective_from", "effective_to"]
CALCULATION: list[Any] = ["insurance_company", "program_name", "premium_amount", "calculation_date", "status"]
ENTRY: list[Any] = ["deal", "author", "created_at", "body"]
NEWEST = 10  # journal entries shown on the deal's page


class DealForm(ServiceForm):
    reason = forms.CharField(label=_("reason of losing"), required=False, max_length=500)
    note = forms.CharField(
        label=_("new journal entry"), required=False, max_length=5000, widget=forms.Textarea(attrs={"rows": 3})
    )


class StageFilter(admin.SimpleListFilter):
    """The worklist: closed deals are asked for."""

    title = _("stage")
    parameter_name = "stage"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [*labels.STAGES, ("any", _("any stage"))]

    def choices(self, changelist: Any) -> Any:
        first, *others = super().choices(changelist)
        return [{**first, "display": _("open")}, *others]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() is None:
            return queryset.open()
        return queryset if self.value() == "any" else queryset.filter(stage=self.value())


class MemberInline(admin.TabularInline):
    """People added by hand. The owner and those with a task in the deal come and go with these."""

    model = DealMember
    fields = ["user", "role"]
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[DealMember]:
        return super().get_queryset(request).filter(via="manual").select_related("user")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["queryset"] = User.objects.filter(enabled=True).order_by("full_name", "email")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_view_permission(self, request: HttpRequest, obj: Deal | None = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Deal | None = None) -> bool:
        return _leads(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Deal | None = None) -> bool:
        return _leads(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Deal | None = None) -> bool:
        return _leads(request, obj)


def _leads(request: HttpRequest, deal: Deal | None) -> bool:
    return deal is not None and allowed(access.require_seller, request.user, "deals.manage", deal.pk)


class PolicyInline(ReadOnlyInline):
    model = Policy
    fields = readonly_fields = POLICY

    def get_queryset(self, request: HttpRequest) -> QuerySet[Policy]:
        return super().get_queryset(request).filter(deleted_at=None).order_by("-created_at", "-id")


class CalculationInline(ReadOnlyInline):
    model = Calculation
    fields = readonly_fields = CALCULATION

    def get_queryset(self, request: HttpRequest) -> QuerySet[Calculation]:
        return super().get_queryset(request).filter(deleted_at=None).order_by("-updated_at", "-id")


@admin.register(Deal)
class DealAdmin(CrmAdmin):
    may_add = may_delete = "deals.manage"
    may_change = "deals.edit"
    form = DealForm
    list_display = ["title", "next_review_at", "stage_name", "client", "owner", "planned_total"]
    list_select_related = ["client", "owner"]
    list_filter = [StageFilter, OwnerFilter, DeletedFilter]
    search_fields = ["title"]
    search_help_text = _("A part of the title or of the description")
    ordering = ["next_review_at", "updated_at", "id"]
    autocomplete_fields = ["client"]
    inlines = [MemberInline, PolicyInline, CalculationInline]
    actions = ["close_won", "close_lost", "reopen", "hide_chosen", "restore"]

    # --- The list ---
    @admin.display(description=_("stage"), ordering="stage")
    def stage_name(self, deal: Deal) -> str:
        return str(dict(labels.STAGES)[deal.stage])

    def found(self, rows: QuerySet[Deal], text: str) -> QuerySet[Deal]:
        return queries.found_deals(rows, text)

    # --- The page ---
    def get_inlines(self, request: HttpRequest, obj: Deal | None) -> Any:
        return self.inlines if obj else []

    def get_fields(self, request: HttpRequest, obj: Deal | None = None) -> Any:
        if obj is None:
            return ["client", *FIELDS]
        written = ["reason", "note"] if self.has_change_permission(request, obj) else []
        return ["client", *FIELDS, *written, "team", "planned_total", "close_reason", "journal"]

    def get_readonly_fields(self, request: HttpRequest, obj: Deal | None = None) -> Any:
        can = getattr(request.user, "can", None)
        owner = [] if can and can("deals.assign") else ["owner"]
        return ["client", *owner, "team", "planned_total", "close_reason", "journal"] if obj else owner

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        return {"next_review_at": timezone.localdate(), **super().get_changeform_initial_data(request)}

    @admin.display(description=_("team"))
    def team(self, deal: Deal) -> str:
        rows = DealMember.objects.filter(deal=deal).select_related("user").order_by("created_at")
        return format_html_join("", "<div>{}: {}</div>", ((row.user, row) for row in rows))

    @admin.display(description=_("journal"))
    def journal(self, deal: Deal) -> str:
        """The newest entries, and the way to all of them."""
        newest = JournalEntry.objects.filter(deal=deal).select_related("author").order_by("-created_at", "-id")
        lines = (
            (timezone.localtime(each.created_at).strftime("%d.%m.%Y %H:%M"), each.author or "", each.body)
            for each in newest[:NEWEST]
        )
        url = f"{reverse('admin:crm_journalentry_changelist')}?deal__id__exact={deal.pk}"
        shown = format_html_join("", "<div>{} {}: {}</div>", lines)
        return format_html('{}<a href="{}">{}</a>', shown, url, _("The whole journal"))

    def events_of(self, obj: Deal) -> Any:
        return queries.deal_history(obj.pk)

    # --- Writing ---
    def may_write(self, request: HttpRequest, obj: Deal) -> bool:
        return allowed(access.require_work, request.user, self.may_change, obj.pk)

    def may_hide(self, request: HttpRequest, obj: Deal) -> bool:
        return allowed(access.require_work, request.user, self.may_delete, obj.pk)

    def create(self, form: Any, actor: Any) -> Deal:
        values = form.values([name for name in ("client", *FIELDS) if name in form.fields])
        return deals.create_deal(**values, actor=actor)

    def change(self, obj: Deal, form: Any, values: dict[str, Any], actor: Any, version: int | None) -> Deal:
        reason, note = values.pop("reason", ""), values.pop("note", "")
        saved = deals.change_deal(deal_id=obj.pk, values=values, reason=reason, actor=actor, expected_version=version)
        if note:
            journal.append_entry(deal_id=obj.pk, body=note, actor=actor)
        return saved

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """The team: whom the service adds, changes and removes."""
        formset.save(commit=False)
        if formset.model is not DealMember or not formset.has_changed():
            return
        actor: Any = request.user
        deal = deals.locked_deal(form.instance.pk, actor)
        for member in formset.deleted_objects:
            members.remove_member(deal=deal, user_id=member.user_id, actor=actor)
        for member, fields in formset.changed_objects:
            if "user" in fields:
                before = DealMember.objects.get(pk=member.pk)
                members.remove_member(deal=deal, user_id=before.user_id, actor=actor)
                members.add_member(deal=deal, user_id=member.user_id, role=member.role, actor=actor)
            else:
                members.change_member(deal=deal, user_id=member.user_id, role=member.role, actor=actor)
        for member in formset.new_objects:
            members.add_member(deal=deal, user_id=member.user_id, role=member.role, actor=actor)

    def hide(self, obj: Deal, actor: Any) -> None:
        deals.delete_deal(deal_id=obj.pk, actor=actor)

    # --- Acts on chosen deals ---
    @admin.action(description=_("Close as won"), permissions=["hide"])
    def close_won(self, request: HttpRequest, queryset: QuerySet[Deal]) -> HttpResponse | None:
        actor: Any = request.user

        def close(row: Deal, reason: str) -> None:
            deals.change_stage(deal_id=row.pk, stage=rules.CLOSED_WON, actor=actor)

        return self.act(request, queryset, _("Close as won"), close)

    @admin.action(description=_("Close as lost"), permissions=["hide"])
    def close_lost(self, request: HttpRequest, queryset: QuerySet[Deal]) -> HttpResponse | None:
        actor: Any = request.user

        def close(row: Deal, reason: str) -> None:
            deals.change_stage(deal_id=row.pk, stage=rules.CLOSED_LOST, reason=reason, actor=actor)

        return self.act(request, queryset, _("Close as lost"), close, asks_reason=True)

    @admin.action(description=_("Reopen"), permissions=["hide"])
    def reopen(self, request: HttpRequest, queryset: QuerySet[Deal]) -> HttpResponse | None:
        actor: Any = request.user

        def open_again(row: Deal, reason: str) -> None:
            deals.reopen_deal(deal_id=row.pk, reason=reason, actor=actor)

        return self.act(request, queryset, _("Reopen"), open_again, asks_reason=True)

    @admin.action(description=_("Restore"), permissions=["hide"])
    def restore(self, request: HttpRequest, queryset: QuerySet[Deal]) -> None:
        actor: Any = request.user
        self.each(request, queryset, lambda row: deals.restore_deal(deal_id=row.pk, actor=actor))


@admin.register(JournalEntry)
class JournalAdmin(CrmAdmin):
    """Entries are appended on the deal's page and never change."""

    list_display = ["created_at", "deal", "author", "body"]
    list_select_related = ["deal", "author"]
    fields = readonly_fields = ENTRY
    ordering = ["-created_at", "-id"]
    actions: Any = []

    def get_queryset(self, request: HttpRequest) -> QuerySet[JournalEntry]:
        actor: Any = request.user
        return super().get_queryset(request).filter(deal__in=Deal.objects.living().visible_to(actor))

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "deal__id__exact" or super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def events_of(self, obj: JournalEntry) -> Any:
        return queries.deal_history(obj.deal_id).filter(aggregate="journal", aggregate_id=obj.pk)
