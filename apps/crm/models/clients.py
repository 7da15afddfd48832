"""People and companies that insure."""

from typing import Any, Self

from django.apps import apps
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller
from apps.auth.models import User
from apps.core.folding import digits, fold, phone_e164
from apps.core.models import SoftDeleted, Versioned
from apps.crm import labels
from apps.crm.rules import CLIENT_STATUSES


class ClientQuerySet(models.QuerySet["Client"]):
    def living(self) -> Self:
        return self.filter(deleted_at=None)

    def visible_to(self, caller: Caller) -> Self:
        """His own, and those of living deals and policies that the caller sees; all to an admin."""
        if caller.is_admin:
            return self
        deal, policy = (apps.get_model("crm", name)._default_manager for name in ("Deal", "Policy"))
        deals, policies = deal.living().visible_to(caller), policy.living().visible_to(caller)  # type: ignore[attr-defined]
        return self.filter(
            Q(owner_id=caller.pk)
            | Exists(deals.filter(client_id=OuterRef("pk")))
            | Exists(policies.filter(client_id=OuterRef("pk")))
        )


class Client(Versioned, SoftDeleted):
    """Someone with an insurable interest. Without owner: not yet distributed, visible to admins."""

    name = models.CharField(_("name"), max_length=255)
    name_key = models.TextField(editable=False)
    email = models.CharField(_("e-mail"), max_length=255, null=True, blank=True)
    phone = models.CharField(_("phone"), max_length=50, null=True, blank=True)
    phone_e164 = models.CharField(_("phone number"), max_length=20, null=True, editable=False)
    status = models.CharField(_("status"), max_length=20, default="active", choices=labels.CLIENT_STATUSES)
    owner = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, blank=True, related_name="clients", verbose_name=_("owner")
    )
    # Folded name, phone digits and e-mail in one text, so that one index answers the search.
    search_text = models.TextField(editable=False)

    objects = ClientQuerySet.as_manager()

    class Meta:
        verbose_name = _("client")
        verbose_name_plural = _("clients")
        constraints = [
            models.CheckConstraint(condition=Q(status__in=CLIENT_STATUSES), name="crm_client_status_known"),
            models.CheckConstraint(condition=~Q(name=""), name="crm_client_name_given"),
        ]
        indexes = [
            models.Index(fields=["name_key", "id"], condition=Q(deleted_at=None), name="crm_client_by_name"),
            models.Index(fields=["owner", "status"], condition=Q(deleted_at=None), name="crm_client_of_owner"),
            models.Index(fields=["phone_e164"], condition=Q(deleted_at=None), name="crm_client_by_phone"),
            GinIndex(fields=["search_text"], opclasses=["gin_trgm_ops"], name="crm_client_search"),
        ]

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def twins(*, name: str, phone: str | None, email: str | None) -> dict[str, Any]:
        """What is kept beside the typed values: the sort key, the number, the search text."""
        return {
            "name_key": fold(name),
            "phone_e164": phone_e164(phone or ""),
            "search_text": "\n".join((fold(name), digits(phone_e164(phone or "") or phone or ""), fold(email or ""))),
        }

    def blocking_deletion(self, root: object) -> str | None:
        """Nothing above a client takes it along."""
        return None
