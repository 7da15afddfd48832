"""People of the agency: who they are, what roles they hold, their passwords.

Disabling someone, and any change of his password or roles, ends all his sessions in the same transaction.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.auth import events
from apps.auth.models import Role, Session, User, UserRole
from apps.auth.rules import ADMIN_ROLE, DEFAULT_ROLE, role_name
from apps.auth.services import roles as role_services
from apps.auth.services import throttle
from apps.auth.services.roles import RoleNotFound
from apps.auth.services.sessions import end_sessions
from apps.core import changes as core_changes
from apps.core import constraints
from apps.core.errors import DomainError, FieldError, Invalid, NotFound, invalid
from apps.core.events import Actor, emit

log = logging.getLogger(__name__)
security = logging.getLogger("crm2.security")


class UserNotFound(NotFound):
    code = "user_not_found"
    message = _("There is no such user.")


class UserAlreadyExists(DomainError):
    code = "user_already_exists"
    message = _("There is a user with this e-mail already.")


class RegistrationClosed(DomainError):
    code = "registration_closed"
    status = 403
    message = _("Ask an administrator for an account.")


class DefaultRole(DomainError):
    code = "default_role"
    status = 400
    message = _("Everyone holds this role.")


class LastAdmin(DomainError):
    """Someone must be left who can let the others in."""

    code = "last_admin"
    message = _("This is the last enabled administrator.")


class WrongCurrentPassword(DomainError):
    code = "invalid_credentials"
    status = 400
    message = _("The current password is wrong.")


constraints.register("accounts_user_email_key", UserAlreadyExists)


def find_user(user_id: UUID) -> User:
    """:raises UserNotFound: there is none"""
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise UserNotFound
    return user


def refuse_closed_registration() -> None:
    """:raises RegistrationClosed: unless AUTH_REGISTRATION_OPEN"""
    if not settings.AUTH_REGISTRATION_OPEN:
        raise RegistrationClosed


def register(*, email: str, password: str, address: str | None) -> User:
    """Makes an account for its own holder, with ROLE_USER alone.

    :raises RegistrationClosed: unless AUTH_REGISTRATION_OPEN
    :raises RateLimited: too many from this address
    :raises Invalid, UserAlreadyExists: as `create_user`
    """
    refuse_closed_registration()
    throttle.reserve(email=None, address=address)  # hashing costs us; nothing gives this slot back
    return create_user(email=email, password=password, actor=None)


@transaction.atomic
def create_user(
    *, email: str, password: str, full_name: str = "", roles: Iterable[str] = (), actor: Actor | None
) -> User:
    """Makes an enabled user with ROLE_USER and the named roles.

    :raises Invalid: the e-mail is none, the password is weak
    :raises UserAlreadyExists: the e-mail is taken, in whatever case
    :raises RoleNotFound: a role is none
    """
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError as error:
        raise invalid("email", "invalid", error.messages[0]) from None
    if User.objects.filter(email=email).exists():
        raise UserAlreadyExists
    held = role_services.roles_named({DEFAULT_ROLE, *roles})
    user = User(email=email, full_name=full_name.strip())
    refuse_weak_password(password, user, field="password")
    user.set_password(password)
    user.save()
    UserRole.objects.bulk_create([UserRole(user=user, role=role) for role in held])
    names = [role.name for role in held]
    emit(
        events.USER_CREATED,
        user,
        actor=actor,
        payload={"user_id": user.pk, "enabled": user.enabled, "roles": names, "created_at": user.created_at},
        changes={
            "email": (None, user.email),
            "full_name": (None, user.full_name),
            "enabled": (None, user.enabled),
            "roles": (None, names),
        },
    )
    _note("user_created", user)
    return user


@transaction.atomic
def change_user(
    *,
    user: User,
    actor: Actor | None,
    expected_version: int | None = None,
    enabled: bool | None = None,
    full_name: str | None = None,
    roles: Sequence[str] | None = None,
) -> User:
    """Changes what is given; `roles` are the whole list, ROLE_USER stays whether named or not.

    The fields are one version and one event; so is every role that comes or goes.

    :raises VersionMismatch: the user is not at `expected_version`
    :raises RoleNotFound: a role is none
    :raises LastAdmin: nobody enabled would be left with ROLE_ADMIN
    """
    user = _locked(user)
    core_changes.expect_version(user, expected_version)
    held = {role.name: role for role in user.roles.all()}
    wanted = held if roles is None else {r.name: r for r in role_services.roles_named({DEFAULT_ROLE, *roles})}
    if ADMIN_ROLE in held and user.enabled and (enabled is False or ADMIN_ROLE not in wanted):
        _refuse_losing_last_admin(user)

    values = {"enabled": enabled, "full_name": full_name.strip() if full_name is not None else None}
    changes = core_changes.differing(user, {name: value for name, value in values.items() if value is not None})
    if changes:
        core_changes.apply(user, changes)
        emit(
            events.USER_UPDATED,
            user,
            actor=actor,
            payload={"user_id": user.pk, "enabled": user.enabled, "changed": sorted(changes)},
            changes=changes,
        )
    for name in sorted(held.keys() - wanted.keys()):
        _take(user, held[name], actor)
    for name in sorted(wanted.keys() - held.keys()):
        _give(user, wanted[name], actor)

    if "enabled" in changes and not user.enabled:
        _end_all(user, Session.DISABLED)
        _note("user_disabled", user)
    elif wanted.keys() != held.keys():
        _end_all(user, Session.ROLES)
    return _fresh(user)


@transaction.atomic
def assign_role(*, user: User, role: str, actor: Actor | None, expected_version: int | None = None) -> User:
    """Gives the role; giving a held one changes nothing.

    :raises VersionMismatch: the user is not at `expected_version`
    :raises RoleNotFound: there is no such role
    """
    user = _locked(user)
    core_changes.expect_version(user, expected_version)
    [given] = role_services.roles_named([role])
    if not UserRole.objects.filter(user=user, role=given).exists():
        _give(user, given, actor)
        _end_all(user, Session.ROLES)
    return _fresh(user)


@transaction.atomic
def remove_role(*, user: User, role: str, actor: Actor | None, expected_version: int | None = None) -> User:
    """Takes the role.

    :raises VersionMismatch: the user is not at `expected_version`
    :raises DefaultRole: everyone keeps ROLE_USER
    :raises RoleNotFound: there is no such role, or the user does not hold it
    :raises LastAdmin: nobody enabled would be left with ROLE_ADMIN
    """
    if role_name(role) == DEFAULT_ROLE:
        raise DefaultRole
    user = _locked(user)
    core_changes.expect_version(user, expected_version)
    held = user.roles.filter(name=role_name(role)).first()
    if held is None:
        raise RoleNotFound
    if held.name == ADMIN_ROLE and user.enabled:
        _refuse_losing_last_admin(user)
    _take(user, held, actor)
    _end_all(user, Session.ROLES)
    return _fresh(user)


def change_password(*, user: User, current: str, new: str, address: str | None) -> None:
    """Changes one's own password and ends all one's sessions, this one too.

    :raises RateLimited: too many wrong attempts
    :raises WrongCurrentPassword: `current` is not the password
    :raises Invalid: the new password is weak
    """
    attempt = throttle.reserve(email=user.email, address=address)
    checked = User.objects.get(pk=user.pk).password
    if not check_password(current, checked):
        security.info("password change failed", extra={"code": "password_change_failed", "actor_id": user.pk})
        raise WrongCurrentPassword
    attempt.succeeded()
    refuse_weak_password(new, user, field="new_password")
    with transaction.atomic():
        locked = _locked(user)
        if locked.password != checked:
            raise WrongCurrentPassword  # changed by someone else meanwhile
        _write_password(locked, new, actor=user)


@transaction.atomic
def set_password(*, user: User, password: str, actor: Actor | None) -> User:
    """Gives someone a new password and ends all his sessions.

    :raises Invalid: the password is weak
    """
    user = _locked(user)
    refuse_weak_password(password, user, field="password")
    _write_password(user, password, actor=actor)
    return user


def refuse_weak_password(password: str, user: User, *, field: str) -> None:
    """:raises Invalid: with every reason under the field's name"""
    try:
        validate_password(password, user)
    except ValidationError as error:
        faults = [FieldError(field, each.code or "invalid", each.messages[0]) for each in error.error_list]
        raise Invalid(errors=faults) from None


