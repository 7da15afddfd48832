"""Garbage gets a 4xx problem document, changes nothing, and is never a 500."""

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.auth.models import User
from apps.core.models import Event
from apps.crm.models import Client, Deal, Policy
from apps.crm.services import clients, deals, policies

pytestmark = pytest.mark.django_db
ABSENT = "0a8e8a1c-6a52-4c0e-9d5e-2f6d1f0c7e11"
FACES = ["/api/v1", "/api/v1/crm"]


@pytest.fixture
def office(seller: User) -> dict[str, Any]:
    client = clients.create_client(values={"name": "Ёлкина Анна"}, actor=seller)
    deal = deals.create_deal(client_id=client.pk, title="КАСКО", next_review_at="2026-04-01", actor=seller)
    policy = policies.create_policy(
        values={"client_id": client.pk, "deal_id": deal.pk, "policy_number": "XXX 1"}, actor=seller
    )
    return {"client": client.pk, "deal": deal.pk, "policy": policy.pk}


def is_refused(answer: Any) -> None:
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.content[:300])
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert {"type", "title", "status", "code", "detail", "message", "trace_id"} <= set(body)
    assert body["status"] == answer.status_code
    assert body["message"] == body["detail"]


def stored() -> tuple[int, ...]:
    return tuple(model.objects.count() for model in (Client, Deal, Policy, Event))


BODIES: list[tuple[str, bytes]] = [
    ("not json", b"{"),
    ("empty word", b"nope"),
    ("array", b"[]"),
    ("number", b"1"),
    ("null", b"null"),
    ("bad utf-8", b'{"name":"\xff\xfe"}'),
    ("nul byte", b'{"name":"a\\u0000b","title":"a\\u0000b","policy_number":"a\\u0000b","body":"a\\u0000b"}'),
    ("raw nul", b'{"name":"a\x00b"}'),
    ("lone surrogate", b'{"name":"\\ud800","title":"\\ud800"}'),
    ("deep", b'{"name":' + b"[" * 200 + b"]" * 200 + b"}"),
    ("very deep", b"[" * 100_000),
    ("nan", b'{"name":NaN}'),
    ("huge number", b'{"name":1e999,"title":1e999,"premium":1e999}'),
    (
        "wrong types",
        b'{"name":{"a":1},"title":[1],"body":{},"client_id":[],"status":{},"policy_number":true,"amount":[]}',
    ),
    ("conflicting spellings", b'{"clientId":"1","client_id":"2","nextReviewAt":"a","next_review_at":"b","x":1}'),
    ("sql", b'{"name":"\'; DROP TABLE crm_deal; --","client_id":"\' OR 1=1","title":5,"policy_number":[]}'),
]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("path", ["deals", "policies", "deals/{deal}/journal", "deals/{deal}/calculations",
                                  "deals/{deal}/policies/{policy}/payments"])  # fmt: skip
@pytest.mark.parametrize(("_name", "body"), BODIES, ids=[name for name, _ in BODIES])
def test_bodies(
    api: Callable[..., APIClient], seller: User, office: dict[str, Any], face: str, path: str, _name: str, body: bytes
) -> None:
    before = stored()
    answer = api(seller).generic("POST", f"{face}/{path.format(**office)}", body, content_type="application/json")
    is_refused(answer)
    assert stored() == before


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 10 * 1024 * 1024])
def test_large_body_is_413_before_it_is_read(api: Callable[..., APIClient], seller: User, size: int) -> None:
    answer = api(seller).generic("POST", "/api/v1/clients", b'{"name":"' + b"x" * size, content_type="application/json")
    is_refused(answer)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "nonsense"]
)
def test_other_content_types_are_415(api: Callable[..., APIClient], seller: User, content_type: str) -> None:
    answer = api(seller).generic("POST", "/api/v1/clients", b"name=x", content_type=content_type)
    is_refused(answer)
    assert answer.json()["code"] == "unsupported_media_type"


