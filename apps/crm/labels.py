"""What the codes of the domain are called for people."""

from django.utils.translation import gettext_lazy as _

DEAL_STATUSES = [
    ("draft", _("draft")),
    ("qualification", _("qualification")),
    ("in_progress", _("in progress")),
    ("proposal", _("proposal")),
    ("won", _("won")),
    ("lost", _("lost")),
]
STAGES = [
    ("qualification", _("qualification")),
    ("negotiation", _("negotiation")),
    ("proposal", _("proposal")),
    ("closedWon", _("closed, won")),
    ("closedLost", _("closed, lost")),
]
MEMBER_ROLES = [("seller", _("seller")), ("executor", _("executor")), ("observer", _("observer"))]
MEMBER_REASONS = [("owner", _("owner of the deal")), ("manual", _("added by hand")), ("task", _("a task"))]
CALCULATION_STATUSES = [
    ("draft", _("draft")),
    ("ready", _("ready")),
    ("confirmed", _("confirmed")),
    ("archived", _("archived")),
]
POLICY_STATUSES = [
    ("draft", _("draft")),
    ("active", _("active")),
    ("pending_renewal", _("pending renewal")),
    ("closed", _("closed")),
]
CLIENT_STATUSES = [
    ("active", _("active")),
    ("inactive", _("inactive")),
    ("prospect", _("prospect")),
    ("suspended", _("suspended")),
]
