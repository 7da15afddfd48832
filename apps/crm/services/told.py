"""What policies and calculations tell: one place for payloads that several services emit."""

from typing import Any

from apps.auth.access import Caller
from apps.core.changes import Changes
from apps.core.events import emit
from apps.crm.models import Calculation, Policy


def tell_policy(name: str, policy: Policy, actor: Caller | None, changed: Changes, **more: Any) -> None:
    """Emits a policy event with the contract's data; `more` adds `old_status`."""
    payload = {
        "policy_id": policy.pk,
        "deal_id": policy.deal_id,
        "client_id": policy.client_id,
        "policy_number": policy.policy_number,
        "status": policy.status,
        "premium": policy.premium,
        "effective_from": policy.effective_from,
        "effective_to": policy.effective_to,
        "updated_at": policy.updated_at,
        **more,
    }
    if policy.deal_id is None:
        del payload["deal_id"]
    emit(
        name, policy, actor=actor, payload=payload, changes=changed, deal_id=policy.deal_id, client_id=policy.client_id
    )


def tell_calculation(
    name: str, calculation: Calculation, actor: Caller | None, changed: Changes, policy_id: Any = None
) -> None:
    """Emits a calculation event with the contract's data."""
    payload: dict[str, Any] = {
        "deal_id": calculation.deal_id,
        "calculation_id": calculation.pk,
        "status": calculation.status,
        "insurance_company": calculation.insurance_company,
        "calculation_date": calculation.calculation_date,
    }
    optional = {
        "program_name": calculation.program_name,
        "premium_amount": calculation.premium_amount,
        "policy_id": policy_id,
    }
    payload.update({name_: value for name_, value in optional.items() if value is not None})
    emit(name, calculation, actor=actor, payload=payload, changes=changed, deal_id=calculation.deal_id)