def ensure_admin(*, email: str, password: str, roles: Sequence[str]) -> bool:
    """Makes sure that the user exists and holds the roles; an existing one keeps his password. Whether all is well.

    A failure is logged, never raised: the start of the system does not depend on it.
    """
    if not email.strip() or not password:
        log.warning("no bootstrap administrator: AUTH_BOOTSTRAP_EMAIL or AUTH_BOOTSTRAP_PASSWORD is empty")
        return False
    try:
        _ensure(email.strip().lower(), password, [each for each in roles if each.strip()] or [ADMIN_ROLE])
    except DomainError as error:
        reasons = ", ".join(f"{each.field}: {each.code}" for each in error.errors)
        log.error("no bootstrap administrator", extra={"code": error.code, "reason": reasons or None})
        return False
    except IntegrityError:
        log.warning("no bootstrap administrator from here: another process makes it at this moment")
        return False
    return True


@transaction.atomic
def _ensure(email: str, password: str, roles: Sequence[str]) -> None:
    user = User.objects.filter(email=email).first()
    if user is None:
        user = create_user(email=email, password=password, actor=None)
    for name in roles:
        if not Role.objects.filter(name=role_services.stored_name(name)).exists():
            role_services.create_role(name=name, actor=None)
        assign_role(user=user, role=name, actor=None)


