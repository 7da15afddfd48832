"""Who takes part in a deal. The owner is a seller of it; others are added by hand or through a task."""

from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller
from apps.auth.models import User
from apps.core import changes
from apps.core.errors import DomainError, NotFound
from apps.core.events import emit
from apps.crm import access, events
from apps.crm.models import Deal, DealMember
from apps.crm.services import clients


class MemberNotFound(NotFound):
    code = "member_not_found"
    message = _("This person does not take part in the deal.")


class MemberExists(DomainError):
    code = "member_exists"
    message = _("This person takes part in the deal already.")


class OwnerIsMember(DomainError):
    code = "owner_is_member"
    message = _("The owner is a seller of the deal; change the owner instead.")


@transaction.atomic
def add_member(
    *, deal: Deal, user_id: UUID, role: str, actor: Caller, expected_version: int | None = None
) -> DealMember:
    """Adds a person by hand; `deal` is locked by the caller (`deals.locked_deal`).

    :raises OwnerNotFound: no enabled user has that id
    :raises MemberExists: the person was added before, or owns the deal
    """
    access.require_seller(actor, "deals.manage", deal.pk)
    changes.expect_version(deal, expected_version)
    user = clients.enabled_user(user_id)
    if DealMember.objects.filter(deal=deal, user=user, via__in=("owner", "manual")).exists():
        raise MemberExists
    return _grant(deal, user, role, "manual", actor)


@transaction.atomic
def change_member(
    *, deal: Deal, user_id: UUID, role: str, actor: Caller, expected_version: int | None = None
) -> DealMember:
    """Gives a member another role.

    :raises MemberNotFound: nobody added by hand has that id
    :raises OwnerIsMember: it is the owner
    """
    access.require_seller(actor, "deals.manage", deal.pk)
    changes.expect_version(deal, expected_version)
    member = _manual(deal, user_id)
    if member.role != role:
        old, member.role = member.role, role
        member.save(update_fields=["role"])
        _tell(events.DEAL_MEMBER_REMOVED, deal, user_id, old, actor, {})
        _tell(events.DEAL_MEMBER_ADDED, deal, user_id, role, actor, {f"member.{user_id}": (old, role)})
    return member


@transaction.atomic
def remove_member(*, deal: Deal, user_id: UUID, actor: Caller, expected_version: int | None = None) -> None:
    """Ends a membership at once.

    :raises MemberNotFound: nobody added by hand has that id
    :raises OwnerIsMember: it is the owner
    """
    access.require_seller(actor, "deals.manage", deal.pk)
    changes.expect_version(deal, expected_version)
    member = _manual(deal, user_id)
    member.delete()
    _tell(events.DEAL_MEMBER_REMOVED, deal, user_id, member.role, actor, {f"member.{user_id}": (member.role, None)})


@transaction.atomic
def grant(*, deal: Deal, user: User, role: str, via: str, actor: Caller | None) -> None:
    """Lets a person in for another reason (a task); the deal is locked by the caller. Granting twice is once."""
    if not DealMember.objects.filter(deal=deal, user=user, via=via).exists():
        _grant(deal, user, role, via, actor)


@transaction.atomic
def revoke(*, deal: Deal, user: User, via: str, actor: Caller | None) -> None:
    """Ends what `grant` gave; other reasons to take part stay."""
    member = DealMember.objects.filter(deal=deal, user=user, via=via).first()
    if member:
        member.delete()
        _tell(events.DEAL_MEMBER_REMOVED, deal, user.pk, member.role, actor, {f"member.{user.pk}": (member.role, None)})


def change_owner(deal: Deal) -> None:
    """Follows a change of `owner_id`: the new owner is a seller, the old one no longer by that reason.

    What the new owner was by hand ends: an observer's place would forbid him to work in his own deal.
    """
    DealMember.objects.filter(deal=deal, via="owner").delete()
    if deal.owner_id:
        DealMember.objects.filter(deal=deal, user_id=deal.owner_id, via="manual").delete()
        DealMember.objects.create(deal=deal, user_id=deal.owner_id, role="seller", via="owner")


def _manual(deal: Deal, user_id: UUID) -> DealMember:
    member = DealMember.objects.filter(deal=deal, user_id=user_id, via="manual").first()
    if member is None:
        raise OwnerIsMember if deal.owner_id == user_id else MemberNotFound
    return member


def _grant(deal: Deal, user: User, role: str, via: str, actor: Caller | None) -> DealMember:
    member = DealMember.objects.create(deal=deal, user=user, role=role, via=via)
    _tell(events.DEAL_MEMBER_ADDED, deal, user.pk, role, actor, {f"member.{user.pk}": (None, role)})
    return member


def _tell(name: str, deal: Deal, user_id: UUID, role: str, actor: Caller | None, changed: changes.Changes) -> None:
    changes.apply(deal, {})
    payload = {"deal_id": deal.pk, "user_id": user_id, "role": role}
    emit(name, deal, actor=actor, payload=payload, changes=changed, deal_id=deal.pk, client_id=deal.client_id)
