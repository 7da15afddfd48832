"""The two OpenAPI files of the one set of views, their pages, and who may read them."""

from typing import Any

from django.conf import settings
from django.urls import path
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.core.api.faces import GATEWAY_PREFIX

Endpoint = tuple[str, str, str, Any]
AUTH_PREFIX = "/api/v1/auth/"


def native_only(endpoints: list[Endpoint]) -> list[Endpoint]:
    """The native face: everything under /api/v1/ but the gateway's prefix; each route once, without its slash."""
    return [each for each in _once(endpoints) if not each[0].startswith(GATEWAY_PREFIX)]


def gateway_only(endpoints: list[Endpoint]) -> list[Endpoint]:
    """The gateway face: its prefix, and sign-in, which both faces share."""
    return [each for each in _once(endpoints) if each[0].startswith((GATEWAY_PREFIX, AUTH_PREFIX))]


def _once(endpoints: list[Endpoint]) -> list[Endpoint]:
    return [each for each in endpoints if each[0].startswith("/api/v1/") and not each[0].endswith("/")]


NATIVE = {"PREPROCESSING_HOOKS": ["crm2.openapi.native_only"], "TITLE": "CRM 2.0"}
GATEWAY = {"PREPROCESSING_HOOKS": ["crm2.openapi.gateway_only"], "TITLE": "CRM 2.0, gateway face"}


class DocsReader(BasePermission):
    """Everyone in development, a signed-in admin in production."""

    def has_permission(self, request: Request, view: Any) -> bool:
        caller: Any = request.user
        return not settings.PRODUCTION or bool(caller and caller.is_admin)


_schema = {"permission_classes": [DocsReader]}
urlpatterns = [
    path("api/schema/", SpectacularAPIView.as_view(custom_settings=NATIVE, **_schema), name="schema"),
    path("api/schema/gateway/", SpectacularAPIView.as_view(custom_settings=GATEWAY, **_schema), name="gateway-schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema", **_schema)),
    path("api/redoc/", SpectacularRedocView.as_view(url_name="schema", **_schema)),
]
