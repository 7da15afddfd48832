"""Clients, deals, journal, calculations, policies, catalogs."""

from apps.crm.models.calculations import Calculation
from apps.crm.models.catalogs import Catalog, InsuranceType, Insurer, SalesChannel
from apps.crm.models.clients import Client
from apps.crm.models.deals import Deal, DealMember, JournalEntry, StageFigure, StageFigureDelta
from apps.crm.models.policies import Policy

__all__ = [
    "Calculation",
    "Catalog",
    "Client",
    "Deal",
    "DealMember",
    "InsuranceType",
    "Insurer",
    "JournalEntry",
    "Policy",
    "SalesChannel",
    "StageFigure",
    "StageFigureDelta",
]
