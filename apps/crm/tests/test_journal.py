"""The journal: appended, read in order, never changed."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from apps.auth.models import User
from apps.core.models import Event
from apps.crm.models import Deal, JournalEntry
from apps.crm.services import deals, journal

pytestmark = pytest.mark.django_db


def url(deal: Deal | UUID) -> str:
    return f"/api/v1/deals/{getattr(deal, 'pk', deal)}/journal"


def test_entries_in_the_order_of_writing(api: Any, deal: Deal, seller: User, executor: User) -> None:
    first = api(seller).post(url(deal), {"body": "  Позвонил  "})
    assert first.status_code == 201
    assert set(first.json()) == {"id", "deal_id", "author_id", "body", "created_at"}
    assert (first.json()["body"], first.json()["author_id"]) == ("Позвонил", str(seller.pk))
    api(executor).post(url(deal), {"body": "Посчитал"})
    answer = api(executor).get(url(deal)).json()
    assert [each["body"] for each in answer["items"]] == ["Позвонил", "Посчитал"]
    assert answer["total"] == 2


def test_pages_keep_the_total(api: Any, deal: Deal, seller: User) -> None:
    for n in range(5):
        journal.append_entry(deal_id=deal.pk, body=str(n), actor=seller)
    by_offset = api(seller).get(url(deal), {"limit": 2, "offset": 2})
    assert [each["body"] for each in by_offset.json()["items"]] == ["2", "3"]
    assert by_offset.json()["total"] == 5
    walked, address = [], f"{url(deal)}?limit=2"
    while address:
        answer = api(seller).get(address)
        walked += [each["body"] for each in answer.json()["items"]]
        link = answer.get("Link", "")
        address = link[link.find("<") + 1 : link.find(">")] if link else ""
    assert walked == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("query", [{"limit": "201"}, {"limit": "0"}, {"offset": "-1"}, {"author": "x"}])
def test_unknown_filters_are_refused(api: Any, deal: Deal, seller: User, query: dict[str, str]) -> None:
    answer = api(seller).get(url(deal), query)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_filters")


@pytest.mark.parametrize(
    "body", [{}, {"body": ""}, {"body": "  "}, {"body": "x" * 5001}, {"body": None}, {"body": True}, {"body": ["А"]}]
)
def test_bad_entries(api: Any, deal: Deal, seller: User, body: dict[str, Any]) -> None:
    answer = api(seller).post(url(deal), body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "body")
    assert not JournalEntry.objects.exists()


def test_longest_entry(api: Any, deal: Deal, seller: User) -> None:
    assert api(seller).post(url(deal), {"body": "ё" * 5000}).status_code == 201


def test_author_counts_from_an_admin_only(api: Any, deal: Deal, admin: User, seller: User, executor: User) -> None:
    body = {"body": "А", "author_id": str(executor.pk)}
    assert api(seller).post(url(deal), body).json()["author_id"] == str(seller.pk)
    assert api(admin).post(url(deal), body).json()["author_id"] == str(executor.pk)
    nobody = {"body": "А", "author_id": str(UUID(int=0))}
    assert api(admin).post(url(deal), nobody).json()["author_id"] == str(admin.pk)
    assert api(admin).post(url(deal), {"body": "А", "author_id": str(uuid4())}).status_code == 404


@pytest.mark.parametrize(
    ("who", "reads", "writes"),
    [("admin", 200, 201), ("seller", 200, 201), ("executor", 200, 201), ("stranger", 404, 404), ("reader", 404, 403)],
)
def test_who_may(api: Any, deal: Deal, who: str, reads: int, writes: int, request: Any) -> None:
    person = request.getfixturevalue(who)
    assert api(person).get(url(deal)).status_code == reads
    assert api(person).post(url(deal), {"body": "А"}).status_code == writes


def test_unknown_and_deleted_deals_have_no_journal(api: Any, deal: Deal, seller: User) -> None:
    deals.delete_deal(deal_id=deal.pk, actor=seller)
    for each in (deal, uuid4()):
        for answer in (api(seller).get(url(each)), api(seller).post(url(each), {"body": "А"})):
            assert (answer.status_code, answer.json()["code"]) == (404, "deal_not_found")


def test_an_entry_raises_no_version_and_stands_in_the_history(api: Any, deal: Deal, seller: User) -> None:
    api(seller).post(url(deal), {"body": "Позвонил"})
    assert Deal.objects.get(pk=deal.pk).version == deal.version
    newest = api(seller).get(f"/api/v1/deals/{deal.pk}/history").json()[0]
    assert (newest["event"], newest["aggregate"]) == ("deal.journal.appended", "journal")
    assert newest["changes"] == [{"field": "body", "before": None, "after": "Позвонил"}]
    assert Event.objects.get(name="deal.journal.appended").version == 1


@pytest.mark.parametrize("verb", ["put", "patch", "delete"])
def test_entries_are_never_changed(api: Any, deal: Deal, seller: User, verb: str) -> None:
    entry = journal.append_entry(deal_id=deal.pk, body="А", actor=seller)
    assert getattr(api(seller), verb)(url(deal)).status_code == 405
    assert getattr(api(seller), verb)(f"{url(deal)}/{entry.pk}").status_code == 404
