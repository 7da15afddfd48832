"""How subscriptions are fed: in order of position, each event handled completely or not at all, its effect once.

A handler's effect commits together with the subscription's cursor, under the lock of the subscription's row. An event
that fails is parked and tried again later; later events of the same key (its deal, else its aggregate) wait behind it
and all others pass. Of a key's parked events only the first has a time of its next try; after five tries it has none.
"""

import logging
import re
import time
from datetime import timedelta
from uuid import UUID

from django.db import DatabaseError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules

from apps.core import context
from apps.core.errors import DomainError
from apps.core.events import SubscriptionSpec, registry
from apps.core.models import Event, Parked, RelayHead, Subscription

log = logging.getLogger(__name__)

EVENTS_A_TURN = 500
POSITIONS_A_TURN = 10_000  # events of no interest are passed over this many at a time
TURN_SECONDS = 0.05  # a turn ends after the event that passes this
BACKOFF = (1, 5, 25, 125)  # seconds before the second, third, ... try
MOST_TRIES = len(BACKOFF) + 1
MOST_ERROR = 300  # characters kept of an error
LOCK_TIMEOUT = "2s"  # a handler that waits longer for somebody's row is parked: the others must not wait with it

_VALUES = re.compile(r"""'[^']*'|"[^"]*"|«[^»]*»|\([^)]*\)|\S+@\S+|\+?\d[\d\s-]{3,}\d""")


def prepare() -> None:
    """Imports the apps' handlers and makes the rows of new subscriptions: they start at the present head."""
    autodiscover_modules("handlers")
    known = set(Subscription.objects.values_list("name", flat=True))
    head = _head()
    for name in sorted(registry.keys() - known):
        Subscription.objects.get_or_create(name=name, defaults={"position": head})


def behind() -> list[str]:
    """Registered subscriptions that have not come to the head."""
    rows = Subscription.objects.filter(name__in=registry, position__lt=_head())
    return list(rows.order_by("name").values_list("name", flat=True))


def with_due() -> list[str]:
    """Registered subscriptions that have a parked event whose time has come."""
    rows = Parked.objects.filter(subscription__in=registry, next_try_at__lte=timezone.now())
    return sorted(set(rows.values_list("subscription_id", flat=True)))


def feed(name: str) -> int:
    """One turn of the subscription's new events; returns by how many positions its cursor has moved.

    The turn is first taken in one go. If anything fails, all of it is rolled back and it is taken again with a
    savepoint for each event, which shows whose fault it is.
    """
    try:
        return _feed(registry[name], careful=False)
    except Exception:
        if _connection_lost():
            raise
    return _feed(registry[name], careful=True)


def _feed(spec: SubscriptionSpec, *, careful: bool) -> int:
    with transaction.atomic():
        subscription = _locked(spec.name)
        before = subscription.position
        end = min(_head(), before + POSITIONS_A_TURN)
        events = list(_of_interest(spec, before, end)[:EVENTS_A_TURN])
        waiting = set(Parked.objects.filter(subscription=spec.name).values_list("key", flat=True).distinct())
        cursor, until = before, time.monotonic() + TURN_SECONDS  # reading does not count: a slow disk starves nobody
        for event in events:
            cursor = event.position or cursor
            if key_of(event) in waiting:
                _park(spec.name, event, None)
            elif careful:
                error = _attempt(spec, event)
                if error:
                    _park(spec.name, event, error)
                    waiting.add(key_of(event))
            else:
                _handle(spec, event)
            if time.monotonic() > until:
                break
        else:
            if len(events) < EVENTS_A_TURN:
                cursor = end
        if cursor > before:
            Subscription.objects.filter(pk=spec.name).update(position=cursor, updated_at=timezone.now())
    return max(0, cursor - before)


