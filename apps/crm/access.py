"""Who may see and change what in a deal. Rows: `visible_to` on the querysets. Verbs: here.

A write needs the role's capability, the row visible, and a working place in that deal; an observer writes nothing in
his deal whatever his roles. Services call these, so every way in (API, admin, bot, command) asks the same questions.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from apps.auth.access import Caller, require
from apps.core.errors import Forbidden
from apps.crm.models import Calculation, Client, Deal, DealMember, Policy
from apps.crm.rules import WORKING_ROLES


def roles_in(caller: Caller, deal_id: UUID) -> Collection[str]:
    """The caller's roles in the deal: seller (its owner is one), executor, observer."""
    return set(DealMember.objects.filter(deal_id=deal_id, user_id=caller.pk).values_list("role", flat=True))


def require_work(caller: Caller, capability: str, deal_id: UUID) -> None:
    """May the caller do this in a deal that he sees?

    :raises Forbidden: without the capability, as an observer, or without a working place
    """
    require(caller, capability)
    roles = roles_in(caller, deal_id)
    if "observer" in roles:
        raise Forbidden
    if caller.is_admin or capability in caller.rights.everywhere or WORKING_ROLES & set(roles):
        return
    raise Forbidden


def require_seller(caller: Caller, capability: str, deal_id: UUID) -> None:
    """As `require_work`, for the deal's sellers and admins only."""
    require(caller, capability)
    roles = roles_in(caller, deal_id)
    if "observer" in roles or not (caller.is_admin or "seller" in roles):
        raise Forbidden


def require_client(caller: Caller, client: Client) -> None:
    """A client is changed by its owner and by admins.

    :raises Forbidden: to anyone else who sees it
    """
    require(caller, "clients.edit")
    if not (caller.is_admin or client.owner_id == caller.pk):
        raise Forbidden


def require_policy(caller: Caller, capability: str, policy: Policy) -> None:
    """Through its deal; a policy without one is its owner's, its client's owner's and the admins'."""
    if policy.deal_id:
        require_work(caller, capability, policy.deal_id)
        return
    require(caller, capability)
    if not (caller.is_admin or caller.pk in (policy.owner_id, policy.client.owner_id)):
        raise Forbidden


def may_delete_calculation(caller: Caller, calculation: Calculation) -> bool:
    """Its author, the deal's seller, an admin."""
    return (
        caller.is_admin or calculation.created_by_id == caller.pk or "seller" in roles_in(caller, calculation.deal_id)
    )


def visible_deal_ids(caller: Caller) -> Any:
    """Ids of the deals the caller sees, as a subquery."""
    return Deal.objects.visible_to(caller).values("pk")
