"""Deals: worklist, stages, closing and reopening, the batch of a deletion."""

from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.auth.models import User
from apps.core.models import Event
from apps.crm import rules
from apps.crm.models import Calculation, Client, Deal, DealMember, Policy
from apps.crm.services import deals, policies

pytestmark = pytest.mark.django_db

URL = "/api/v1/deals"


def names(deal: Deal) -> list[str]:
    return list(Event.objects.filter(deal_id=deal.pk).order_by("at", "version").values_list("name", flat=True))


@pytest.mark.parametrize(
    ("sent", "status", "stage"),
    [
        ("draft", "draft", "qualification"),
        ("qualification", "qualification", "qualification"),
        ("in_progress", "in_progress", "negotiation"),
        ("inProgress", "in_progress", "negotiation"),
        ("IN-PROGRESS", "in_progress", "negotiation"),
        (" negotiation ", "in_progress", "negotiation"),
        ("proposal", "proposal", "proposal"),
        ("won", "won", "closedWon"),
        ("closedWon", "won", "closedWon"),
        ("closed lost", "lost", "closedLost"),
        ("anything", "qualification", "qualification"),
    ],
)
def test_status_means_a_stage(api: Any, seller: User, client_of: Any, sent: str, status: str, stage: str) -> None:
    body = {"client_id": client_of(seller).pk, "title": "КАСКО", "next_review_at": "2026-04-01", "status": sent}
    answer = api(seller).post(URL, body)
    assert answer.status_code == 201
    assert (answer.json()["status"], answer.json()["stage"]) == (status, stage)
    assert Deal.objects.get(pk=answer.json()["id"]).stage == stage


def test_created_deal_belongs_to_its_maker(api: Any, seller: User, other_seller: User, client_of: Any) -> None:
    body = {
        "clientId": str(client_of(seller).pk),
        "title": "  КАСКО ",
        "next_review_at": "2026-04-01",
        "owner_id": str(other_seller.pk),
    }
    answer = api(seller).post(URL, body)
    assert answer.status_code == 201
    made = answer.json()
    assert made["owner_id"] == str(seller.pk)
    assert made["title"] == "КАСКО"
    assert (made["status"], made["version"], answer["ETag"]) == ("draft", 1, '"1"')
    event = Event.objects.get(name="deal.created")
    assert event.payload["sales_agent_id"] == str(seller.pk)
    assert (event.actor_id, event.deal_id, event.version) == (seller.pk, Deal.objects.get().pk, 1)


def test_admin_leaves_a_deal_undistributed(api: Any, admin: User, seller: User, client_of: Any) -> None:
    body = {"client_id": str(client_of(seller).pk), "title": "КАСКО", "next_review_at": "2026-04-01"}
    made = api(admin).post(URL, body).json()
    assert made["owner_id"] is None
    assert api(seller).get(f"{URL}/{made['id']}").status_code == 404
    assert api(seller).get(URL, {"manager": "__NO_MANAGER__"}).json() == []
    assert len(api(admin).get(URL, {"manager[]": "__NO_MANAGER__"}).json()) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"next_review_at": None}, "next_review_at"),
        ({"next_review_at": "0001-01-01"}, "next_review_at"),
        ({"next_review_at": "9999-12-31"}, "next_review_at"),
        ({"next_review_at": "завтра"}, "next_review_at"),
        ({"title": ""}, "title"),
        ({"title": "x" * 256}, "title"),
        ({"title": ["список"]}, "title"),
        ({"client_id": "нет"}, "client_id"),
    ],
)
def test_bad_fields_are_named_and_nothing_is_stored(
    api: Any, seller: User, client_of: Any, body: dict[str, Any], field: str
) -> None:
    good = {"client_id": str(client_of(seller).pk), "title": "КАСКО", "next_review_at": "2026-04-01"}
    answer = api(seller).post(URL, {**good, **body})
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "validation_error"
    assert [each["field"] for each in answer.json()["errors"]] == [field]
    assert not Deal.objects.exists()


def test_unknown_and_foreign_clients_look_the_same(api: Any, seller: User, other_seller: User, client_of: Any) -> None:
    for client_id in (uuid4(), client_of(other_seller).pk):
        body = {"client_id": str(client_id), "title": "КАСКО", "next_review_at": "2026-04-01"}
        answer = api(seller).post(URL, body)
        assert (answer.status_code, answer.json()["code"]) == (404, "client_not_found")


