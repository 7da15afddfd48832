"""`manage.py events`: how far the subscriptions are, trying parked events again, feeding a subscription anew."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count

from apps.core import services
from apps.core.errors import DomainError
from apps.core.models import Parked, RelayHead, Subscription


class Command(BaseCommand):
    help = "Shows and mends the readers of the event log."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("status", help="the head, and per subscription its position and parked events")
        retry = actions.add_parser("retry", help="try parked events again now")
        retry.add_argument("ids", nargs="+", type=int, help="ids of parked events")
        replay = actions.add_parser("replay", help="feed a subscription again from a position")
        replay.add_argument("subscription")
        replay.add_argument("from_position", type=int)

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
            self.stdout.write(f"{each} parked={parked.get(each.pk, 0)}")

    def _retry(self, options: dict[str, Any]) -> None:
        woken = services.retry_parked(ids=options["ids"])
        self.stdout.write(f"woken {woken}")

    def _replay(self, options: dict[str, Any]) -> None:
        back = services.replay(subscription=options["subscription"], from_position=options["from_position"])
        self.stdout.write(f"{options['subscription']} goes back {back}")
