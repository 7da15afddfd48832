"""`manage.py rabbitmq_setup`: makes in RabbitMQ what this system needs, from the environment. Again is harmless.

With RABBITMQ_MANAGEMENT_URL (an administrator) it makes virtual hosts, users, their permissions and policies; without,
it says that they are left to the administrator. Exchanges, queues and bindings are declared over AMQP either way, as
the relay and the consumer do it when they connect.
"""

import base64
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from kombu.utils.url import parse_url

from apps.core import bus
from apps.notifications import consumers

TIMEOUT = 10
DEAD_POLICY = {
    "pattern": r"^.*\.dead$",
    "apply-to": "queues",
    "definition": {"max-length-bytes": 1024**3},  # dead letters must not fill the disk
    "priority": 0,
}


class Management:
    """RabbitMQ's management API, as far as it is needed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.user = unquote(parts.username or "")
        pair = f"{self.user}:{unquote(parts.password or '')}"
        self._login = base64.b64encode(pair.encode()).decode()
        port = f":{parts.port}" if parts.port else ""
        self._base = f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}/api"

    def get(self, *path: str) -> Any:
        """The answer, or None if there is no such thing."""
        return self._ask("GET", path, None)

    def put(self, *path: str, **body: Any) -> None:
        self._ask("PUT", path, body)

    def _ask(self, method: str, path: tuple[str, ...], body: Any) -> Any:
        address = "/".join([self._base, *(quote(each, safe="") for each in path)])
        request = urllib.request.Request(  # noqa: S310 - settings check the scheme
            address, method=method, data=None if body is None else json.dumps(body).encode()
        )
        request.add_header("Authorization", f"Basic {self._login}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - likewise checked
                text = answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404 and method == "GET":
                return None
            raise CommandError(f"RABBITMQ_MANAGEMENT_URL: {method} {path[0]} answers {error.code}.") from None
        except OSError as error:
            raise CommandError(f"RABBITMQ_MANAGEMENT_URL does not answer ({type(error).__name__}).") from None
        return json.loads(text) if text else None


class Command(BaseCommand):
    help = "Makes virtual hosts, users, permissions, policies, exchanges, queues and bindings in RabbitMQ."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.RABBITMQ_URL:
            raise CommandError("RABBITMQ_URL is not set: there is no bus to set up.")
        if settings.RABBITMQ_MANAGEMENT_URL:
            self._administrate(Management(settings.RABBITMQ_MANAGEMENT_URL))
        self._declare()
        if not settings.RABBITMQ_MANAGEMENT_URL:
            self.stdout.write(
                "left to the administrator, as RABBITMQ_MANAGEMENT_URL is not set:"
                " virtual hosts, users, permissions, policies"
            )

    def _administrate(self, management: Management) -> None:
        for name in ("RABBITMQ_URL", "CELERY_BROKER_URL"):
            url = getattr(settings, name)
            if not url.startswith(("amqp://", "amqps://")):
                continue
            parts = parse_url(url)
            vhost, user = parts["virtual_host"] or "/", parts["userid"] or "guest"
            management.put("vhosts", vhost)
            known = management.get("users", user)
            if user != management.user:  # the administrator keeps his password
                tags = (known or {}).get("tags") or []
                management.put(
                    "users",
                    user,
                    password=parts["password"] or "",
                    tags=tags if isinstance(tags, str) else ",".join(tags),
                )
            # The virtual host is the border: what is in it is this system's.
            management.put("permissions", vhost, user, configure=".*", write=".*", read=".*")
            management.put("policies", vhost, "crm2-dead", **DEAD_POLICY)
            self.stdout.write(f"{name}: virtual host {vhost}, user {user}, permissions, policy crm2-dead")

    def _declare(self) -> None:
        try:
            with bus.connected() as broker:
                channel = broker.channel()
                bus.declare(channel)
                consumers.QUEUE.declare(channel)
        except bus.ERRORS as error:
            raise CommandError(f"RABBITMQ_URL: {bus.TROUBLES[bus.trouble(error)]} ({type(error).__name__})") from None
        queues = [bus.FEED, consumers.QUEUE.name, consumers.QUEUE.dead]
        self.stdout.write(f"exchanges {', '.join([*bus.exchanges(), 'crm.dead'])}; queues {', '.join(queues)}")
