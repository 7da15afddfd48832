"""Payments tell what became of them when their policy or deal was moved, deleted or restored.

The rows themselves changed in the transaction of that act, by the database or by the batch; only their readers are
still to hear of it. Handling an event again does nothing: what has been told is not told twice.
"""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet

from apps.core import changes
from apps.core.events import on
from apps.core.models import Event
from apps.crm import events as crm_events
from apps.crm.models import Deal, Policy
from apps.payments import events
from apps.payments.models import Payment
from apps.payments.services import told

SUBSCRIPTION = "payments.follow_policy"


@dataclass(slots=True)
class Doer:
    """Who did what the payments follow."""

    pk: UUID


@on(crm_events.POLICY_UPDATED, subscription=SUBSCRIPTION)
def follow_policy(event: Event) -> None:
    """The policy has gone to another deal with its payments: their versions grow and they tell where they are."""
    if "deal_id" not in event.changes:
        return
    before, after = (UUID(each) if each else None for each in event.changes["deal_id"])
    moved: changes.Changes = {"deal_id": (before, after)}
    _hold_policy(event.aggregate_id)
    told_already = Event.objects.filter(
        aggregate="payment",
        aggregate_id=OuterRef("pk"),
        name=events.PAYMENT_UPDATED,
        at__gte=event.at,
        changes__deal_id=event.changes["deal_id"],
    )
    for payment in _locked(
        Payment.objects.filter(~Exists(told_already), policy_id=event.aggregate_id, deleted_at=None)
    ):
        changes.apply(payment, {})
        told.tell_payment(events.PAYMENT_UPDATED, payment, _doer(event), moved)


@on(crm_events.POLICY_DELETED, crm_events.POLICY_RESTORED, subscription=SUBSCRIPTION)
def follow_batch_of_policy(event: Event) -> None:
    _hold_policy(event.aggregate_id)
    _tell_untold(Payment.objects.filter(policy_id=event.aggregate_id), event)


@on(crm_events.DEAL_DELETED, crm_events.DEAL_RESTORED, subscription=SUBSCRIPTION)
def follow_batch_of_deal(event: Event) -> None:
    Deal.objects.select_for_update(no_key=True).filter(pk=event.aggregate_id).first()
    _tell_untold(Payment.objects.filter(deal_id=event.aggregate_id), event)


def _tell_untold(rows: QuerySet[Payment], event: Event) -> None:
    """A payment whose present version has no event went or came back with the batch."""
    mine = Event.objects.filter(aggregate="payment", aggregate_id=OuterRef("pk"), version=OuterRef("version"))
    for payment in _locked(rows.filter(~Exists(mine))):
        if payment.is_deleted:
            told.tell_payment_deleted(payment, _doer(event))
        else:
            told.tell_payment(events.PAYMENT_UPDATED, payment, _doer(event), {"is_deleted": (True, False)})


def _hold_policy(policy_id: UUID) -> None:
    """Whoever moves, deletes or restores it again waits: the policy's row comes before its payments'."""
    Policy.objects.select_for_update(no_key=True).filter(pk=policy_id).first()


def _locked(rows: QuerySet[Payment]) -> QuerySet[Payment]:
    return rows.select_for_update(no_key=True).order_by("pk")


def _doer(event: Event) -> Doer | None:
    return Doer(event.actor_id) if event.actor_id else None
