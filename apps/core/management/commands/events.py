"""`manage.py events`: looks into the event log and its subscriptions, and mends them."""

import json
import time
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count, Q

from apps.core import bus, services
from apps.core.errors import DomainError
from apps.core.models import Event, Parked, RelayHead, Subscription

POLL_SECONDS = 0.5
LINES_AT_ONCE = 500


class Command(BaseCommand):
    help = "Shows the event log and mends its readers."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("status", help="the head, and per subscription its position, parked events and alarm")
        tail = actions.add_parser("tail", help="print events as they are numbered, until Ctrl-C")
        tail.add_argument("--from", dest="start", type=int, help="the position to begin at; else the next event")
        tail.add_argument("--types", default="", help="names, separated by commas; deal.* means all that begin so")
        show = actions.add_parser("show", help="print one event with its changes, as JSON")
        show.add_argument("event", help="an id or a position")
        replay = actions.add_parser("replay", help="feed a subscription again from a position")
        replay.add_argument("subscription")
        replay.add_argument("from_position", type=int)
        actions.add_parser("parked", help="the events that subscriptions could not take yet")
        retry = actions.add_parser("retry", help="try parked events again now")
        retry.add_argument("ids", nargs="+", type=int, help="ids of parked events")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except DomainError as error:
            raise CommandError(str(error)) from error

    def _status(self, options: dict[str, Any]) -> None:
        head = RelayHead.objects.get()
        self.stdout.write(f"head {head}")
        parked = dict(Parked.objects.values_list("subscription").annotate(Count("pk")).order_by())
        for each in Subscription.objects.order_by("name"):
            bus_too = f" {_bus()}" if each.pk == bus.SUBSCRIPTION else ""
            self.stdout.write(f"{each} parked={parked.get(each.pk, 0)}{bus_too}")

    def _tail(self, options: dict[str, Any]) -> None:
        start = options["start"]
        if start is not None and start < 1:
            raise CommandError("--from is a position: 1 or more.")
        seen = RelayHead.objects.values_list("position", flat=True).get() if start is None else start - 1
        wanted = _named(options["types"])
        try:
            while True:
                events = Event.objects.filter(wanted, position__gt=seen).order_by("position")[:LINES_AT_ONCE]
                for event in events:
                    self.stdout.write(_line(event))
                    seen = event.position or seen
                self.stdout.flush()
                if len(events) < LINES_AT_ONCE:
                    time.sleep(POLL_SECONDS)
        except (KeyboardInterrupt, BrokenPipeError):
            return

    def _show(self, options: dict[str, Any]) -> None:
        event = Event.objects.filter(_identified(options["event"])).first()
        if event is None:
            raise CommandError("There is no such event.")
        columns = {field.attname: getattr(event, field.attname) for field in Event._meta.concrete_fields}
        self.stdout.write(json.dumps(columns, default=str, ensure_ascii=False, indent=2))

    def _replay(self, options: dict[str, Any]) -> None:
        back = services.replay(subscription=options["subscription"], from_position=options["from_position"])
        self.stdout.write(f"{options['subscription']} goes back {back}")

    def _parked(self, options: dict[str, Any]) -> None:
        for each in Parked.objects.select_related("event").order_by("subscription", "position"):
            then = f"next {each.next_try_at.isoformat(timespec='seconds')}" if each.next_try_at else "no next try"
            self.stdout.write(
                f"{each.pk} {each.subscription_id} @{each.position} {each.event.name} tries={each.tries} {then}"
                f" {each.error}".rstrip()
            )

    def _retry(self, options: dict[str, Any]) -> None:
        woken = services.retry_parked(ids=options["ids"])
        self.stdout.write(f"woken {woken}")


def _bus() -> str:
    """How the bus is, in one line."""
    now = bus.standing()
    if now is None:
        return "off"
    waiting = f"unpublished={Event.objects.filter(bus.unpublished()).count()}"
    if not now.trouble:
        return waiting
    return f"{waiting} {now.trouble} since {now.since.isoformat(timespec='seconds') if now.since else '-'}"


def _line(event: Event) -> str:
    at = event.at.isoformat(timespec="milliseconds")
    return f"{event.position} {at} {event.name} {event.aggregate} {event.aggregate_id} v{event.version} {event.via}"


def _named(types: str) -> Q:
    wanted = Q()
    for name in filter(None, (each.strip() for each in types.split(","))):
        wanted |= Q(name__startswith=name[:-1]) if name.endswith("*") else Q(name=name)
    return wanted


def _identified(text: str) -> Q:
    try:
        return Q(pk=UUID(text))
    except ValueError:
        if text.isascii() and text.isdigit() and len(text) < 19:
            return Q(position=int(text))
        raise CommandError("An event is named by its id or its position.") from None
