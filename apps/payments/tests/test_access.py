"""Who may do what with payments: roles, the place in the deal, and both together. (docs/contract.md, "Who may")"""

from collections.abc import Callable
from typing import Any

import pytest

from apps.auth.models import User
from apps.crm.models import Deal, Policy
from apps.payments.models import Payment
from apps.payments.tests import factory
from apps.payments.tests.factory import url

pytestmark = pytest.mark.usefixtures("noon")
MADE = {"planned_amount": "1500", "planned_date": "2026-06-01", "comment": "first"}


class TestWhoMay:
    """Seller and executor work in the deal; the reader and the observing seller watch it; the stranger sees nothing."""

    @pytest.fixture
    def cast(self, request: pytest.FixtureRequest, make_user: Callable[..., User], deal: Deal) -> Callable[[str], User]:
        def person(name: str) -> User:
            if name == "finance":
                return make_user("finance", "ROLE_FINANCE_MANAGER")
            if name == "lead":
                return make_user("lead", "ROLE_TEAM_LEAD")
            if name == "observing seller":
                watcher = make_user("watcher", "ROLE_SALES_AGENT", "ROLE_ADMIN")
                factory.join(deal, watcher, "observer")
                return watcher
            found: User = request.getfixturevalue(name)
            return found

        return person

    @pytest.mark.parametrize(
        ("who", "reads", "plans", "changes", "cancels", "deletes", "records"),
        [
            ("seller", 200, 201, 200, 403, 204, 201),
            ("executor", 200, 201, 200, 403, 403, 201),
            ("reader", 200, 403, 403, 403, 403, 403),
            ("observing seller", 200, 403, 403, 403, 403, 403),
            ("stranger", 404, 404, 404, 404, 404, 404),
            ("finance", 200, 201, 200, 403, 403, 201),
            ("lead", 200, 403, 403, 403, 403, 403),
            ("admin", 200, 201, 200, 200, 204, 201),
        ],
    )
    def test_table(
        self,
        api: Callable[..., Any],
        payment: Payment,
        policy: Policy,
        cast: Callable[[str], User],
        who: str,
        reads: int,
        plans: int,
        changes: int,
        cancels: int,
        deletes: int,
        records: int,
    ) -> None:
        client = api(cast(who))
        money = {"amount": 5, "category": "premium", "posted_at": "2026-03-01"}
        other = factory.plan(policy, payment.created_by)
        assert client.get(url(policy)).status_code == reads
        assert client.get(url(policy, payment.pk)).status_code == reads
        assert client.get(url(policy, payment.pk, "history")).status_code == reads
        assert client.post(url(policy), MADE).status_code == plans
        assert client.patch(url(policy, payment.pk), {"comment": who}).status_code == changes
        assert client.delete(url(policy, other.pk)).status_code == deletes
        assert client.post(url(policy, payment.pk, "incomes"), money).status_code == records
        assert client.post(url(policy, payment.pk, "expenses"), money).status_code == records
        assert client.patch(url(policy, payment.pk), {"status": "cancelled"}).status_code == cancels

    def test_anonymous(self, api: Callable[..., Any], policy: Policy) -> None:
        assert api().get(url(policy)).status_code == 401
