"""The bus: which events leave through RabbitMQ, where to, and in what envelope. (docs/events.md, "The bus")

Only what BUS_ROUTES names leaves, and of an event only its payload: `changes` never does. `publisher` does the sending.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import amqp
import orjson
from django.conf import settings
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from kombu import Connection

from apps.core.models import Event, Subscription

SUBSCRIPTION = "rabbitmq"
CONTENT_TYPE = "application/cloudevents+json"
FEED, FEED_LENGTH = "crm.feed", 100_000  # the newest messages of every exchange, for whoever looks or is new
HEARTBEAT = 10  # seconds; a peer that is silent for two of these is gone
CONNECT_SECONDS, IO_SECONDS = 5, 15

# What ends a connection to the broker, of the network's kind and of the broker's.
ERRORS = (OSError, amqp.AMQPError)

# Why the bus stands still: the codes of Subscription.error, for people.
TROUBLES = {
    "unreachable": _("The broker does not answer."),
    "denied": _("The broker refuses the user or the virtual host."),
    "mismatched": _("An exchange or a queue exists with other properties."),
    "blocked": _("The broker takes nothing: it is short of memory or disk."),
    "unroutable": _("No queue is bound to the exchange."),
    "refused": _("The broker refused a message."),
    "unconfirmed": _("The broker takes messages and does not confirm them."),
    "failed": _("An event cannot be sent: the relay's log says why."),
}


@dataclass(frozen=True, slots=True)
class Route:
    """Where the events of one first word go, and what begins their type."""

    exchange: str
    source: str
    prefix: str


def routes() -> dict[str, Route]:
    return {word: Route(*row) for word, row in settings.BUS_ROUTES.items()}


def exchanges() -> list[str]:
    """The topic exchanges of this system."""
    return sorted({route.exchange for route in routes().values()} | {settings.BUS_INBOUND_EXCHANGE})


def leaving() -> Q:
    """The events that leave."""
    found = Q(pk__in=[])
    for word in routes():
        found |= Q(name__startswith=f"{word}.")
    return found


@dataclass(frozen=True, slots=True)
class Standing:
    """How the bus is: `trouble` is a code of TROUBLES or "", `since` when it began."""

    position: int
    trouble: str
    since: datetime | None


def standing() -> Standing | None:
    """None without RABBITMQ_URL, and before the first relay that had one."""
    row = Subscription.objects.filter(pk=SUBSCRIPTION).first() if settings.RABBITMQ_URL else None
    return Standing(row.position, row.error, row.failing_since) if row else None


def unpublished() -> Q:
    """The events that are still to leave; none without a bus."""
    now = standing()
    if now is None:
        return Q(pk__in=[])
    return leaving() & (Q(position__gt=now.position) | Q(position=None))


def route_of(event: Event) -> Route:
    """:raises KeyError: if the event does not leave"""
    return routes()[event.name.partition(".")[0]]


def envelope(event: Event) -> dict[str, Any]:
    """The event as CloudEvents 1.0 in structured mode."""
    route = route_of(event)
    return {
        "specversion": "1.0",
        "id": str(event.pk),
        "source": route.source,
        "type": settings.BUS_TYPES.get(event.name) or f"{route.prefix}{event.name}",
        "subject": str(event.aggregate_id),
        "time": event.at.isoformat(),
        "datacontenttype": "application/json",
        "data": event.payload,
    }


def message(event: Event) -> amqp.Message:
    """The event as it is sent: the envelope, its attributes repeated as headers; persistent."""
    body = envelope(event)
    headers = {f"ce-{name}": body[name] for name in ("specversion", "id", "source", "type", "time")}
    headers["event"] = event.name
    if event.trace_id:
        headers["X-Trace-Id"] = event.trace_id
    return amqp.Message(
        orjson.dumps(body),
        content_type=CONTENT_TYPE,
        content_encoding="utf-8",
        delivery_mode=2,
        message_id=body["id"],
        application_headers=headers,
    )


@contextmanager
def connected(**options: Any) -> Iterator[amqp.Connection]:
    """A connection to the broker of RABBITMQ_URL; left in good order it is closed, left by an error it is cut.

    :raises OSError, amqp.AMQPError: if the broker does not answer, refuses, or is silent for 15 seconds when asked
    """
    waits = {"read_timeout": IO_SECONDS, "write_timeout": IO_SECONDS}
    # Over TLS the certificate is verified anyway; the name in it only if one is asked for: None is the URL's.
    tls = {"server_hostname": None} if settings.RABBITMQ_URL.startswith("amqps:") else False
    broker = Connection(
        settings.RABBITMQ_URL,
        ssl=tls,
        heartbeat=HEARTBEAT,
        connect_timeout=CONNECT_SECONDS,
        transport_options=waits | options,
    )
    connection: amqp.Connection = broker.transport.establish_connection()
    try:
        yield connection
        connection.close()
    finally:
        connection.collect()


def declare(channel: amqp.Channel) -> None:
    """Declares the exchanges and the feed that takes everything: in a healthy system each event has a queue."""
    arguments = {"x-queue-type": "quorum", "x-max-length": FEED_LENGTH, "x-overflow": "drop-head"}
    channel.queue_declare(FEED, durable=True, auto_delete=False, arguments=arguments)
    for exchange in exchanges():
        channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
        channel.queue_bind(FEED, exchange, "#")


def trouble(error: Exception) -> str:
    """The code of what the connection failed of."""
    if isinstance(error, amqp.AccessRefused | amqp.NotAllowed):
        return "denied"
    return "mismatched" if isinstance(error, amqp.PreconditionFailed) else "unreachable"
