"""Service tokens from the command line: create, list, revoke."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.auth.models import ServiceToken
from apps.auth.services import service_tokens
from apps.core.errors import DomainError


class Command(BaseCommand):
    help = "Makes, lists and revokes service tokens."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="makes a token and shows it once")
        create.add_argument("name")
        create.add_argument("--scopes", required=True, help="capabilities, separated by commas")
        create.add_argument("--days", type=int, help="expires after so many days; never unless given")
        actions.add_parser("list", help="shows what tokens there are, not the tokens")
        revoke = actions.add_parser("revoke", help="takes a token back")
        revoke.add_argument("id", type=UUID)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            {"create": self._create, "list": self._list, "revoke": self._revoke}[options["action"]](options)
        except DomainError as error:
            raise CommandError("; ".join(str(each.message) for each in error.errors) or str(error)) from None

    def _create(self, options: dict[str, Any]) -> None:
        days = options["days"]
        scopes = [scope.strip() for scope in options["scopes"].split(",") if scope.strip()]
        token, text = service_tokens.create_service_token(
            name=options["name"],
            scopes=scopes,
            expires_at=timezone.now() + timedelta(days=days) if days is not None else None,
            actor=None,
        )
        self.stderr.write(f"id {token.pk}; the token is shown this once:")
        self.stdout.write(text)

    def _list(self, options: dict[str, Any]) -> None:
        now = timezone.now()
        for token in ServiceToken.objects.order_by("created_at", "pk"):
            expired = token.expires_at is not None and token.expires_at <= now
            state = "revoked" if token.revoked_at else "expired" if expired else "good"
            self.stdout.write(f"{token.pk}  {token.prefix}  {state}  {token.name}  {','.join(token.scopes)}")

    def _revoke(self, options: dict[str, Any]) -> None:
        service_tokens.revoke_service_token(token_id=options["id"], actor=None)
        self.stdout.write("Revoked.")
