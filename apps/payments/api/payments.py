"""`/deals/{deal_id}/policies/{policy_id}/payments`. (docs/contract.md, "Payments")"""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from apps.auth.queries import emails_of
from apps.core.api.history import HistoryEntry, history_page
from apps.core.api.pages import Keyset, ListQuery, hot_response, page, read_query
from apps.core.api.versions import expected_version, with_etag
from apps.core.api.views import SIGNED_IN, ApiRequest, ApiViewSet, validated
from apps.payments import queries
from apps.payments.api.shapes import (
    COLUMNS,
    IncludeQuery,
    PaymentIn,
    PaymentOut,
    PaymentPage,
    PaymentPatch,
    PaymentQuery,
    payment_out,
    payment_rows,
)
from apps.payments.services import payments

BY_NUMBER = Keyset(("sequence",))


class PaymentViewSet(ApiViewSet):
    """Instalments of a policy. Every route: 404 `policy_not_found` when the policy is not in that deal."""

    capabilities = {
        "list": SIGNED_IN,
        "create": "payments.edit",
        "retrieve": SIGNED_IN,
        "partial_update": "payments.edit",
        "destroy": "payments.delete",
        "history": SIGNED_IN,
    }

    @extend_schema(parameters=[PaymentQuery], responses=PaymentPage)
    def list(self, request: ApiRequest, deal_id: UUID, policy_id: UUID) -> Any:
        """Payments by number; `include` fills the lists of incomes and expenses."""
        query = read_query(request, PaymentQuery)
        asked: dict[str, Any] = {"deal_id": deal_id, "policy_id": policy_id, "filters": query.filters}
        source = queries.payments_with_total(request.user, **asked)
        found, headers = page(request, source, query, BY_NUMBER, (*COLUMNS, "total"))
        if not found:
            payments.visible_policy(deal_id=deal_id, policy_id=policy_id, actor=request.user)
        whole = found and not query.cursor  # then the window has counted every row
        beyond = query.cursor or query.offset
        total = found[0][-1] if whole else queries.payments(request.user, **asked).count() if beyond else 0
        items = payment_rows(request, [row[:-1] for row in found], query.filters.get("include", ()))
        return hot_response({"items": items, "total": total}, headers)

    @extend_schema(request=PaymentIn, responses={201: PaymentOut})
    def create(self, request: ApiRequest, deal_id: UUID, policy_id: UUID) -> Response:
        """Plans an instalment; its number is the next of the policy."""
        values = validated(PaymentIn, request)
        payment = payments.create_payment(deal_id=deal_id, policy_id=policy_id, values=values, actor=request.user)
        return with_etag(Response(payment_out(payment, nested=False), status=201), payment.version)

    @extend_schema(parameters=[IncludeQuery], responses=PaymentOut)
    def retrieve(self, request: ApiRequest, deal_id: UUID, policy_id: UUID, payment_id: UUID) -> Any:
        query = read_query(request, IncludeQuery)
        rows = queries.payments(request.user, deal_id=deal_id, policy_id=policy_id, filters={})
        found = list(rows.filter(pk=payment_id).values_list(*COLUMNS))
        if not found:
            payments.visible_policy(deal_id=deal_id, policy_id=policy_id, actor=request.user)
            raise payments.PaymentNotFound
        payment = payment_rows(request, found, query.filters.get("include", ()))[0]
        return hot_response(payment, {"ETag": f'"{payment["version"]}"'})

    @extend_schema(request=PaymentPatch, responses=PaymentOut)
    def partial_update(self, request: ApiRequest, deal_id: UUID, policy_id: UUID, payment_id: UUID) -> Response:
        """Changes what is given. Of `status` only `cancelled` has an effect: admins only, and for good."""
        payment = payments.change_payment(
            deal_id=deal_id,
            policy_id=policy_id,
            payment_id=payment_id,
            values=validated(PaymentPatch, request, partial=True),
            actor=request.user,
            expected_version=expected_version(request),
        )
        return with_etag(Response(payment_out(payment)), payment.version)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: ApiRequest, deal_id: UUID, policy_id: UUID, payment_id: UUID) -> Response:
        """Hides a payment for which no money has moved; else 409 `payment_has_transactions`."""
        payments.delete_payment(
            deal_id=deal_id,
            policy_id=policy_id,
            payment_id=payment_id,
            actor=request.user,
            expected_version=expected_version(request),
        )
        return Response(status=204)

    @extend_schema(parameters=[ListQuery], responses=HistoryEntry(many=True))
    def history(self, request: ApiRequest, deal_id: UUID, policy_id: UUID, payment_id: UUID) -> Any:
        """Who changed what in the payment and its operations, newest first."""
        payments.visible_payment(deal_id=deal_id, policy_id=policy_id, payment_id=payment_id, actor=request.user)
        return history_page(request, queries.payment_history(payment_id), emails_of)
