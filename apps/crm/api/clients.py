"""`/clients`. (docs/contract.md, "Clients")"""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from apps.auth.queries import emails_of
from apps.core.api.history import HistoryEntry, history_page
from apps.core.api.pages import Keyset, ListQuery, Shape, hot_response, page, read_query
from apps.core.api.versions import expected_version, with_etag
from apps.core.api.views import SIGNED_IN, ApiRequest, ApiViewSet, validated
from apps.crm import queries
from apps.crm.models import Client
from apps.crm.rules import CLIENT_STATUSES
from apps.crm.services import clients

BY_NAME = Keyset(("name_key", "id"))


class ClientIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=255)
    email = serializers.EmailField(max_length=255, allow_null=True, allow_blank=True, required=False)
    phone = serializers.CharField(
        max_length=50, allow_null=True, allow_blank=True, required=False, help_text="Anything typed; never refused."
    )
    status = serializers.ChoiceField(choices=CLIENT_STATUSES, required=False)
    owner_id = serializers.UUIDField(allow_null=True, required=False, help_text="Counts from an admin only.")


class ClientPatch(ClientIn):
    is_deleted = serializers.BooleanField(required=False, help_text="`true` deletes.")


class ClientOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    email = serializers.CharField(allow_null=True)
    phone = serializers.CharField(allow_null=True, help_text="As typed.")
    phone_e164 = serializers.CharField(allow_null=True, help_text="Null when what was typed is no number.")
    status = serializers.ChoiceField(choices=CLIENT_STATUSES)
    owner_id = serializers.UUIDField(allow_null=True, help_text="Null: not yet distributed, visible to admins.")
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    is_deleted = serializers.BooleanField()


FIELDS = ("id", "name", "email", "phone", "phone_e164", "status", "owner_id", "version", "created_at", "updated_at")
LIVING = Shape(FIELDS, {"is_deleted": False})
# The keyset's column is read along and not shown.
ROWS = ("name_key", *FIELDS)


class ClientQuery(ListQuery):
    search = serializers.CharField(required=False, allow_blank=True, max_length=255, help_text="Name, phone, e-mail.")
    status = serializers.ChoiceField(choices=CLIENT_STATUSES, required=False)
    owner_id = serializers.UUIDField(required=False)


class ClientViewSet(ApiViewSet):
    capabilities = {
        "list": SIGNED_IN,
        "create": "clients.edit",
        "retrieve": SIGNED_IN,
        "partial_update": "clients.edit",
        "destroy": "clients.edit",
        "restore": "clients.edit",
        "history": SIGNED_IN,
    }

    @extend_schema(parameters=[ClientQuery], responses=ClientOut(many=True))
    def list(self, request: ApiRequest) -> Any:
        """Clients the caller sees, by name."""
        query = read_query(request, ClientQuery)
        rows, headers = page(request, queries.clients(request.user, query.filters), query, BY_NAME, ROWS)
        return hot_response(LIVING.rows(request, [row[1:] for row in rows]), headers)

    @extend_schema(request=ClientIn, responses={201: ClientOut})
    def create(self, request: ApiRequest) -> Response:
        client = clients.create_client(values=validated(ClientIn, request), actor=request.user)
        return with_etag(Response(LIVING.of(client), status=201), client.version)

    @extend_schema(responses=ClientOut)
    def retrieve(self, request: ApiRequest, id: UUID) -> Response:
        client = clients.visible_client(id, request.user)
        return with_etag(Response(LIVING.of(client)), client.version)

    @extend_schema(request=ClientPatch, responses=ClientOut)
    def partial_update(self, request: ApiRequest, id: UUID) -> Response:
        """Changes what is given. `is_deleted: true` deletes and answers the client as it was."""
        values = validated(ClientPatch, request, partial=True)
        expected = expected_version(request)
        if values.pop("is_deleted", False):
            clients.delete_client(client_id=id, actor=request.user, expected_version=expected)
            client = Client.objects.get(pk=id)
            return with_etag(Response({**LIVING.of(client), "is_deleted": True}), client.version)
        client = clients.change_client(client_id=id, values=values, actor=request.user, expected_version=expected)
        return with_etag(Response(LIVING.of(client)), client.version)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: ApiRequest, id: UUID) -> Response:
        clients.delete_client(client_id=id, actor=request.user, expected_version=expected_version(request))
        return Response(status=204)

    @extend_schema(request=None, responses=ClientOut)
    def restore(self, request: ApiRequest, id: UUID) -> Response:
        """Brings back exactly what the deletion took."""
        client = clients.restore_client(client_id=id, actor=request.user)
        return with_etag(Response(LIVING.of(client)), client.version)

    @extend_schema(parameters=[ListQuery], responses=HistoryEntry(many=True))
    def history(self, request: ApiRequest, id: UUID) -> Response:
        """Who changed what, newest first."""
        client = clients.visible_client(id, request.user)
        return history_page(request, queries.client_history(client.pk), emails_of)
