"""What an operator does to the event log's readers, and the inbox of what comes from the bus."""

import secrets
from collections.abc import Iterable
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.core.errors import DomainError, NotFound
from apps.core.events import CHANNEL, RETRY
from apps.core.models import Parked, RelayHead, Subscription


class SubscriptionNotFound(NotFound):
    code = "subscription_not_found"
    message = _("There is no such subscription.")


class PositionNotReached(DomainError):
    """Replaying starts at an event that the subscription has already passed."""

    code = "position_not_reached"
    message = _("The subscription has not come to that position.")


@transaction.atomic
def retry_parked(*, ids: Iterable[int]) -> int:
    """Has the parked events tried again now, with five tries to come; returns how many chains were woken.

    An event that waits behind another of its key wakes that one: order is kept.
    """
    chosen = Parked.objects.filter(pk__in=ids)
    chains = set(chosen.values_list("subscription_id", "key"))
    _lock({name for name, _key in chains})
    woken = 0
    for name, key in chains:
        first = Parked.objects.filter(subscription=name, key=key).order_by("position").first()
        if first:
            first.tries, first.next_try_at = 0, timezone.now()
            first.save(update_fields=["tries", "next_try_at"])
            woken += 1
    return woken


@transaction.atomic
def replay(*, subscription: str, from_position: int) -> int:
    """Feeds the subscription again from the event at `from_position`; returns how many positions it goes back.

    What is parked from there on is fed again too; what is parked before stays. Effects come a second time unless the
    handlers know what they have done.

    :raises SubscriptionNotFound: no subscription has that name
    :raises PositionNotReached: the position is not one that the subscription has passed
    """
    row = Subscription.objects.select_for_update().filter(pk=subscription).first()
    if row is None:
        raise SubscriptionNotFound
    if not 1 <= from_position <= row.position:
        raise PositionNotReached
    Parked.objects.filter(subscription=row, position__gte=from_position).delete()
    back = row.position - from_position + 1
    row.position = from_position - 1
    row.save()
    return back


def retry_publishing() -> None:
    """Has the leading relay try the bus again now, instead of at the end of its pause (of 5 seconds at most)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, RETRY])


def take_once(*, consumer: str, event_id: UUID) -> bool:
    """Whether the consumer takes this message of the bus for the first time; commits with the caller's effect.

    A twin in another transaction waits for this one's end.

    :raises RuntimeError: outside a transaction
    """
    if not connection.in_atomic_block:
        raise RuntimeError("take_once() outside a transaction")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO core_inbox (consumer, event_id) VALUES (%s, %s) ON CONFLICT DO NOTHING", [consumer, event_id]
        )
        return bool(cursor.rowcount)


def new_epoch() -> str:
    """Says that the log is no longer the one that readers outside know: after a restore. Returns the new epoch.

    Streams tell their clients to read anew; positions go on from where the restored log ends.
    """
    epoch = secrets.token_hex(4)
    RelayHead.objects.update(epoch=epoch)
    return epoch


def _lock(names: Iterable[str]) -> None:
    """Holds the relay off the subscriptions until the transaction ends."""
    list(Subscription.objects.select_for_update().filter(pk__in=names).order_by("pk"))
