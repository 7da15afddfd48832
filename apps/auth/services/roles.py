"""Roles: names that config/roles.toml gives rights to. A name it does not know grants nothing."""

from collections.abc import Iterable

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from apps.auth import events, rules
from apps.auth.models import Role
from apps.core import constraints
from apps.core.errors import DomainError, NotFound, invalid
from apps.core.events import Actor, emit

NAME_LENGTH = 64


class RoleNotFound(NotFound):
    code = "role_not_found"
    message = _("There is no such role.")


class RoleAlreadyExists(DomainError):
    code = "role_already_exists"
    message = _("There is such a role already.")


constraints.register("accounts_role_name_key", RoleAlreadyExists)


def stored_name(text: str) -> str:
    """The name as it is stored: `manager` is `ROLE_MANAGER`.

    :raises Invalid: blank, or longer than 64 characters with its prefix
    """
    if not text.strip():
        raise invalid("name", "blank", _("The name must not be blank."))
    name = rules.role_name(text)
    if len(name) > NAME_LENGTH:
        raise invalid("name", "max_length", _("The name must have at most 64 characters."))
    return name


def roles_named(names: Iterable[str]) -> list[Role]:
    """The roles of the names, however spelled, by name.

    :raises RoleNotFound: one of them is no role
    """
    wanted = {rules.role_name(name) for name in names}
    found = list(Role.objects.filter(name__in=wanted).order_by("name"))
    if len(found) != len(wanted):
        raise RoleNotFound
    return found


@transaction.atomic
def create_role(*, name: str, description: str | None = None, actor: Actor | None) -> Role:
    """Makes a role that can be assigned; it grants nothing until config/roles.toml says so.

    :raises RoleAlreadyExists: the name is taken
    """
    name = stored_name(name)
    if Role.objects.filter(name=name).exists():
        raise RoleAlreadyExists
    role = Role.objects.create(name=name, description=description or None)
    emit(
        events.ROLE_CREATED,
        role,  # has no version of its own
        actor=actor,
        version=1,
        payload={"role_id": role.pk, "name": role.name},
        changes={"name": (None, role.name), "description": (None, role.description)},
    )
    return role
