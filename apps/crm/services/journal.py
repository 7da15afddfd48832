"""The journal of a deal: entries are appended and never change; they raise no version."""

from uuid import UUID

from django.db import transaction

from apps.auth.access import Caller, author_of
from apps.core.events import emit
from apps.crm import access, events
from apps.crm.models import JournalEntry
from apps.crm.services.clients import enabled_user
from apps.crm.services.deals import visible_deal


@transaction.atomic
def append_entry(*, deal_id: UUID, body: str, actor: Caller, author_id: UUID | None = None) -> JournalEntry:
    """Adds an entry; `author_id` counts from an admin or a service token, else the caller is the author.

    :raises DealNotFound: absent or not visible
    """
    deal = visible_deal(deal_id, actor)
    access.require_work(actor, "journal.add", deal.pk)
    named = enabled_user(author_id) if author_id and actor.is_admin else None
    entry = JournalEntry.objects.create(deal=deal, author=author_of(actor, named), body=body)
    payload = {
        "deal_id": deal.pk,
        "entry_id": entry.pk,
        "author_id": entry.author_id,
        "body": entry.body,
        "created_at": entry.created_at,
    }
    emit(
        events.DEAL_JOURNAL_APPENDED,
        entry,
        actor=actor,
        payload=payload,
        changes={"body": (None, body)},
        deal_id=deal.pk,
        client_id=deal.client_id,
        aggregate="journal",
        version=1,
    )
    return entry
