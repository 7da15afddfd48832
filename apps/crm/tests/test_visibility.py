"""Who sees what. One agency, one table: every list, every detail, every child list gives the same deals."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from apps.auth.models import ServiceToken, User
from apps.crm.models import Client, Deal, Policy
from apps.crm.services import calculations, clients, deals, journal, members, policies

pytestmark = pytest.mark.django_db

PEOPLE = {
    "seller": ["ROLE_SALES_AGENT"],
    "other_seller": ["ROLE_SALES_AGENT"],
    "by_hand": ["ROLE_SALES_AGENT"],
    "executor": ["ROLE_EXECUTOR"],
    "observer": ["ROLE_SALES_AGENT", "ROLE_EXECUTOR"],
    "reader": [],
    "assignee": ["ROLE_EXECUTOR"],
    "former": ["ROLE_SALES_AGENT"],
    "stranger": ["ROLE_SALES_AGENT", "ROLE_EXECUTOR"],
    "finance": ["ROLE_FINANCE_MANAGER"],
    "lead": ["ROLE_TEAM_LEAD"],
    "admin": ["ROLE_ADMIN"],
}
ALL = {"shared", "other", "unowned"}
DEALS = {
    "seller": {"shared"},
    "other_seller": {"other"},
    "by_hand": {"shared"},
    "executor": {"shared"},
    "observer": {"shared"},
    "reader": {"shared"},
    "assignee": {"shared"},
    "former": set(),
    "stranger": set(),
    "finance": ALL,
    "lead": ALL,
    "admin": ALL,
    "token": ALL,
}
CLIENTS = {who: set(seen) for who, seen in DEALS.items()}
CLIENTS["seller"] = {"shared", "mine alone", "of a loose policy"}
CLIENTS["stranger"] = {"of a loose policy"}
CLIENTS["admin"] = CLIENTS["token"] = {*ALL, "deleted", "mine alone", "of a loose policy", "nobody's"}
POLICIES = {who: set(seen) for who, seen in DEALS.items()}
POLICIES["seller"] = {"shared", "loose"}
POLICIES["stranger"] = {"loose"}
POLICIES["admin"] = POLICIES["token"] = {*ALL, "loose"}


@pytest.fixture
def cast(make_user: Callable[..., User]) -> dict[str, User]:
    return {name: make_user(name, *roles) for name, roles in PEOPLE.items()}


@pytest.fixture
def agency(cast: dict[str, User]) -> dict[str, Deal]:
    """Three living deals with everything in them, a deleted one, a policy without a deal, clients without deals."""
    admin, seller = cast["admin"], cast["seller"]

    def client(name: str, owner: User | None) -> Client:
        return clients.create_client(values={"name": name, "owner_id": owner.pk if owner else None}, actor=admin)

    made: dict[str, Deal] = {}
    for name, owner in (("shared", seller), ("other", cast["other_seller"]), ("unowned", None), ("deleted", seller)):
        # The client of a deal is nobody's: he is seen through the deal alone.
        deal = deals.create_deal(
            client_id=client(name, None).pk, title=name, next_review_at=timezone.localdate(), actor=admin,
            owner_id=owner.pk if owner else None,
        )  # fmt: skip
        policies.create_policy(
            values={"client_id": deal.client_id, "deal_id": deal.pk, "policy_number": name}, actor=admin
        )
        calculations.create_calculation(
            deal_id=deal.pk, values={"insurance_company": name, "calculation_date": timezone.localdate()}, actor=admin
        )
        journal.append_entry(deal_id=deal.pk, body=name, actor=admin)
        made[name] = deal
    for who, role, via in (
        ("by_hand", "seller", "manual"), ("executor", "executor", "manual"), ("observer", "observer", "manual"),
        ("reader", "observer", "manual"), ("assignee", "executor", "task"), ("former", "executor", "task"),
    ):  # fmt: skip
        members.grant(deal=made["shared"], user=cast[who], role=role, via=via, actor=admin)
    members.revoke(deal=made["shared"], user=cast["former"], via="task", actor=admin)
    deals.delete_deal(deal_id=made["deleted"].pk, actor=admin)
    client("mine alone", seller)
    client("nobody's", None)
    loose = policies.create_policy(
        values={"client_id": client("of a loose policy", seller).pk, "policy_number": "loose"}, actor=admin
    )
    Policy.objects.filter(pk=loose.pk).update(owner=cast["stranger"])
    return made


@pytest.fixture
def signed_in(api: Any, cast: dict[str, User]) -> Callable[[str], APIClient]:
    def client(who: str) -> APIClient:
        if who != "token":
            return api(cast[who])
        signed = APIClient()
        token = ServiceToken.objects.create(
            prefix="0" * 8, secret_hash=b"x", name="1С", scopes=["deals.edit"], created_at=timezone.now()
        )
        signed.force_authenticate(token)  # type: ignore[arg-type]
        return signed

    return client


EVERYONE = sorted(DEALS)


@pytest.mark.parametrize("who", EVERYONE)
def test_deals(agency: dict[str, Deal], signed_in: Any, who: str) -> None:
    client = signed_in(who)
    assert {each["title"] for each in client.get("/api/v1/deals").json()} == DEALS[who]
    counts = sum(row["count"] for row in client.get("/api/v1/deals/stage-metrics").json())
    assert counts == len(DEALS[who])
    for name, deal in agency.items():
        status = 200 if name in DEALS[who] else 404
        for child in ("", "/journal", "/calculations", "/members", "/history"):
            answer = client.get(f"/api/v1/deals/{deal.pk}{child}")
            assert answer.status_code == status, (name, child)
            if status == 404:
                assert answer.json()["code"] == "deal_not_found"


@pytest.mark.parametrize("who", EVERYONE)
def test_clients(agency: dict[str, Deal], signed_in: Any, who: str) -> None:
    client = signed_in(who)
    assert {each["name"] for each in client.get("/api/v1/clients").json()} == CLIENTS[who]
    assert {each["name"] for each in client.get("/api/v1/clients", {"search": "e"}).json()} == {
        name for name in CLIENTS[who] if "e" in name
    }
    for row in Client.objects.all():
        expected = 200 if row.name in CLIENTS[who] else 404
        assert client.get(f"/api/v1/clients/{row.pk}").status_code == expected, row.name


@pytest.mark.parametrize("who", EVERYONE)
def test_policies(agency: dict[str, Deal], signed_in: Any, who: str) -> None:
    client = signed_in(who)
    assert {each["policy_number"] for each in client.get("/api/v1/policies").json()} == POLICIES[who]
    for row in Policy.objects.all():
        expected = 200 if row.policy_number in POLICIES[who] else 404
        assert client.get(f"/api/v1/policies/{row.pk}").status_code == expected, row.policy_number


@pytest.mark.parametrize("who", EVERYONE)
def test_child_lists_give_exactly_the_deals_of_the_deal_list(agency: Any, signed_in: Any, who: str) -> None:
    client = signed_in(who)
    listed = {each["id"] for each in client.get("/api/v1/deals").json()}
    assert {each["deal_id"] for each in client.get("/api/v1/policies").json() if each["deal_id"]} == listed
    for deal_id in listed:
        assert {each["deal_id"] for each in client.get(f"/api/v1/deals/{deal_id}/calculations").json()} == {deal_id}
        items = client.get(f"/api/v1/deals/{deal_id}/journal").json()["items"]
        assert {each["deal_id"] for each in items} == {deal_id}


@pytest.mark.parametrize(("who", "titles"), [("admin", {"unowned"}), ("lead", {"unowned"}), ("finance", {"unowned"}),
                                             ("seller", set()), ("by_hand", set())])  # fmt: skip
def test_unowned_deals_are_listed_to_those_who_see_all(
    agency: dict[str, Deal], cast: dict[str, User], signed_in: Any, who: str, titles: set[str]
) -> None:
    """Even to a member of one the filter gives nothing."""
    members.grant(deal=agency["unowned"], user=cast["by_hand"], role="executor", via="task", actor=None)
    client = signed_in(who)
    query = {"manager": "__NO_MANAGER__"}
    assert {each["title"] for each in client.get("/api/v1/deals", query).json()} == titles
    assert sum(row["count"] for row in client.get("/api/v1/deals/stage-metrics", query).json()) == len(titles)


@pytest.mark.parametrize("path", ["/api/v1/deals", "/api/v1/clients", "/api/v1/policies", "/api/v1/insurers"])
def test_nobody_sees_nothing(api: Any, path: str, db: None) -> None:
    answer = api().get(path)
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("who", ["finance", "lead"])
def test_seeing_all_is_not_writing(agency: dict[str, Deal], signed_in: Any, who: str) -> None:
    client, deal = signed_in(who), agency["shared"]
    for answer in (
        client.patch(f"/api/v1/deals/{deal.pk}", {"title": "А"}),
        client.post(f"/api/v1/deals/{deal.pk}/journal", {"body": "А"}),
        client.patch(f"/api/v1/clients/{deal.client_id}", {"name": "А"}),
    ):
        assert answer.status_code == 403


def test_a_token_writes_within_its_scopes(agency: dict[str, Deal], signed_in: Any) -> None:
    client, deal = signed_in("token"), agency["shared"]
    assert client.patch(f"/api/v1/deals/{deal.pk}", {"title": "А"}).status_code == 200
    assert client.post(f"/api/v1/deals/{deal.pk}/journal", {"body": "А"}).status_code == 403
    newest = client.get(f"/api/v1/deals/{deal.pk}/history").json()[0]
    assert newest["actor"]["email"] == "token:1С"


def test_the_client_goes_with_the_last_living_deal(agency: Any, cast: dict[str, User], signed_in: Any) -> None:
    deal, executor = agency["shared"], signed_in("executor")
    url = f"/api/v1/clients/{deal.client_id}"
    assert executor.get(url).status_code == 200
    deals.delete_deal(deal_id=deal.pk, actor=cast["admin"])
    assert executor.get(url).status_code == 404
