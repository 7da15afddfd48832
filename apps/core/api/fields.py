"""Input fields that the domain needs everywhere: money, days, folded numbers."""

from datetime import date
from decimal import Decimal
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2100, 12, 31)


class MoneyField(serializers.DecimalField):
    """An amount with at most two decimals, text or number; answers are text with two decimals."""

    default_error_messages = {"must_be_positive": _("The amount must be positive.")}

    def __init__(self, *, positive: bool = True, **kwargs: Any) -> None:
        self.positive = positive
        super().__init__(max_digits=14, decimal_places=2, **kwargs)

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool):
            self.fail("invalid")
        amount: Decimal = super().to_internal_value(data)
        if amount < 0 or (self.positive and amount == 0):
            self.fail("must_be_positive")
        return amount


class DayField(serializers.DateField):
    """A day between 2000 and 2100; a moment is cut to its day."""

    default_error_messages = {"out_of_range": _("The date must lie between 2000 and 2100.")}

    def to_internal_value(self, value: Any) -> date:
        if isinstance(value, str) and len(value) > 10:
            try:
                moment = parse_datetime(value.strip())
            except ValueError:
                moment = None
            if moment is not None:
                value = moment.date().isoformat()
        day: date = super().to_internal_value(value)
        if not FIRST_DAY <= day <= LAST_DAY:
            self.fail("out_of_range")
        return day
