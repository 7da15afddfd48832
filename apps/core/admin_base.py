"""What the agency's admin pages share: rows the person sees, changes by services, refusals shown where they belong."""

from collections.abc import Callable, Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.forms.models import ModelChoiceField
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from apps.core.api.problems import as_domain_error
from apps.core.errors import DomainError, Forbidden
from apps.core.models import SoftDeleted, Versioned

MOST_COUNTED = 10_000  # rows; a longer list shows this many and is narrowed by its filters
READ_VERSION = "read_version"


class CappedPaginator(Paginator):
    """Counts no further than 10,000: counting a whole table is the page's cost."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows[:MOST_COUNTED].count())


def allowed(check: Callable[..., None], *args: Any) -> bool:
    """Whether the access check lets through."""
    try:
        check(*args)
    except Forbidden:
        return False
    return True


def may(request: HttpRequest, capability: str) -> bool:
    """Whether the person's roles give the capability; nobody has ""."""
    can = getattr(request.user, "can", None)
    return bool(can and can(capability))


def refusal_of(error: Exception) -> DomainError:
    """What a failed write says to a person: the service's refusal, or what the broken constraint stands for.

    :raises Exception: the error itself, when it is a bug
    """
    refusal = as_domain_error(error)
    if refusal is None:
        raise error
    return refusal


def texts(error: DomainError) -> list[str]:
    """The refusal in sentences: its faults, else its own; then what stands in the way of a deletion."""
    said = [str(each.message) for each in error.errors] or [str(error)]
    return said + [f"{each['label']} ({each['reason']})" for each in error.extra.get("blockers", [])]


def _left_to_the_service(exclude: Any = None) -> None:
    """Instead of the model's check of its constraints."""


class ServiceForm(forms.ModelForm):
    """A form whose values go to a service: it carries the version it was filled from and shows what was refused."""

    read_version = forms.IntegerField(required=False, widget=forms.HiddenInput)
    refusal: DomainError | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The service says what is wrong in its own words; the database is the last guard.
        self.instance.validate_constraints = _left_to_the_service
        self.fields[READ_VERSION].initial = getattr(self.instance, "version", None)

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.refusal:
            named = [each for each in self.refusal.errors if each.field in self.fields]
            for each in named:
                self.add_error(each.field, str(each.message))
            if not named:
                self.add_error(None, [forms.ValidationError(text) for text in texts(self.refusal)])
        return cleaned

    def values(self, names: Iterable[str]) -> dict[str, Any]:
        """The cleaned values as services take them: a chosen row by its id, as `<name>_id`."""
        result = {}
        for name in names:
            value = self.cleaned_data[name]
            if isinstance(self.fields[name], ModelChoiceField):
                result[f"{name}_id"] = value.pk if value else None
            else:
                result[name] = value
        return result


class DeletedFilter(admin.SimpleListFilter):
    """Admins may look at what is deleted; everyone else's lists are of living rows only."""

    title = _("deleted")
    parameter_name = "deleted"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("yes", _("deleted")), ("all", _("with the deleted"))] if _is_admin(request) else []

    def choices(self, changelist: Any) -> Any:
        first, *others = super().choices(changelist)
        return [{**first, "display": _("living")}, *others]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "all":
            return queryset
        return queryset.filter(deleted_at__isnull=self.value() != "yes")


