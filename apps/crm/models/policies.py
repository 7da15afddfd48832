"""Policies: the contract with the insurer."""

from typing import Any, Self

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller
from apps.auth.models import User
from apps.core.folding import number_key
from apps.core.models import SoftDeleted, Versioned
from apps.crm import labels
from apps.crm.models.calculations import Calculation
from apps.crm.models.catalogs import InsuranceType, Insurer, SalesChannel
from apps.crm.models.clients import Client
from apps.crm.models.deals import Deal
from apps.crm.rules import POLICY_STATUSES


class PolicyQuerySet(models.QuerySet["Policy"]):
    def living(self) -> Self:
        return self.filter(deleted_at=None)

    def visible_to(self, caller: Caller) -> Self:
        """Through its deal; without one, to its owner, its client's owner and admins."""
        if caller.is_admin:
            return self
        in_deals = Q(deal__isnull=False) if caller.sees_all_deals else Q(deal__in=Deal.objects.visible_to(caller))
        loose = Q(deal=None) & (Q(owner_id=caller.pk) | Q(client__owner_id=caller.pk))
        return self.filter(in_deals | loose)


class Policy(Versioned, SoftDeleted):
    """The number is kept as typed and as `policy_number_key`, which is unique among living policies."""

    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="policies", verbose_name=_("client"))
    deal = models.ForeignKey(
        Deal, on_delete=models.PROTECT, null=True, blank=True, related_name="policies", verbose_name=_("deal")
    )
    owner = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, related_name="policies", verbose_name=_("owner")
    )
    calculation = models.OneToOneField(
        Calculation,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="policy",
        verbose_name=_("calculation"),
    )
    policy_number = models.CharField(_("number"), max_length=64)
    policy_number_key = models.TextField(_("number as compared"), editable=False)
    status = models.CharField(_("status"), max_length=20, default="draft", choices=labels.POLICY_STATUSES)
    premium = models.DecimalField(_("premium"), max_digits=14, decimal_places=2, null=True, blank=True)
    effective_from = models.DateField(_("in force from"), null=True, blank=True)
    effective_to = models.DateField(_("in force to"), null=True, blank=True)
    insurer = models.ForeignKey(Insurer, on_delete=models.PROTECT, null=True, blank=True, verbose_name=_("insurer"))
    insurance_type = models.ForeignKey(
        InsuranceType, on_delete=models.PROTECT, null=True, blank=True, verbose_name=_("insurance type")
    )
    sales_channel = models.ForeignKey(
        SalesChannel, on_delete=models.PROTECT, null=True, blank=True, verbose_name=_("sales channel")
    )

    objects = PolicyQuerySet.as_manager()

    class Meta:
        verbose_name = _("policy")
        verbose_name_plural = _("policies")
        constraints = [
            models.UniqueConstraint(
                fields=["policy_number_key"], condition=Q(deleted_at=None), name="crm_policy_number_once_among_living"
            ),
            # The payments' foreign key to (id, deal) leans on it.
            models.UniqueConstraint(fields=["id", "deal"], name="crm_policy_id_with_deal"),
            models.CheckConstraint(condition=Q(status__in=POLICY_STATUSES), name="crm_policy_status_known"),
            models.CheckConstraint(
                condition=Q(premium=None) | Q(premium__gte=0), name="crm_policy_premium_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(effective_from=None) | Q(effective_to=None) | Q(effective_to__gte=F("effective_from")),
                name="crm_policy_ends_after_start",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["draft", "closed"]) | Q(effective_to__isnull=False),
                name="crm_policy_active_has_an_end",
            ),
            models.CheckConstraint(
                condition=(
                    Q(effective_from=None) | Q(effective_from__gte="2000-01-01", effective_from__lte="2100-12-31")
                )
                & (Q(effective_to=None) | Q(effective_to__gte="2000-01-01", effective_to__lte="2100-12-31")),
                name="crm_policy_dates_in_reason",
            ),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], condition=Q(deleted_at=None), name="crm_policy_newest"),
            models.Index(fields=["status"], name="crm_policy_by_status"),
            GinIndex(fields=["policy_number_key"], opclasses=["gin_trgm_ops"], name="crm_policy_search"),
            models.Index(fields=["deal", "effective_from"], name="crm_policy_of_deal"),
        ]

    def __str__(self) -> str:
        return self.policy_number

    @staticmethod
    def twins(*, policy_number: str) -> dict[str, Any]:
        return {"policy_number_key": number_key(policy_number)}

    def blocking_deletion(self, root: object) -> str | None:
        return "living_policy" if isinstance(root, Client) else None