def retry_due(name: str) -> int:
    """One turn of the subscription's parked events whose time has come; returns how many were handled."""
    spec, started, handled = registry[name], time.monotonic(), 0
    with transaction.atomic():
        _locked(name)
        due = Parked.objects.filter(subscription=name, next_try_at__lte=timezone.now()).order_by("position")
        for key in dict.fromkeys(due.values_list("key", flat=True)):
            handled += _retry_key(spec, key, until=started + TURN_SECONDS)
            if time.monotonic() > started + TURN_SECONDS:
                break
    return handled


def _retry_key(spec: SubscriptionSpec, key: UUID, *, until: float) -> int:
    """Handles the key's parked events in order, up to the first that fails; the next of a cut chain is due at once."""
    handled = 0
    parked_here = Parked.objects.filter(subscription=spec.name, key=key).select_related("event").order_by("position")
    for parked in parked_here[:EVENTS_A_TURN]:
        if error := _attempt(spec, parked.event):
            _failed(parked, error)
            return handled
        parked.delete()
        handled += 1
        if time.monotonic() > until:
            break
    if first := parked_here.first():
        first.next_try_at = timezone.now()
        first.save(update_fields=["next_try_at"])
    return handled


def _failed(parked: Parked, error: Exception) -> None:
    parked.tries += 1
    parked.error = describe(error)
    again = parked.tries < MOST_TRIES
    parked.next_try_at = timezone.now() + timedelta(seconds=BACKOFF[parked.tries - 1]) if again else None
    parked.save()
    log.error(
        "event parked" if again else "event parked for good",
        exc_info=error,
        extra={
            "subscription": parked.subscription_id,
            "event": parked.event.name,
            "position": parked.position,
            "count": parked.tries,
        },
    )


def _park(name: str, event: Event, error: Exception | None) -> None:
    """Parks an event that has failed once, or (without an error) that waits behind another of its key."""
    parked = Parked(subscription_id=name, event=event, key=key_of(event), position=event.position or 0)
    if error:
        _failed(parked, error)
    else:
        parked.save()


def _attempt(spec: SubscriptionSpec, event: Event) -> Exception | None:
    """Handles the event in a savepoint; an error, deferred constraints included, is rolled back and returned.

    :raises DatabaseError: if the connection is lost, which is no fault of the event
    """
    try:
        with transaction.atomic():
            _handle(spec, event)
            connection.check_constraints()
    except Exception as error:
        if _connection_lost():
            raise
        return error
    return None


def _handle(spec: SubscriptionSpec, event: Event) -> None:
    """Calls the handlers as a job that continues the trace of the event."""
    context.enter(trace_id=event.trace_id, via="job")
    try:
        for handler in spec.of(event.name):
            handler(event)
    finally:
        context.leave()


def key_of(event: Event) -> UUID:
    """Events of one key are handled in order or not at all."""
    return event.deal_id or event.aggregate_id


def describe(error: BaseException) -> str:
    """The error in one line that names no one: quoted texts, brackets, numbers and addresses are left out."""
    name = type(error).__name__
    if isinstance(error, DomainError):
        return f"{name}: {error.code}"
    if isinstance(error, DatabaseError):
        cause = error.__cause__
        constraint = getattr(getattr(cause, "diag", None), "constraint_name", None)
        return " ".join(filter(None, [f"{name}:", getattr(cause, "sqlstate", None), constraint])).removesuffix(":")
    first_line = _VALUES.sub("…", str(error).split("\n", 1)[0]).replace("\0", "")
    return f"{name}: {first_line}".removesuffix(": ")[:MOST_ERROR]


def _locked(name: str) -> Subscription:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    return Subscription.objects.select_for_update().get(pk=name)


def _head() -> int:
    return RelayHead.objects.values_list("position", flat=True).get()


def _of_interest(spec: SubscriptionSpec, after: int, upto: int) -> QuerySet[Event]:
    events = Event.objects.filter(position__gt=after, position__lte=upto).order_by("position")
    return events if "*" in spec.handlers else events.filter(name__in=spec.handlers)


def _connection_lost() -> bool:
    return connection.connection is None or connection.connection.closed
