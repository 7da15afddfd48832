"""Payments: the planned instalments of a policy, and the money that settled them or was spent on them.

The database keeps the sums: triggers add every living income and expense to its payment's totals, compute the status
from them, and keep the deal's planned total. Nothing else writes these columns.
"""

from typing import Any, Self

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller
from apps.auth.models import User
from apps.core.models import SoftDeleted, Versioned
from apps.crm.models import Deal, Policy
from apps.payments.rules import PAID, STATUSES

FIRST_DAY, LAST_DAY = "2000-01-01", "2100-12-31"
CURRENCY = r"^[A-Z]{3}$"


def _user(verbose_name: Any) -> "models.ForeignKey[User | None, User | None]":
    """A reference to who did it; nobody looks rows up by it."""
    return models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, db_index=False, related_name="+", verbose_name=verbose_name
    )


STATUS_LABELS = [
    ("scheduled", _("scheduled")),
    ("partially_paid", _("paid in part")),
    ("paid", _("paid")),
    ("cancelled", _("cancelled")),
]


class PaymentQuerySet(models.QuerySet["Payment"]):
    def living(self) -> Self:
        """Neither deleted nor below a deleted policy or deal."""
        return self.filter(deleted_at=None, policy__deleted_at=None, deal__deleted_at=None)

    def visible_to(self, caller: Caller) -> Self:
        """Those of the deals that the caller sees."""
        if caller.is_admin or caller.sees_all_deals:
            return self
        return self.filter(deal__in=Deal.objects.visible_to(caller))


class Payment(Versioned, SoftDeleted):
    """One planned instalment of a policy premium, and what has come in for it and gone out on it."""

    # Both guarded by one composite key to (policy, its deal): the deal is always the policy's and moves with it.
    policy = models.ForeignKey(
        Policy,
        on_delete=models.PROTECT,
        db_index=False,
        db_constraint=False,
        related_name="payments",
        verbose_name=_("policy"),
    )
    deal = models.ForeignKey(
        Deal, on_delete=models.PROTECT, db_constraint=False, related_name="payments", verbose_name=_("deal")
    )
    sequence = models.PositiveIntegerField(_("number"))  # 1.. within the policy, deleted rows counted
    status = models.CharField(_("status"), max_length=20, default="scheduled", editable=False, choices=STATUS_LABELS)
    planned_date = models.DateField(_("planned on"), null=True, blank=True)
    planned_amount = models.DecimalField(_("planned amount"), max_digits=14, decimal_places=2)
    currency = models.CharField(_("currency"), max_length=12)
    comment = models.CharField(_("comment"), max_length=500, null=True, blank=True)
    actual_date = models.DateField(_("paid on"), null=True, blank=True)
    recorded_by = _user(_("recorded by"))  # who said that it was paid
    created_by = _user(_("author"))
    updated_by = _user(_("changed by"))
    # Repeat the sums of the living operations so that lists need no join; triggers keep them.
    incomes_total = models.DecimalField(_("incomes"), max_digits=14, decimal_places=2, default=0, editable=False)
    expenses_total = models.DecimalField(_("expenses"), max_digits=14, decimal_places=2, default=0, editable=False)
    net_total = models.DecimalField(_("net"), max_digits=14, decimal_places=2, default=0, editable=False)

    objects = PaymentQuerySet.as_manager()

    class Meta:
        verbose_name = _("payment")
        verbose_name_plural = _("payments")
        constraints = [
            models.UniqueConstraint(fields=["policy", "sequence"], name="payments_payment_sequence_once_in_policy"),
            # The operations' foreign key to (id, currency) leans on it.
            models.UniqueConstraint(fields=["id", "currency"], name="payments_payment_id_with_currency"),
            models.CheckConstraint(condition=Q(planned_amount__gt=0), name="payments_payment_amount_positive"),
            models.CheckConstraint(condition=Q(currency__regex=CURRENCY), name="payments_payment_currency_is_code"),
            models.CheckConstraint(condition=Q(status__in=STATUSES), name="payments_payment_status_known"),
            models.CheckConstraint(
                condition=(Q(planned_date=None) | Q(planned_date__gte=FIRST_DAY, planned_date__lte=LAST_DAY))
                & (Q(actual_date=None) | Q(actual_date__gte=FIRST_DAY, actual_date__lte=LAST_DAY)),
                name="payments_payment_dates_in_reason",
            ),
            models.CheckConstraint(
                condition=Q(incomes_total__gte=0, expenses_total__gte=0), name="payments_payment_totals_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(net_total=F("incomes_total") - F("expenses_total")),
                name="payments_payment_net_is_difference",
            ),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], condition=Q(deleted_at=None), name="payments_payment_newest"),
        ]

    def __str__(self) -> str:
        return f"#{self.sequence} {self.planned_amount} {self.currency}"

    def blocking_deletion(self, root: object) -> str | None:
        """Money that came in stays: a paid payment, or one with operations, keeps itself and what it hangs from."""
        if self.status == PAID:
            return "paid"
        if any(
            model._default_manager.filter(payment_id=self.pk, deleted_at=None).exists() for model in (Income, Expense)
        ):
            return "has_transactions"
        return None


class OperationQuerySet(models.QuerySet["Operation"]):
    def living(self) -> Self:
        return self.filter(deleted_at=None, payment__in=Payment.objects.living())

    def visible_to(self, caller: Caller) -> Self:
        """Those of the payments that the caller sees."""
        if caller.is_admin or caller.sees_all_deals:
            return self
        return self.filter(payment__in=Payment.objects.visible_to(caller))


class Operation(Versioned, SoftDeleted):
    """Money of a payment, dated the day it moved; always in the payment's currency, never moved to another payment.

    Its `version` orders its events only: writers send and get the version of the payment.
    """

    # The composite key to (payment, its currency) guards it.
    payment = models.ForeignKey(
        Payment,
        on_delete=models.PROTECT,
        db_index=False,
        db_constraint=False,
        related_name="%(class)ss",
        verbose_name=_("payment"),
    )
    amount = models.DecimalField(_("amount"), max_digits=14, decimal_places=2)
    currency = models.CharField(_("currency"), max_length=12)
    category = models.CharField(_("category"), max_length=64)
    posted_at = models.DateField(_("posted on"))
    note = models.CharField(_("note"), max_length=300, null=True, blank=True)
    created_by = _user(_("author"))
    updated_by = _user(_("changed by"))
    deleted_by = _user(_("deleted by"))

    objects = OperationQuerySet.as_manager()

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="payments_%(class)s_amount_positive"),
            models.CheckConstraint(condition=Q(currency__regex=CURRENCY), name="payments_%(class)s_currency_is_code"),
            models.CheckConstraint(condition=~Q(category=""), name="payments_%(class)s_category_given"),
            models.CheckConstraint(
                condition=Q(posted_at__gte=FIRST_DAY, posted_at__lte=LAST_DAY), name="payments_%(class)s_date_in_reason"
            ),
        ]
        indexes = [
            models.Index(fields=["payment", "posted_at", "created_at", "id"], name="payments_%(class)s_of_payment"),
            models.Index(fields=["-posted_at", "-id"], condition=Q(deleted_at=None), name="payments_%(class)s_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.posted_at:%d.%m.%Y} {self.amount} {self.currency}"


class Income(Operation):
    """Money that settled the payment."""

    class Meta(Operation.Meta):
        verbose_name = _("income")
        verbose_name_plural = _("incomes")


class Expense(Operation):
    """Money that was spent on the payment."""

    class Meta(Operation.Meta):
        verbose_name = _("expense")
        verbose_name_plural = _("expenses")
