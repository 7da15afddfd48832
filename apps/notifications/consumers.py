"""The way in from the bus: the queue `notifications.events`. Parses, calls one service. (docs/events.md, "Inbound")"""

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings

from apps.core.consumer import Consumer, Delivery, Elsewhere, Malformed, Queue
from apps.notifications import services

QUEUE = Queue("notifications.events", settings.BUS_INBOUND_EXCHANGE, "notifications.*")
DISPATCH = "notifications.dispatch"  # ours: it matches the binding too
FIELDS = ("id", "source", "type", "time", "data")
MOST_TEXT = 255


def consumer() -> Consumer:
    return Consumer(QUEUE, handle)


def handle(delivery: Delivery) -> bool:
    """The message's effect; False if it came before.

    :raises Malformed, Elsewhere: as `parse`
    """
    return services.receive_notification(**parse(delivery))


def parse(delivery: Delivery) -> dict[str, Any]:
    """The fields of a message that is shaped as an event: `{id, source, type, time, data}`; others are ignored.

    :raises Elsewhere: a dispatch of our own, or JSON that has none of the fields
    :raises Malformed: no JSON, or an event with a field that is missing or cannot be
    """
    if delivery.key == DISPATCH:
        raise Elsewhere
    try:
        body = orjson.loads(delivery.body)
    except orjson.JSONDecodeError:
        raise Malformed("not_json") from None
    if not isinstance(body, dict) or not any(name in body for name in FIELDS):
        raise Elsewhere
    for name in FIELDS:
        if body.get(name) is None:
            raise Malformed(f"field_missing:{name}")
    if not isinstance(body["data"], dict):
        raise Malformed("field_invalid:data")
    return {
        "message_id": _uuid(body["id"]),
        "source": _text("source", body["source"]),
        "type": _text("type", body["type"]),
        "time": _moment(body["time"]),
        "data": body["data"],
    }


def _uuid(value: Any) -> UUID:
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise Malformed("field_invalid:id") from None


def _text(name: str, value: Any) -> str:
    """One line: the type becomes the name of a stream's event."""
    if not isinstance(value, str) or not 1 <= len(value) <= MOST_TEXT or not value.isprintable():
        raise Malformed(f"field_invalid:{name}")
    return value


def _moment(value: Any) -> str:
    """The ISO 8601 moment as it was given."""
    try:
        datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise Malformed("field_invalid:time") from None
    return str(value)
