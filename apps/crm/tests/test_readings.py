"""The hot reads see what the querysets see: every kind of caller, every filter, one after another over kept SQL."""

from itertools import product
from typing import Any

import pytest
from django.utils import timezone

from apps.auth.models import User
from apps.core.reads import Reading
from apps.crm import queries
from apps.crm.models import Client, Deal, DealMember

pytestmark = pytest.mark.django_db
COLUMNS = ("id", "title")
CALLERS = ("admin", "seller", "other_seller", "executor", "lead", "stranger", "reader")


@pytest.fixture
def lead(make_user: Any) -> User:
    return make_user("lead", "ROLE_TEAM_LEAD")


@pytest.fixture
def cast(request: pytest.FixtureRequest) -> dict[str, User]:
    return {name: User.objects.with_roles().get(pk=request.getfixturevalue(name).pk) for name in CALLERS}


@pytest.fixture
def deals(cast: dict[str, User]) -> list[Deal]:
    """Of two sellers and of nobody, in several stages, one deleted; the executor takes part in one."""
    made = []
    for index, (owner, status) in enumerate(product(("seller", "other_seller", None), ("draft", "in_progress", "won"))):
        user = cast[owner] if owner else None
        client = Client.objects.create(name="Х", owner=user, **Client.twins(name="Х", phone=None, email=None))
        deal = Deal.objects.create(
            client=client, owner=user, title=f"{owner} {status}", status=status, next_review_at=timezone.localdate(),
            **Deal.twins(title="", description=None),
        )  # fmt: skip
        if user:
            DealMember.objects.create(deal=deal, user=user, role="seller", via="owner")
        if index == 4:
            DealMember.objects.create(deal=deal, user=cast["executor"], role="executor", via="manual")
        made.append(deal)
    Deal.objects.filter(pk=made[0].pk).update(deleted_at=timezone.now())
    return made


def filters(cast: dict[str, User], deals: list[Deal]) -> list[dict[str, Any]]:
    return [
        {},
        {"stage": "negotiation"},
        {"status": "won"},
        {"open": True},
        {"client_id": deals[4].client_id},
        {"manager": [cast["seller"].pk]},
        {"manager": [cast["other_seller"].pk], "stage": "closedWon"},
        {"manager": [cast["seller"].pk, cast["other_seller"].pk]},
        {"manager": [queries.NO_MANAGER]},
        {"period": 7},
        {"search": "нет"},
    ]


def test_the_worklist(cast: dict[str, User], deals: list[Deal]) -> None:
    today, seen = timezone.localdate(), {}
    for _, name, chosen in product(range(2), CALLERS, filters(cast, deals)):
        source = queries.worklist(cast[name], chosen, today)
        if isinstance(source, Reading):
            source = source.then("columns", step=lambda rows, _: rows.values_list(*COLUMNS), values={})
            found = source.rows()
        else:
            found = list(source.values_list(*COLUMNS))
        assert set(found) == set(queries.deals(cast[name], chosen, today).values_list(*COLUMNS)), (name, chosen)
        seen[name, str(chosen)] = len(found)
    assert [seen[name, "{}"] for name in CALLERS] == [8, 2, 3, 1, 8, 0, 0]


def test_a_deal(cast: dict[str, User], deals: list[Deal]) -> None:
    for name, deal in product(CALLERS, deals):
        seen = Deal.objects.living().visible_to(cast[name]).filter(pk=deal.pk)
        assert queries.deal(cast[name], deal.pk, COLUMNS).rows() == list(seen.values_list(*COLUMNS)), (name, deal)


def test_a_client(cast: dict[str, User], deals: list[Deal]) -> None:
    for name, deal in product(CALLERS, deals):
        found = queries.client(cast[name], deal.client_id)
        assert found == Client.objects.living().visible_to(cast[name]).filter(pk=deal.client_id).first(), (name, deal)
        if found:
            assert {field: getattr(found, field) for field in queries._CLIENT_COLUMNS} == {
                field: getattr(deal.client, field) for field in queries._CLIENT_COLUMNS
            }


def test_a_right_that_ends_ends_at_once(cast: dict[str, User], deals: list[Deal]) -> None:
    deal, executor = deals[4], cast["executor"]
    assert queries.deal(executor, deal.pk, COLUMNS).rows()
    DealMember.objects.filter(deal=deal, user=executor).delete()
    assert queries.deal(executor, deal.pk, COLUMNS).rows() == []


def test_pages_follow_one_another(api: Any, cast: dict[str, User], deals: list[Deal]) -> None:
    """The cursor of a kept statement is the caller's own."""
    for name in ("admin", "seller"):
        url, titles = "/api/v1/deals?limit=1", []
        while url:
            answer = api(cast[name]).get(url)
            titles += [row["title"] for row in answer.json()]
            link = answer.headers.get("Link", "")
            url = link[link.find("<") + 1 : link.find(">")] if link else ""
        expected = Deal.objects.living().visible_to(cast[name]).order_by("next_review_at", "updated_at", "id")
        assert titles == [deal.title for deal in expected]
