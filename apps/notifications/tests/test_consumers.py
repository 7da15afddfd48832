"""Inbound notifications: what is one, what is not, and that each has its effect once."""

from typing import Any
from uuid import UUID

import orjson
import pytest

from apps.core.consumer import Delivery, Elsewhere, Malformed
from apps.core.models import Event, Inbox
from apps.notifications import consumers

ID = "11111111-1111-4111-8111-111111111111"
BODY: dict[str, Any] = {
    "id": ID,
    "source": "billing",
    "type": "invoice.paid",
    "time": "2026-03-10T09:00:00Z",
    "data": {"recipients": [{"userId": "u1"}], "sum": "10.00"},
}


def delivery(body: Any = BODY, key: str = "notifications.invoice") -> Delivery:
    return Delivery(body if isinstance(body, bytes) else orjson.dumps(body), key, {})


@pytest.mark.django_db
class TestEffect:
    def test_an_event_and_an_inbox_row(self):
        assert consumers.handle(delivery(BODY | {"chatId": "42", "other": 1})) is True
        event = Event.objects.get()
        assert (event.name, event.aggregate, event.aggregate_id, event.version) == (
            "notification.received", "notification", UUID(ID), 1
        )  # fmt: skip
        assert event.payload == BODY
        assert (event.actor_id, event.deal_id, event.changes) == (None, None, {})
        assert Inbox.objects.values_list("consumer", "event_id").get() == ("notifications.events", UUID(ID))

    def test_a_repeat_has_none(self):
        assert [consumers.handle(delivery()), consumers.handle(delivery(BODY | {"type": "other"}))] == [True, False]
        assert Event.objects.get().payload["type"] == "invoice.paid"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (BODY, "notifications.dispatch"),
        ({"notificationId": ID, "eventKey": "x", "payload": {}, "recipients": []}, "notifications.anything"),
        ({}, "notifications.x"),
        ([BODY], "notifications.x"),
        ("text", "notifications.x"),
        (None, "notifications.x"),
    ],
)
def test_other_shapes_are_not_for_us(body, key):
    with pytest.raises(Elsewhere):
        consumers.parse(delivery(body, key))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b'{"id": "\\ud800"}', "not_json"),
        (b"[" * 5000, "not_json"),
        *[({key: BODY[key] for key in BODY if key != name}, f"field_missing:{name}") for name in BODY],
        (BODY | {"id": None}, "field_missing:id"),
        (BODY | {"id": "17"}, "field_invalid:id"),
        (BODY | {"id": 17}, "field_invalid:id"),
        (BODY | {"source": ""}, "field_invalid:source"),
        (BODY | {"source": {}}, "field_invalid:source"),
        (BODY | {"type": "a\nevent: b"}, "field_invalid:type"),
        (BODY | {"type": "x" * 256}, "field_invalid:type"),
        (BODY | {"time": "yesterday"}, "field_invalid:time"),
        (BODY | {"time": 1700000000}, "field_invalid:time"),
        (BODY | {"data": []}, "field_invalid:data"),
    ],
)
def test_what_cannot_be_understood(body, code):
    with pytest.raises(Malformed) as caught:
        consumers.parse(delivery(body))
    assert caught.value.code == code


def test_the_queue_is_the_contracts():
    queue = consumers.QUEUE
    assert (queue.name, queue.exchange, queue.key) == (
        "notifications.events", "notifications.exchange", "notifications.*"
    )  # fmt: skip
