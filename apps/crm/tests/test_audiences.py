"""`access.audiences` is `visible_to` the other way round: it must admit the same people to the same rows."""

import random
from typing import Any

import pytest
from django.utils import timezone

from apps.auth.models import User
from apps.crm.access import audiences
from apps.crm.models import Client, Deal, DealMember, Policy

pytestmark = pytest.mark.django_db
ROLES = ["ROLE_USER", "ROLE_SALES_AGENT", "ROLE_EXECUTOR", "ROLE_TEAM_LEAD", "ROLE_FINANCE_MANAGER", "ROLE_ADMIN"]


@pytest.fixture
def people(make_user: Any) -> list[User]:
    return [make_user(f"p{number}", role) for number, role in enumerate([*ROLES, *ROLES[:3]])]


@pytest.fixture
def agency(people: list[User]) -> None:
    """Clients, deals and policies of everyone and no one, half of them deleted, memberships at random."""
    dice = random.Random("audiences")  # noqa: S311 - a seeded die

    def someone() -> User | None:
        return dice.choice([*people, None])

    def gone() -> dict[str, Any]:
        return {"deleted_at": timezone.now()} if dice.random() < 0.4 else {}

    clients = [
        Client.objects.create(
            name=f"c{n}", owner=someone(), **Client.twins(name=f"c{n}", phone=None, email=None), **gone()
        )
        for n in range(30)
    ]
    deals = []
    for number in range(40):
        deal = Deal.objects.create(
            client=dice.choice(clients), owner=None, title=f"d{number}", next_review_at="2026-04-01",
            **Deal.twins(title=f"d{number}", description=None), **gone(),
        )  # fmt: skip
        deals.append(deal)
        for user in dice.sample(people, dice.randint(0, 2)):
            DealMember.objects.create(deal=deal, user=user, role="seller", via="manual")
    for number in range(40):
        Policy.objects.create(
            client=dice.choice(clients), deal=dice.choice([*deals[:10], *[None] * 10]), owner=someone(),
            policy_number=f"n{number}", **Policy.twins(policy_number=f"n{number}"), **gone(),
        )  # fmt: skip


def test_the_same_people_see_the_same_rows(agency: None, people: list[User]) -> None:
    found = audiences(
        deals=Deal.objects.values_list("pk", flat=True),
        policies=Policy.objects.values_list("pk", flat=True),
        clients=Client.objects.values_list("pk", flat=True),
    )
    seen = 0
    for person in people:
        caller = User.objects.with_roles().get(pk=person.pk)
        for model in (Deal, Policy, Client):
            visible = set(model.objects.visible_to(caller).values_list("pk", flat=True))
            admitted = {
                pk
                for pk in model.objects.values_list("pk", flat=True)
                if caller.is_admin or caller.pk in found[pk].users or (caller.sees_all_deals and found[pk].all_deals)
            }
            assert admitted == visible, (caller.email, model)
            seen += len(visible)
    assert seen > 100


def test_deals_alone_are_one_short_query(agency: None, django_assert_num_queries: Any) -> None:
    pks = list(Deal.objects.values_list("pk", flat=True))
    with django_assert_num_queries(1):
        found = audiences(deals=pks)
    assert found.keys() == set(pks)
    with django_assert_num_queries(0):
        assert audiences() == {}
