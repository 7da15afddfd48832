"""The streams' addresses as Django knows them: for the OpenAPI file, and for whoever sends them to the wrong process.

The process that runs `crm2.asgi` answers them before Django does (`apps.notifications.streams`).
"""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.response import Response

from apps.core.api.views import SIGNED_IN, ApiRequest, ApiViewSet
from apps.core.errors import DomainError

TEXT = {(200, "text/event-stream"): OpenApiResponse(OpenApiTypes.STR, description="Frames until either side closes.")}
LAST = [
    OpenApiParameter(
        "Last-Event-ID", str, OpenApiParameter.HEADER, description="The `id:` of the last frame, `<epoch>-<position>`."
    ),
    OpenApiParameter("last_event_id", str, description="The same, for clients that cannot set the header."),
]
TYPES = OpenApiParameter("types", str, description="Names of events with commas; `deal.payment.*` is a name too.")


class StreamElsewhere(DomainError):
    """A proxy has sent a stream to a process that serves none."""

    code = "stream_elsewhere"
    status = 404
    message = _("Streams are served by the ASGI process (crm2.asgi): send /api/v1/streams/ there.")


class StreamViewSet(ApiViewSet):
    capabilities = dict.fromkeys(("deals", "crm", "notifications", "heartbeat"), SIGNED_IN)

    @extend_schema(parameters=[*LAST, TYPES], responses=TEXT)
    def deals(self, request: ApiRequest, **_: Any) -> Response:
        """Server-sent events of deals, policies, tasks, documents and clients that the caller sees."""
        raise StreamElsewhere

    @extend_schema(parameters=[*LAST, TYPES], responses=TEXT)
    def crm(self, request: ApiRequest, **_: Any) -> Response:
        """The same as /streams/deals."""
        raise StreamElsewhere

    @extend_schema(parameters=[*LAST, TYPES], responses=TEXT)
    def notifications(self, request: ApiRequest, **_: Any) -> Response:
        """Server-sent notifications addressed to the caller; to admins also those addressed to nobody."""
        raise StreamElsewhere

    @extend_schema(responses=TEXT)
    def heartbeat(self, request: ApiRequest, **_: Any) -> Response:
        """A numbered heartbeat every 15 seconds."""
        raise StreamElsewhere
