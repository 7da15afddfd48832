"""What the agency chooses from: insurers, kinds of insurance, sales channels."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.core.models import Versioned


class Catalog(Versioned):
    """A named entry; text equal to its name or an alias, folded, means it."""

    name = models.CharField(_("name"), max_length=255)
    name_key = models.TextField(unique=True, editable=False)
    code = models.CharField(_("code"), max_length=64, blank=True)
    aliases = ArrayField(models.CharField(max_length=255), verbose_name=_("aliases"), default=list, blank=True)
    alias_keys = ArrayField(models.TextField(), default=list, editable=False)
    is_active = models.BooleanField(_("in use"), default=True)

    class Meta:
        abstract = True
        ordering = ["name_key"]

    def __str__(self) -> str:
        return self.name


class Insurer(Catalog):
    class Meta(Catalog.Meta):
        verbose_name = _("insurer")
        verbose_name_plural = _("insurers")


class InsuranceType(Catalog):
    class Meta(Catalog.Meta):
        verbose_name = _("insurance type")
        verbose_name_plural = _("insurance types")


class SalesChannel(Catalog):
    class Meta(Catalog.Meta):
        verbose_name = _("sales channel")
        verbose_name_plural = _("sales channels")
