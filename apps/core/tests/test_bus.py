"""What leaves and how: routes, envelope, headers. That it arrives is test_publisher's."""

from datetime import UTC, datetime
from uuid import UUID

import amqp
import orjson
import pytest
from django.conf import settings

from apps.core import bus
from apps.core.models import Event

EVENT = Event(
    id=UUID("11111111-1111-4111-8111-111111111111"),
    position=7,
    name="deal.updated",
    aggregate="deal",
    aggregate_id=UUID("22222222-2222-4222-8222-222222222222"),
    version=3,
    via="http",
    trace_id="trace-1",
    payload={"deal_id": "22222222-2222-4222-8222-222222222222", "title": "Škoda Ёлкиной"},
    changes={"title": ["before", "after"]},
    at=datetime(2026, 3, 10, 9, 0, tzinfo=UTC),
)


def named(name: str) -> Event:
    return Event(name=name, aggregate_id=EVENT.aggregate_id, payload={}, at=EVENT.at)


def test_the_envelope_is_a_cloudevent_with_the_bare_payload():
    assert bus.envelope(EVENT) == {
        "specversion": "1.0",
        "id": "11111111-1111-4111-8111-111111111111",
        "source": "crm.deals",
        "type": "crm.deal.updated",
        "subject": "22222222-2222-4222-8222-222222222222",
        "time": "2026-03-10T09:00:00+00:00",
        "datacontenttype": "application/json",
        "data": EVENT.payload,
    }


def test_the_message_repeats_the_attributes_as_headers():
    message = bus.message(EVENT)
    assert orjson.loads(message.body) == bus.envelope(EVENT)
    assert message.properties == {
        "content_type": "application/cloudevents+json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "message_id": str(EVENT.pk),
        "application_headers": {
            "ce-specversion": "1.0",
            "ce-id": str(EVENT.pk),
            "ce-source": "crm.deals",
            "ce-type": "crm.deal.updated",
            "ce-time": "2026-03-10T09:00:00+00:00",
            "event": "deal.updated",
            "X-Trace-Id": "trace-1",
        },
    }


def test_changes_stay_at_home():
    assert b"before" not in bus.message(EVENT).body


def test_no_trace_no_header():
    assert "X-Trace-Id" not in bus.message(named("deal.created")).properties["application_headers"]


@pytest.mark.parametrize(
    ("name", "exchange", "source", "kind"),
    [
        ("client.created", "crm.events", "crm.clients", "crm.client.created"),
        ("policy.status.changed", "crm.events", "crm.policies", "crm.policy.status.changed"),
        ("deal.payment.income.created", "crm.events", "crm.deals", "crm.deal.payment.income.created"),
        ("task.created", "tasks.events", "crm.tasks", "tasks.task.created"),
        ("task.status.changed", "tasks.events", "crm.tasks", "tasks.task.status_changed"),
    ],
)
def test_where_each_goes(name, exchange, source, kind):
    body = bus.envelope(named(name))
    assert (bus.route_of(named(name)).exchange, body["source"], body["type"]) == (exchange, source, kind)


@pytest.mark.django_db
def test_only_what_has_a_route_leaves(happen):
    for name in (
        "user.created",
        "role.created",
        "catalog.updated",
        "notification.received",
        "dealer.made",
        "deal.made",
    ):
        happen(name)
    assert [event.name for event in Event.objects.filter(bus.leaving())] == ["deal.made"]


def test_the_exchanges_are_the_contracts():
    assert bus.exchanges() == ["crm.events", "notifications.exchange", "tasks.events"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError(), "unreachable"),
        (TimeoutError(), "unreachable"),
        (amqp.ConnectionForced(), "unreachable"),
        (amqp.AccessRefused(), "denied"),
        (amqp.NotAllowed(), "denied"),
        (amqp.PreconditionFailed(), "mismatched"),
    ],
)
def test_what_the_connection_failed_of(error, code):
    assert bus.trouble(error) == code
    assert code in bus.TROUBLES


@pytest.mark.parametrize(("url", "ssl"), [("amqp://h", False), ("amqps://h", {"server_hostname": None})])
def test_over_tls_the_brokers_name_is_verified(settings, monkeypatch, url, ssl):
    """None stands for the host of the URL; without it any valid certificate would do."""
    asked = {}

    def connection(_url, **options):
        asked.update(options)
        raise ConnectionRefusedError

    monkeypatch.setattr(bus, "Connection", connection)
    settings.RABBITMQ_URL = url
    with pytest.raises(ConnectionRefusedError), bus.connected():
        pass
    assert asked["ssl"] == ssl


def test_the_suite_has_no_broker_unless_it_asks():
    assert settings.RABBITMQ_URL == ""
