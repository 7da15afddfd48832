"""Calculations: draft -> ready -> confirmed -> archived, and the policy that came of one."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from apps.auth.access import Caller
from apps.core import changes, softdelete
from apps.core.errors import DomainError, Forbidden, NotFound
from apps.core.folding import fold
from apps.crm import access, events, rules
from apps.crm.models import Calculation, Insurer, Policy
from apps.crm.services import catalogs
from apps.crm.services.clients import enabled_user
from apps.crm.services.deals import locked_deal
from apps.crm.services.told import tell_calculation, tell_policy

FIELDS = (
    "insurance_company", "program_name", "premium_amount", "coverage_sum", "calculation_date", "validity_period",
    "files", "comments",
)  # fmt: skip


class CalculationNotFound(NotFound):
    code = "calculation_not_found"
    message = _("There is no such calculation.")


class CalculationRefused(DomainError):
    """400 with the code that says what is missing or forbidden."""

    status = 400

    def __init__(self, code: str, message: Any) -> None:
        super().__init__(message)
        self.code = code


@transaction.atomic
def create_calculation(*, deal_id: UUID, values: Mapping[str, Any], actor: Caller) -> Calculation:
    """A draft in a deal. `owner_id` counts from an admin or a service token, else the caller owns it.

    :raises DealNotFound: absent or not visible
    """
    deal = locked_deal(deal_id, actor)
    access.require_work(actor, "calculations.edit", deal.pk)
    named = enabled_user(values["owner_id"]) if values.get("owner_id") and actor.is_admin else None
    calculation = Calculation(
        deal=deal,
        owner=named or actor.author,
        created_by=actor.author,
        **{name: values[name] for name in FIELDS if name in values},
    )
    for name, value in _twins(calculation.insurance_company).items():
        setattr(calculation, name, value)
    calculation.updated_at = calculation.created_at
    calculation.save(force_insert=True)
    given = {name: (None, _shown(name, getattr(calculation, name))) for name in FIELDS if getattr(calculation, name)}
    tell_calculation(events.CALCULATION_CREATED, calculation, actor, given)
    return calculation


@transaction.atomic
def change_calculation(
    *,
    deal_id: UUID,
    calculation_id: UUID,
    values: Mapping[str, Any],
    actor: Caller,
    expected_version: int | None = None,
) -> Calculation:
    """Changes what is given; absent stays, `validity_period: None` clears.

    :raises CalculationRefused: `calculation_update_forbidden` once confirmed or archived
    """
    calculation = _locked(deal_id, calculation_id, actor)
    access.require_work(actor, "calculations.edit", deal_id)
    changes.expect_version(calculation, expected_version)
    if calculation.status in rules.FROZEN_CALCULATIONS:
        raise CalculationRefused(
            "calculation_update_forbidden", _("A confirmed or archived calculation is not changed any more.")
        )
    changed = changes.differing(calculation, {name: values[name] for name in FIELDS if name in values})
    if changed:
        company = values.get("insurance_company", calculation.insurance_company)
        also = _twins(company) if "insurance_company" in changed else {}
        changes.apply(calculation, changed, also=also)
        shown = {name: (_shown(name, before), _shown(name, after)) for name, (before, after) in changed.items()}
        tell_calculation(events.CALCULATION_UPDATED, calculation, actor, shown, _linked_id(calculation))
    return calculation


@transaction.atomic
def change_status(
    *,
    deal_id: UUID,
    calculation_id: UUID,
    status: str,
    actor: Caller,
    policy_id: UUID | None = None,
    expected_version: int | None = None,
) -> Calculation:
    """Moves the calculation; `confirmed` may bind a policy of the same deal, `archived` unbinds it.

    :raises CalculationRefused: 400 `invalid_status_transition`, `…_required_for_ready`, `policy_not_found`,
        `policy_already_linked`
    """
    calculation = _locked(deal_id, calculation_id, actor)
    access.require_work(actor, "calculations.confirm" if status == "confirmed" else "calculations.edit", deal_id)
    changes.expect_version(calculation, expected_version)
    if status not in rules.CALCULATION_MOVES[calculation.status]:
        raise CalculationRefused("invalid_status_transition", _("The calculation cannot go to this status."))
    if status == "ready":
        _require_ready(calculation)
    linked = None
    if status == "confirmed" and policy_id:
        linked = _policy_to_link(calculation, policy_id)
    changed = changes.differing(calculation, {"status": status})
    changes.apply(calculation, changed)
    if status == "confirmed" and linked:
        _unlink(calculation, actor)
        _link(linked, calculation, actor)
    elif status == "archived":
        _unlink(calculation, actor)
    name = f"{events.CALCULATION_STATUS}.{status}"
    tell_calculation(name, calculation, actor, changed, linked.pk if linked else _linked_id(calculation))
    return calculation


@transaction.atomic
def delete_calculation(
    *, deal_id: UUID, calculation_id: UUID, actor: Caller, expected_version: int | None = None
) -> None:
    """Hides the calculation and unbinds its policy. For its author, the deal's seller, admins."""
    calculation = _locked(deal_id, calculation_id, actor)
    access.require_work(actor, "calculations.edit", deal_id)
    changes.expect_version(calculation, expected_version)
    if not access.may_delete_calculation(actor, calculation):
        raise Forbidden
    policy_id = _linked_id(calculation)
    _unlink(calculation, actor)
    softdelete.delete(calculation)
    tell_calculation(events.CALCULATION_DELETED, calculation, actor, {"is_deleted": (False, True)}, policy_id)


