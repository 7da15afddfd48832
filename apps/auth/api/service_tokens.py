"""`/service-tokens`: keys of programs, made and taken back by administrators."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.auth.api.forms import SERVICE_TOKEN, NewServiceTokenOut, ServiceTokenIn, ServiceTokenOut
from apps.auth.models import ServiceToken
from apps.auth.services import service_tokens
from apps.core.api.pages import Keyset, ListQuery, page, read_query
from apps.core.api.views import ApiViewSet, validated

NEWEST_FIRST = Keyset(("created_at", "id"), descending=True)


class ServiceTokenViewSet(ApiViewSet):
    capabilities = {"list": "tokens.manage", "create": "tokens.manage", "destroy": "tokens.manage"}
    idempotent = False  # a kept answer would keep the token

    @extend_schema(parameters=[ListQuery], responses=ServiceTokenOut(many=True))
    def list(self, request: Request) -> Response:
        """The tokens, newest first, revoked ones too; never the secrets."""
        rows, headers = page(request, ServiceToken.objects.all(), read_query(request, ListQuery), NEWEST_FIRST)
        return Response([SERVICE_TOKEN.of(token) for token in rows], headers=headers)

    @extend_schema(request=ServiceTokenIn, responses={201: NewServiceTokenOut})
    def create(self, request: Request) -> Response:
        """Makes a token. Its text stands in this answer only."""
        actor: Any = request.user
        token, text = service_tokens.create_service_token(**validated(ServiceTokenIn, request), actor=actor)
        answer = {**SERVICE_TOKEN.of(token), "token": text}
        return Response(answer, status=201, headers={"Cache-Control": "no-store"})

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, id: UUID) -> Response:
        """Takes a token back at once."""
        service_tokens.revoke_service_token(token_id=id, actor=request.user)
        return Response(status=204)
