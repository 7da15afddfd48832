"""The capability names, and who a caller can be."""

from typing import Any, Protocol

from apps.auth.models import ServiceToken, User
from apps.auth.rules import CAPABILITIES, Rights, role_table
from apps.core.errors import Forbidden

__all__ = ["CAPABILITIES", "Caller", "author_of", "holds_a_role", "require"]


class Caller(Protocol):
    """A user or a service token, as services see them."""

    pk: Any

    @property
    def rights(self) -> Rights: ...
    @property
    def is_admin(self) -> bool: ...
    @property
    def sees_all_deals(self) -> bool: ...
    @property
    def author(self) -> User | None: ...
    def can(self, capability: str) -> bool: ...


def require(caller: Caller, capability: str) -> None:
    """:raises Forbidden: if no role of the caller grants the capability"""
    if not caller.can(capability):
        raise Forbidden


def holds_a_role(user: User) -> bool:
    """Whether the person holds any role that config/roles.toml knows."""
    return not user.role_names.isdisjoint(role_table())


def author_of(caller: Caller, named: User | None = None) -> User | None:
    """Whom a record names as its author: the caller; an admin or a service token may name another."""
    if named is not None and (caller.is_admin or isinstance(caller, ServiceToken)):
        return named
    return caller.author
