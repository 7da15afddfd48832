"""What an operator does to the event log's readers: try a parked event again, feed a subscription anew."""

import secrets
from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.core.errors import DomainError, NotFound
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
