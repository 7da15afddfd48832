"""Who may see and change what in a deal. Rows: `visible_to` on the querysets. Verbs: here.

A write needs the role's capability, the row visible, and a working place in that deal; an observer writes nothing in
his deal whatever his roles. Services call these, so every way in (API, admin, bot, command) asks the same questions.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from apps.auth.access import Caller, require
from apps.core.errors import Forbidden
from apps.core.reads import fetch
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


@dataclass(slots=True)
class Audience:
    """Who sees a row today, beside the admins: the users, and whether all who see every deal."""

    users: set[UUID] = field(default_factory=set)
    all_deals: bool = False


# `visible_to` the other way round: not what one caller sees, but who sees these rows. A NULL stands for all who see
# every deal. Deleted rows have their audience too.
_OF_DEALS = "SELECT deal_id, user_id FROM crm_dealmember WHERE deal_id = ANY(%(deals)s)"
_OF_ALL = f"""
{_OF_DEALS}
UNION SELECT p.id, m.user_id FROM crm_policy p JOIN crm_dealmember m ON m.deal_id = p.deal_id
    WHERE p.id = ANY(%(policies)s)
UNION SELECT id, NULL FROM crm_policy WHERE id = ANY(%(policies)s) AND deal_id IS NOT NULL
UNION SELECT id, owner_id FROM crm_policy
    WHERE id = ANY(%(policies)s) AND deal_id IS NULL AND owner_id IS NOT NULL
UNION SELECT p.id, c.owner_id FROM crm_policy p JOIN crm_client c ON c.id = p.client_id
    WHERE p.id = ANY(%(policies)s) AND p.deal_id IS NULL AND c.owner_id IS NOT NULL
UNION SELECT id, owner_id FROM crm_client WHERE id = ANY(%(clients)s) AND owner_id IS NOT NULL
UNION SELECT d.client_id, m.user_id FROM crm_deal d JOIN crm_dealmember m ON m.deal_id = d.id
    WHERE d.client_id = ANY(%(clients)s) AND d.deleted_at IS NULL
UNION SELECT client_id, NULL FROM crm_deal WHERE client_id = ANY(%(clients)s) AND deleted_at IS NULL
UNION SELECT p.client_id, m.user_id FROM crm_policy p JOIN crm_dealmember m ON m.deal_id = p.deal_id
    WHERE p.client_id = ANY(%(clients)s) AND p.deleted_at IS NULL
UNION SELECT client_id, NULL FROM crm_policy
    WHERE client_id = ANY(%(clients)s) AND deleted_at IS NULL AND deal_id IS NOT NULL
UNION SELECT client_id, owner_id FROM crm_policy
    WHERE client_id = ANY(%(clients)s) AND deleted_at IS NULL AND deal_id IS NULL AND owner_id IS NOT NULL
"""  # noqa: S608 - nothing of it is given from outside


def audiences(
    *, deals: Iterable[UUID] = (), policies: Iterable[UUID] = (), clients: Iterable[UUID] = ()
) -> dict[UUID, Audience]:
    """The audience of each of the rows, by id. One query; none for nothing."""
    wanted = {"deals": list(deals), "policies": list(policies), "clients": list(clients)}
    found = {pk: Audience() for ids in wanted.values() for pk in ids}
    if not found:
        return found
    for pk in wanted["deals"]:
        found[pk].all_deals = True
    for pk, user_id in fetch(_OF_ALL if wanted["policies"] or wanted["clients"] else _OF_DEALS, wanted):
        if user_id is None:
            found[pk].all_deals = True
        else:
            found[pk].users.add(user_id)
    return found