def _locked(user: User) -> User:
    """:raises UserNotFound: gone meanwhile"""
    locked = User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
    if locked is None:
        raise UserNotFound
    return locked


def _fresh(user: User) -> User:
    """The user as it is now, with what it remembers of its roles forgotten."""
    return User.objects.with_roles().get(pk=user.pk)


def _refuse_losing_last_admin(user: User) -> None:
    # The lock makes two administrators who disable each other at once wait for one another.
    Role.objects.select_for_update(no_key=True).get(name=ADMIN_ROLE)
    if not User.objects.filter(enabled=True, roles__name=ADMIN_ROLE).exclude(pk=user.pk).exists():
        raise LastAdmin


def _give(user: User, role: Role, actor: Actor | None) -> None:
    UserRole.objects.create(user=user, role=role)
    _tell_role(events.USER_ROLE_ADDED, user, role, actor, (None, role.name))


def _take(user: User, role: Role, actor: Actor | None) -> None:
    UserRole.objects.filter(user=user, role=role).delete()
    _tell_role(events.USER_ROLE_REMOVED, user, role, actor, (role.name, None))


def _tell_role(name: str, user: User, role: Role, actor: Actor | None, change: tuple[Any, Any]) -> None:
    core_changes.apply(user, {})
    payload = {"user_id": user.pk, "role": role.name}
    emit(name, user, actor=actor, payload=payload, changes={"role": change})
    _note(name.replace(".", "_"), user)


def _write_password(user: User, password: str, *, actor: Actor | None) -> None:
    user.set_password(password)
    core_changes.apply(user, {}, also={"password": user.password})  # the save ends the sessions
    emit(events.USER_PASSWORD_CHANGED, user, actor=actor, payload={"user_id": user.pk})
    _note("password_changed", user)


def _end_all(user: User, reason: str) -> None:
    end_sessions(Q(user=user), reason=reason)


def _note(code: str, user: User) -> None:
    security.info(code, extra={"code": code, "actor_id": user.pk})
