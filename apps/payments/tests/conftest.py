from collections.abc import Iterator

import pytest
import time_machine

from apps.auth.models import User
from apps.crm.models import Deal, Policy
from apps.payments.models import Payment
from apps.payments.tests import factory


@pytest.fixture
def noon() -> Iterator[None]:
    """The tests' day: 10 March 2026, noon in Moscow."""
    with time_machine.travel(factory.NOON, tick=True):
        yield


@pytest.fixture
def deal(seller: User, executor: User, reader: User) -> Deal:
    """The seller's deal; the executor works in it, the reader watches."""
    made = factory.make_deal(seller)
    factory.join(made, executor, "executor")
    factory.join(made, reader, "observer")
    return made


@pytest.fixture
def policy(deal: Deal) -> Policy:
    return factory.make_policy(deal)


@pytest.fixture
def payment(policy: Policy, seller: User, noon: None) -> Payment:
    """1,000 roubles, planned by the seller."""
    return factory.plan(policy, seller)
