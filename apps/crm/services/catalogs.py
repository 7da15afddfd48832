"""Catalogs: written by admins; text equal to a name or an alias, folded, means its entry."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller, require
from apps.core import changes
from apps.core.errors import DomainError, NotFound
from apps.core.events import emit
from apps.core.folding import fold
from apps.crm import events
from apps.crm.models import Catalog, InsuranceType, Insurer, SalesChannel

FIELDS = ("name", "code", "aliases", "is_active")
LINKS: dict[str, type[Catalog]] = {
    "insurer_id": Insurer,
    "insurance_type_id": InsuranceType,
    "sales_channel_id": SalesChannel,
}


class CatalogEntryNotFound(NotFound):
    code = "catalog_entry_not_found"
    message = _("There is no such catalog entry.")


class CatalogNameTaken(DomainError):
    code = "catalog_name_exists"
    message = _("The catalog has this name or alias already.")


@transaction.atomic
def create_entry(model: type[Catalog], *, values: Mapping[str, Any], actor: Caller) -> Catalog:
    """A new entry of one catalog.

    :raises CatalogNameTaken: the name or an alias means another entry already
    """
    require(actor, "catalogs.edit")
    entry = model(**{name: values[name] for name in FIELDS if name in values})
    twins = _twins(entry.name, entry.aliases)
    for name, value in twins.items():
        setattr(entry, name, value)
    _refuse_taken(entry)
    entry.save(force_insert=True)
    given = {name: (None, getattr(entry, name)) for name in FIELDS}
    emit(events.CATALOG_CREATED, entry, actor=actor, payload=_payload(entry), changes=given)
    return entry


@transaction.atomic
def change_entry(
    model: type[Catalog],
    *,
    entry_id: UUID,
    values: Mapping[str, Any],
    actor: Caller,
    expected_version: int | None = None,
) -> Catalog:
    """Changes an entry; what is absent stays.

    :raises CatalogEntryNotFound: no such entry
    :raises CatalogNameTaken: the name or an alias means another entry already
    """
    require(actor, "catalogs.edit")
    entry = model._default_manager.select_for_update(no_key=True).filter(pk=entry_id).first()
    if entry is None:
        raise CatalogEntryNotFound
    changes.expect_version(entry, expected_version)
    changed = changes.differing(entry, {name: values[name] for name in FIELDS if name in values})
    if not changed:
        return entry
    twins = _twins(values.get("name", entry.name), values.get("aliases", entry.aliases))
    for name, value in twins.items():
        setattr(entry, name, value)
    _refuse_taken(entry)
    changes.apply(entry, changed, also=twins)
    emit(events.CATALOG_UPDATED, entry, actor=actor, payload=_payload(entry), changes=changed)
    return entry


def meant(model: type[Catalog], text: str) -> Catalog | None:
    """The entry whose name or alias the text is, in any case and spacing."""
    key = fold(text)
    return model._default_manager.filter(Q(name_key=key) | Q(alias_keys__contains=[key])).order_by("name_key").first()


def check_links(values: Mapping[str, Any]) -> None:
    """:raises CatalogEntryNotFound: a catalog id among the values that is no entry"""
    for name, model in LINKS.items():
        if values.get(name) is not None and not model._default_manager.filter(pk=values[name]).exists():
            raise CatalogEntryNotFound


def _twins(name: str, aliases: list[str]) -> dict[str, Any]:
    return {"name_key": fold(name), "alias_keys": sorted({fold(alias) for alias in aliases})}


def _refuse_taken(entry: Catalog) -> None:
    keys = [entry.name_key, *entry.alias_keys]
    twins = type(entry)._default_manager.filter(Q(name_key__in=keys) | Q(alias_keys__overlap=keys))
    if twins.exclude(pk=entry.pk).exists():
        raise CatalogNameTaken


def _payload(entry: Catalog) -> dict[str, Any]:
    return {"catalog": type(entry).__name__.lower(), "id": entry.pk, "name": entry.name, "is_active": entry.is_active}
