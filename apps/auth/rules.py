"""Pure rules of people and rights: what roles grant, how role names are spelled, what a password must be."""

import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

ROLES_FILE = Path(__file__).resolve().parents[2] / "config" / "roles.toml"

DEFAULT_ROLE = "ROLE_USER"
ADMIN_ROLE = "ROLE_ADMIN"
MIN_DIFFERENT = 5  # characters of a password that differ from each other

CAPABILITIES = frozenset({
    "clients.edit",
    "deals.edit", "deals.manage", "deals.assign",
    "journal.add",
    "calculations.edit", "calculations.confirm",
    "policies.edit", "policies.delete",
    "payments.edit", "payments.record", "payments.delete", "payments.correct", "payments.cancel",
    "catalogs.edit", "users.manage", "roles.manage", "tokens.manage", "events.view",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rights:
    """What someone may do. `capabilities` hold where one works in the deal, `everywhere` in every deal one sees."""

    capabilities: frozenset[str] = frozenset()
    everywhere: frozenset[str] = frozenset()
    sees_all_deals: bool = False
    is_admin: bool = False

    def __or__(self, other: "Rights") -> "Rights":
        return Rights(
            self.capabilities | other.capabilities,
            self.everywhere | other.everywhere,
            self.sees_all_deals or other.sees_all_deals,
            self.is_admin or other.is_admin,
        )


@cache
def role_table() -> dict[str, Rights]:
    """Rights by role name, from config/roles.toml.

    :raises ImproperlyConfigured: an unknown key or capability: a typo must not silently close or open a door
    """
    table = {}
    for name, entry in tomllib.loads(ROLES_FILE.read_text(encoding="utf-8")).items():
        unknown = set(entry) - {"description", "capabilities", "sees", "works", "admin"}
        unknown |= set(entry.get("capabilities", [])) - CAPABILITIES
        if unknown or entry.get("sees", "own") not in ("own", "all") or entry.get("works", "own") not in ("own", "all"):
            raise ImproperlyConfigured(f"config/roles.toml, {name}: {', '.join(sorted(unknown)) or 'sees/works'}")
        granted = frozenset(entry.get("capabilities", []))
        table[name] = Rights(
            granted,
            granted if entry.get("works") == "all" else frozenset(),
            entry.get("sees") == "all",
            bool(entry.get("admin", False)),
        )
    return table


@lru_cache(maxsize=256)
def rights_of(role_names: frozenset[str]) -> Rights:
    """The union over the roles; a role that config does not know grants nothing."""
    total = Rights()
    for name in role_names:
        total |= role_table().get(name, Rights())
    return total


def role_name(text: str) -> str:
    """The name as it is stored: trimmed, upper case, prefixed `ROLE_`."""
    name = text.strip().upper()
    return name if name.startswith("ROLE_") else f"ROLE_{name}"


class MaximumLengthValidator:
    """Refuses a password longer than `max_length` characters: hashing it would be a way to keep us busy."""

    def __init__(self, max_length: int = 128) -> None:
        self.max_length = max_length

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) > self.max_length:
            raise ValidationError(self.get_help_text(), code="password_too_long")

    def get_help_text(self) -> str:
        return ngettext(
            "The password must have at most %(n)d character.", "The password must have at most %(n)d characters.",
            self.max_length,
        ) % {"n": self.max_length}  # fmt: skip


class ContextWordsValidator:
    """Refuses a password made of the account's e-mail, of the product's name, or of a few characters over and over."""

    def validate(self, password: str, user: Any = None) -> None:
        folded = password.casefold()
        email = (getattr(user, "email", "") or "").casefold()
        local = email.partition("@")[0]
        if email and (folded == email or (len(local) >= 4 and local in folded)):
            raise ValidationError(_("The password must not contain the e-mail."), code="password_too_similar")
        few = len(set(folded)) < MIN_DIFFERENT
        if few or folded.strip("0123456789!@#$%^&*._-") in {
            "crm",
            "crm2",
            "insurance",
            "password",
            "пароль",
            "страхование",
        }:
            raise ValidationError(_("The password is too common."), code="password_too_common")

    def get_help_text(self) -> str:
        return str(_("The password must not contain the e-mail."))
