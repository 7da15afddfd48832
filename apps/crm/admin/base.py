"""What the pages of crm share: the real history of a row, filters by person, choosing among enabled people."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from apps.auth.models import User
from apps.auth.queries import emails_of
from apps.core.admin_base import ThroughServices
from apps.core.api.history import history_rows
from apps.core.models import Event

MOST_HISTORY = 200  # newest events on the page


class CrmAdmin(ThroughServices):
    """The button "history" shows the events of the row, whichever way they came."""

    def events_of(self, obj: Any) -> QuerySet[Event]:
        return Event.objects.filter(aggregate=self.opts.model_name, aggregate_id=obj.pk)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        obj = self.get_object(request, object_id)
        if obj is None or not self.has_view_permission(request, obj):
            raise Http404
        events = list(self.events_of(obj).order_by("-at", "-id")[:MOST_HISTORY])
        context = {
            **self.admin_site.each_context(request),
            "title": _("History: %(name)s") % {"name": obj},
            "opts": self.opts,
            "entries": history_rows(events, emails_of),
        }
        return TemplateResponse(request, "admin/crm_history.html", context)

    def get_field_queryset(self, db: Any, db_field: Any, request: HttpRequest) -> QuerySet[Any] | None:
        """Of people the enabled ones: the agency is a few, a drop-down shows them all."""
        if db_field.remote_field.model is User:
            return User.objects.filter(enabled=True).order_by("full_name", "email")
        return super().get_field_queryset(db, db_field, request)


class OwnerFilter(admin.SimpleListFilter):
    """By the person who owns the row; nobody is a choice."""

    title = _("owner")
    parameter_name = "owner"
    nobody = "none"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        people = User.objects.order_by("full_name", "email").only("pk", "full_name", "email")
        return [*((str(user.pk), str(user)) for user in people), (self.nobody, _("nobody"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        return queryset.filter(owner_id=None if value == self.nobody else value)
