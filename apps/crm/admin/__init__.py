"""Clients, deals and what hangs from them in the admin. People see what they see elsewhere."""

from apps.crm.admin.calculations import CalculationAdmin
from apps.crm.admin.catalogs import CatalogAdmin
from apps.crm.admin.clients import ClientAdmin
from apps.crm.admin.deals import DealAdmin, JournalAdmin
from apps.crm.admin.policies import PolicyAdmin

__all__ = ["CalculationAdmin", "CatalogAdmin", "ClientAdmin", "DealAdmin", "JournalAdmin", "PolicyAdmin"]
