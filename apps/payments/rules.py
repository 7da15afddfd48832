"""Pure rules of payments: what the money that came in makes of an instalment, and how amounts are written."""

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Literal

SCHEDULED, PARTIALLY_PAID, PAID, CANCELLED = "scheduled", "partially_paid", "paid", "cancelled"
STATUSES = (SCHEDULED, PARTIALLY_PAID, PAID, CANCELLED)
OPEN_STATUSES = frozenset({SCHEDULED, PARTIALLY_PAID})
# Words a client may send as a status: only the first has an effect, the status of the others is computed.
WRITABLE_STATUSES = (CANCELLED, SCHEDULED, PARTIALLY_PAID, PAID, "overdue", "pending", "posted")

Kind = Literal["income", "expense"]
CENT = Decimal("0.01")
ZERO = Decimal("0.00")


@dataclass(frozen=True, slots=True)
class Figures:
    """What the database keeps of a payment's operations; the same arithmetic as its triggers."""

    status: str
    planned_amount: Decimal
    incomes_total: Decimal = ZERO
    expenses_total: Decimal = ZERO

    @property
    def net_total(self) -> Decimal:
        return self.incomes_total - self.expenses_total

    def plus(self, kind: Kind, amount: Decimal) -> "Figures":
        """After `amount` more (less, when negative) of one kind."""
        if kind == "income":
            changed = replace(self, incomes_total=self.incomes_total + amount)
        else:
            changed = replace(self, expenses_total=self.expenses_total + amount)
        return changed.settled()

    def planned(self, amount: Decimal) -> "Figures":
        """After a change of the planned amount."""
        return replace(self, planned_amount=amount).settled()

    def settled(self) -> "Figures":
        return replace(self, status=status_of(self.status, self.incomes_total, self.planned_amount))


def status_of(current: str, incomes_total: Decimal, planned_amount: Decimal) -> str:
    """Cancelled stays; else by what has come in against the plan. Expenses never count."""
    if current == CANCELLED:
        return CANCELLED
    if incomes_total <= 0:
        return SCHEDULED
    return PAID if incomes_total >= planned_amount else PARTIALLY_PAID


def is_overdue(status: str, planned_date: date | None, today: date) -> bool:
    """The planned day has passed and money is still expected."""
    return planned_date is not None and planned_date < today and status in OPEN_STATUSES


def money(amount: Decimal) -> str:
    """`"0.00"`."""
    return f"{amount:.2f}"


def currency_code(text: str) -> str:
    """The code as it is stored: trimmed, upper case."""
    return text.strip().upper()
