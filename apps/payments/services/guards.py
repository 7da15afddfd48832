"""What the database's own refusals mean to a caller: the last guard speaks like the first one."""

from django.utils.translation import gettext_lazy as _

from apps.core.constraints import register as means
from apps.core.errors import DomainError, invalid
from apps.crm.services.policies import PolicyNotFound
from apps.payments.services.operations import CurrencyMismatch


class PolicyHasPayments(DomainError):
    code = "policy_has_payments"
    message = _("The policy has payments: it cannot be left without a deal.")


class OperationStays(DomainError):
    code = "operation_stays"
    message = _("An income or expense does not move to another payment.")


class TotalsAreSums(DomainError):
    code = "totals_are_sums"
    message = _("Totals are sums of incomes and expenses; change those.")


class SequenceTaken(DomainError):
    code = "payment_sequence_exists"
    message = _("The policy has a payment with this number already.")


def register() -> None:
    """Maps constraint names to refusals; called when the app is ready."""
    means("payments_payment_has_deal", PolicyHasPayments)
    means("payments_payment_in_deal_of_policy", PolicyNotFound)
    means("payments_payment_totals_are_sums", TotalsAreSums)
    means("payments_payment_sequence_once_in_policy", SequenceTaken)
    means(
        "payments_payment_amount_positive",
        lambda: invalid("planned_amount", "must_be_positive", _("The amount must be positive.")),
    )
    means("payments_payment_currency_is_code", lambda: invalid("currency", "invalid", _("Three Latin letters.")))
    means(
        "payments_payment_dates_in_reason",
        lambda: invalid("planned_date", "out_of_range", _("The date must lie between 2000 and 2100.")),
    )
    for model in ("income", "expense"):
        means(f"payments_{model}_in_currency_of_payment", CurrencyMismatch)
        means(f"payments_{model}_stays_with_its_payment", OperationStays)
        means(
            f"payments_{model}_amount_positive",
            lambda: invalid("amount", "must_be_positive", _("The amount must be positive.")),
        )
        means(f"payments_{model}_category_given", lambda: invalid("category", "blank", _("Name a category.")))
        means(
            f"payments_{model}_date_in_reason",
            lambda: invalid("posted_at", "out_of_range", _("The date must lie between 2000 and 2100.")),
        )
