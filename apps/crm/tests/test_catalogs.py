"""Catalogs: read by all, written by admins; a name or an alias means one entry."""

from typing import Any
from uuid import uuid4

import pytest

from apps.auth.models import User
from apps.core.models import Event
from apps.crm.models import Insurer
from apps.crm.services import catalogs

pytestmark = pytest.mark.django_db

ROUTES = ["insurers", "insurance-types", "sales-channels"]
URL = "/api/v1/insurers"


@pytest.mark.parametrize("name", ROUTES)
def test_written_by_admins_and_read_by_all(api: Any, admin: User, reader: User, name: str) -> None:
    url = f"/api/v1/{name}"
    answer = api(admin).post(url, {"name": " РЕСО ", "code": "reso", "aliases": ["Ресо-Гарантия"]})
    assert (answer.status_code, answer["ETag"]) == (201, '"1"')
    made = answer.json()
    assert made == {
        "id": made["id"], "name": "РЕСО", "code": "reso", "aliases": ["Ресо-Гарантия"], "is_active": True, "version": 1,
    }  # fmt: skip
    assert api(reader).get(url).json() == [made]
    assert api(reader).get(f"{url}/{made['id']}").json() == made
    changed = api(admin).patch(f"{url}/{made['id']}", {"is_active": False})
    assert (changed.json()["is_active"], changed["ETag"]) == (False, '"2"')
    assert api(reader).get(url, {"is_active": "true"}).json() == []


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("who", ["seller", "executor", "reader"])
def test_nobody_else_writes(api: Any, admin: User, name: str, who: str, request: Any) -> None:
    url = f"/api/v1/{name}"
    made = api(admin).post(url, {"name": "А"}).json()
    person = request.getfixturevalue(who)
    assert api(person).post(url, {"name": "Б"}).status_code == 403
    assert api(person).patch(f"{url}/{made['id']}", {"name": "Б"}).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {"name": "ресо"},
        {"name": " РЕСО  "},
        {"name": "ресо-гарантия"},
        {"name": "Другая", "aliases": ["РЕСО"]},
        {"name": "Другая", "aliases": ["третья", "ресо-ГАРАНТИЯ"]},
    ],
)
def test_a_name_or_alias_means_one_entry(api: Any, admin: User, body: dict[str, Any]) -> None:
    api(admin).post(URL, {"name": "РЕСО", "aliases": ["Ресо-Гарантия"]})
    for answer in (
        api(admin).post(URL, body),
        api(admin).patch(f"{URL}/{api(admin).post(URL, {'name': 'Своя'}).json()['id']}", body),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "catalog_name_exists")


def test_an_entry_does_not_stand_in_its_own_way(api: Any, admin: User) -> None:
    made = api(admin).post(URL, {"name": "РЕСО", "aliases": ["Ресо-Гарантия"]}).json()
    answer = api(admin).patch(f"{URL}/{made['id']}", {"name": "Ресо", "aliases": ["РЕСО", "ресо-гарантия"]})
    assert answer.status_code == 200
    same = api(admin).patch(f"{URL}/{made['id']}", {"name": "Ресо"})
    assert same.json()["version"] == answer.json()["version"] == 2
    assert Event.objects.filter(aggregate="insurer").count() == 2


def test_catalogs_do_not_disturb_each_other(api: Any, admin: User) -> None:
    for name in ROUTES:
        assert api(admin).post(f"/api/v1/{name}", {"name": "Партнёр"}).status_code == 201


def test_order_is_by_name(api: Any, admin: User) -> None:
    for name in ("ёж", "Анна", "борис", "Елена"):
        api(admin).post(URL, {"name": name})
    assert [each["name"] for each in api(admin).get(URL).json()] == ["Анна", "борис", "ёж", "Елена"]


@pytest.mark.parametrize("text", ["ресо", "РЕСО", " Ресо  гарантия", "ЁЖ", "еж"])
def test_text_means_its_entry(admin: User, text: str) -> None:
    made = catalogs.create_entry(Insurer, values={"name": "РЕСО", "aliases": ["Ресо Гарантия", "Ёж"]}, actor=admin)
    assert catalogs.meant(Insurer, text) == made


@pytest.mark.parametrize("text", ["рес", "ресо гарант", ""])
def test_part_of_a_name_means_nothing(admin: User, text: str) -> None:
    catalogs.create_entry(Insurer, values={"name": "РЕСО", "aliases": ["Ресо Гарантия"]}, actor=admin)
    assert catalogs.meant(Insurer, text) is None


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "x" * 256}, {"name": "А", "aliases": "Б"}, {"name": "А", "aliases": [""]}]
)
def test_bad_fields(api: Any, admin: User, body: dict[str, Any]) -> None:
    answer = api(admin).post(URL, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")


def test_unknown_entry_and_stale_version(api: Any, admin: User) -> None:
    for verb in ("get", "patch"):
        answer = getattr(api(admin), verb)(f"{URL}/{uuid4()}")
        assert (answer.status_code, answer.json()["code"]) == (404, "catalog_entry_not_found")
    made = api(admin).post(URL, {"name": "А"}).json()
    stale = api(admin).patch(f"{URL}/{made['id']}", {"name": "Б"}, headers={"If-Match": '"7"'})
    assert (stale.status_code, stale["ETag"]) == (412, '"1"')