def test_worklist_order_and_pages(api: Any, seller: User, deal_of: Any, client_of: Any) -> None:
    owner = client_of(seller)
    days = [12, 9, 10, 9, 11]
    for day in days:
        deal_of(seller, client=owner, title=str(day), next_review_at=date(2026, 3, day))
    everything = [each["id"] for each in api(seller).get(URL).json()]
    assert [each["title"] for each in api(seller).get(URL).json()] == ["9", "9", "10", "11", "12"]
    walked, url = [], f"{URL}?limit=2"
    while url:
        answer = api(seller).get(url)
        walked += [each["id"] for each in answer.json()]
        link = answer.get("Link", "")
        url = link[link.find("<") + 1 : link.find(">")] if link else ""
    assert walked == everything
    assert api(seller).get(URL, {"count": "true", "limit": 1})["X-Total-Count"] == "5"


@pytest.mark.parametrize(
    "query",
    [
        {"sort": "title"},
        {"limit": "201"},
        {"limit": "0"},
        {"offset": "10001"},
        {"cursor": "мусор"},
        {"cursor": "WyJ4Iiwx"},
        {"stage": "lost"},
        {"period": "14d"},
        {"manager": "nobody"},
        {"client_id": "1"},
    ],
)
def test_unknown_filters_are_refused(api: Any, seller: User, query: dict[str, str]) -> None:
    answer = api(seller).get(URL, query)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_filters")


def test_bad_manager_is_named(api: Any, seller: User) -> None:
    errors = api(seller).get(URL, {"manager[]": "nobody"}).json()["errors"]
    assert [(each["field"], each["code"]) for each in errors] == [("manager", "invalid_manager_id")]


def test_filters(api: Any, admin: User, seller: User, other_seller: User, deal_of: Any) -> None:
    today = date.today()
    late = deal_of(seller, title="Просрочено", next_review_at=today - timedelta(days=400))
    soon = deal_of(seller, title="КАСКО Ёлкина", next_review_at=today + timedelta(days=6), status="in_progress")
    far = deal_of(other_seller, title="Ипотека", description="Дом в Елке", next_review_at=today + timedelta(days=60))
    won = deal_of(other_seller, title="ОСАГО", status="won", next_review_at=today)

    def found(**query: Any) -> set[str]:
        return {each["id"] for each in api(admin).get(URL, query).json()}

    def ids(*rows: Deal) -> set[str]:
        return {str(row.pk) for row in rows}

    assert found() == ids(late, soon, far, won)
    assert found(open="true") == ids(late, soon, far)
    assert found(stage="negotiation") == ids(soon)
    assert found(stage="all") == ids(late, soon, far, won)
    assert found(status="closedWon") == ids(won)
    assert found(period="7d") == ids(late, soon, won)
    assert found(period="all") == ids(late, soon, far, won)
    assert found(search="ёлк") == ids(soon, far)
    assert found(search=" ЕЛКИНА ") == ids(soon)
    assert found(search="100%") == set()
    assert found(search="") == ids(late, soon, far, won)
    assert found(manager=str(seller.pk)) == ids(late, soon)
    assert found(manager=[str(seller.pk), "__NO_MANAGER__"]) == ids(late, soon)
    assert found(client_id=str(far.client_id)) == ids(far)


def test_stage_route_moves_and_normalises(api: Any, deal: Deal, seller: User) -> None:
    answer = api(seller).patch(f"{URL}/{deal.pk}/stage", {"stage": "proposal"})
    assert (answer.status_code, answer.json()["status"]) == (200, "proposal")
    same = api(seller).patch(f"{URL}/{deal.pk}/stage", {"stage": "proposal"})
    assert same.json()["version"] == answer.json()["version"]
    told = Event.objects.filter(name="deal.stage.changed")
    assert [(e.payload["old_stage"], e.payload["new_stage"]) for e in told] == [("qualification", "proposal")]
    assert "deal.updated" not in names(deal)


def test_losing_needs_a_reason_on_the_native_face(api: Any, deal: Deal, seller: User) -> None:
    bare = api(seller).patch(f"{URL}/{deal.pk}/stage", {"stage": "closedLost"})
    assert (bare.status_code, bare.json()["code"]) == (400, "reason_required")
    said = api(seller).patch(f"{URL}/{deal.pk}/stage", {"stage": "closedLost", "reason": "Ушёл к другим"})
    assert said.status_code == 200
    assert Event.objects.get(name="deal.stage.changed").payload["reason"] == "Ушёл к другим"


def test_gateway_face_stores_an_empty_reason(api: Any, deal: Deal, seller: User) -> None:
    answer = api(seller).patch(f"/api/v1/crm/deals/{deal.pk}/stage", {"stage": "closedLost"})
    assert answer.status_code == 200
    assert answer.json()["nextReviewAt"] == "2026-04-01"
    assert Deal.objects.get(pk=deal.pk).close_reason == ""


