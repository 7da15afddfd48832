"""Clients: whose they are, what is kept beside what was typed, search, deletion and its blockers."""

from typing import Any
from uuid import uuid4

import pytest

from apps.auth.models import User
from apps.core.models import Event
from apps.crm.models import Client, Deal
from apps.crm.services import clients, deals, policies

pytestmark = pytest.mark.django_db

URL = "/api/v1/clients"


def found(api: Any, who: User, **query: Any) -> set[str]:
    answer = api(who).get(URL, query)
    assert answer.status_code == 200, answer.json()
    return {each["name"] for each in answer.json()}


def test_created_client_belongs_to_its_maker(api: Any, seller: User, other_seller: User) -> None:
    body = {"name": "  Ёлкина Анна ", "phone": " 8 (912) 000-00-01 ", "ownerId": str(other_seller.pk)}
    answer = api(seller).post(URL, body)
    assert (answer.status_code, answer["ETag"]) == (201, '"1"')
    made = answer.json()
    assert (made["name"], made["phone"], made["phone_e164"]) == ("Ёлкина Анна", "8 (912) 000-00-01", "+79120000001")
    assert (made["status"], made["owner_id"], made["is_deleted"]) == ("active", str(seller.pk), False)


def test_admin_names_the_owner_or_nobody(api: Any, admin: User, seller: User) -> None:
    named = api(admin).post(URL, {"name": "А", "owner_id": str(seller.pk)}).json()
    nobody = api(admin).post(URL, {"name": "Б"}).json()
    assert (named["owner_id"], nobody["owner_id"]) == (str(seller.pk), None)
    assert found(api, seller) == {"А"}
    assert found(api, admin) == {"А", "Б"}
    unknown = api(admin).post(URL, {"name": "В", "owner_id": str(uuid4())})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "user_not_found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": None}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "А", "email": "не адрес"}, "email"),
        ({"name": "А", "phone": "1" * 51}, "phone"),
        ({"name": "А", "status": "archived"}, "status"),
        ({"name": "А", "owner_id": "1"}, "owner_id"),
    ],
)
def test_bad_fields_are_named(api: Any, seller: User, body: dict[str, Any], field: str) -> None:
    answer = api(seller).post(URL, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert [each["field"] for each in answer.json()["errors"]] == [field]
    assert not Client.objects.exists()


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("8 912 000-00-01", "+79120000001"),
        ("+7 (912) 000 00 01", "+79120000001"),
        ("+44 20 7946 0018", "+442079460018"),
        ("спросить у жены", None),
        ("12", None),
        ("", None),
        (None, None),
    ],
)
def test_a_phone_is_never_refused(api: Any, seller: User, typed: str | None, number: str | None) -> None:
    answer = api(seller).post(URL, {"name": "А", "phone": typed})
    assert answer.status_code == 201
    assert (answer.json()["phone"], answer.json()["phone_e164"]) == (typed, number)


@pytest.mark.parametrize("status", ["active", "inactive", "prospect", "suspended"])
def test_statuses(api: Any, seller: User, status: str) -> None:
    assert api(seller).post(URL, {"name": status, "status": status}).json()["status"] == status
    api(seller).post(URL, {"name": "другой", "status": "prospect" if status != "prospect" else "active"})
    assert found(api, seller, status=status) == {status}


@pytest.mark.parametrize(
    "text", ["елкина", "ЁЛКИНА  анна", "9120000001", "8912", "+7 (912) 000", "anna@", "ANNA@MAIL.RU", "лкин"]
)
def test_search_finds_by_name_phone_and_email(api: Any, seller: User, client_of: Any, text: str) -> None:
    client_of(seller, "Ёлкина Анна", email="Anna@mail.ru")
    client_of(seller, "Петров", phone="8 913 555-44-33", email="p@mail.ru")
    assert found(api, seller, search=text) == {"Ёлкина Анна"}


@pytest.mark.parametrize("text", ["иванов", "99", "%", "_", "\\", "mail.com"])
def test_search_finds_nothing_by_accident(api: Any, seller: User, client_of: Any, text: str) -> None:
    client_of(seller, "Ёлкина Анна", email="anna@mail.ru")
    assert found(api, seller, search=text) == set()


def test_list_is_by_name_without_case_and_pages(api: Any, seller: User, client_of: Any) -> None:
    for name in ("яна", "Ёж", "анна", "Борис", "Елена"):
        client_of(seller, name)
    names = [each["name"] for each in api(seller).get(URL).json()]
    assert names == ["анна", "Борис", "Ёж", "Елена", "яна"]
    walked, url = [], f"{URL}?limit=2"
    while url:
        answer = api(seller).get(url)
        walked += [each["name"] for each in answer.json()]
        link = answer.get("Link", "")
        url = link[link.find("<") + 1 : link.find(">")] if link else ""
    assert walked == names


def test_patch_changes_what_is_given_and_its_twins(api: Any, seller: User, client_of: Any) -> None:
    made = client_of(seller, "Ёлкина Анна", email="anna@mail.ru")
    answer = api(seller).patch(f"{URL}/{made.pk}", {"phone": "8 913 555-44-33"})
    assert answer.status_code == 200
    assert answer.json()["phone_e164"] == "+79135554433"
    assert (answer.json()["email"], answer.json()["version"], answer["ETag"]) == ("anna@mail.ru", 2, '"2"')
    assert found(api, seller, search="9135554433") == {"Ёлкина Анна"}
    assert found(api, seller, search="9120000001") == set()
    same = api(seller).patch(f"{URL}/{made.pk}", {"phone": "8 913 555-44-33", "name": "Ёлкина Анна"})
    assert same.json()["version"] == 2
    assert Event.objects.filter(aggregate="client").count() == 2