def _locked(deal_id: UUID, calculation_id: UUID, actor: Caller) -> Calculation:
    """The deal first, then the calculation: every write in a deal takes its locks in this order."""
    deal = locked_deal(deal_id, actor)
    rows = Calculation.objects.living().select_for_update(no_key=True)
    calculation = rows.filter(pk=calculation_id, deal=deal).first()
    if calculation is None:
        raise CalculationNotFound
    return calculation


def _twins(company: str) -> dict[str, Any]:
    return {"insurance_company_key": fold(company), "insurer": catalogs.meant(Insurer, company)}


def _require_ready(calculation: Calculation) -> None:
    period = calculation.validity_period
    for missing, code, message in (
        (not calculation.files, "files_required_for_ready", _("Attach at least one file.")),
        (not calculation.program_name, "program_required_for_ready", _("Name the program.")),
        (calculation.premium_amount is None, "premium_required_for_ready", _("Give the premium.")),
        (
            period is None or period.lower is None or period.upper is None,
            "validity_period_required_for_ready",
            _("Give both ends of the validity period."),
        ),
    ):
        if missing:
            raise CalculationRefused(code, message)


def _policy_to_link(calculation: Calculation, policy_id: UUID) -> Policy:
    policy = (
        Policy.objects.living().select_for_update(no_key=True).filter(pk=policy_id, deal=calculation.deal_id).first()
    )
    if policy is None:
        raise CalculationRefused("policy_not_found", _("The deal has no such policy."))
    if policy.calculation_id not in (None, calculation.pk):
        raise CalculationRefused("policy_already_linked", _("The policy came of another calculation."))
    return policy


def _linked_id(calculation: Calculation) -> UUID | None:
    return Policy.objects.living().filter(calculation=calculation).values_list("pk", flat=True).first()


def _link(policy: Policy, calculation: Calculation, actor: Caller) -> None:
    changed = changes.differing(policy, {"calculation_id": calculation.pk})
    if changed:
        changes.apply(policy, changed)
        tell_policy(events.POLICY_UPDATED, policy, actor, changed)


def _unlink(calculation: Calculation, actor: Caller) -> None:
    for policy in Policy.objects.select_for_update(no_key=True).filter(calculation=calculation):
        changed = changes.differing(policy, {"calculation_id": None})
        changes.apply(policy, changed)
        tell_policy(events.POLICY_UPDATED, policy, actor, changed)


def _shown(name: str, value: Any) -> Any:
    """A field as the history shows it: the period by its two inclusive days."""
    return rules.inclusive(value) if name == "validity_period" else value
