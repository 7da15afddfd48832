"""The kernel's tables in the admin: to look at; a parked event can be tried again."""

from typing import Any, get_args
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Count, F, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import date
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from apps.core import bus, jobs, services, work
from apps.core.admin_base import CappedPaginator, Titled
from apps.core.context import Via
from apps.core.errors import DomainError
from apps.core.models import CrashedJob, Event, JobRun, Parked, RelayHead, Subscription, UnpublishedEvent

NAMES_FROM = 2_000  # newest events whose names the filter offers


class ReadOnly(Titled):
    """For those who may see events; nothing is added, changed or deleted here."""

    list_per_page = 50
    show_full_result_count = False
    paginator = CappedPaginator

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        can = getattr(request.user, "can", None)
        return request.user.is_active and bool(can and can("events.view"))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class NameFilter(admin.SimpleListFilter):
    """The names that occur lately; all names ever would be a walk over the whole log."""

    title = _("event")
    parameter_name = "name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        newest = Event.objects.order_by("-at", "-id").values_list("name", flat=True)[:NAMES_FROM]
        return [(name, name) for name in sorted(set(newest))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        return queryset.filter(name=self.value()) if self.value() else queryset


class ViaFilter(admin.SimpleListFilter):
    title = _("way in")
    parameter_name = "via"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(via, via) for via in get_args(Via)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        return queryset.filter(via=self.value()) if self.value() else queryset


@admin.register(Event)
class EventAdmin(ReadOnly):
    list_display = ["at", "name", "aggregate", "aggregate_id", "version", "actor_id", "via", "trace_id", "position"]
    list_filter = [NameFilter, ViaFilter]
    search_fields = ["name"]
    search_help_text = _("An id, a position, a trace or the beginning of an event's name")
    date_hierarchy = "at"
    ordering = ["-at", "-id"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        """One term: ids are compared as ids, so that indexes serve them."""
        term = search_term.strip()
        if not term or "\0" in term:
            return queryset if not term else queryset.none(), False
        matching = Q(name__startswith=term) | Q(trace_id=term)
        try:
            value = UUID(term)
        except ValueError:
            if term.isascii() and term.isdigit() and len(term) < 19:
                matching |= Q(position=int(term))
        else:
            for field in ("id", "aggregate_id", "deal_id", "client_id", "actor_id"):
                matching |= Q(**{field: value})
        return queryset.filter(matching), False


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnly):
    list_display = ["name", "position", "behind", "parked", "trouble", "failing_since", "updated_at"]
    ordering = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        head = RelayHead.objects.values("position")
        counted = {"parked_events": Count("parked"), "positions_behind": Subquery(head) - F("position")}
        rows: QuerySet[Any] = super().get_queryset(request).annotate(**counted)
        return rows

    @admin.display(description=_("parked events"))
    def parked(self, row: Any) -> int:
        return int(row.parked_events)

    @admin.display(description=_("positions behind"))
    def behind(self, row: Any) -> Any:
        off = row.pk == bus.SUBSCRIPTION and not settings.RABBITMQ_URL
        return _("off") if off else row.positions_behind

    @admin.display(description=_("alarm"))
    def trouble(self, row: Subscription) -> Any:
        return bus.TROUBLES.get(row.error, row.error)


@admin.register(UnpublishedEvent)
class UnpublishedEventAdmin(ReadOnly):
    """What RabbitMQ has not confirmed yet. Order is strict: the first of the list is what all others wait for."""

    list_display = ["position", "at", "name", "aggregate", "aggregate_id", "version", "trace_id"]
    ordering = ["position"]
    actions = ["retry"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request).filter(bus.unpublished())
        return rows

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Says above the list how the bus is."""
        now = bus.standing()
        if request.method == "GET" and self.has_view_permission(request):
            if now is None:
                self.message_user(request, _("There is no bus: RABBITMQ_URL is not set."), messages.INFO)
            elif now.trouble:
                since = date(localtime(now.since), "DATETIME_FORMAT") if now.since else "-"
                text = _("%(trouble)s Since %(since)s. Events wait and will be sent.") % {
                    "trouble": bus.TROUBLES.get(now.trouble, now.trouble), "since": since
                }  # fmt: skip
                self.message_user(request, text, messages.WARNING)
        return super().changelist_view(request, extra_context)

    @admin.action(description=_("Try again now"), permissions=["view"])
    def retry(self, request: HttpRequest, queryset: QuerySet[UnpublishedEvent]) -> None:
        """Which are chosen does not matter: they leave in order."""
        services.retry_publishing()
        self.message_user(request, _("The relay tries the bus again now."))


@admin.register(Parked)
class ParkedAdmin(ReadOnly):
    list_display = ["position", "subscription", "event", "key", "tries", "next_try_at", "error", "created_at"]
    list_filter = ["subscription"]
    list_select_related = ["event"]
    ordering = ["subscription", "position"]
    actions = ["retry"]

    @admin.action(description=_("Try again now"), permissions=["view"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Parked]) -> None:
        """Events that wait behind another of their key wake that one."""
        woken = services.retry_parked(ids=list(queryset.values_list("pk", flat=True)))
        self.message_user(request, ngettext("%(n)d chain woken.", "%(n)d chains woken.", woken) % {"n": woken})


class JobFilter(admin.SimpleListFilter):
    title = _("job")
    parameter_name = "job"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(jobs.PERIODIC)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[JobRun]) -> QuerySet[JobRun]:
        return queryset.filter(job=self.value()) if self.value() else queryset


class EndFilter(admin.SimpleListFilter):
    title = _("outcome")
    parameter_name = "end"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("failed", _("failed")), ("unfinished", _("unfinished"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[JobRun]) -> QuerySet[JobRun]:
        if self.value() == "failed":
            return queryset.exclude(error="")
        return queryset.filter(finished_at=None) if self.value() == "unfinished" else queryset


@admin.register(JobRun)
class JobRunAdmin(ReadOnly):
    """Above the runs: how each periodic job fares."""

    list_display = ["job", "slot", "tries", "started_at", "finished_at", "outcome", "error"]
    list_filter = [EndFilter, JobFilter]
    ordering = ["-slot", "job"]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        autodiscover_modules("jobs")  # the web process runs none of them, so it may not know them yet
        standings = jobs.standings(now=timezone.now())
        return super().changelist_view(request, {"standings": standings, **(extra_context or {})})


@admin.register(CrashedJob)
class CrashedJobAdmin(ReadOnly):
    list_display = ["job", "kwargs", "runs", "last_run_at", "dead_at"]
    ordering = ["-last_run_at"]
    actions = ["run_again"]

    @admin.action(description=_("Run again"), permissions=["view"])
    def run_again(self, request: HttpRequest, queryset: QuerySet[CrashedJob]) -> None:
        """Only those that were put aside: the others are still with a worker."""
        started = 0
        for row in queryset.exclude(dead_at=None):
            try:
                work.run_again(pk=row.pk)
            except DomainError as refusal:
                self.message_user(request, f"{row}: {refusal}", messages.ERROR)
                if isinstance(refusal, work.BrokerAway):
                    break
            else:
                started += 1
        self.message_user(request, ngettext("%(n)d job started.", "%(n)d jobs started.", started) % {"n": started})
