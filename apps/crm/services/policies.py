"""Policies: issued, changed, moved between deals, closed, deleted with their open payments, restored."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller, author_of, require
from apps.core import changes, softdelete
from apps.core.errors import DomainError, FieldError, Forbidden, Invalid, NotFound, Unavailable
from apps.crm import access, events, rules
from apps.crm.models import Calculation, Policy
from apps.crm.services import catalogs
from apps.crm.services.clients import enabled_user, held_client
from apps.crm.services.deals import locked_deal
from apps.crm.services.told import tell_calculation, tell_policy

FIELDS = (
    "policy_number", "premium", "effective_from", "effective_to", "insurer_id", "insurance_type_id", "sales_channel_id",
)  # fmt: skip

TRIES = 5  # to lock a policy that others are moving


class PolicyNotFound(NotFound):
    code = "policy_not_found"
    message = _("There is no such policy.")


class PolicyNumberExists(DomainError):
    """Another living policy has this number; named as `policy_id` where the caller may see it."""

    code = "policy_number_exists"
    message = _("A policy with this number exists already.")


class InvalidPolicyTransition(DomainError):
    code = "invalid_status_transition"
    message = _("The policy cannot go to this status.")


def visible_policy(policy_id: UUID, actor: Caller) -> Policy:
    """:raises PolicyNotFound: absent, deleted or not visible"""
    policy = Policy.objects.living().visible_to(actor).filter(pk=policy_id).first()
    if policy is None:
        raise PolicyNotFound
    return policy


@transaction.atomic
def create_policy(*, values: Mapping[str, Any], actor: Caller) -> Policy:
    """A new policy from `client_id, deal_id?, policy_number, status?, premium?, effective_from?, effective_to?`,
    catalog ids and `owner_id` (counts from an admin or a service token).

    :raises ClientNotFound, DealNotFound, CatalogEntryNotFound: absent or not visible
    :raises PolicyNumberExists: the number lives already, however it is spaced
    """
    require(actor, "policies.edit")
    client = held_client(values["client_id"], actor)
    deal = locked_deal(values["deal_id"], actor) if values.get("deal_id") else None
    if deal:
        access.require_work(actor, "policies.edit", deal.pk)
    if deal is None and not (actor.is_admin or client.owner_id == actor.pk):
        raise Forbidden
    catalogs.check_links(values)
    named = enabled_user(values["owner_id"]) if values.get("owner_id") and actor.is_admin else None
    policy = Policy(
        client=client,
        deal=deal,
        owner=author_of(actor, named),
        status=values.get("status", "draft"),
        **{name: values[name] for name in FIELDS if name in values},
        **Policy.twins(policy_number=values["policy_number"]),
    )
    _check_dates(policy)
    _refuse_taken(policy, actor)
    policy.updated_at = policy.created_at
    policy.save(force_insert=True)
    shown = ("client_id", "deal_id", "status", *FIELDS)
    given = {name: (None, getattr(policy, name)) for name in shown if getattr(policy, name) is not None}
    tell_policy(events.POLICY_CREATED, policy, actor, given)
    return policy


@transaction.atomic
def change_policy(
    *, policy_id: UUID, values: Mapping[str, Any], actor: Caller, expected_version: int | None = None
) -> Policy:
    """Changes what is given; absent stays. `deal_id` moves it (with its payments) to a deal the caller works in,
    `client_id` to a client he sees.

    :raises PolicyNotFound: absent or not visible
    :raises InvalidPolicyTransition: the machine forbids the status
    :raises PolicyNumberExists: the new number lives already
    """
    new_client = held_client(values["client_id"], actor) if "client_id" in values else None
    policy = _locked(policy_id, actor, also_deal=values.get("deal_id"))
    access.require_policy(actor, "policies.edit", policy)
    changes.expect_version(policy, expected_version)
    wanted = {name: values[name] for name in FIELDS if name in values}
    if new_client:
        wanted["client_id"] = new_client.pk
    if "deal_id" in values and values["deal_id"] != policy.deal_id:
        wanted |= _move(policy, values["deal_id"], actor)
    catalogs.check_links(wanted)
    changed = changes.differing(policy, wanted)
    old_status, status = policy.status, values.get("status", policy.status)
    if status != old_status and status not in rules.POLICY_MOVES[old_status]:
        raise InvalidPolicyTransition
    for name, (_before, after) in changed.items():
        setattr(policy, name, after)
    policy.status = status
    twins = Policy.twins(policy_number=policy.policy_number)
    policy.policy_number_key = twins["policy_number_key"]
    _check_dates(policy)
    if "policy_number" in changed:
        _refuse_taken(policy, actor)
    policy.status = old_status  # written with its own event below
    if changed:
        changes.apply(policy, changed, also=twins)
        tell_policy(events.POLICY_UPDATED, policy, actor, changed)
    if status != old_status:
        moved = changes.differing(policy, {"status": status})
        changes.apply(policy, moved)
        tell_policy(events.POLICY_STATUS_CHANGED, policy, actor, moved, old_status=old_status)
    return policy


@transaction.atomic
def delete_policy(*, policy_id: UUID, actor: Caller, expected_version: int | None = None) -> None:
    """Hides the policy with its open payments as one batch.

    :raises DeletionBlocked: naming the payments that forbid it
    """
    policy = _locked(policy_id, actor)
    access.require_policy(actor, "policies.delete", policy)
    changes.expect_version(policy, expected_version)
    softdelete.delete(policy)
    tell_policy(events.POLICY_DELETED, policy, actor, {"is_deleted": (False, True)})


@transaction.atomic
def restore_policy(*, policy_id: UUID, actor: Caller) -> Policy:
    """Brings back what went with the policy; a living one stays as it is. For its owner, its deal's and admins.

    :raises PolicyNumberExists: the number has been taken meanwhile
    :raises PolicyNotFound: absent or not visible
    :raises DealNotFound: while its deal is deleted: restore the deal
    """
    require(actor, "policies.delete")
    rows = Policy.objects.visible_to(actor).filter(pk=policy_id)
    if deal_id := rows.values_list("deal_id", flat=True).first():
        locked_deal(deal_id, actor)
    policy = rows.select_for_update(no_key=True, of=("self",)).select_related("client").first()
    if policy is None:
        raise PolicyNotFound
    access.require_policy(actor, "policies.delete", policy)
    owners = {policy.owner_id, policy.deal.owner_id if policy.deal else policy.client.owner_id}
    if not (actor.is_admin or actor.pk in owners):
        raise Forbidden
    if policy.is_deleted:
        _refuse_taken(policy, actor)
        softdelete.restore(policy)
        tell_policy(events.POLICY_RESTORED, policy, actor, {"is_deleted": (True, False)})
    return policy


class _Moved(Exception):
    """The policy went to another deal between the look and the lock."""


def _locked(policy_id: UUID, actor: Caller, also_deal: UUID | None = None) -> Policy:
    """The policy locked, its deal before it; with a second deal, both in the order of their ids.

    Which deal that is can only be seen before the lock: when it has changed meanwhile, the locks are given back and
    taken anew, so that no write ever holds a policy without its deal.
    """
    for _try in range(TRIES):
        try:
            with transaction.atomic():
                return _lock_with_deals(policy_id, actor, also_deal)
        except _Moved:
            continue
    raise Unavailable


def _lock_with_deals(policy_id: UUID, actor: Caller, also_deal: UUID | None) -> Policy:
    visible = Policy.objects.living().visible_to(actor).filter(pk=policy_id)
    seen = visible.values_list("deal_id", flat=True).first()
    held = {deal_id for deal_id in (seen, also_deal) if deal_id}
    for deal_id in sorted(held):
        locked_deal(deal_id, actor)
    policy = visible.select_for_update(no_key=True, of=("self",)).select_related("client").first()
    if policy is None:
        raise PolicyNotFound
    if policy.deal_id and policy.deal_id not in held:
        raise _Moved
    return policy


def _move(policy: Policy, deal_id: UUID | None, actor: Caller) -> dict[str, Any]:
    """What changes when the policy moves to a deal the caller works in: its calculation stays behind."""
    if deal_id is not None:
        access.require_work(actor, "policies.edit", deal_id)
    if policy.calculation_id is None:
        return {"deal_id": deal_id}
    calculation = Calculation.objects.get(pk=policy.calculation_id)
    changes.apply(calculation, {})
    unlinked: changes.Changes = {"linked_policy_id": (policy.pk, None)}
    tell_calculation(events.CALCULATION_UPDATED, calculation, actor, unlinked)
    return {"deal_id": deal_id, "calculation_id": None}


def _check_dates(policy: Policy) -> None:
    if policy.effective_from and policy.effective_to and policy.effective_to < policy.effective_from:
        raise Invalid(errors=[FieldError("effective_to", "end_before_start", _("It ends before it begins."))])
    if policy.status in ("active", "pending_renewal") and policy.effective_to is None:
        raise Invalid(errors=[FieldError("effective_to", "effective_to_required", _("An active policy has an end."))])


def _refuse_taken(policy: Policy, actor: Caller) -> None:
    twin = Policy.objects.living().filter(policy_number_key=policy.policy_number_key).exclude(pk=policy.pk).first()
    if twin:
        seen = Policy.objects.visible_to(actor).filter(pk=twin.pk).exists()
        raise PolicyNumberExists(policy_id=str(twin.pk)) if seen else PolicyNumberExists()
