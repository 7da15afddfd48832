"""`/insurers`, `/insurance-types`, `/sales-channels`: one implementation. (docs/contract.md, "Catalogs")"""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from apps.core.api.pages import Keyset, ListQuery, Shape, page, read_query
from apps.core.api.versions import expected_version, with_etag
from apps.core.api.views import SIGNED_IN, ApiRequest, ApiViewSet, validated
from apps.crm.models import Catalog, InsuranceType, Insurer, SalesChannel
from apps.crm.services import catalogs

BY_NAME = Keyset(("name_key", "id"))
ENTRY = Shape(("id", "name", "code", "aliases", "is_active", "version"))


class CatalogIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=255)
    code = serializers.CharField(max_length=64, allow_blank=True, required=False)
    aliases = serializers.ListField(child=serializers.CharField(max_length=255), max_length=100, required=False)
    is_active = serializers.BooleanField(required=False)


class CatalogOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    code = serializers.CharField()
    aliases = serializers.ListField(child=serializers.CharField())
    is_active = serializers.BooleanField()
    version = serializers.IntegerField()


class CatalogQuery(ListQuery):
    is_active = serializers.BooleanField(required=False)


class CatalogViewSet(ApiViewSet):
    """Read by all, written by admins."""

    model: type[Catalog]
    capabilities = {
        "list": SIGNED_IN,
        "create": "catalogs.edit",
        "retrieve": SIGNED_IN,
        "partial_update": "catalogs.edit",
    }

    @extend_schema(parameters=[CatalogQuery], responses=CatalogOut(many=True))
    def list(self, request: ApiRequest) -> Response:
        """The entries by name."""
        query = read_query(request, CatalogQuery)
        rows, headers = page(request, self.model._default_manager.filter(**query.filters), query, BY_NAME)
        return Response([ENTRY.of(row) for row in rows], headers=headers)

    @extend_schema(request=CatalogIn, responses={201: CatalogOut})
    def create(self, request: ApiRequest) -> Response:
        entry = catalogs.create_entry(self.model, values=validated(CatalogIn, request), actor=request.user)
        return with_etag(Response(ENTRY.of(entry), status=201), entry.version)

    @extend_schema(responses=CatalogOut)
    def retrieve(self, request: ApiRequest, id: UUID) -> Response:
        entry = self.model._default_manager.filter(pk=id).first()
        if entry is None:
            raise catalogs.CatalogEntryNotFound
        return with_etag(Response(ENTRY.of(entry)), entry.version)

    @extend_schema(request=CatalogIn(partial=True), responses=CatalogOut)
    def partial_update(self, request: ApiRequest, id: UUID) -> Response:
        entry = catalogs.change_entry(
            self.model,
            entry_id=id,
            values=validated(CatalogIn, request, partial=True),
            actor=request.user,
            expected_version=expected_version(request),
        )
        return with_etag(Response(ENTRY.of(entry)), entry.version)


class InsurerViewSet(CatalogViewSet):
    model = Insurer


class InsuranceTypeViewSet(CatalogViewSet):
    model = InsuranceType


class SalesChannelViewSet(CatalogViewSet):
    model = SalesChannel
