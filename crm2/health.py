"""Health: `/healthz` says that the process lives, `/api/v1/health` whether what it needs answers.

Anyone hears up or down per part; why is told to admins only. (docs/contract.md, "Health")
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from apps.core.api.views import PUBLIC, ApiRequest, ApiViewSet, route
from apps.core.models import RelayHead

_ALIVE = b'{"status":"ok"}'
RELAY_SILENT = timedelta(seconds=30)


def healthz(request: HttpRequest) -> HttpResponse:
    """Liveness: touches nothing."""
    return HttpResponse(_ALIVE, content_type="application/json")


class Down(Exception):
    """A part does not work; the text is the reason, for admins."""


def database() -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return {}


def redis_() -> dict[str, Any]:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        client.ping()
    finally:
        client.close()
    return {}


def relay() -> dict[str, Any]:
    """Down when no relay has shown itself for half a minute; `lag` is how many events wait for their number."""
    head = RelayHead.objects.get()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM (SELECT 1 FROM core_event WHERE position IS NULL LIMIT 100000) waiting")
        lag = cursor.fetchone()[0]
    if head.beat_at is None or head.beat_at < timezone.now() - RELAY_SILENT:
        raise Down(f"no sign of a relay since {head.beat_at or 'ever'}, {lag} events wait")
    return {"lag": lag}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {"database": database, "redis": redis_, "relay": relay}


class PartOut(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["up", "down"])
    lag = serializers.IntegerField(required=False, help_text="Of the relay: events without a position yet.")
    reason = serializers.CharField(required=False, help_text="Admins only.")


class HealthOut(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok", "error"])
    details = serializers.DictField(child=PartOut())


class HealthViewSet(ApiViewSet):
    capabilities = {"health": PUBLIC}

    @extend_schema(responses={200: HealthOut, 503: HealthOut})
    def health(self, request: ApiRequest) -> Response:
        """200 when every part answers, 503 otherwise."""
        to_admin = bool(request.user and request.user.is_admin)
        details = {name: _look(part, to_admin=to_admin) for name, part in PARTS.items()}
        up = all(each["status"] == "up" for each in details.values())
        return Response({"status": "ok" if up else "error", "details": details}, status=200 if up else 503)


def _look(part: Callable[[], dict[str, Any]], *, to_admin: bool) -> dict[str, Any]:
    try:
        found = part()
    except Exception as error:
        return {"status": "down", **({"reason": f"{type(error).__name__}: {error}"} if to_admin else {})}
    return {"status": "up", **(found if to_admin else {})}


patterns = route("health", HealthViewSet, get="health")