class Titled(admin.ModelAdmin):
    """Pages bear their noun: "Select %s to change" and its kin do not decline in Russian."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        context = {"title": capfirst(self.opts.verbose_name), **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, context)


class ShowsRefusals(Titled):
    """What a service refuses is undone and shown: in a ServiceForm beside what was typed, else as a message."""

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        made: Any = super().get_form(request, obj, change=change, **kwargs)
        made.refusal = getattr(request, "refusal", None)
        return made

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except (DomainError, IntegrityError) as error:  # the transaction of the view is rolled back
            refusal = refusal_of(error)
        if issubclass(self.form, ServiceForm):
            request.refusal = refusal  # type: ignore[attr-defined]
            return super().changeform_view(request, object_id, form_url, extra_context)
        for text in texts(refusal):
            self.message_user(request, text, messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())

    def each(self, request: HttpRequest, rows: QuerySet[Any], work: Callable[[Any], Any]) -> None:
        """Does the work row by row; each refusal is told beside the row it is about, the others go on."""
        done = 0
        for row in rows:
            try:
                with transaction.atomic():
                    work(row)
                done += 1
            except (DomainError, IntegrityError) as error:
                self.message_user(request, f"{row}: {' '.join(texts(refusal_of(error)))}", messages.ERROR)
        if done:
            self.message_user(request, ngettext("%(n)d row done.", "%(n)d rows done.", done) % {"n": done})


class ThroughServices(ShowsRefusals):
    """Rows the person sees; every change is a service's, and what it refuses is shown and changes nothing.

    A page names its capabilities (an empty one closes the door) and its services: `create`, `change`, `hide`.
    """

    form = ServiceForm
    list_per_page = 100
    show_full_result_count = False
    paginator = CappedPaginator
    may_add = may_change = may_delete = ""
    actions: Any = ["hide_chosen"]

    # --- What the services do ---
    def create(self, form: Any, actor: Any) -> Any:
        raise NotImplementedError

    def change(self, obj: Any, form: Any, values: dict[str, Any], actor: Any, version: int | None) -> Any:
        """Writes the values that the person has changed; `version` is the one the form was filled from."""
        raise NotImplementedError

    def hide(self, obj: Any, actor: Any) -> None:
        raise NotImplementedError

    # --- Who may ---
    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(getattr(request.user, "is_staff", False))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may(request, self.may_add)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, self.may_change) and (obj is None or (self._open(obj) and self.may_write(request, obj)))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, self.may_delete) and (obj is None or (self._open(obj) and self.may_hide(request, obj)))

    def may_write(self, request: HttpRequest, obj: Any) -> bool:
        """Whether the person works where this row is."""
        return True

    def may_hide(self, request: HttpRequest, obj: Any) -> bool:
        return self.may_write(request, obj)

    @staticmethod
    def _open(obj: Any) -> bool:
        return not getattr(obj, "is_deleted", False)

    # --- Rows ---
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """What the person sees: living rows; an admin also the deleted, which the filter leaves out."""
        rows: Any = super().get_queryset(request)
        if hasattr(rows, "visible_to"):
            rows = rows.visible_to(request.user)
        hides = issubclass(self.model, SoftDeleted) and not _is_admin(request)
        living: QuerySet[Any] = rows.filter(deleted_at=None) if hides else rows
        return living

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By `found`, through the folded twins. A drop-down offers living rows only."""
        match = request.resolver_match
        if match and match.url_name == "autocomplete" and issubclass(self.model, SoftDeleted):
            queryset = queryset.filter(deleted_at=None)
        if "\0" in search_term:
            return queryset.none(), False
        return self.found(queryset, search_term), False

    def found(self, rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        """The rows that the text finds; all of them for an empty one."""
        return rows

    def get_field_queryset(self, db: Any, db_field: Any, request: HttpRequest) -> QuerySet[Any] | None:
        """What may be chosen: rows that the person sees and that live, so that no page names another."""
        rows: Any = db_field.remote_field.model._default_manager.all()
        if hasattr(rows, "visible_to"):
            rows = rows.visible_to(request.user)
        hides = issubclass(db_field.remote_field.model, SoftDeleted)
        living: QuerySet[Any] = rows.filter(deleted_at=None) if hides else rows
        return living

    # --- Forms ---
    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or not isinstance(obj, Versioned) or not self.has_change_permission(request, obj):
            return fieldsets
        return [*fieldsets, (None, {"fields": [READ_VERSION]})]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Sends what the person has changed, and nothing that he has only looked at."""
        if change:
            changed = [name for name in form.changed_data if name != READ_VERSION]
            version = form.cleaned_data.get(READ_VERSION)
            saved = self.change(obj, form, form.values(changed), request.user, version)
        else:
            saved = self.create(form, request.user)
        obj.__dict__.update(saved.__dict__)

    # --- Deleting, and other acts on chosen rows ---
    def get_actions(self, request: HttpRequest) -> Any:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)  # rows are hidden by services
        return actions

    def has_hide_permission(self, request: HttpRequest) -> bool:
        return self.has_delete_permission(request)

    @admin.action(description=_("Delete"), permissions=["hide"])
    def hide_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self.act(request, queryset, _("Delete"), lambda row, _reason: self.hide(row, request.user))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What Django's confirmation page lists; what stands in the way the service says."""
        return [str(each) for each in objs], {self.opts.verbose_name_plural: len(objs)}, set(), []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.hide(obj, request.user)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except (DomainError, IntegrityError) as error:
            self.message_user(request, " ".join(texts(refusal_of(error))), messages.ERROR)
            page = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
            return HttpResponseRedirect(reverse(page, args=[object_id]))

    def act(
        self,
        request: HttpRequest,
        rows: QuerySet[Any],
        title: Any,
        work: Callable[[Any, str], Any],
        *,
        asks_reason: bool = False,
    ) -> HttpResponse | None:
        """Asks once more (and for a reason), then does `work(row, reason)` on each of the chosen rows."""
        reason = request.POST.get("reason", "").strip()
        if "confirmed" in request.POST and (reason or not asks_reason):
            self.each(request, rows, lambda row: work(row, reason))
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "rows": rows[: self.list_per_page],
            "asks_reason": asks_reason,
            "reason_missing": "confirmed" in request.POST,
            "action": request.POST.getlist("action")[int(request.POST.get("index") or 0)],
            "select_across": request.POST.get("select_across", "0"),
            "chosen": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "checkbox": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "admin/confirm_act.html", context)


class ReadOnlyInline(admin.TabularInline):
    """Rows of another page, to look at."""

    extra = 0
    can_delete = False
    show_change_link = True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _is_admin(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_admin", False))