def test_closed_deal_stays_closed_and_editable_until_reopened(api: Any, deal: Deal, seller: User) -> None:
    client = api(seller)
    client.patch(f"{URL}/{deal.pk}", {"status": "in_progress"})
    client.patch(f"{URL}/{deal.pk}", {"status": "won"})
    for move in ({"stage": "proposal"}, {"stage": "closedLost", "reason": "x"}):
        answer = client.patch(f"{URL}/{deal.pk}/stage", move)
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_stage_transition")
    assert client.patch(f"{URL}/{deal.pk}", {"status": "draft"}).status_code == 409
    assert client.patch(f"{URL}/{deal.pk}", {"title": "Новое имя"}).status_code == 200
    assert client.post(f"{URL}/{deal.pk}/reopen", {}).status_code == 400
    reopened = client.post(f"{URL}/{deal.pk}/reopen", {"reason": "Передумал"})
    assert (reopened.status_code, reopened.json()["stage"]) == (200, "negotiation")
    again = client.post(f"{URL}/{deal.pk}/reopen", {"reason": "Ещё раз"})
    assert (again.status_code, again.json()["code"]) == (409, "invalid_stage_transition")


def test_executor_moves_between_open_stages_only(api: Any, deal: Deal, executor: User) -> None:
    assert api(executor).patch(f"{URL}/{deal.pk}/stage", {"stage": "proposal"}).status_code == 200
    assert api(executor).patch(f"{URL}/{deal.pk}/stage", {"stage": "closedWon"}).status_code == 403
    assert api(executor).patch(f"{URL}/{deal.pk}", {"is_deleted": True}).status_code == 403


def test_patch_that_changes_nothing_tells_nothing(api: Any, deal: Deal, seller: User) -> None:
    before = Event.objects.count()
    answer = api(seller).patch(f"{URL}/{deal.pk}", {"title": deal.title, "status": "draft"})
    assert (answer.status_code, answer.json()["version"]) == (200, Deal.objects.get(pk=deal.pk).version)
    assert Event.objects.count() == before


def test_null_review_date_is_refused(api: Any, deal: Deal, seller: User) -> None:
    assert api(seller).patch(f"{URL}/{deal.pk}", {"next_review_at": None}).status_code == 400


