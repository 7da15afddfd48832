"""`/deals`: the worklist, stages, members, history. (docs/contract.md, "Deals")"""

from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from apps.auth.queries import emails_of
from apps.core.api.faces import is_gateway
from apps.core.api.fields import DayField
from apps.core.api.history import HistoryEntry, history_page
from apps.core.api.pages import Keyset, ListQuery, QueryForm, Shape, hot_response, page, read_query
from apps.core.api.versions import expected_version, with_etag
from apps.core.api.views import SIGNED_IN, ApiRequest, ApiViewSet, validated
from apps.crm import queries, rules
from apps.crm.models import Deal
from apps.crm.services import deals
from apps.crm.services.deals import DealNotFound

WORKLIST = Keyset(("next_review_at", "updated_at", "id"))
PERIODS = {"7d": 7, "30d": 30, "90d": 90, "all": 0}


class StatusField(serializers.CharField):
    """Any spelling of a status; what it means is written."""

    def to_internal_value(self, data: Any) -> str:
        return rules.deal_status(super().to_internal_value(data))


class ManagerField(serializers.CharField):
    """A user's id, or `__NO_MANAGER__`."""

    default_error_messages = {"invalid_manager_id": _("A manager is a user's id or __NO_MANAGER__.")}

    def to_internal_value(self, data: Any) -> Any:
        text = super().to_internal_value(data)
        if text == queries.NO_MANAGER:
            return text
        try:
            return UUID(text)
        except ValueError:
            self.fail("invalid_manager_id")


class DealIn(serializers.Serializer[Any]):
    client_id = serializers.UUIDField()
    title = serializers.CharField(max_length=255)
    description = serializers.CharField(allow_null=True, allow_blank=True, required=False, max_length=20_000)
    status = StatusField(
        required=False, allow_blank=True, max_length=50, help_text="Any spelling; unknown is qualification."
    )
    next_review_at = DayField()
    owner_id = serializers.UUIDField(allow_null=True, required=False, help_text="Counts from an admin only.")


class DealPatch(serializers.Serializer[Any]):
    title = serializers.CharField(max_length=255, required=False)
    description = serializers.CharField(allow_null=True, allow_blank=True, required=False, max_length=20_000)
    status = StatusField(required=False, max_length=50)
    next_review_at = DayField(required=False)
    owner_id = serializers.UUIDField(allow_null=True, required=False, help_text="Counts from an admin only.")
    reason = serializers.CharField(required=False, allow_blank=True, max_length=500, help_text="Of losing the deal.")
    is_deleted = serializers.BooleanField(required=False, help_text="`true` deletes.")


class StageIn(serializers.Serializer[Any]):
    stage = serializers.ChoiceField(choices=rules.STAGES)
    reason = serializers.CharField(required=False, allow_blank=True, max_length=500, help_text="Needed for closedLost.")


class ReopenIn(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=500)


class DealOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    client_id = serializers.UUIDField()
    owner_id = serializers.UUIDField(allow_null=True)
    title = serializers.CharField()
    description = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(choices=rules.DEAL_STATUSES)
    stage = serializers.ChoiceField(choices=rules.STAGES)
    next_review_at = serializers.DateField()
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    is_deleted = serializers.BooleanField()


class StageMetric(serializers.Serializer[Any]):
    stage = serializers.ChoiceField(choices=rules.STAGES)
    count = serializers.IntegerField()
    total_value = serializers.CharField(help_text="Planned payments that are not cancelled, roubles with two decimals.")
    conversion_rate = serializers.FloatField(help_text="count / all found; 0 when nothing is found.")
    avg_cycle_duration_days = serializers.FloatField(allow_null=True, help_text="Creation to last change, in days.")


COLUMNS = (
    "id", "client_id", "owner_id", "title", "description", "status", "stage", "next_review_at", "version",
    "created_at", "updated_at",
)  # fmt: skip
LIVING = Shape(COLUMNS, {"is_deleted": False})


class DealFilters(QueryForm):
    """What narrows both the list and the metrics."""

    stage = serializers.ChoiceField(choices=[*rules.STAGES, "all"], required=False)
    status = StatusField(required=False, max_length=50)
    manager = serializers.ListField(child=ManagerField(), required=False, max_length=100)
    period = serializers.ChoiceField(choices=list(PERIODS), required=False, help_text="Days to the next contact.")
    search = serializers.CharField(required=False, allow_blank=True, max_length=255, help_text="Title, description.")
    client_id = serializers.UUIDField(required=False)
    open = serializers.BooleanField(required=False, help_text="`true` leaves closed deals out.")
    repeatable = ("manager",)

    def validate_stage(self, value: str) -> str | None:
        return None if value == "all" else value

    def validate_period(self, value: str) -> int:
        return PERIODS[value]


