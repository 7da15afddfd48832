"""Creation events of seeded rows, with the data that the services' own events carry."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Model

from apps.auth import events as auth_events
from apps.auth.models import User
from apps.core.changes import Changes
from apps.core.events import emit
from apps.crm import events as crm_events
from apps.crm.models import Catalog, Client, Deal, JournalEntry

CLIENT_FIELDS = ("name", "email", "phone", "status", "owner_id")
DEAL_FIELDS = ("client_id", "owner_id", "status", "title", "description", "next_review_at")
POLICY_FIELDS = (
    "client_id", "deal_id", "status", "policy_number", "premium", "effective_from", "effective_to", "insurer_id",
    "insurance_type_id", "sales_channel_id",
)  # fmt: skip
PAYMENT_FIELDS = (
    "planned_date", "planned_amount", "comment", "actual_date", "policy_id", "sequence", "status", "currency",
    "recorded_by_id",
)  # fmt: skip
OPERATION_FIELDS = ("amount", "category", "posted_at", "note")
CATALOG_FIELDS = ("name", "code", "aliases", "is_active")


def given(row: Model, names: Iterable[str]) -> Changes:
    """{field: (None, value)} of what the new row was given."""
    return {name: (None, getattr(row, name)) for name in names if getattr(row, name) is not None}


def deal_read(deal: Mapping[str, Any]) -> dict[str, Any]:
    """The data of `deal.created` from the columns of a deal."""
    names = ("client_id", "owner_id", "title", "status", "stage", "next_review_at", "created_at")
    return {"deal_id": deal["id"], "sales_agent_id": deal["owner_id"], **{name: deal[name] for name in names}}


def policy_read(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The data of `policy.created` from the columns of a policy of a deal."""
    names = (
        "deal_id",
        "client_id",
        "policy_number",
        "status",
        "premium",
        "effective_from",
        "effective_to",
        "updated_at",
    )
    return {"policy_id": policy["id"], **{name: policy[name] for name in names}}


def user_created(user: User, roles: Iterable[str]) -> None:
    names = sorted(roles)
    payload = {"user_id": user.pk, "enabled": user.enabled, "roles": names, "created_at": user.created_at}
    changed = {**given(user, ("email", "full_name", "enabled")), "roles": (None, names)}
    emit(auth_events.USER_CREATED, user, actor=None, payload=payload, changes=changed)


def catalog_created(entry: Catalog, actor: User) -> None:
    payload = {
        "catalog": type(entry).__name__.lower(),
        "id": entry.pk,
        "name": entry.name,
        "is_active": entry.is_active,
    }
    emit(crm_events.CATALOG_CREATED, entry, actor=actor, payload=payload, changes=given(entry, CATALOG_FIELDS))


def client_created(client: Client, actor: User) -> None:
    changed = given(client, CLIENT_FIELDS)
    payload = {"client_id": client.pk, "owner_id": client.owner_id, "changed": sorted(changed)}
    emit(crm_events.CLIENT_CREATED, client, actor=actor, payload=payload, changes=changed, client_id=client.pk)


def deal_created(deal: Deal, actor: User) -> None:
    payload = deal_read({field.attname: getattr(deal, field.attname) for field in deal._meta.concrete_fields})
    changed = given(deal, DEAL_FIELDS)
    emit(
        crm_events.DEAL_CREATED, deal, actor=actor, payload=payload, changes=changed,
        deal_id=deal.pk, client_id=deal.client_id,
    )  # fmt: skip


def journal_appended(entry: JournalEntry, deal: Deal, actor: User) -> None:
    payload = {
        "deal_id": deal.pk,
        "entry_id": entry.pk,
        "author_id": entry.author_id,
        "body": entry.body,
        "created_at": entry.created_at,
    }
    emit(
        crm_events.DEAL_JOURNAL_APPENDED, entry, actor=actor, payload=payload, changes=given(entry, ("body",)),
        deal_id=deal.pk, client_id=deal.client_id, aggregate="journal", version=1,
    )  # fmt: skip
