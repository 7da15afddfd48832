"""`/deals/{id}/members` and `/deals/{id}/journal`. (docs/contract.md, "Deals")"""

from typing import Any
from uuid import UUID

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from apps.core.api.faces import is_gateway
from apps.core.api.pages import Keyset, ListQuery, Shape, hot_response, page, read_query
from apps.core.api.versions import expected_version, with_etag
from apps.core.api.views import SIGNED_IN, ApiRequest, ApiViewSet, validated
from apps.crm.models import DealMember, JournalEntry
from apps.crm.rules import MEMBER_ROLES
from apps.crm.services import deals, journal, members

NIL = UUID(int=0)  # what clients without a person of their own send
BY_AGE = Keyset(("created_at", "id"))


class MemberIn(serializers.Serializer[Any]):
    user_id = serializers.UUIDField()
    role = serializers.ChoiceField(choices=MEMBER_ROLES)


class MemberPatch(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=MEMBER_ROLES)


class MemberOut(serializers.Serializer[Any]):
    user_id = serializers.UUIDField()
    role = serializers.ChoiceField(choices=MEMBER_ROLES)
    via = serializers.ChoiceField(choices=["owner", "manual", "task"], help_text="Why the person takes part.")
    created_at = serializers.DateTimeField()


MEMBER = Shape(("user_id", "role", "via", "created_at"))


class MemberViewSet(ApiViewSet):
    capabilities = {
        "list": SIGNED_IN,
        "create": "deals.manage",
        "partial_update": "deals.manage",
        "destroy": "deals.manage",
    }

    @extend_schema(parameters=[ListQuery], responses=MemberOut(many=True))
    def list(self, request: ApiRequest, deal_id: UUID) -> Any:
        """Everyone who takes part, the first first; a person with two reasons stands twice."""
        deal = deals.visible_deal(deal_id, request.user)
        query = read_query(request, ListQuery)
        columns = ("id", *MEMBER.columns)
        rows, headers = page(request, DealMember.objects.filter(deal=deal), query, BY_AGE, columns)
        return hot_response(MEMBER.rows(request, [row[1:] for row in rows]), headers)

    @extend_schema(request=MemberIn, responses={201: MemberOut})
    @transaction.atomic
    def create(self, request: ApiRequest, deal_id: UUID) -> Response:
        """Lets a person in at once. For the deal's sellers and admins."""
        values = validated(MemberIn, request)
        deal = deals.locked_deal(deal_id, request.user)
        member = members.add_member(deal=deal, **values, actor=request.user, expected_version=expected_version(request))
        return with_etag(Response(MEMBER.of(member), status=201), deal.version)

    @extend_schema(request=MemberPatch, responses=MemberOut)
    @transaction.atomic
    def partial_update(self, request: ApiRequest, deal_id: UUID, user_id: UUID) -> Response:
        values = validated(MemberPatch, request)
        deal = deals.locked_deal(deal_id, request.user)
        member = members.change_member(
            deal=deal, user_id=user_id, **values, actor=request.user, expected_version=expected_version(request)
        )
        return with_etag(Response(MEMBER.of(member)), deal.version)

    @extend_schema(request=None, responses={204: None})
    @transaction.atomic
    def destroy(self, request: ApiRequest, deal_id: UUID, user_id: UUID) -> Response:
        """Ends the membership; access stops at once."""
        deal = deals.locked_deal(deal_id, request.user)
        members.remove_member(
            deal=deal, user_id=user_id, actor=request.user, expected_version=expected_version(request)
        )
        return with_etag(Response(status=204), deal.version)


class JournalIn(serializers.Serializer[Any]):
    body = serializers.CharField(max_length=5000)
    author_id = serializers.UUIDField(required=False, allow_null=True, help_text="Counts from an admin only.")


class JournalOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    deal_id = serializers.UUIDField()
    author_id = serializers.UUIDField(allow_null=True)
    body = serializers.CharField()
    created_at = serializers.DateTimeField()


class JournalPage(serializers.Serializer[Any]):
    items = JournalOut(many=True)
    total = serializers.IntegerField()


ENTRY = Shape(("id", "deal_id", "author_id", "body", "created_at"))


class JournalViewSet(ApiViewSet):
    """On the gateway face an entry's text is also read and written as `content`."""

    capabilities = {"list": SIGNED_IN, "create": "journal.add"}

    @extend_schema(parameters=[ListQuery], responses=JournalPage)
    def list(self, request: ApiRequest, deal_id: UUID) -> Any:
        """The entries of a deal, the oldest first."""
        deal = deals.visible_deal(deal_id, request.user)
        query = read_query(request, ListQuery)
        entries = JournalEntry.objects.filter(deal=deal)
        rows, headers = page(request, entries, query, BY_AGE, ENTRY.columns)
        items = ENTRY.rows(request, rows)
        if is_gateway(request):
            items = [{**item, "content": item["body"]} for item in items]
        return hot_response({"items": items, "total": entries.count()}, headers)

    @extend_schema(request=JournalIn, responses={201: JournalOut})
    def create(self, request: ApiRequest, deal_id: UUID) -> Response:
        if is_gateway(request) and "body" not in request.data and "content" in request.data:
            request.data["body"] = request.data["content"]
        values = validated(JournalIn, request)
        author_id = values.get("author_id")
        entry = journal.append_entry(
            deal_id=deal_id,
            body=values["body"],
            author_id=None if author_id == NIL else author_id,
            actor=request.user,
        )
        answer = ENTRY.of(entry)
        if is_gateway(request):
            answer["content"] = entry.body
        return Response(answer, status=201)
