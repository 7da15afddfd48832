"""Members: added, changed, removed; let in by a task; what an observer may not."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from apps.auth.models import User
from apps.core.models import Event
from apps.crm.models import Calculation, Deal, DealMember, Policy
from apps.crm.services import members

pytestmark = pytest.mark.django_db

URL = "/api/v1/deals"


@pytest.fixture
def observer(deal: Deal, stranger: User, seller: User) -> User:
    """Someone with the rights of a seller and an executor, who only watches this deal."""
    members.add_member(deal=deal, user_id=stranger.pk, role="observer", actor=seller)
    return stranger


def test_the_owner_is_a_seller(api: Any, deal: Deal, seller: User, executor: User) -> None:
    rows = api(seller).get(f"{URL}/{deal.pk}/members").json()
    assert [(row["user_id"], row["role"], row["via"]) for row in rows] == [
        (str(seller.pk), "seller", "owner"),
        (str(executor.pk), "executor", "manual"),
    ]
    assert set(rows[0]) == {"user_id", "role", "via", "created_at"}


@pytest.mark.parametrize("role", ["seller", "executor", "observer"])
def test_added_at_once_and_removed_at_once(api: Any, deal: Deal, seller: User, stranger: User, role: str) -> None:
    url = f"{URL}/{deal.pk}"
    assert api(stranger).get(url).status_code == 404
    answer = api(seller).post(f"{url}/members", {"user_id": str(stranger.pk), "role": role})
    assert (answer.status_code, answer.json()["role"]) == (201, role)
    assert api(stranger).get(url).json()["version"] == deal.version + 1
    assert answer["ETag"] == f'"{deal.version + 1}"'
    assert api(seller).delete(f"{url}/members/{stranger.pk}").status_code == 204
    assert api(stranger).get(url).status_code == 404
    assert api(seller).delete(f"{url}/members/{stranger.pk}").status_code == 404


def test_role_changes(api: Any, deal: Deal, seller: User, executor: User) -> None:
    url = f"{URL}/{deal.pk}/members/{executor.pk}"
    answer = api(seller).patch(url, {"role": "observer"})
    assert (answer.status_code, answer.json()["role"]) == (200, "observer")
    assert api(executor).patch(f"{URL}/{deal.pk}", {"title": "А"}).status_code == 403
    before = Event.objects.count()
    assert api(seller).patch(url, {"role": "observer"})["ETag"] == answer["ETag"]
    assert Event.objects.count() == before


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"role": "seller"}, 400, "validation_error"),
        ({"user_id": str(uuid4()), "role": "owner"}, 400, "validation_error"),
        ({"user_id": str(uuid4()), "role": "seller"}, 404, "user_not_found"),
    ],
)
def test_refusals(api: Any, deal: Deal, seller: User, body: dict[str, str], status: int, code: str) -> None:
    answer = api(seller).post(f"{URL}/{deal.pk}/members", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_nobody_is_added_twice(api: Any, deal: Deal, seller: User, executor: User) -> None:
    for person in (seller, executor):
        answer = api(seller).post(f"{URL}/{deal.pk}/members", {"user_id": str(person.pk), "role": "observer"})
        assert (answer.status_code, answer.json()["code"]) == (409, "member_exists")


def test_disabled_people_are_not_added(api: Any, deal: Deal, seller: User, make_user: Callable[..., User]) -> None:
    gone = make_user("gone", enabled=False)
    assert api(seller).post(f"{URL}/{deal.pk}/members", {"user_id": str(gone.pk), "role": "seller"}).status_code == 404


def test_the_owner_stays(api: Any, deal: Deal, seller: User, admin: User) -> None:
    for who in (seller, admin):
        answer = api(who).delete(f"{URL}/{deal.pk}/members/{seller.pk}")
        assert (answer.status_code, answer.json()["code"]) == (409, "owner_is_member")
        assert api(who).patch(f"{URL}/{deal.pk}/members/{seller.pk}", {"role": "observer"}).status_code == 409


@pytest.mark.parametrize(("who", "status"), [("admin", 201), ("seller", 201), ("executor", 403), ("stranger", 404)])
def test_who_may_add(api: Any, deal: Deal, reader: User, who: str, status: int, request: Any) -> None:
    body = {"user_id": str(reader.pk), "role": "observer"}
    assert api(request.getfixturevalue(who)).post(f"{URL}/{deal.pk}/members", body).status_code == status


def test_a_seller_by_hand_leads_too(api: Any, deal: Deal, seller: User, other_seller: User, reader: User) -> None:
    api(seller).post(f"{URL}/{deal.pk}/members", {"user_id": str(other_seller.pk), "role": "seller"})
    body = {"user_id": str(reader.pk), "role": "observer"}
    assert api(other_seller).post(f"{URL}/{deal.pk}/members", body).status_code == 201
    assert api(other_seller).patch(f"{URL}/{deal.pk}/stage", {"stage": "closedWon"}).status_code == 200


def test_a_seller_with_the_executors_role_does_not_lead(api: Any, deal: Deal, stranger: User, seller: User) -> None:
    members.add_member(deal=deal, user_id=stranger.pk, role="executor", actor=seller)
    body = {"user_id": str(uuid4()), "role": "observer"}
    assert api(stranger).post(f"{URL}/{deal.pk}/members", body).status_code == 403


def test_stale_version(api: Any, deal: Deal, seller: User, reader: User) -> None:
    body = {"user_id": str(reader.pk), "role": "observer"}
    answer = api(seller).post(f"{URL}/{deal.pk}/members", body, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer["ETag"]) == (412, f'"{deal.version}"')


WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("patch", "/deals/{deal}", {"title": "А"}),
    ("delete", "/deals/{deal}", {}),
    ("post", "/deals/{deal}/restore", {}),
    ("patch", "/deals/{deal}/stage", {"stage": "proposal"}),
    ("patch", "/deals/{deal}/stage", {"stage": "closedWon"}),
    ("post", "/deals/{deal}/reopen", {"reason": "А"}),
    ("post", "/deals/{deal}/members", {"user_id": "{reader}", "role": "observer"}),
    ("patch", "/deals/{deal}/members/{executor}", {"role": "observer"}),
    ("delete", "/deals/{deal}/members/{executor}", {}),
    ("post", "/deals/{deal}/journal", {"body": "А"}),
    ("post", "/deals/{deal}/calculations", {"insurance_company": "А", "calculation_date": "2026-03-01"}),
    ("patch", "/deals/{deal}/calculations/{calculation}", {"comments": "А"}),
    ("post", "/deals/{deal}/calculations/{calculation}/status", {"status": "ready"}),
    ("delete", "/deals/{deal}/calculations/{calculation}", {}),
    ("post", "/policies", {"client_id": "{client}", "deal_id": "{deal}", "policy_number": "А 1"}),
    ("patch", "/policies/{policy}", {"premium": "5"}),
    ("patch", "/policies/{policy}", {"deal_id": None}),
    ("delete", "/policies/{policy}", {}),
    ("post", "/policies/{policy}/restore", {}),
]


@pytest.mark.parametrize(("verb", "path", "body"), WRITES)
@pytest.mark.parametrize("roles", ["observer", "admin_observer"])
def test_an_observer_writes_nothing_whatever_his_roles(
    api: Any, deal: Deal, calculation: Calculation, policy: Policy, observer: User, admin: User, seller: User,
    executor: User, reader: User, verb: str, path: str, body: dict[str, Any], roles: str,
) -> None:  # fmt: skip
    who = observer
    if roles == "admin_observer":
        members.add_member(deal=deal, user_id=admin.pk, role="observer", actor=seller)
        who = admin
    names = {
        "deal": deal.pk, "calculation": calculation.pk, "policy": policy.pk, "client": deal.client_id,
        "executor": executor.pk, "reader": reader.pk,
    }  # fmt: skip
    filled = {key: value.format(**names) if isinstance(value, str) else value for key, value in body.items()}
    before = Event.objects.count()
    answer = getattr(api(who), verb)("/api/v1" + path.format(**names), filled)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert Event.objects.count() == before
    assert api(who).get(f"{URL}/{deal.pk}").status_code == 200


def test_a_task_lets_in_and_out(api: Any, deal: Deal, stranger: User, seller: User) -> None:
    for _twice in range(2):
        members.grant(deal=deal, user=stranger, role="executor", via="task", actor=seller)
    assert deal.members.filter(user=stranger).count() == 1
    assert api(stranger).patch(f"{URL}/{deal.pk}", {"title": "А"}).status_code == 200
    refused = api(seller).delete(f"{URL}/{deal.pk}/members/{stranger.pk}")
    assert (refused.status_code, refused.json()["code"]) == (404, "member_not_found")
    deal.refresh_from_db()
    members.revoke(deal=deal, user=stranger, via="task", actor=None)
    members.revoke(deal=deal, user=stranger, via="task", actor=None)
    assert api(stranger).get(f"{URL}/{deal.pk}").status_code == 404
    told = Event.objects.filter(name__startswith="deal.member.", payload__user_id=str(stranger.pk)).order_by("version")
    assert [(each.name, each.actor_id) for each in told] == [
        ("deal.member.added", seller.pk),
        ("deal.member.removed", None),
    ]


def test_another_reason_to_take_part_stays(api: Any, deal: Deal, executor: User, seller: User) -> None:
    members.grant(deal=deal, user=executor, role="executor", via="task", actor=seller)
    members.revoke(deal=deal, user=executor, via="task", actor=seller)
    assert api(executor).get(f"{URL}/{deal.pk}").status_code == 200


def test_a_new_owner_works_even_if_he_was_an_observer(api: Any, deal: Deal, observer: User, admin: User) -> None:
    answer = api(admin).patch(f"{URL}/{deal.pk}", {"owner_id": str(observer.pk)})
    assert answer.status_code == 200
    assert [(m.role, m.via) for m in DealMember.objects.filter(deal=deal, user=observer)] == [("seller", "owner")]
    assert api(observer).patch(f"{URL}/{deal.pk}", {"title": "А"}).status_code == 200
