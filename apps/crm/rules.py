"""Pure rules of deals, calculations and policies: which words mean what, which moves are allowed."""

import re
from datetime import date, timedelta
from typing import Protocol

# --- Deals: a status is written, a stage is shown ---------------------------------------------------------------------
QUALIFICATION, NEGOTIATION, PROPOSAL = "qualification", "negotiation", "proposal"
CLOSED_WON, CLOSED_LOST = "closedWon", "closedLost"
STAGES = (QUALIFICATION, NEGOTIATION, PROPOSAL, CLOSED_WON, CLOSED_LOST)
CLOSED_STAGES = frozenset({CLOSED_WON, CLOSED_LOST})

STATUS_OF_STAGE = {
    QUALIFICATION: "qualification",
    NEGOTIATION: "in_progress",
    PROPOSAL: "proposal",
    CLOSED_WON: "won",
    CLOSED_LOST: "lost",
}
STAGE_OF_STATUS = {"draft": QUALIFICATION} | {status: stage for stage, status in STATUS_OF_STAGE.items()}
DEAL_STATUSES = tuple(STAGE_OF_STATUS)
_SPELLINGS = {
    "inprogress": "in_progress",
    "negotiation": "in_progress",
    "closed_won": "won",
    "closedwon": "won",
    "closed_lost": "lost",
    "closedlost": "lost",
}
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def deal_status(text: str | None) -> str:
    """The canonical status of what was sent: `closedWon`, `In-Progress`, ` NEGOTIATION `; unknown is qualification."""
    word = _HUMPS.sub("_", (text or "").strip())
    word = word.replace("-", "_").replace(" ", "_").lower()
    word = _SPELLINGS.get(word, word)
    return word if word in STAGE_OF_STATUS else QUALIFICATION


def stage_of(status: str) -> str:
    """The stage of a canonical status."""
    return STAGE_OF_STATUS[status]


# --- Calculations -----------------------------------------------------------------------------------------------------
CALCULATION_STATUSES = ("draft", "ready", "confirmed", "archived")
CALCULATION_MOVES = {
    "draft": frozenset({"ready"}),
    "ready": frozenset({"confirmed", "archived"}),
    "confirmed": frozenset({"archived"}),
    "archived": frozenset[str](),
}
FROZEN_CALCULATIONS = frozenset({"confirmed", "archived"})


class Period(Protocol):
    """A half-open range of days, as the database keeps it."""

    @property
    def lower(self) -> date | None: ...
    @property
    def upper(self) -> date | None: ...


def inclusive(period: Period | None) -> dict[str, date | None] | None:
    """`{start, end}` with the last day included; None for no period."""
    if period is None:
        return None
    return {"start": period.lower, "end": period.upper - timedelta(days=1) if period.upper else None}


# --- Policies ---------------------------------------------------------------------------------------------------------
POLICY_STATUSES = ("draft", "active", "pending_renewal", "closed")
POLICY_MOVES = {
    "draft": frozenset({"active"}),
    "active": frozenset({"pending_renewal", "closed"}),
    "pending_renewal": frozenset({"active", "closed"}),
    "closed": frozenset[str](),
}
_POLICY_WORDS = {word: word for word in POLICY_STATUSES} | {
    "issued": "active",
    "pending": "pending_renewal",
    "expired": "closed",
    "cancelled": "closed",
    "inactive": "closed",
}


def policy_status(text: str) -> str | None:
    """The canonical status of a policy, None for a word that is none."""
    word = _HUMPS.sub("_", text.strip()).replace("-", "_").replace(" ", "_").lower()
    return _POLICY_WORDS.get(word)


# --- Clients, members -------------------------------------------------------------------------------------------------
CLIENT_STATUSES = ("active", "inactive", "prospect", "suspended")
MEMBER_ROLES = ("seller", "executor", "observer")
WORKING_ROLES = frozenset({"seller", "executor"})
