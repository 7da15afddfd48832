"""Deals: a long-lived insured object that sleeps until its next event; who works in it; its journal and figures."""

import uuid
from typing import Any, Self

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Case, Q, Value, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller
from apps.auth.models import User
from apps.core.folding import fold
from apps.core.models import SoftDeleted, Versioned
from apps.crm import labels
from apps.crm.models.clients import Client
from apps.crm.rules import CLOSED_STAGES, DEAL_STATUSES, MEMBER_ROLES, STATUS_OF_STAGE


class DealQuerySet(models.QuerySet["Deal"]):
    def living(self) -> Self:
        return self.filter(deleted_at=None)

    def open(self) -> Self:
        return self.exclude(stage__in=CLOSED_STAGES)

    def visible_to(self, caller: Caller) -> Self:
        """Deals the caller is a member of; every deal to those who see all; unowned ones to the latter only."""
        if caller.sees_all_deals or caller.is_admin:
            return self
        return self.filter(pk__in=DealMember.objects.filter(user_id=caller.pk).values("deal_id"))


class Deal(Versioned, SoftDeleted):
    """The status is written, the stage is computed by the database, `planned_total` kept by the payments' trigger."""

    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="deals", verbose_name=_("client"))
    owner = models.ForeignKey(
        User,
        db_index=False,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="deals",
        verbose_name=_("owner"),
    )
    title = models.CharField(_("title"), max_length=255)
    description = models.TextField(_("description"), null=True, blank=True)
    status = models.CharField(_("status"), max_length=20, default="draft", choices=labels.DEAL_STATUSES)
    stage = models.GeneratedField(
        expression=Case(
            *(
                When(status=status, then=Value(stage))
                for stage, status in STATUS_OF_STAGE.items()
                if stage != "qualification"
            ),
            default=Value("qualification"),
        ),
        output_field=models.CharField(_("stage"), max_length=20, choices=labels.STAGES),
        db_persist=True,
    )
    next_review_at = models.DateField(_("next contact"))
    close_reason = models.CharField(_("reason of closing"), max_length=500, blank=True)
    closed_from = models.CharField(_("status before closing"), max_length=20, blank=True)
    planned_total = models.DecimalField(
        _("planned payments"), max_digits=16, decimal_places=2, default=0, editable=False
    )
    search_text = models.TextField(editable=False)  # folded title and description

    objects = DealQuerySet.as_manager()

    class Meta:
        verbose_name = _("deal")
        verbose_name_plural = _("deals")
        constraints = [
            models.CheckConstraint(condition=Q(status__in=DEAL_STATUSES), name="crm_deal_status_known"),
            models.CheckConstraint(condition=~Q(title=""), name="crm_deal_title_given"),
            models.CheckConstraint(
                condition=Q(next_review_at__gte="2000-01-01", next_review_at__lte="2100-12-31"),
                name="crm_deal_review_in_reason",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_review_at", "updated_at", "id"], condition=Q(deleted_at=None), name="crm_deal_worklist"
            ),
            models.Index(
                fields=["owner", "stage", "next_review_at", "updated_at", "id"],
                condition=Q(deleted_at=None),
                name="crm_deal_of_owner_by_stage",
            ),
            models.Index(
                fields=["stage", "next_review_at", "updated_at", "id"],
                condition=Q(deleted_at=None),
                name="crm_deal_by_stage",
            ),
            GinIndex(fields=["search_text"], opclasses=["gin_trgm_ops"], name="crm_deal_search"),
        ]

    def __str__(self) -> str:
        return self.title

    @staticmethod
    def twins(*, title: str, description: str | None) -> dict[str, Any]:
        return {"search_text": f"{fold(title)}\n{fold(description or '')}"}

    def blocking_deletion(self, root: object) -> str | None:
        return "living_deal" if isinstance(root, Client) else None


class DealMember(models.Model):
    """Who takes part in a deal, and why: as owner, by hand, through a task. Visibility reads this alone."""

    deal = models.ForeignKey(
        Deal, db_index=False, on_delete=models.PROTECT, related_name="members", verbose_name=_("deal")
    )
    user = models.ForeignKey(
        User, db_index=False, on_delete=models.PROTECT, related_name="memberships", verbose_name=_("user")
    )
    role = models.CharField(_("role"), max_length=10, choices=labels.MEMBER_ROLES)
    via = models.CharField(_("because"), max_length=10, choices=labels.MEMBER_REASONS)
    created_at = models.DateTimeField(_("added"), default=timezone.now)

    class Meta:
        verbose_name = _("deal member")
        verbose_name_plural = _("deal members")
        constraints = [
            models.UniqueConstraint(fields=["deal", "user", "via"], name="crm_dealmember_once_per_reason"),
            models.UniqueConstraint(fields=["deal"], condition=Q(via="owner"), name="crm_dealmember_one_owner"),
            models.CheckConstraint(condition=Q(role__in=MEMBER_ROLES), name="crm_dealmember_role_known"),
        ]
        indexes = [models.Index(fields=["user", "deal", "role"], name="crm_dealmember_of_user")]

    def __str__(self) -> str:
        return f"{self.get_role_display()} ({self.get_via_display()})"


class JournalEntry(models.Model):
    """What was said and done in a deal; append-only."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    deal = models.ForeignKey(
        Deal, db_index=False, on_delete=models.PROTECT, related_name="journal", verbose_name=_("deal")
    )
    author = models.ForeignKey(User, on_delete=models.PROTECT, null=True, verbose_name=_("author"))
    body = models.TextField(_("text"))
    created_at = models.DateTimeField(_("at"), default=timezone.now)

    class Meta:
        verbose_name = _("journal entry")
        verbose_name_plural = _("journal")
        indexes = [models.Index(fields=["deal", "created_at", "id"], name="crm_journal_of_deal")]

    def __str__(self) -> str:
        return self.body[:60]


class StageFigure(models.Model):
    """Kept figures of the living deals of one owner in one stage; triggers append deltas, a job folds them in."""

    owner_id = models.UUIDField(null=True)
    stage = models.CharField(max_length=20)
    deals = models.BigIntegerField(default=0)
    planned_total = models.DecimalField(max_digits=20, decimal_places=2, default=0)
    cycles = models.BigIntegerField(default=0)  # deals whose updated_at is not before created_at
    cycle_days = models.DecimalField(max_digits=24, decimal_places=6, default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner_id", "stage"], nulls_distinct=False, name="crm_stagefigure_one_per_owner_and_stage"
            )
        ]

    def __str__(self) -> str:
        return f"{self.owner_id} {self.stage}"


class StageFigureDelta(models.Model):
    """A change of a figure that is not folded in yet; written by triggers only."""

    owner_id = models.UUIDField(null=True)
    stage = models.CharField(max_length=20)
    deals = models.IntegerField()
    planned_total = models.DecimalField(max_digits=20, decimal_places=2)
    cycles = models.IntegerField()
    cycle_days = models.DecimalField(max_digits=24, decimal_places=6)

    class Meta:
        indexes = [models.Index(fields=["owner_id"], name="crm_stagefiguredelta_owner")]

    def __str__(self) -> str:
        return f"{self.owner_id} {self.stage} {self.deals:+d}"
