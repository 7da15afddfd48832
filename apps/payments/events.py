"""The names of what happens to payments. (docs/events.md)"""

PAYMENT_CREATED = "deal.payment.created"
PAYMENT_UPDATED = "deal.payment.updated"
PAYMENT_DELETED = "deal.payment.deleted"

INCOME_CREATED = "deal.payment.income.created"
INCOME_UPDATED = "deal.payment.income.updated"
INCOME_DELETED = "deal.payment.income.deleted"

EXPENSE_CREATED = "deal.payment.expense.created"
EXPENSE_UPDATED = "deal.payment.expense.updated"
EXPENSE_DELETED = "deal.payment.expense.deleted"
