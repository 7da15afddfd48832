"""Notifications: what other systems tell us becomes an event of our own, once."""

from typing import Any
from uuid import UUID

from django.db import transaction

from apps.core import services as core_services
from apps.core.events import emit
from apps.notifications import events

INBOX = "notifications.events"


@transaction.atomic
def receive_notification(*, message_id: UUID, source: str, type: str, time: str, data: dict[str, Any]) -> bool:
    """Takes over a notification of another system; False, and no effect, if its id was taken before."""
    if not core_services.take_once(consumer=INBOX, event_id=message_id):
        return False
    payload = {"id": message_id, "source": source, "type": type, "time": time, "data": data}
    emit(
        events.NOTIFICATION_RECEIVED,
        None,
        actor=None,
        payload=payload,
        aggregate="notification",
        aggregate_id=message_id,
        version=1,
    )
    return True
