"""Policies of the invented agency with their payments, incomes and expenses, and the calculations before them.

Money is counted in kopecks until it is written. What is not due yet has no incomes, what was paid in parts has three or
four: two a payment on average. Totals, statuses and the deal's planned total are what the triggers would make of them.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from django.utils import timezone

from apps.core.folding import fold
from apps.crm import events
from apps.crm.models import Policy
from apps.payments import rules
from crm2.seeds import told, words
from crm2.seeds.shapes import Catalogs, Chunk, DealDraft, made_id, rubles

CURRENCY = "RUB"
WITH_POLICY, WITH_EARLIER_POLICY = 0.45, 0.15  # of the deals: 60 policies for 100
INSURED = frozenset({"in_progress", "proposal", "won"})  # the deals that may have policies

# Of 20 policies: the phase, and how many incomes its two payments have (80 in all); None is a cancelled payment.
PHASES: tuple[tuple[str, int, int | None], ...] = (
    ("draft", 0, 0), ("open", 2, 0), ("open", 2, 0), ("open", 2, 0), ("overdue", 2, 0), ("partial", 2, 1),
    ("running", 3, 3), ("running", 3, 3), ("running", 3, 3), ("running", 3, 3),
    ("ended", 2, 2), ("ended", 2, 2), ("ended", 2, 2), ("ended", 2, 2), ("ended", 2, None),
    ("ended", 3, 2), ("ended", 3, 2), ("ended", 3, 2), ("ended", 3, 2), ("ended", 3, 4),
)  # fmt: skip
# How many days ago a policy of the phase began; its second payment is due half a year after that.
BEGAN = {
    "draft": (-40, -1), "open": (5, 170), "overdue": (183, 230), "partial": (183, 210), "running": (186, 360),
    "ended": (366, 700),
}  # fmt: skip
HALF_YEAR, YEAR = timedelta(days=182), timedelta(days=364)
PREMIUMS = {  # thousands of roubles, from and to
    "ОСАГО": (7, 22), "КАСКО": (40, 180), "Имущество": (5, 30), "Ипотека": (9, 50), "ДМС": (20, 90),
    "Несчастный случай": (3, 15), "Выезд за рубеж": (2, 12),
}  # fmt: skip


class Insured:
    """Adds policies and calculations to the deals of a chunk, which are still drafts."""

    def __init__(self, *, rng: Random, number: int, catalogs: Catalogs, now: datetime, today: date) -> None:
        self.rng, self.number, self.catalogs, self.now, self.today = rng, number, catalogs, now, today
        self.policies = 0

    def add(self, chunk: Chunk, deals: Sequence[DealDraft]) -> None:
        fit = [deal for deal in deals if deal.status in INSURED]
        self.rng.shuffle(fit)
        now_insured = fit[: round(len(deals) * WITH_POLICY)]
        insured_before = now_insured[: round(len(deals) * WITH_EARLIER_POLICY)]
        phases = [PHASES[index % len(PHASES)] for index in range(len(now_insured) + len(insured_before))]
        phases.sort(key=lambda phase: phase[0] == "ended")
        current, earlier = phases[: len(now_insured)], phases[len(now_insured) :]
        self.rng.shuffle(current)
        for deal, phase in zip([*now_insured, *insured_before], [*current, *earlier], strict=True):
            self._add_policy(chunk, deal, *phase)
        for deal in fit[len(now_insured) :]:
            if deal.status == "proposal" and self.rng.random() < 0.6:
                self._offer(chunk, deal, ("ready", "ready", "draft"), deal.created_at)

    def _add_policy(self, chunk: Chunk, deal: DealDraft, phase: str, first: int, second: int | None) -> None:
        rng = self.rng
        start = self.today - timedelta(days=rng.randint(*BEGAN[phase]))
        end = start + YEAR
        created_at = self._at(start - timedelta(days=rng.randint(1, 5)))
        deal.created_at = min(deal.created_at, created_at - timedelta(days=rng.randint(3, 20)))
        deal.updated_at = deal.updated_at if deal.status != deal.born_as else deal.created_at
        self.policies += 1
        low, high = PREMIUMS[deal.kind]
        premium = rng.randint(low * 10, high * 10) * 100_00
        insurer, insurer_id = rng.choice(self.catalogs.insurers)
        calculation_id = None
        if rng.random() < 0.2:
            offered = created_at - timedelta(days=2)
            [calculation_id, *_] = self._offer(
                chunk, deal, ("confirmed", "archived"), offered, first=(insurer, insurer_id, premium)
            )
        series = "ХХХ " if deal.kind == "ОСАГО" else f"{deal.kind[:2].upper()}-"
        number = f"{series}{self.number:02d}{self.policies:08d}"
        was = "draft" if phase == "draft" else "active"
        status, changed_at = was, created_at
        if phase == "ended":
            status = "pending_renewal" if self.today - end < timedelta(days=30) else "closed"
            changed_at = self._at(end + timedelta(days=1))
        policy = {
            "id": made_id(rng),
            "client_id": deal.client_id,
            "deal_id": deal.id,
            "owner_id": deal.owner_id,
            "calculation_id": calculation_id,
            "policy_number": number,
            "policy_number_key": Policy.twins(policy_number=number)["policy_number_key"],
            "status": status,
            "premium": rubles(premium),
            "effective_from": start,
            "effective_to": end,
            "insurer_id": insurer_id,
            "insurance_type_id": self.catalogs.types[deal.kind],
            "sales_channel_id": rng.choice(self.catalogs.channels),
            "version": 1 if status == was else 2,
            "created_at": created_at,
            "updated_at": changed_at,
        }
        chunk.rows["crm_policy"].append(tuple(policy.values()))
        self._tell(chunk, policy, was)
        half = premium * 6 // 10 // 100 * 100
        for sequence, (planned_on, amount, incomes) in enumerate(
            ((start, half, first), (start + HALF_YEAR, premium - half, second)), start=1
        ):
            self._add_payment(chunk, deal, policy["id"], sequence, planned_on, amount, incomes, created_at)

    def _add_payment(
        self, chunk: Chunk, deal: DealDraft, policy_id: UUID, sequence: int, planned_on: date, amount: int,
        incomes: int | None, created_at: datetime,
    ) -> None:  # fmt: skip
        rng, payment_id, owner_id = self.rng, made_id(self.rng), deal.owner_id
        parts = _parts(amount // 2 if incomes == 1 else amount, incomes or 0)
        paid_on = min(self.today, planned_on - timedelta(days=rng.randint(0, 6)))
        for part in parts:
            chunk.rows["payments_income"].append(self._operation(payment_id, part, "premium", paid_on, owner_id))
            last, paid_on = paid_on, min(self.today, paid_on + timedelta(days=rng.randint(0, 2)))
        spent = amount // 20 if len(parts) > 1 and rng.random() < 0.1 else 0
        if spent:
            chunk.rows["payments_expense"].append(self._operation(payment_id, spent, "partner_fee", last, owner_id))
        received = sum(parts)
        kept = rules.CANCELLED if incomes is None else rules.SCHEDULED
        status = rules.status_of(kept, Decimal(received), Decimal(amount))
        if incomes is not None:
            deal.planned += amount
        operations = len(parts) + bool(spent)
        changed_at = self._at(last) if parts else created_at
        paid = status == rules.PAID
        chunk.rows["payments_payment"].append((
            payment_id, policy_id, deal.id, sequence, status, planned_on, rubles(amount), CURRENCY,
            last if paid else None, owner_id if paid else None, owner_id, owner_id, rubles(received), rubles(spent),
            rubles(received - spent), 1 + operations + (incomes is None), created_at, max(created_at, changed_at),
        ))  # fmt: skip

    def _operation(self, payment_id: UUID, amount: int, category: str, posted_at: date, author_id: UUID) -> Any:
        at, money = self._at(posted_at), (rubles(amount), CURRENCY)
        return (made_id(self.rng), payment_id, *money, category, posted_at, author_id, author_id, 1, at, at)

    def _offer(
        self, chunk: Chunk, deal: DealDraft, statuses: Iterable[str], at: datetime,
        first: tuple[str, UUID, int] | None = None,
    ) -> list[UUID]:  # fmt: skip
        """Calculations of the deal, one a status; `first` is the insurer (name, id) and the premium of the first."""
        rng, ids = self.rng, list[UUID]()
        for status in statuses:
            insurer, insurer_id = rng.choice(self.catalogs.insurers)
            low, high = PREMIUMS[deal.kind]
            premium = rng.randint(low * 10, high * 10) * 100_00
            if first and not ids:
                insurer, insurer_id, premium = first
            ids.append(made_id(rng))
            day = at.date()
            ready = status != "draft"
            chunk.rows["crm_calculation"].append((
                ids[-1], deal.id, deal.owner_id, deal.owner_id, insurer, fold(insurer), insurer_id,
                rng.choice(words.PROGRAMS), rubles(premium), rubles(premium * 20), day,
                f"[{day},{day + timedelta(days=31)})" if ready else None,
                [f"calculations/{ids[-1]}.pdf"] if ready else [],
                status, {"draft": 1, "ready": 2}.get(status, 3), at, at,
            ))  # fmt: skip
        return ids

    def _tell(self, chunk: Chunk, policy: dict[str, Any], was: str) -> None:
        born = {**policy, "status": was, "updated_at": policy["created_at"]}
        given = {name: (None, born[name]) for name in told.POLICY_FIELDS if born[name] is not None}
        whose = {name: policy[name] for name in ("deal_id", "client_id")} | {"actor_id": policy["owner_id"]}
        chunk.tell(
            self.rng, events.POLICY_CREATED, "policy", policy["id"], 1, **whose,
            payload=told.policy_read(born), changes=given, at=policy["created_at"],
        )  # fmt: skip
        if policy["status"] != was:
            chunk.tell(
                self.rng, events.POLICY_STATUS_CHANGED, "policy", policy["id"], 2, **whose,
                payload={**told.policy_read(policy), "old_status": was},
                changes={"status": (was, policy["status"])}, at=policy["updated_at"],
            )  # fmt: skip

    def _at(self, day: date) -> datetime:
        """A moment of that day's office hours, never after now."""
        hour = time(9 + self.rng.randrange(9), self.rng.randrange(60))
        return min(self.now, datetime.combine(day, hour, timezone.get_default_timezone()).astimezone(self.now.tzinfo))


def _parts(amount: int, count: int) -> list[int]:
    """The amount in that many whole parts."""
    if not count:
        return []
    part = amount // count
    return [*[part] * (count - 1), amount - part * (count - 1)]
