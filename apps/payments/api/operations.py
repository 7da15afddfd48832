"""`…/payments/{payment_id}/incomes` and `/expenses`. Writes take and return the version of the payment."""

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from apps.core.api.pages import Keyset, ListQuery, hot_response, page, read_query
from apps.core.api.versions import expected_version, with_etag
from apps.core.api.views import SIGNED_IN, ApiRequest, ApiViewSet, validated
from apps.payments import queries
from apps.payments.api.shapes import OPERATION, OperationIn, OperationOut, OperationPatch, RemovalQuery
from apps.payments.rules import Kind
from apps.payments.services import operations, payments, told

OLDEST_FIRST = Keyset(("posted_at", "created_at", "id"))


class OperationViewSet(ApiViewSet):
    """Money of a payment. PATCH and DELETE: one's own entry; anyone's for an admin."""

    kind: ClassVar[Kind]
    capabilities = {
        "list": SIGNED_IN,
        "create": "payments.record",
        "partial_update": "payments.correct",
        "destroy": "payments.correct",
    }

    @extend_schema(parameters=[ListQuery], responses=OperationOut(many=True))
    def list(self, request: ApiRequest, deal_id: UUID, policy_id: UUID, payment_id: UUID) -> Any:
        """The payment's money of this kind, the oldest first."""
        ids = {"deal_id": deal_id, "policy_id": policy_id, "payment_id": payment_id}
        payments.visible_payment(**ids, actor=request.user)
        query = read_query(request, ListQuery)
        rows = queries.operations_of(payment_id, self.kind)
        found, headers = page(request, rows, query, OLDEST_FIRST, OPERATION.columns)
        return hot_response(OPERATION.rows(request, found), headers)

    @extend_schema(request=OperationIn, responses={201: OperationOut})
    def create(self, request: ApiRequest, deal_id: UUID, policy_id: UUID, payment_id: UUID) -> Response:
        """Records money; 409 `payment_cancelled`, 400 `currency_mismatch`, 400 `posted_at_in_future`."""
        record = operations.record_income if self.kind == "income" else operations.record_expense
        operation = record(
            deal_id=deal_id,
            policy_id=policy_id,
            payment_id=payment_id,
            values=validated(OperationIn, request),
            actor=request.user,
            expected_version=expected_version(request),
        )
        return with_etag(Response(told.operation_read(operation), status=201), operation.payment.version)

    @extend_schema(request=OperationPatch, responses=OperationOut)
    def partial_update(
        self, request: ApiRequest, deal_id: UUID, policy_id: UUID, payment_id: UUID, operation_id: UUID
    ) -> Response:
        """Corrects an entry; before and after stay in the history."""
        operation = operations.correct_operation(
            self.kind,
            deal_id=deal_id,
            policy_id=policy_id,
            payment_id=payment_id,
            operation_id=operation_id,
            values=validated(OperationPatch, request, partial=True),
            actor=request.user,
            expected_version=expected_version(request),
        )
        return with_etag(Response(told.operation_read(operation)), operation.payment.version)

    @extend_schema(parameters=[RemovalQuery], request=None, responses={204: None})
    def destroy(
        self, request: ApiRequest, deal_id: UUID, policy_id: UUID, payment_id: UUID, operation_id: UUID
    ) -> Response:
        """Hides an entry, which no longer counts."""
        payment = operations.remove_operation(
            self.kind,
            deal_id=deal_id,
            policy_id=policy_id,
            payment_id=payment_id,
            operation_id=operation_id,
            deleted_by_id=read_query(request, RemovalQuery).filters.get("deleted_by_id"),
            actor=request.user,
            expected_version=expected_version(request),
        )
        return with_etag(Response(status=204), payment.version)


class IncomeViewSet(OperationViewSet):
    kind = "income"


class ExpenseViewSet(OperationViewSet):
    kind = "expense"