class DealQuery(DealFilters, ListQuery):
    """The worklist's parameters."""


class DealViewSet(ApiViewSet):
    capabilities = {
        "list": SIGNED_IN,
        "create": "deals.manage",
        "retrieve": SIGNED_IN,
        "partial_update": "deals.edit",
        "destroy": "deals.manage",
        "restore": "deals.manage",
        "change_stage": "deals.edit",
        "reopen": "deals.manage",
        "stage_metrics": SIGNED_IN,
        "history": SIGNED_IN,
    }

    @extend_schema(parameters=[DealQuery], responses=DealOut(many=True))
    def list(self, request: ApiRequest) -> Any:
        """Deals the caller sees, the next contact first."""
        query = read_query(request, DealQuery)
        source = queries.worklist(request.user, query.filters, timezone.localdate())
        found, headers = page(request, source, query, WORKLIST, COLUMNS)
        return hot_response(LIVING.rows(request, found), headers)

    @extend_schema(request=DealIn, responses={201: DealOut})
    def create(self, request: ApiRequest) -> Response:
        deal = deals.create_deal(**validated(DealIn, request), actor=request.user)
        return with_etag(Response(LIVING.of(deal), status=201), deal.version)

    @extend_schema(responses=DealOut)
    def retrieve(self, request: ApiRequest, id: UUID) -> Any:
        found = LIVING.rows(request, queries.deal(request.user, id, COLUMNS).rows())
        if not found:
            raise DealNotFound
        return hot_response(found[0], {"ETag": f'"{found[0]["version"]}"'})

    @extend_schema(request=DealPatch, responses=DealOut)
    def partial_update(self, request: ApiRequest, id: UUID) -> Response:
        """Changes what is given. A `status` of another stage follows the rules of the stage route."""
        values = validated(DealPatch, request, partial=True)
        expected, reason = expected_version(request), values.pop("reason", None)
        if values.pop("is_deleted", False):
            deals.delete_deal(deal_id=id, actor=request.user, expected_version=expected)
            deal = Deal.objects.get(pk=id)
            return with_etag(Response({**LIVING.of(deal), "is_deleted": True}), deal.version)
        deal = deals.change_deal(
            deal_id=id,
            values=values,
            reason=reason,
            reason_needed=not is_gateway(request),
            actor=request.user,
            expected_version=expected,
        )
        return with_etag(Response(LIVING.of(deal)), deal.version)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: ApiRequest, id: UUID) -> Response:
        """Hides the deal with its open children as one batch."""
        deals.delete_deal(deal_id=id, actor=request.user, expected_version=expected_version(request))
        return Response(status=204)

    @extend_schema(request=None, responses=DealOut)
    def restore(self, request: ApiRequest, id: UUID) -> Response:
        """Brings back exactly what the deletion took."""
        deal = deals.restore_deal(deal_id=id, actor=request.user)
        return with_etag(Response(LIVING.of(deal)), deal.version)

    @extend_schema(request=StageIn, responses=DealOut)
    def change_stage(self, request: ApiRequest, id: UUID) -> Response:
        """Moves the deal to a stage. Forward jumps are free, a closed deal stays closed until reopened."""
        values = validated(StageIn, request)
        deal = deals.change_stage(
            deal_id=id,
            stage=values["stage"],
            reason=values.get("reason"),
            reason_needed=not is_gateway(request),
            actor=request.user,
            expected_version=expected_version(request),
        )
        return with_etag(Response(LIVING.of(deal)), deal.version)

    @extend_schema(request=ReopenIn, responses=DealOut)
    def reopen(self, request: ApiRequest, id: UUID) -> Response:
        """Returns a closed deal to the stage it was closed from."""
        deal = deals.reopen_deal(
            deal_id=id,
            reason=validated(ReopenIn, request)["reason"],
            actor=request.user,
            expected_version=expected_version(request),
        )
        return with_etag(Response(LIVING.of(deal)), deal.version)

    @extend_schema(parameters=[DealFilters], responses=StageMetric(many=True))
    def stage_metrics(self, request: ApiRequest) -> Response:
        """Five rows, one a stage, over the deals that the list with the same filters shows."""
        query = read_query(request, DealFilters)
        return Response(queries.stage_metrics(request.user, query.filters, timezone.localdate()))

    @extend_schema(parameters=[ListQuery], responses=HistoryEntry(many=True))
    def history(self, request: ApiRequest, id: UUID) -> Response:
        """Who changed what in the deal and everything in it, newest first."""
        deal = deals.visible_deal(id, request.user)
        return history_page(request, queries.deal_history(deal.pk), emails_of)
