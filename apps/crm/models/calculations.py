"""Calculations: what an insurer offers for a deal."""

from typing import Self

from django.contrib.postgres.fields import ArrayField, DateRangeField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller
from apps.auth.models import User
from apps.core.models import SoftDeleted, Versioned
from apps.crm import labels
from apps.crm.models.catalogs import Insurer
from apps.crm.models.deals import Deal
from apps.crm.rules import CALCULATION_STATUSES


class CalculationQuerySet(models.QuerySet["Calculation"]):
    def living(self) -> Self:
        return self.filter(deleted_at=None)

    def visible_to(self, caller: Caller) -> Self:
        return self.filter(deal__in=Deal.objects.visible_to(caller))


class Calculation(Versioned, SoftDeleted):
    """draft -> ready -> confirmed -> archived, also ready -> archived; a trigger refuses any other move."""

    deal = models.ForeignKey(
        Deal, db_index=False, on_delete=models.PROTECT, related_name="calculations", verbose_name=_("deal")
    )
    owner = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, related_name="calculations", verbose_name=_("owner")
    )
    created_by = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, related_name="+", verbose_name=_("author")
    )
    insurance_company = models.CharField(_("insurer as written"), max_length=255)
    insurance_company_key = models.TextField(editable=False)
    insurer = models.ForeignKey(Insurer, on_delete=models.PROTECT, null=True, blank=True, verbose_name=_("insurer"))
    program_name = models.CharField(_("program"), max_length=255, null=True, blank=True)
    premium_amount = models.DecimalField(_("premium"), max_digits=14, decimal_places=2, null=True, blank=True)
    coverage_sum = models.DecimalField(_("sum insured"), max_digits=14, decimal_places=2, null=True, blank=True)
    calculation_date = models.DateField(_("calculated on"))
    validity_period = DateRangeField(_("valid"), null=True, blank=True)  # half-open: [start, end + 1 day)
    files = ArrayField(models.CharField(max_length=1000), verbose_name=_("files"), default=list, blank=True)
    comments = models.CharField(_("comments"), max_length=2000, null=True, blank=True)
    status = models.CharField(_("status"), max_length=10, default="draft", choices=labels.CALCULATION_STATUSES)

    objects = CalculationQuerySet.as_manager()

    class Meta:
        verbose_name = _("calculation")
        verbose_name_plural = _("calculations")
        constraints = [
            models.CheckConstraint(condition=Q(status__in=CALCULATION_STATUSES), name="crm_calculation_status_known"),
            models.CheckConstraint(
                condition=Q(premium_amount=None) | Q(premium_amount__gt=0), name="crm_calculation_premium_positive"
            ),
            models.CheckConstraint(
                condition=Q(coverage_sum=None) | Q(coverage_sum__gt=0), name="crm_calculation_sum_positive"
            ),
            models.CheckConstraint(
                condition=Q(calculation_date__gte="2000-01-01", calculation_date__lte="2100-12-31"),
                name="crm_calculation_date_in_reason",
            ),
        ]
        indexes = [
            models.Index(fields=["deal", "-updated_at", "-created_at", "-id"], name="crm_calculation_of_deal"),
            models.Index(fields=["insurance_company", "calculation_date", "status"], name="crm_calculation_by_company"),
        ]

    def __str__(self) -> str:
        return f"{self.insurance_company} {self.calculation_date:%d.%m.%Y}"

    def blocking_deletion(self, root: object) -> str | None:
        return None