@pytest.mark.parametrize("url", [
    "/api/v1/deals/not-a-uuid", "/api/v1/deals/00000000-0000-0000-0000-00000000000g", "/api/v1/nothing",
    "/api/v1/deals/%00", "/api/v1/crm/deals/%F0%9F%92%A9", "/api/v1/clients/../../etc/passwd",
    f"/api/v1/deals/{ABSENT}", f"/api/v1/clients/{ABSENT}", f"/api/v1/policies/{ABSENT}", f"/api/v1/insurers/{ABSENT}",
    f"/api/v1/deals/{ABSENT}/journal", f"/api/v1/deals/{ABSENT}/members", f"/api/v1/deals/{ABSENT}/calculations",
    f"/api/v1/deals/{ABSENT}/history", f"/api/v1/deals/{ABSENT}/policies/{ABSENT}/payments",
])  # fmt: skip
def test_absent_and_bad_addresses_are_404(api: Callable[..., APIClient], seller: User, url: str) -> None:
    answer = api(seller).get(url)
    is_refused(answer)
    assert answer.status_code == 404


QUERIES = [
    "unknown=1", "limit=abc", "limit=-1", "limit=99999999999999999999", "offset=-1", "cursor=%00", "cursor=////",
    "cursor=bnVsbA", "search=%00", "count=maybe", "limit=1&limit=2", "stage=%F0%9F%92%A9", "manager[]=x",
    "period=1e9", "clientId=1&client_id=2", "status[]=nope&x=y",
]  # fmt: skip


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("path", ["deals", "deals/stage-metrics", "clients", "policies", "insurers",
                                  "deals/{deal}/journal", "deals/{deal}/calculations", "deals/{deal}/history",
                                  "deals/{deal}/policies/{policy}/payments"])  # fmt: skip
def test_filters(
    api: Callable[..., APIClient], seller: User, office: dict[str, Any], face: str, path: str, query: str
) -> None:
    answer = api(seller).get(f"{face}/{path.format(**office)}?{query}")
    is_refused(answer)
    assert answer.json()["code"] == "invalid_filters"


@pytest.mark.parametrize("method", ["PUT", "TRACE", "OPTIONS", "PATCH"])
def test_other_methods_are_405(api: Callable[..., APIClient], seller: User, method: str) -> None:
    answer = api(seller).generic(method, "/api/v1/deals")
    is_refused(answer)
    assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("key", ["", " ", "ключ", "x" * 256, "a b"])
def test_bad_idempotency_keys(api: Callable[..., APIClient], seller: User, key: str) -> None:
    answer = api(seller).post(
        "/api/v1/clients", {"name": "А"}, headers={"Idempotency-Key": key.encode().decode("latin-1")}
    )
    is_refused(answer)
    assert not Client.objects.exists()


@pytest.mark.parametrize("tag", ['"abc"', "5", '"5', "W/x", '"-1"', '"99999999999999999999"'])
def test_unreadable_tags_match_nothing(
    api: Callable[..., APIClient], seller: User, office: dict[str, Any], tag: str
) -> None:
    answer = api(seller).patch(f"/api/v1/deals/{office['deal']}", {"title": "Б"}, headers={"If-Match": tag})
    is_refused(answer)
    assert answer.status_code == 412


@pytest.mark.parametrize("day", ["0000-00-00", "0001-01-01", "1999-12-31", "2101-01-01", "9999-12-31", "2026-02-30",
                                 "10000-01-01", "-1", 20260401, True, "2026-13-01T00:00:00Z", "∞"])  # fmt: skip
def test_absurd_dates(api: Callable[..., APIClient], seller: User, office: dict[str, Any], day: Any) -> None:
    is_refused(api(seller).patch(f"/api/v1/deals/{office['deal']}", {"next_review_at": day}))
    is_refused(api(seller).patch(f"/api/v1/policies/{office['policy']}", {"effective_to": day}))
