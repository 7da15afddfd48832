"""`/policies`. (docs/contract.md, "Policies")"""

from typing import Any
from uuid import UUID

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from apps.core.api.fields import DayField, MoneyField
from apps.core.api.pages import Keyset, ListQuery, Shape, hot_response, page, read_query
from apps.core.api.versions import expected_version, with_etag
from apps.core.api.views import SIGNED_IN, ApiRequest, ApiViewSet, validated
from apps.core.folding import number_key
from apps.crm import queries, rules
from apps.crm.models import Policy
from apps.crm.services import policies

NEWEST_FIRST = Keyset(("created_at", "id"), descending=True)


class PolicyStatusField(serializers.CharField):
    """A status, or a word of old that means one."""

    default_error_messages = {"unknown_status": _("There is no such policy status.")}

    def to_internal_value(self, data: Any) -> str:
        status = rules.policy_status(super().to_internal_value(data))
        if status is None:
            self.fail("unknown_status")
        return status


class PolicyNumberField(serializers.CharField):
    default_error_messages = {"no_letters_or_digits": _("A policy number has letters or digits.")}

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not number_key(text):
            self.fail("no_letters_or_digits")
        return str(text)


class PolicyFields(serializers.Serializer[Any]):
    deal_id = serializers.UUIDField(allow_null=True, required=False)
    status = PolicyStatusField(required=False, max_length=30)
    premium = MoneyField(positive=False, allow_null=True, required=False)
    effective_from = DayField(allow_null=True, required=False)
    effective_to = DayField(allow_null=True, required=False, help_text="Needed to activate.")
    insurer_id = serializers.UUIDField(allow_null=True, required=False)
    insurance_type_id = serializers.UUIDField(allow_null=True, required=False)
    sales_channel_id = serializers.UUIDField(allow_null=True, required=False)


class PolicyIn(PolicyFields):
    client_id = serializers.UUIDField()
    policy_number = PolicyNumberField(max_length=64)
    owner_id = serializers.UUIDField(allow_null=True, required=False, help_text="Counts from an admin only.")


class PolicyPatch(PolicyFields):
    client_id = serializers.UUIDField(required=False)
    policy_number = PolicyNumberField(max_length=64, required=False)
    is_deleted = serializers.BooleanField(required=False, help_text="`true` deletes.")


class PolicyOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    client_id = serializers.UUIDField()
    deal_id = serializers.UUIDField(allow_null=True)
    owner_id = serializers.UUIDField(allow_null=True)
    calculation_id = serializers.UUIDField(allow_null=True)
    policy_number = serializers.CharField(help_text="As typed.")
    policy_number_key = serializers.CharField(
        help_text="As compared: letters and digits, upper case, Latin look-alikes."
    )
    status = serializers.ChoiceField(choices=rules.POLICY_STATUSES)
    premium = serializers.DecimalField(max_digits=14, decimal_places=2, allow_null=True)
    effective_from = serializers.DateField(allow_null=True)
    effective_to = serializers.DateField(allow_null=True)
    insurer_id = serializers.UUIDField(allow_null=True)
    insurance_type_id = serializers.UUIDField(allow_null=True)
    sales_channel_id = serializers.UUIDField(allow_null=True)
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    is_deleted = serializers.BooleanField()


LIVING = Shape(
    (
        "id", "client_id", "deal_id", "owner_id", "calculation_id", "policy_number", "policy_number_key", "status",
        "premium", "effective_from", "effective_to", "insurer_id", "insurance_type_id", "sales_channel_id", "version",
        "created_at", "updated_at",
    ),
    {"is_deleted": False},
)  # fmt: skip


class PolicyQuery(ListQuery):
    deal_id = serializers.UUIDField(required=False)
    client_id = serializers.UUIDField(required=False)
    status = PolicyStatusField(required=False, max_length=30)
    search = serializers.CharField(required=False, allow_blank=True, max_length=64, help_text="Part of the number.")


class PolicyViewSet(ApiViewSet):
    capabilities = {
        "list": SIGNED_IN,
        "create": "policies.edit",
        "retrieve": SIGNED_IN,
        "partial_update": "policies.edit",
        "destroy": "policies.delete",
        "restore": "policies.delete",
    }

    @extend_schema(parameters=[PolicyQuery], responses=PolicyOut(many=True))
    def list(self, request: ApiRequest) -> Any:
        """Policies the caller sees, the newest first."""
        query = read_query(request, PolicyQuery)
        rows, headers = page(
            request, queries.policies(request.user, query.filters), query, NEWEST_FIRST, LIVING.columns
        )
        return hot_response(LIVING.rows(request, rows), headers)

    @extend_schema(request=PolicyIn, responses={201: PolicyOut})
    def create(self, request: ApiRequest) -> Response:
        policy = policies.create_policy(values=validated(PolicyIn, request), actor=request.user)
        return with_etag(Response(LIVING.of(policy), status=201), policy.version)

    @extend_schema(responses=PolicyOut)
    def retrieve(self, request: ApiRequest, id: UUID) -> Response:
        policy = policies.visible_policy(id, request.user)
        return with_etag(Response(LIVING.of(policy)), policy.version)

    @extend_schema(request=PolicyPatch, responses=PolicyOut)
    def partial_update(self, request: ApiRequest, id: UUID) -> Response:
        """Changes what is given. `deal_id` moves the policy with its payments."""
        values = validated(PolicyPatch, request, partial=True)
        expected = expected_version(request)
        if values.pop("is_deleted", False):
            policies.delete_policy(policy_id=id, actor=request.user, expected_version=expected)
            policy = Policy.objects.get(pk=id)
            return with_etag(Response({**LIVING.of(policy), "is_deleted": True}), policy.version)
        policy = policies.change_policy(policy_id=id, values=values, actor=request.user, expected_version=expected)
        return with_etag(Response(LIVING.of(policy)), policy.version)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: ApiRequest, id: UUID) -> Response:
        """Hides the policy with its open payments as one batch."""
        policies.delete_policy(policy_id=id, actor=request.user, expected_version=expected_version(request))
        return Response(status=204)

    @extend_schema(request=None, responses=PolicyOut)
    def restore(self, request: ApiRequest, id: UUID) -> Response:
        """Brings back exactly what the deletion took; 409 when the number was taken meanwhile."""
        policy = policies.restore_policy(policy_id=id, actor=request.user)
        return with_etag(Response(LIVING.of(policy)), policy.version)
