"""The administrator's pages of people, roles, sessions and service tokens. Every change goes through the services."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from apps.auth.forms import NewPersonForm, PersonForm, RoleForm
from apps.auth.models import Role, ServiceToken, Session, User
from apps.auth.services import people, roles, service_tokens, sessions
from apps.core.admin_base import ShowsRefusals


class ThroughServices(ShowsRefusals):
    """Nothing is deleted here; what a service refuses becomes a message and the form comes again."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnly(ThroughServices):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(ThroughServices):
    list_display = ["email", "full_name", "enabled", "role_list", "created_at"]
    list_filter = ["enabled", "roles"]
    search_fields = ["email", "full_name"]
    ordering = ["email"]
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).defer("password").prefetch_related("roles")

    @admin.display(description=_("roles"))
    def role_list(self, user: User) -> str:
        return ", ".join(sorted(role.name for role in user.roles.all()))

    def get_form(self, request: HttpRequest, obj: User | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, form=PersonForm if change else NewPersonForm, **kwargs)

    def get_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        return ["email", "full_name", *(["enabled"] if obj else []), "roles", "new_password"]

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        return ["email"] if obj else []

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        actor: Any = request.user
        data = form.cleaned_data
        names = [role.name for role in data["roles"]]
        if not change:
            made = people.create_user(
                email=data["email"],
                full_name=data["full_name"],
                password=data["new_password"],
                roles=names,
                actor=actor,
            )
            obj.__dict__.update(made.__dict__)
            return
        people.change_user(user=obj, full_name=data["full_name"], enabled=data["enabled"], roles=names, actor=actor)
        if data["new_password"]:
            people.set_password(user=obj, password=data["new_password"], actor=actor)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The services have written the roles."""


@admin.register(Role)
class RoleAdmin(ThroughServices):
    list_display = ["name", "description"]
    search_fields = ["name", "description"]
    form = RoleForm

    def has_change_permission(self, request: HttpRequest, obj: Role | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Role, form: Any, change: bool) -> None:
        actor: Any = request.user
        made = roles.create_role(name=obj.name, description=obj.description, actor=actor)
        obj.__dict__.update(made.__dict__)


class OpenFilter(admin.SimpleListFilter):
    """Open or ended, active or over: whether the column that says when it ended is empty."""

    title = _("state")
    parameter_name = "open"
    column = "ended_at"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("yes", _("open")), ("no", _("ended"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() in ("yes", "no"):
            return queryset.filter(**{f"{self.column}__isnull": self.value() == "yes"})
        return queryset


@admin.register(Session)
class SessionAdmin(ReadOnly):
    list_display = ["user", "address", "user_agent", "created_at", "rotated_at", "ended_at", "end_reason"]
    list_filter = [OpenFilter, "end_reason"]
    list_select_related = ["user"]
    search_fields = ["user__email", "user__full_name"]
    ordering = ["-rotated_at"]
    fields = ["user", "address", "user_agent", "created_at", "rotated_at", "expires_at", "ended_at", "end_reason"]
    actions = ["end"]

    @admin.action(description=_("End the chosen sessions"))
    def end(self, request: HttpRequest, chosen: QuerySet[Session]) -> None:
        ended = sessions.end_sessions(Q(pk__in=list(chosen.values_list("pk", flat=True))), reason=Session.BY_ADMIN)
        text = ngettext("%(n)d session has ended.", "%(n)d sessions have ended.", ended) % {"n": ended}
        self.message_user(request, text, messages.SUCCESS)


class UnrevokedFilter(OpenFilter):
    parameter_name = "good"
    column = "revoked_at"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("yes", _("not revoked")), ("no", _("revoked"))]


@admin.register(ServiceToken)
class ServiceTokenAdmin(ReadOnly):
    list_display = ["name", "prefix", "scope_list", "created_by", "created_at", "expires_at", "state", "last_used_at"]
    list_filter = [UnrevokedFilter]
    list_select_related = ["created_by"]
    search_fields = ["name", "prefix"]
    ordering = ["-created_at"]
    fields = ["name", "prefix", "scope_list", "created_by", "created_at", "expires_at", "revoked_at", "last_used_at"]
    actions = ["revoke"]

    @admin.display(description=_("scopes"))
    def scope_list(self, token: ServiceToken) -> str:
        return ", ".join(token.scopes)

    @admin.display(description=_("state"))
    def state(self, token: ServiceToken) -> str:
        if token.revoked_at:
            return str(_("revoked"))
        expired = token.expires_at is not None and token.expires_at <= timezone.now()
        return str(_("expired") if expired else _("good"))

    @admin.action(description=_("Revoke the chosen tokens"))
    def revoke(self, request: HttpRequest, chosen: QuerySet[ServiceToken]) -> None:
        actor: Any = request.user
        for token in chosen:
            service_tokens.revoke_service_token(token_id=token.pk, actor=actor)
        self.message_user(request, _("The chosen tokens are revoked."), messages.SUCCESS)
