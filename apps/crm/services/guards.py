"""What the database's own refusals mean to a caller: the races that the services' checks cannot see."""

from functools import partial

from django.utils.translation import gettext_lazy as _

from apps.core.constraints import register as means
from apps.core.errors import invalid
from apps.crm.services.calculations import CalculationRefused
from apps.crm.services.catalogs import CatalogNameTaken
from apps.crm.services.members import MemberExists
from apps.crm.services.policies import InvalidPolicyTransition, PolicyNumberExists

_POSITIVE = ("must_be_positive", _("The amount must be positive."))
_IN_REASON = ("out_of_range", _("The date must lie between 2000 and 2100."))
_FIELDS = (
    ("crm_deal_review_in_reason", "next_review_at", *_IN_REASON),
    ("crm_calculation_premium_positive", "premium_amount", *_POSITIVE),
    ("crm_calculation_sum_positive", "coverage_sum", *_POSITIVE),
    ("crm_calculation_date_in_reason", "calculation_date", *_IN_REASON),
    ("crm_policy_premium_not_negative", "premium", *_POSITIVE),
    ("crm_policy_dates_in_reason", "effective_to", *_IN_REASON),
    ("crm_policy_active_has_an_end", "effective_to", "effective_to_required", _("An active policy has an end.")),
    ("crm_client_name_given", "name", "blank", _("Give a name.")),
    ("crm_deal_title_given", "title", "blank", _("Give a title.")),
)


def register() -> None:
    """Maps constraint names to refusals; called when the app is ready."""
    means("crm_policy_number_once_among_living", PolicyNumberExists)
    means("crm_policy_move_allowed", InvalidPolicyTransition)
    means(
        "crm_policy_ends_after_start",
        lambda: invalid("effective_to", "end_before_start", _("It ends before it begins.")),
    )
    means("crm_dealmember_once_per_reason", MemberExists)
    means(
        "crm_calculation_move_allowed",
        lambda: CalculationRefused("invalid_status_transition", _("The calculation cannot go to this status.")),
    )
    means(
        "crm_policy_calculation_id_key",
        lambda: CalculationRefused("policy_already_linked", _("The policy came of another calculation.")),
    )
    for name, field, code, message in _FIELDS:
        means(name, partial(invalid, field, code, message))
    for model in ("insurer", "insurancetype", "saleschannel"):
        means(f"crm_{model}_name_key_key", CatalogNameTaken)