def test_if_match(api: Any, deal: Deal, seller: User, settings: Any) -> None:
    client, url = api(seller), f"{URL}/{deal.pk}"
    current = client.get(url)["ETag"]
    assert client.patch(url, {"title": "А"}, headers={"If-Match": current}).status_code == 200
    stale = client.patch(url, {"title": "Б"}, headers={"If-Match": current})
    assert (stale.status_code, stale.json()["code"]) == (412, "version_mismatch")
    assert stale["ETag"] == client.get(url)["ETag"]
    settings.STRICT_IF_MATCH = True
    assert client.patch(url, {"title": "В"}).status_code == 428
    assert client.patch(url, {"title": "В"}, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize("with_verb", ["DELETE", "PATCH"])
def test_deletion_takes_a_batch_and_restore_brings_exactly_it(
    api: Any, deal: Deal, calculation: Calculation, policy: Policy, seller: User, with_verb: str
) -> None:
    client = api(seller)
    earlier = policies.create_policy(
        values={"client_id": deal.client_id, "deal_id": deal.pk, "policy_number": "СТАРЫЙ 1"}, actor=seller
    )
    policies.delete_policy(policy_id=earlier.pk, actor=seller)
    if with_verb == "DELETE":
        assert client.delete(f"{URL}/{deal.pk}").status_code == 204
    else:
        answer = client.patch(f"{URL}/{deal.pk}", {"is_deleted": True})
        assert (answer.status_code, answer.json()["is_deleted"]) == (200, True)
    assert client.get(f"{URL}/{deal.pk}").status_code == 404
    assert client.get(f"/api/v1/policies/{policy.pk}").status_code == 404
    assert client.get(f"{URL}/{deal.pk}/journal").status_code == 404
    assert client.post(f"{URL}/{deal.pk}/restore").status_code == 200
    assert set(Policy.objects.living()) == {policy}
    assert set(Calculation.objects.living()) == {calculation}
    assert {"deal.deleted", "deal.restored", "policy.deleted", "policy.restored"} <= set(names(deal))


def test_restore_explains_a_taken_number(api: Any, deal: Deal, policy: Policy, deal_of: Any, seller: User) -> None:
    api(seller).delete(f"{URL}/{deal.pk}")
    other = deal_of(seller)
    policies.create_policy(
        values={"client_id": other.client_id, "deal_id": other.pk, "policy_number": "ххх0123"}, actor=seller
    )
    answer = api(seller).post(f"{URL}/{deal.pk}/restore")
    assert (answer.status_code, answer.json()["code"]) == (409, "policy_number_exists")
    assert Deal.objects.get(pk=deal.pk).is_deleted


def test_restore_is_for_owner_and_admin(api: Any, deal: Deal, seller: User, other_seller: User, admin: User) -> None:
    api(seller).delete(f"{URL}/{deal.pk}")
    assert api(other_seller).post(f"{URL}/{deal.pk}/restore").status_code == 404
    assert api(admin).post(f"{URL}/{deal.pk}/restore").status_code == 200


def test_owner_changes_hands_by_admin_only(api: Any, deal: Deal, seller: User, other_seller: User, admin: User) -> None:
    ignored = api(seller).patch(f"{URL}/{deal.pk}", {"owner_id": str(other_seller.pk)})
    assert ignored.json()["owner_id"] == str(seller.pk)
    assert api(admin).patch(f"{URL}/{deal.pk}", {"owner_id": str(uuid4())}).status_code == 404
    changed = api(admin).patch(f"{URL}/{deal.pk}", {"owner_id": str(other_seller.pk)})
    assert changed.json()["owner_id"] == str(other_seller.pk)
    assert api(seller).get(f"{URL}/{deal.pk}").status_code == 404
    assert api(other_seller).get(f"{URL}/{deal.pk}").status_code == 200


def test_history_has_actor_before_and_after(api: Any, deal: Deal, calculation: Calculation, seller: User) -> None:
    api(seller).patch(f"{URL}/{deal.pk}", {"title": "Октавия 2022"})
    entries = api(seller).get(f"{URL}/{deal.pk}/history").json()
    newest = entries[0]
    assert newest["actor"] == {"id": str(seller.pk), "email": seller.email}
    assert (newest["via"], newest["event"], newest["aggregate"]) == ("http", "deal.updated", "deal")
    assert newest["changes"] == [{"field": "title", "before": "Октавия 2021", "after": "Октавия 2022"}]
    assert "deal.calculation.created" in {each["event"] for each in entries}


def test_stage_metrics_match_the_list(api: Any, admin: User, seller: User, other_seller: User, deal_of: Any) -> None:
    assert [row["count"] for row in api(admin).get(f"{URL}/stage-metrics").json()] == [0, 0, 0, 0, 0]
    for owner, status in ((seller, "draft"), (seller, "won"), (other_seller, "won"), (other_seller, "lost")):
        deal_of(owner, status=status, title=f"Сделка {status}")
    shared = deal_of(other_seller, status="proposal", title="Общая")
    DealMember.objects.create(deal=shared, user=seller, role="observer", via="manual")
    queries: list[dict[str, Any]] = [
        {},
        {"stage": "closedWon"},
        {"manager": [str(seller.pk)]},
        {"manager": [str(other_seller.pk), "__NO_MANAGER__"]},
        {"period": "90d"},
        {"search": "сделка"},
    ]
    for user in (admin, seller, other_seller):
        for query in queries:
            rows = api(user).get(f"{URL}/stage-metrics", query).json()
            assert [row["stage"] for row in rows] == list(rules.STAGES)
            listed = api(user).get(URL, query).json()
            for row in rows:
                mine = [each for each in listed if each["stage"] == row["stage"]]
                assert row["count"] == len(mine), (user, query, row)
                assert row["conversion_rate"] == (len(mine) / len(listed) if listed else 0)
                assert row["total_value"] == "0.00"


def test_list_costs_the_same_for_10_and_200_rows(api: Any, seller: User, client_of: Any, deal_of: Any) -> None:
    owner: Client = client_of(seller)

    def cost() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert api_client.get(URL, {"limit": 200}).status_code == 200
        return len(captured)

    api_client = api(seller)
    for _ in range(10):
        deal_of(seller, client=owner)
    cost()  # the first request of a process also looks at the schema
    few = cost()
    Deal.objects.bulk_create(
        Deal(client=owner, owner=seller, title=str(n), next_review_at=date(2026, 5, 1), search_text="")
        for n in range(190)
    )
    DealMember.objects.bulk_create(
        DealMember(deal=each, user=seller, role="seller", via="owner") for each in Deal.objects.filter(members=None)
    )
    assert cost() == few == 1


def test_service_refuses_a_lost_deal_without_reason(deal: Deal, seller: User) -> None:
    with pytest.raises(deals.ReasonRequired):
        deals.change_stage(deal_id=deal.pk, stage="closedLost", actor=seller)
