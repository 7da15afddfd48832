"""`/deals/{id}/calculations`. (docs/contract.md, "Calculations")"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.backends.postgresql.psycopg_any import DateRange
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.response import Response

from apps.core.api.fields import DayField, MoneyField
from apps.core.api.pages import Keyset, ListQuery, Shape, page, read_query
from apps.core.api.versions import expected_version, with_etag
from apps.core.api.views import SIGNED_IN, ApiRequest, ApiViewSet, validated
from apps.crm import queries, rules
from apps.crm.models import Calculation
from apps.crm.services import calculations, deals

NEWEST_FIRST = Keyset(("updated_at", "created_at", "id"), descending=True)


class PeriodIn(serializers.Serializer[Any]):
    """Two days, both included."""

    start = DayField(required=False, allow_null=True)
    end = DayField(required=False, allow_null=True)

    def run_validation(self, data: Any = empty) -> Any:
        """A range of days; None for no period, however it is written."""
        period = super().run_validation(data)
        return period if period and (period.lower or period.upper) else None

    def validate(self, attrs: dict[str, Any]) -> Any:
        start, end = attrs.get("start"), attrs.get("end")
        if start and end and end < start:
            raise serializers.ValidationError({"end": _("It ends before it begins.")}, code="end_before_start")
        # The bounds as the database gives them back: an open start is exclusive.
        return DateRange(start, end + timedelta(days=1) if end else None, "[)" if start else "()")


class CalculationIn(serializers.Serializer[Any]):
    insurance_company = serializers.CharField(max_length=255)
    program_name = serializers.CharField(max_length=255, allow_null=True, allow_blank=True, required=False)
    premium_amount = MoneyField(allow_null=True, required=False)
    coverage_sum = MoneyField(allow_null=True, required=False)
    calculation_date = DayField()
    validity_period = PeriodIn(allow_null=True, required=False)
    files = serializers.ListField(child=serializers.CharField(max_length=1000), max_length=100, required=False)
    comments = serializers.CharField(max_length=2000, allow_null=True, allow_blank=True, required=False)
    owner_id = serializers.UUIDField(required=False, allow_null=True, help_text="Counts from an admin only.")


class StatusIn(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ready", "confirmed", "archived"])
    policy_id = serializers.UUIDField(required=False, allow_null=True, help_text="Bound when confirmed.")


class PeriodOut(serializers.Serializer[Any]):
    start = serializers.DateField(allow_null=True)
    end = serializers.DateField(allow_null=True)


class CalculationOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    deal_id = serializers.UUIDField()
    owner_id = serializers.UUIDField(allow_null=True)
    insurance_company = serializers.CharField()
    insurer_id = serializers.UUIDField(allow_null=True, help_text="Set when the text is a catalog name or alias.")
    program_name = serializers.CharField(allow_null=True)
    premium_amount = serializers.DecimalField(max_digits=14, decimal_places=2, allow_null=True)
    coverage_sum = serializers.DecimalField(max_digits=14, decimal_places=2, allow_null=True)
    calculation_date = serializers.DateField()
    validity_period = PeriodOut(allow_null=True)
    files = serializers.ListField(child=serializers.CharField())
    comments = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(choices=rules.CALCULATION_STATUSES)
    linked_policy_id = serializers.UUIDField(allow_null=True)
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    is_deleted = serializers.BooleanField()


CALCULATION = Shape(
    (
        "id", "deal_id", "owner_id", "insurance_company", "insurer_id", "program_name", "premium_amount",
        "coverage_sum", "calculation_date", "validity_period", "files", "comments", "status", "linked_policy_id",
        "version", "created_at", "updated_at",
    ),
    {"is_deleted": False},
)  # fmt: skip


class CalculationQuery(ListQuery):
    status = serializers.ListField(
        child=serializers.ChoiceField(choices=rules.CALCULATION_STATUSES), required=False, max_length=4
    )
    insurance_company = serializers.CharField(required=False, min_length=1, max_length=255, help_text="Part of it.")
    calculation_date_from = DayField(required=False)
    calculation_date_to = DayField(required=False)
    repeatable = ("status",)


class CalculationViewSet(ApiViewSet):
    capabilities = {
        "list": SIGNED_IN,
        "create": "calculations.edit",
        "retrieve": SIGNED_IN,
        "partial_update": "calculations.edit",
        "change_status": "calculations.edit",
        "destroy": "calculations.edit",
    }

    @extend_schema(parameters=[CalculationQuery], responses=CalculationOut(many=True))
    def list(self, request: ApiRequest, deal_id: UUID) -> Response:
        """Calculations of a deal, the last changed first."""
        deal = deals.visible_deal(deal_id, request.user)
        query = read_query(request, CalculationQuery)
        rows = queries.calculations(deal.pk, query.filters)
        found, headers = page(request, rows, query, NEWEST_FIRST)
        return Response([_out(each) for each in found], headers=headers)

    @extend_schema(request=CalculationIn, responses={201: CalculationOut})
    def create(self, request: ApiRequest, deal_id: UUID) -> Response:
        calculation = calculations.create_calculation(
            deal_id=deal_id, values=validated(CalculationIn, request), actor=request.user
        )
        return self._answer_one(request, calculation, 201)

    @extend_schema(responses=CalculationOut)
    def retrieve(self, request: ApiRequest, deal_id: UUID, id: UUID) -> Response:
        deal = deals.visible_deal(deal_id, request.user)
        found = queries.calculations(deal.pk, {}).filter(pk=id).first()
        if found is None:
            raise calculations.CalculationNotFound
        return with_etag(Response(_out(found)), found.version)

    @extend_schema(request=CalculationIn(partial=True), responses=CalculationOut)
    def partial_update(self, request: ApiRequest, deal_id: UUID, id: UUID) -> Response:
        """Changes what is given; `validity_period: null` clears it."""
        values = validated(CalculationIn, request, partial=True)
        calculation = calculations.change_calculation(
            deal_id=deal_id,
            calculation_id=id,
            values=values,
            actor=request.user,
            expected_version=expected_version(request),
        )
        return self._answer_one(request, calculation)

    @extend_schema(request=StatusIn, responses=CalculationOut)
    def change_status(self, request: ApiRequest, deal_id: UUID, id: UUID) -> Response:
        """draft -> ready -> confirmed -> archived, also ready -> archived."""
        calculation = calculations.change_status(
            deal_id=deal_id,
            calculation_id=id,
            **validated(StatusIn, request),
            actor=request.user,
            expected_version=expected_version(request),
        )
        return self._answer_one(request, calculation)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: ApiRequest, deal_id: UUID, id: UUID) -> Response:
        """For its author, the deal's seller and admins; a bound policy is unbound."""
        calculations.delete_calculation(
            deal_id=deal_id, calculation_id=id, actor=request.user, expected_version=expected_version(request)
        )
        return Response(status=204)

    def _answer_one(self, request: ApiRequest, calculation: Calculation, status: int = 200) -> Response:
        fresh = queries.with_linked_policy(Calculation.objects.filter(pk=calculation.pk)).get()
        return with_etag(Response(_out(fresh), status=status), fresh.version)


def _out(calculation: Calculation) -> dict[str, Any]:
    return {**CALCULATION.of(calculation), "validity_period": rules.inclusive(calculation.validity_period)}
