"""Deals: create, change, move through the stages, close, reopen, delete as a batch, restore."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller, require
from apps.core import changes, softdelete
from apps.core.errors import DomainError, FieldError, Forbidden, Invalid, NotFound
from apps.core.events import emit
from apps.crm import access, events, rules
from apps.crm.models import Calculation, Deal, DealMember, Policy
from apps.crm.services import members
from apps.crm.services.clients import enabled_user, held_client, owner_for
from apps.crm.services.told import tell_calculation, tell_policy

FIELDS = ("title", "description", "next_review_at")


class DealNotFound(NotFound):
    code = "deal_not_found"
    message = _("There is no such deal.")


class InvalidStageTransition(DomainError):
    code = "invalid_stage_transition"
    message = _("The deal is closed; reopen it first.")


class NotClosed(DomainError):
    code = "invalid_stage_transition"
    message = _("The deal is open already.")


class ReasonRequired(Invalid):
    code = "reason_required"
    message = _("Say why the deal is lost.")

    def __init__(self) -> None:
        super().__init__(errors=[FieldError("reason", "reason_required", self.message)])


def visible_deal(deal_id: UUID, actor: Caller) -> Deal:
    """:raises DealNotFound: absent, deleted or not visible"""
    deal = Deal.objects.living().visible_to(actor).filter(pk=deal_id).first()
    if deal is None:
        raise DealNotFound
    return deal


def locked_deal(deal_id: UUID, actor: Caller) -> Deal:
    """The deal locked for a write; every chain of locks in a deal begins here.

    :raises DealNotFound: absent, deleted or not visible
    """
    rows = Deal.objects.living().visible_to(actor).select_for_update(no_key=True, of=("self",))
    deal = rows.filter(pk=deal_id).first()
    if deal is None:
        raise DealNotFound
    return deal


@transaction.atomic
def create_deal(
    *,
    client_id: UUID,
    title: str,
    next_review_at: date,
    actor: Caller,
    description: str | None = None,
    status: str = "draft",
    owner_id: UUID | None = None,
) -> Deal:
    """A new deal of a client the caller sees; its owner becomes its seller.

    `status` is canonical (`rules.deal_status`); `owner_id` counts from an admin or a service token only.

    :raises ClientNotFound: the client is absent or not visible
    """
    require(actor, "deals.manage")
    client = held_client(client_id, actor)
    owner = owner_for({"owner_id": owner_id}, actor)
    deal = Deal(
        client=client,
        owner=owner,
        title=title,
        description=description,
        status=status,
        next_review_at=next_review_at,
        **Deal.twins(title=title, description=description),
    )
    deal.updated_at = deal.created_at
    deal.save(force_insert=True)
    if owner:
        DealMember.objects.create(deal=deal, user=owner, role="seller", via="owner")
    given = {name: (None, getattr(deal, name)) for name in ("client_id", "owner_id", "status", *FIELDS)}
    _emit(events.DEAL_CREATED, deal, actor, _read(deal), {k: v for k, v in given.items() if v[1] is not None})
    return deal


@transaction.atomic
def change_deal(
    *,
    deal_id: UUID,
    values: Mapping[str, Any],
    actor: Caller,
    reason: str | None = None,
    reason_needed: bool = True,
    expected_version: int | None = None,
) -> Deal:
    """Changes what is given of `title, description, next_review_at, status, owner_id`; absent stays.

    A status that means another stage follows the rules of `change_stage`; `owner_id` counts from those who may assign.

    :raises DealNotFound: absent or not visible
    :raises Forbidden: without a working place in the deal
    :raises InvalidStageTransition: the status leaves a closed stage
    """
    deal = locked_deal(deal_id, actor)
    access.require_work(actor, "deals.edit", deal.pk)
    changes.expect_version(deal, expected_version)
    wanted = {name: values[name] for name in FIELDS if name in values}
    if "owner_id" in values and actor.can("deals.assign"):
        wanted["owner_id"] = enabled_user(values["owner_id"]).pk if values["owner_id"] else None
    moves = "status" in values and rules.stage_of(values["status"]) != deal.stage
    if "status" in values and not moves:
        wanted["status"] = values["status"]
    changed = changes.differing(deal, wanted)
    if changed:
        after = {name: wanted.get(name, getattr(deal, name)) for name in ("title", "description")}
        changes.apply(deal, changed, also=Deal.twins(**after))
        if "owner_id" in changed:
            members.change_owner(deal)
        _emit(events.DEAL_UPDATED, deal, actor, _updated(deal, changed), changed)
    if moves:
        _move(deal, values["status"], reason, actor, reason_needed=reason_needed)
    return deal


@transaction.atomic
def change_stage(
    *,
    deal_id: UUID,
    stage: str,
    actor: Caller,
    reason: str | None = None,
    reason_needed: bool = True,
    expected_version: int | None = None,
) -> Deal:
    """Moves the deal to a stage; forward jumps are free. Closing needs `deals.manage`, losing a reason.

    The stage it is in already changes nothing.

    :raises InvalidStageTransition: the deal is closed
    :raises ReasonRequired: lost without saying why (where the face asks for it)
    """
    deal = locked_deal(deal_id, actor)
    access.require_work(actor, "deals.edit", deal.pk)
    changes.expect_version(deal, expected_version)
    if stage != deal.stage:
        _move(deal, rules.STATUS_OF_STAGE[stage], reason, actor, reason_needed=reason_needed)
    return deal


def _move(deal: Deal, status: str, reason: str | None, actor: Caller, *, reason_needed: bool) -> None:
    stage = rules.stage_of(status)
    closing = stage in rules.CLOSED_STAGES
    if closing:
        access.require_work(actor, "deals.manage", deal.pk)
    if deal.stage in rules.CLOSED_STAGES:
        raise InvalidStageTransition
    if stage == rules.CLOSED_LOST and reason_needed and not (reason or "").strip():
        raise ReasonRequired
    _change_stage(deal, status, reason if closing else None, actor, closed_from=deal.status if closing else "")


@transaction.atomic
def reopen_deal(*, deal_id: UUID, reason: str, actor: Caller, expected_version: int | None = None) -> Deal:
    """Returns a closed deal to the stage it was closed from.

    :raises NotClosed: it is open
    """
    deal = locked_deal(deal_id, actor)
    access.require_work(actor, "deals.manage", deal.pk)
    changes.expect_version(deal, expected_version)
    if deal.stage not in rules.CLOSED_STAGES:
        raise NotClosed
    _change_stage(deal, deal.closed_from or "qualification", None, actor, closed_from="", told_reason=reason)
    return deal


def _change_stage(
    deal: Deal,
    status: str,
    close_reason: str | None,
    actor: Caller,
    *,
    closed_from: str,
    told_reason: str | None = None,
) -> None:
    old = deal.stage
    wanted = {"status": status, "close_reason": close_reason or ""}
    changed = changes.differing(deal, wanted)
    changes.apply(deal, changed, also={"closed_from": closed_from})
    deal.stage = rules.stage_of(status)  # the database computes the same
    payload: dict[str, Any] = {
        "deal_id": deal.pk,
        "old_stage": old,
        "new_stage": deal.stage,
        "status": status,
        "changed_at": deal.updated_at,
    }
    said = told_reason or close_reason
    if said:
        payload["reason"] = said
    _emit(
        events.DEAL_STAGE_CHANGED, deal, actor, payload,
        {**changed, "stage": (old, deal.stage), **({"reason": (None, said)} if told_reason else {})},
    )  # fmt: skip


@transaction.atomic
def delete_deal(*, deal_id: UUID, actor: Caller, expected_version: int | None = None) -> None:
    """Hides the deal with its open children as one batch.

    :raises DeletionBlocked: naming the paid payments that forbid it
    """
    deal = locked_deal(deal_id, actor)
    access.require_work(actor, "deals.manage", deal.pk)
    changes.expect_version(deal, expected_version)
    batch = softdelete.delete(deal)
    _emit_batch(events.DEAL_DELETED, batch, deal, actor, deleted=True)


@transaction.atomic
def restore_deal(*, deal_id: UUID, actor: Caller) -> Deal:
    """Brings back exactly what went with the deal; a living one stays as it is. For its owner and admins.

    :raises PolicyNumberExists: a policy number of the batch has been taken meanwhile
    """
    require(actor, "deals.manage")
    rows = Deal.objects.visible_to(actor).select_for_update(no_key=True, of=("self",))
    deal = rows.filter(pk=deal_id).first()
    if deal is None:
        raise DealNotFound
    access.require_work(actor, "deals.manage", deal.pk)
    if not (actor.is_admin or deal.owner_id == actor.pk):
        raise Forbidden
    if deal.is_deleted:
        batch = softdelete.restore(deal)
        _emit_batch(events.DEAL_RESTORED, batch, deal, actor, deleted=False)
    return deal


def _emit_batch(name: str, batch: softdelete.Batch, deal: Deal, actor: Caller, *, deleted: bool) -> None:
    payload = {"deal_id": deal.pk, "deletion_id": batch.deletion_id, "at": batch.at}
    changed: changes.Changes = {"is_deleted": (not deleted, deleted)}
    _emit(name, deal, actor, payload, changed)
    for row in batch.rows:
        if isinstance(row, Policy):
            tell_policy(events.POLICY_DELETED if deleted else events.POLICY_RESTORED, row, actor, changed)
        elif isinstance(row, Calculation):
            tell_calculation(events.CALCULATION_DELETED if deleted else events.CALCULATION_UPDATED, row, actor, changed)


def _read(deal: Deal) -> dict[str, Any]:
    return {
        "deal_id": deal.pk,
        "client_id": deal.client_id,
        "owner_id": deal.owner_id,
        "sales_agent_id": deal.owner_id,
        "title": deal.title,
        "status": deal.status,
        "stage": deal.stage or rules.stage_of(deal.status),
        "next_review_at": deal.next_review_at,
        "created_at": deal.created_at,
    }


def _updated(deal: Deal, changed: changes.Changes) -> dict[str, Any]:
    return {**_read(deal), "updated_at": deal.updated_at, "changed": sorted(changed)}


def _emit(name: str, deal: Deal, actor: Caller, payload: Mapping[str, Any], changed: changes.Changes) -> None:
    emit(name, deal, actor=actor, payload=payload, changes=changed, deal_id=deal.pk, client_id=deal.client_id)
