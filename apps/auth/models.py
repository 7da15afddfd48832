"""People, roles, sign-in sessions and service tokens."""

import uuid
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Self

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.auth.rules import ADMIN_ROLE, DEFAULT_ROLE, Rights, rights_of
from apps.core.models import Versioned


class Role(models.Model):
    """A name that config/roles.toml may give rights to."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=64, unique=True)
    description = models.CharField(_("description"), max_length=255, null=True, blank=True)

    class Meta:
        verbose_name = _("role")
        verbose_name_plural = _("roles")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class UserManager(BaseUserManager["User"]):
    def with_roles(self) -> "models.QuerySet[User]":
        """Users with their role names, in one query."""
        names = Role.objects.filter(users=models.OuterRef("pk")).order_by("name").values("name")
        return self.annotate(role_names_list=ArraySubquery(names))

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").strip().lower())


class User(AbstractBaseUser, Versioned):
    """Someone of the agency. Signs in by e-mail; a disabled one cannot do anything."""

    email = models.EmailField(_("e-mail"), max_length=255, unique=True)
    full_name = models.CharField(_("full name"), max_length=255, blank=True)
    enabled = models.BooleanField(_("enabled"), default=True)
    roles = models.ManyToManyField(Role, through="UserRole", related_name="users", verbose_name=_("roles"))

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        constraints = [
            models.CheckConstraint(condition=models.Q(email=Lower("email")), name="accounts_user_email_lower_case")
        ]

    def __str__(self) -> str:
        return self.full_name or self.email

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A new password ends every session, whichever way it came; `manage.py changepassword` too."""
        replaced = self._password is not None and not self._state.adding  # type: ignore[attr-defined]
        super().save(*args, **kwargs)
        if replaced:
            self.sessions.filter(ended_at=None).update(ended_at=timezone.now(), end_reason=Session.PASSWORD)

    @cached_property
    def role_names(self) -> frozenset[str]:
        listed = getattr(self, "role_names_list", None)
        return frozenset(listed if listed is not None else self.roles.values_list("name", flat=True))

    @cached_property
    def rights(self) -> Rights:
        return rights_of(self.role_names) if self.enabled else Rights()

    def can(self, capability: str) -> bool:
        return capability in self.rights.capabilities

    @property
    def is_admin(self) -> bool:
        return self.rights.is_admin

    @property
    def sees_all_deals(self) -> bool:
        return self.rights.sees_all_deals

    @property
    def author(self) -> "User":
        """Who stands as the author of what this caller writes."""
        return self

    # Django's admin asks these.
    def get_short_name(self) -> str:
        return str(self)

    @property
    def is_active(self) -> bool:  # type: ignore[override]
        return self.enabled

    @property
    def is_staff(self) -> bool:
        """May open the admin: holds a role beyond plain reading."""
        return self.enabled and bool(self.role_names - {DEFAULT_ROLE})

    @property
    def is_superuser(self) -> bool:
        return ADMIN_ROLE in self.role_names

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return self.enabled and self.is_admin

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_staff


class UserRole(models.Model):
    user = models.ForeignKey(User, on_delete=models.CASCADE)
    role = models.ForeignKey(Role, on_delete=models.CASCADE, verbose_name=_("role"))

    class Meta:
        verbose_name = _("role of a user")
        verbose_name_plural = _("roles of a user")
        constraints = [models.UniqueConstraint(fields=["user", "role"], name="accounts_userrole_once")]

    def __str__(self) -> str:
        return str(self.role)


class Session(models.Model):
    """One sign-in and the family of refresh tokens that came of it. Only hashes of the tokens are kept.

    A token is 32 random bytes: the first half names the family for its whole life, the second changes with every use.
    """

    SIGNED_OUT, PASSWORD, DISABLED, ROLES = "signed_out", "password", "disabled", "roles"
    EXPIRED, REUSED, BY_ADMIN = "expired", "reused", "by_admin"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions", verbose_name=_("user"))
    family_hash = models.BinaryField(max_length=32, unique=True)
    token_hash = models.BinaryField(max_length=32)
    previous_hash = models.BinaryField(max_length=32, null=True)
    rotated_at = models.DateTimeField(_("last used"))
    created_at = models.DateTimeField(_("signed in"))
    expires_at = models.DateTimeField(_("ends at the latest"))
    ended_at = models.DateTimeField(_("ended"), null=True)
    end_reason = models.CharField(_("why"), max_length=20, blank=True)
    address = models.GenericIPAddressField(_("address"), null=True)
    user_agent = models.CharField(_("program"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        indexes = [
            models.Index(fields=["user"], condition=models.Q(ended_at=None), name="accounts_session_open"),
            models.Index(fields=["rotated_at"], condition=models.Q(ended_at=None), name="accounts_session_idle"),
        ]

    def __str__(self) -> str:
        return str(self.user_id)


class ServiceTokenQuerySet(models.QuerySet["ServiceToken"]):
    def standing(self, now: datetime) -> Self:
        """Neither revoked nor expired."""
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=now), revoked_at=None)


class ServiceToken(models.Model):
    """A key of a program: its scopes are capabilities, it sees every row; only its hash is kept."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    prefix = models.CharField(_("prefix"), max_length=8, unique=True)
    secret_hash = models.BinaryField(max_length=32)
    name = models.CharField(_("name"), max_length=100)
    scopes = models.JSONField(_("scopes"), default=list)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, verbose_name=_("made by"))
    created_at = models.DateTimeField(_("created"))
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True)
    last_used_at = models.DateTimeField(_("last used"), null=True)

    objects = ServiceTokenQuerySet.as_manager()

    class Meta:
        verbose_name = _("service token")
        verbose_name_plural = _("service tokens")

    def __str__(self) -> str:
        return self.name

    # A caller like a user, but nobody's author.
    is_authenticated = True
    is_admin = True
    sees_all_deals = True
    author = None

    @cached_property
    def rights(self) -> Rights:
        scopes = frozenset(self.scopes)
        return Rights(scopes, scopes, sees_all_deals=True, is_admin=True)

    def can(self, capability: str) -> bool:
        return capability in self.rights.capabilities


class SigningKey(models.Model):
    """When a key of access tokens was first used: its predecessor is accepted for 24 hours from then."""

    kid = models.CharField(max_length=16, primary_key=True)
    first_used_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.kid
