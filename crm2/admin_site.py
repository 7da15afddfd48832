"""The admin site: Django's own, in the agency's name, with the sign-in and password forms of people."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.views import PasswordChangeView
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.translation import gettext_lazy as _

from apps.auth.forms import OwnPasswordForm, SignInForm
from apps.core import live
from apps.core.admin_base import may
from apps.crm import events as crm_events
from apps.payments import events as payments_events

SHOWN = ("client.", "deal.", "policy.")
STATUSES = ("ready", "confirmed", "archived")


class OwnPasswordView(PasswordChangeView):
    """Django's view with the form that goes through the service: it ends the API sessions too."""

    form_class = OwnPasswordForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "address": self.request.META.get("REMOTE_ADDR")}


def shown_events() -> list[str]:
    """Names that the page of live events listens to: a browser must be told each."""
    constants = [*vars(crm_events).values(), *vars(payments_events).values()]
    names = {each for each in constants if isinstance(each, str) and each.startswith(SHOWN)}
    return sorted(names | {f"{crm_events.CALCULATION_STATUS}.{status}" for status in STATUSES})


class CrmAdminSite(AdminSite):
    """Open to enabled people who hold a working role."""

    site_header = _("CRM 2.0")
    site_title = _("CRM 2.0")
    index_title = _("Agency")
    final_catch_all_view = False  # an unknown address is a plain 404
    login_form = SignInForm

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "maintenance_message": live.maintenance_message()}

    def get_urls(self) -> list[URLResolver | URLPattern]:
        return [path("live/", self.admin_view(self.live), name="live"), *super().get_urls()]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """The models, and the page of live events beside the event log."""
        listed: list[Any] = super().get_app_list(request, app_label)
        for app in listed:
            if app["app_label"] == "core" and may(request, "events.view"):
                link = {"name": _("Live events"), "object_name": "Live", "admin_url": reverse("admin:live")}
                app["models"].append({**link, "perms": {"view": True}, "add_url": None, "view_only": True})
        return listed

    def live(self, request: HttpRequest) -> TemplateResponse:
        """What happens in the office, as it happens: a stream in the browser."""
        if not may(request, "events.view"):
            raise PermissionDenied
        shown = {**self.each_context(request), "title": _("Live events"), "names": " ".join(shown_events())}
        return TemplateResponse(request, "admin/live.html", shown)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        view = OwnPasswordView.as_view(
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return view(request)