def test_stale_version_is_refused(api: Any, seller: User, client_of: Any) -> None:
    made = client_of(seller)
    url = f"{URL}/{made.pk}"
    assert api(seller).patch(url, {"name": "Б"}, headers={"If-Match": '"1"'}).status_code == 200
    for verb in ("patch", "delete"):
        answer = getattr(api(seller), verb)(url, {"name": "В"}, headers={"If-Match": '"1"'})
        assert (answer.status_code, answer.json()["code"], answer["ETag"]) == (412, "version_mismatch", '"2"')


@pytest.mark.parametrize(
    ("who", "status"),
    [("admin", 200), ("seller", 200), ("executor", 403), ("other_seller", 403), ("stranger", 404), ("reader", 403)],
)
def test_who_may_change(api: Any, deal: Deal, who: str, status: int, request: Any) -> None:
    """The executor and the other seller see the client through the deal, and are not its owner."""
    other_seller = request.getfixturevalue("other_seller")
    deal.members.create(user=other_seller, role="seller", via="manual")
    answer = api(request.getfixturevalue(who)).patch(f"{URL}/{deal.client_id}", {"name": "Новое имя"})
    assert answer.status_code == status


@pytest.mark.parametrize(("who", "status"), [("executor", 403), ("reader", 403), ("seller", 201), ("admin", 201)])
def test_who_may_create(api: Any, who: str, status: int, request: Any) -> None:
    assert api(request.getfixturevalue(who)).post(URL, {"name": "А"}).status_code == status


def test_only_an_admin_gives_a_client_away(api: Any, admin: User, seller: User, other_seller: User, client_of: Any):
    made = client_of(seller)
    kept = api(seller).patch(f"{URL}/{made.pk}", {"owner_id": str(other_seller.pk)})
    assert kept.json()["owner_id"] == str(seller.pk)
    given = api(admin).patch(f"{URL}/{made.pk}", {"owner_id": str(other_seller.pk)})
    assert given.json()["owner_id"] == str(other_seller.pk)
    assert api(seller).get(f"{URL}/{made.pk}").status_code == 404
    assert api(admin).patch(f"{URL}/{made.pk}", {"owner_id": None}).json()["owner_id"] is None
    assert api(other_seller).get(f"{URL}/{made.pk}").status_code == 404


@pytest.mark.parametrize("verb", ["DELETE", "PATCH"])
def test_deleted_and_restored(api: Any, seller: User, client_of: Any, verb: str) -> None:
    made = client_of(seller)
    url = f"{URL}/{made.pk}"
    if verb == "DELETE":
        assert api(seller).delete(url).status_code == 204
    else:
        assert api(seller).patch(url, {"is_deleted": True}).json()["is_deleted"] is True
    assert api(seller).get(url).status_code == 404
    assert found(api, seller) == set()
    assert api(seller).delete(url).status_code == 404
    restored = api(seller).post(f"{url}/restore")
    assert (restored.status_code, restored.json()["is_deleted"]) == (200, False)
    assert found(api, seller) == {made.name}
    assert api(seller).post(f"{url}/restore").json()["version"] == restored.json()["version"]


def test_restore_is_for_owner_and_admin(
    api: Any, seller: User, other_seller: User, admin: User, client_of: Any
) -> None:
    made = client_of(seller)
    clients.delete_client(client_id=made.pk, actor=seller)
    assert api(other_seller).post(f"{URL}/{made.pk}/restore").status_code == 404
    assert api(admin).post(f"{URL}/{made.pk}/restore").status_code == 200


def test_living_deals_and_policies_forbid_deletion_and_are_named(
    api: Any, deal: Deal, seller: User, admin: User, other_seller: User, deal_of: Any
) -> None:
    client = Client.objects.get(pk=deal.client_id)
    foreign = deal_of(admin, client=client, title="Чужая")
    loose = policies.create_policy(values={"client_id": client.pk, "policy_number": "ОСАГО 1"}, actor=seller)
    answer = api(seller).delete(f"{URL}/{client.pk}")
    assert (answer.status_code, answer.json()["code"]) == (409, "deletion_blocked")
    blockers = {(each["type"], each["id"], each["label"], each["reason"]) for each in answer.json()["blockers"]}
    assert blockers == {
        ("deal", str(deal.pk), deal.title, "living_deal"),
        ("deal", None, "***", "living_deal"),
        ("policy", str(loose.pk), "ОСАГО 1", "living_policy"),
    }
    for each in (deal, foreign):
        deals.delete_deal(deal_id=each.pk, actor=admin)
    policies.delete_policy(policy_id=loose.pk, actor=seller)
    assert api(seller).delete(f"{URL}/{client.pk}").status_code == 204


def test_history_shows_who_and_what(api: Any, seller: User, executor: User, deal: Deal) -> None:
    url = f"{URL}/{deal.client_id}"
    api(seller).patch(url, {"name": "Ёлкина Анна Петровна"})
    newest, first = api(seller).get(f"{url}/history").json()
    assert (newest["event"], first["event"]) == ("client.updated", "client.created")
    assert newest["actor"] == {"id": str(seller.pk), "email": seller.email}
    assert newest["changes"] == [{"field": "name", "before": "Ёлкина Анна", "after": "Ёлкина Анна Петровна"}]
    assert api(executor).get(f"{url}/history").status_code == 200


def test_history_of_an_invisible_client_is_not_there(api: Any, seller: User, stranger: User, client_of: Any) -> None:
    for pk in (client_of(seller).pk, uuid4()):
        answer = api(stranger).get(f"{URL}/{pk}/history")
        assert (answer.status_code, answer.json()["code"]) == (404, "client_not_found")
