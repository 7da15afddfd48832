"""Health: `/healthz` says that the process lives, `/readyz` whether it can serve, `/api/v1/health` what works.

Anyone hears up or down per part; why is told to admins only. (docs/contract.md, "Health")
"""

from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import extend_schema
from psycopg_pool import PoolTimeout
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import live
from apps.core.api.problems import plain_response
from apps.core.api.views import PUBLIC, ApiRequest, ApiViewSet, route
from apps.core.errors import DomainError, Unavailable
from apps.core.middleware import MigrationsPending
from crm2.probes import Found, lookout, readiness

_ALIVE = b'{"status":"ok"}'
_READY = b'{"status":"ready"}'


class ProbeMiddleware:
    """Answers `/healthz` and `/readyz` before everything else: probes come by address, often, over plain HTTP."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.answers = {"/healthz": _alive, "/readyz": _ready}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        answer = self.answers.get(request.path_info.rstrip("/"))
        return answer() if answer else self.get_response(request)


def _alive() -> HttpResponse:
    return HttpResponse(_ALIVE, content_type="application/json")


def _ready() -> HttpResponse:
    error = unreadiness()
    return plain_response(error) if error else HttpResponse(_READY, content_type="application/json")


def unreadiness() -> DomainError | None:
    """Why this process should get no requests now. Only the database counts: without the rest the API still works."""
    parts = readiness.look()
    if not parts["database"].up:
        return Unavailable()
    return None if parts["migrations"].up else MigrationsPending()


class PartOut(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["up", "down"])
    disabled = serializers.BooleanField(required=False, help_text="True: this installation does without it.")
    reason = serializers.CharField(required=False, help_text="Why it is down. Admins only.")
    lag = serializers.IntegerField(required=False, help_text="Of the relay: events without a position. Admins only.")
    pending = serializers.IntegerField(required=False, help_text="Of the migrations: unapplied ones. Admins only.")


class HealthOut(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok", "error"])
    info = serializers.DictField(child=PartOut(), help_text="The parts that are up.")
    error = serializers.DictField(child=PartOut(), help_text="The parts that are down.")
    details = serializers.DictField(child=PartOut(), help_text="All parts.")
    maintenance = serializers.CharField(required=False, help_text="What everybody should know now; absent if nothing.")


class HealthViewSet(ApiViewSet):
    capabilities = {"health": PUBLIC}

    def perform_authentication(self, request: Request) -> None:
        """Later, when it is known whether anyone can be asked who this is."""

    @extend_schema(responses={200: HealthOut, 503: HealthOut})
    def health(self, request: ApiRequest) -> Response:
        """200 when every part is up or disabled, 503 otherwise."""
        found = lookout.look()
        to_admin = found["database"].up and found["migrations"].up and _is_admin(request)
        details = {name: _told(part, to_admin=to_admin) for name, part in found.items()}
        up = all(part.up for part in found.values())
        body = {
            "status": "ok" if up else "error",
            "info": {name: each for name, each in details.items() if each["status"] == "up"},
            "error": {name: each for name, each in details.items() if each["status"] == "down"},
            "details": details,
        }
        if notice := live.maintenance_message():
            body["maintenance"] = notice
        return Response(body, status=200 if up else 503)


def _is_admin(request: ApiRequest) -> bool:
    """A caller who cannot be looked up hears what anyone hears."""
    try:
        return bool(request.user and request.user.is_admin)
    except (DatabaseError, InterfaceError, PoolTimeout):
        return False


def _told(part: Found, *, to_admin: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"status": "up" if part.up else "down"}
    if part.disabled:
        told["disabled"] = True
    if to_admin:
        told |= part.more
        if part.reason:
            told["reason"] = part.reason
    return told


patterns = route("health", HealthViewSet, get="health")
