"""The routes of payments: the same on both faces."""

from apps.core.api.views import route
from apps.payments.api.operations import ExpenseViewSet, IncomeViewSet
from apps.payments.api.payments import PaymentViewSet

_PAYMENTS = "deals/<id:deal_id>/policies/<id:policy_id>/payments"
_PAYMENT = f"{_PAYMENTS}/<id:payment_id>"

patterns = [
    *route(_PAYMENTS, PaymentViewSet, get="list", post="create"),
    *route(_PAYMENT, PaymentViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    *route(f"{_PAYMENT}/history", PaymentViewSet, get="history"),
    *(
        each
        for name, view in (("incomes", IncomeViewSet), ("expenses", ExpenseViewSet))
        for each in (
            *route(f"{_PAYMENT}/{name}", view, get="list", post="create"),
            *route(f"{_PAYMENT}/{name}/<id:operation_id>", view, patch="partial_update", delete="destroy"),
        )
    ),
]
