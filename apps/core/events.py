"""The event log's two doors: `emit()` for services, `@on()` for handlers.

`emit` writes one row in the service's own transaction; the relay numbers it after commit and hands it to every
subscription in order. A handler touches only the database: its effect commits with the subscription's cursor.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models
from django.utils import timezone

from apps.core import context
from apps.core.models import Event

CHANNEL = "crm2_events"  # NOTIFY channel; a statement trigger on the table rings it, once per transaction
RETRY = "retry"  # what is rung with so that the publisher does not wait to the end of its pause


class Actor(Protocol):
    """Who acts: a user or a service token. None stands for the system itself."""

    pk: Any


def emit(
    name: str,
    subject: Any,
    *,
    actor: Actor | None,
    payload: Mapping[str, Any],
    changes: Mapping[str, tuple[Any, Any]] | None = None,
    deal_id: UUID | None = None,
    client_id: UUID | None = None,
    aggregate: str | None = None,
    aggregate_id: UUID | None = None,
    version: int | None = None,
) -> Event:
    """Tells that something happened to `subject`, whose row the caller has locked and whose version it has raised.

    `payload` is the contract's `data`; `changes` is {field: (before, after)} for the history. `aggregate`,
    `aggregate_id` and `version` override the subject's own for parts that have no version of their own.

    :raises RuntimeError: outside a transaction: an event that could be lost or lie is a bug
    """
    if not connection.in_atomic_block:
        raise RuntimeError(f"emit({name!r}) outside a transaction")
    return Event.objects.create(
        name=name,
        aggregate=aggregate or type(subject).__name__.lower(),
        aggregate_id=aggregate_id or subject.pk,
        version=version if version is not None else subject.version,
        deal_id=deal_id,
        client_id=client_id,
        actor_id=actor.pk if actor else None,
        via=context.via(),
        trace_id=context.trace_id(),
        payload=plain(payload),
        changes={key: [plain(before), plain(after)] for key, (before, after) in (changes or {}).items()},
        at=timezone.now(),
    )


def plain(value: Any) -> Any:
    """The value as JSON keeps it: money as text with its two decimals, dates and moments as ISO-8601."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    if isinstance(value, models.Model):
        return plain(value.pk)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return DjangoJSONEncoder().default(value)


Handler = Callable[[Event], None]


@dataclass(slots=True)
class SubscriptionSpec:
    """One reader of the log and its handlers, keyed by event name; `*` takes every event."""

    name: str
    handlers: dict[str, list[Handler]] = field(default_factory=dict)

    def of(self, event_name: str) -> list[Handler]:
        return self.handlers.get(event_name, []) + self.handlers.get("*", [])


registry: dict[str, SubscriptionSpec] = {}


def on(*names: str, subscription: str) -> Callable[[Handler], Handler]:
    """Registers a handler for the named events in a subscription, which keeps a cursor and parked events of its own."""

    def register(handler: Handler) -> Handler:
        spec = registry.setdefault(subscription, SubscriptionSpec(subscription))
        for name in names:
            spec.handlers.setdefault(name, []).append(handler)
        return handler

    return register
