"""The admin site: Django's own, in the agency's name, with the sign-in and password forms of people."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from apps.auth.forms import OwnPasswordForm, SignInForm
from apps.core import live


class OwnPasswordView(PasswordChangeView):
    """Django's view with the form that goes through the service: it ends the API sessions too."""

    form_class = OwnPasswordForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "address": self.request.META.get("REMOTE_ADDR")}


class CrmAdminSite(AdminSite):
    """Open to enabled people who hold a working role."""

    site_header = _("CRM 2.0")
    site_title = _("CRM 2.0")
    index_title = _("Agency")
    final_catch_all_view = False  # an unknown address is a plain 404
    login_form = SignInForm

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "maintenance_message": live.maintenance_message()}

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        view = OwnPasswordView.as_view(
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return view(request)
