"""Clients: create, change, delete with what hangs from them, restore."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller, require
from apps.auth.models import User
from apps.core import changes, softdelete
from apps.core.errors import Forbidden, NotFound
from apps.core.events import emit
from apps.crm import access, events, queries
from apps.crm.models import Client, Deal, Policy

FIELDS = ("name", "email", "phone", "status")


class ClientNotFound(NotFound):
    code = "client_not_found"
    message = _("There is no such client.")


class OwnerNotFound(NotFound):
    code = "user_not_found"
    message = _("There is no such user.")


def visible_client(client_id: UUID, actor: Caller) -> Client:
    """:raises ClientNotFound: absent, deleted or not visible"""
    client = queries.client(actor, client_id)
    if client is None:
        raise ClientNotFound
    return client


def held_client(client_id: UUID, actor: Caller) -> Client:
    """As `visible_client`, and nobody deletes the client until the transaction ends: something will hang from it.

    Clients are locked before deals.
    """
    client = visible_client(client_id, actor)
    with connection.cursor() as cursor:  # shared: deals of one client are made side by side
        cursor.execute("SELECT 1 FROM crm_client WHERE id = %s AND deleted_at IS NULL FOR SHARE", [client_id])
        if cursor.fetchone() is None:
            raise ClientNotFound
    return client


def owner_for(values: Mapping[str, Any], actor: Caller) -> User | None:
    """Who owns what the caller creates: himself; an admin or a service token names another, or nobody yet.

    :raises OwnerNotFound: no enabled user has that id
    """
    if not actor.is_admin:
        return actor.author
    owner_id = values.get("owner_id")
    return enabled_user(owner_id) if owner_id else None


def enabled_user(user_id: UUID) -> User:
    """:raises OwnerNotFound: unknown or disabled"""
    user = User.objects.filter(pk=user_id, enabled=True).first()
    if user is None:
        raise OwnerNotFound
    return user


@transaction.atomic
def create_client(*, values: Mapping[str, Any], actor: Caller) -> Client:
    """A new client from `name, email, phone, status`; `owner_id` counts from an admin only."""
    require(actor, "clients.edit")
    owner = owner_for(values, actor)
    client = Client(**{name: values[name] for name in FIELDS if name in values}, owner=owner)
    for name, value in _twins(client).items():
        setattr(client, name, value)
    client.save(force_insert=True)
    given = {name: (None, getattr(client, name)) for name in (*FIELDS, "owner_id") if getattr(client, name) is not None}
    _emit(events.CLIENT_CREATED, client, actor, given)
    return client


@transaction.atomic
def change_client(
    *, client_id: UUID, values: Mapping[str, Any], actor: Caller, expected_version: int | None = None
) -> Client:
    """Changes what is given; absent stays.

    :raises ClientNotFound: absent or not visible
    :raises Forbidden: to anyone but its owner and admins
    """
    client = _locked(client_id, actor)
    access.require_client(actor, client)
    changes.expect_version(client, expected_version)
    wanted = {name: values[name] for name in FIELDS if name in values}
    if "owner_id" in values and actor.is_admin:
        wanted["owner_id"] = enabled_user(values["owner_id"]).pk if values["owner_id"] else None
    changed = changes.differing(client, wanted)
    if changed:
        after = {name: wanted.get(name, getattr(client, name)) for name in ("name", "email", "phone")}
        changes.apply(client, changed, also=Client.twins(**after))
        _emit(events.CLIENT_UPDATED, client, actor, changed)
    return client


@transaction.atomic
def delete_client(*, client_id: UUID, actor: Caller, expected_version: int | None = None) -> None:
    """Hides the client.

    :raises DeletionBlocked: while a deal or policy of his lives; those the caller may not see are counted, not named
    """
    client = _locked(client_id, actor)
    access.require_client(actor, client)
    changes.expect_version(client, expected_version)
    try:
        softdelete.delete(client)
    except softdelete.DeletionBlocked as blocked:
        raise _masked(blocked, actor) from None
    _emit(events.CLIENT_DELETED, client, actor, {"is_deleted": (False, True)})


@transaction.atomic
def restore_client(*, client_id: UUID, actor: Caller) -> Client:
    """Brings back a deleted client; a living one stays as it is. For its owner and admins."""
    require(actor, "clients.edit")
    client = Client.objects.select_for_update(no_key=True).filter(pk=client_id).first()
    if client is None or not (actor.is_admin or client.owner_id == actor.pk):
        seen = client is not None and Client.objects.visible_to(actor).filter(pk=client_id).exists()
        raise Forbidden if seen else ClientNotFound
    if client.is_deleted:
        softdelete.restore(client)
        _emit(events.CLIENT_RESTORED, client, actor, {"is_deleted": (True, False)})
    return client


def _locked(client_id: UUID, actor: Caller) -> Client:
    rows = Client.objects.living().visible_to(actor).select_for_update(no_key=True, of=("self",))
    client = rows.filter(pk=client_id).first()
    if client is None:
        raise ClientNotFound
    return client


def _twins(client: Client) -> dict[str, Any]:
    return Client.twins(name=client.name, phone=client.phone, email=client.email)


def _masked(blocked: softdelete.DeletionBlocked, actor: Caller) -> softdelete.DeletionBlocked:
    """Names only what the caller may see; the rest shows that it is there."""
    blockers = blocked.extra["blockers"]
    seen = {
        str(pk)
        for pk in Deal.objects.visible_to(actor).filter(pk__in=_ids(blockers, "deal")).values_list("pk", flat=True)
    }
    seen |= {
        str(pk)
        for pk in Policy.objects.visible_to(actor).filter(pk__in=_ids(blockers, "policy")).values_list("pk", flat=True)
    }
    for each in blockers:
        if each["id"] not in seen:
            each["id"], each["label"] = None, "***"
    return blocked


def _ids(blockers: list[dict[str, Any]], kind: str) -> list[str]:
    return [each["id"] for each in blockers if each["type"] == kind]


def _emit(name: str, client: Client, actor: Caller, changed: changes.Changes) -> None:
    """Client events carry field names, never values: they travel to people who may not see them."""
    payload = {"client_id": client.pk, "owner_id": client.owner_id, "changed": sorted(changed)}
    emit(name, client, actor=actor, payload=payload, changes=changed, client_id=client.pk)
