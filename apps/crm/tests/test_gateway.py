"""The gateway face of crm: the same views with camelCase answers; both faces read both spellings."""

import re
from datetime import date
from typing import Any

import pytest

from apps.auth.models import User
from apps.crm.models import Calculation, Deal, DealMember, Policy
from apps.crm.services import deals, journal

pytestmark = pytest.mark.django_db

FACES = ["/api/v1", "/api/v1/crm"]
SNAKE = re.compile(r"[a-z0-9]_[a-z0-9]")


def keys(data: Any) -> set[str]:
    if isinstance(data, dict):
        return set(data) | {key for value in data.values() for key in keys(value)}
    return {key for each in data for key in keys(each)} if isinstance(data, list) else set()


@pytest.mark.parametrize(
    "path",
    [
        "/clients", "/clients/{client}", "/clients/{client}/history", "/deals", "/deals/{deal}", "/deals/stage-metrics",
        "/deals/{deal}/history", "/deals/{deal}/members", "/deals/{deal}/journal", "/deals/{deal}/calculations",
        "/deals/{deal}/calculations/{calculation}", "/policies", "/policies/{policy}", "/insurers", "/insurance-types",
        "/sales-channels",
    ],
)  # fmt: skip
def test_the_same_answer_in_camel_case(
    api: Any, deal: Deal, calculation: Calculation, policy: Policy, seller: User, path: str
) -> None:
    journal.append_entry(deal_id=deal.pk, body="А", actor=seller)
    filled = path.format(client=deal.client_id, deal=deal.pk, calculation=calculation.pk, policy=policy.pk)
    native, gateway = (api(seller).get(f"{face}{filled}") for face in FACES)
    slashed = api(seller).get(f"{FACES[1]}{filled}/")
    assert native.status_code == gateway.status_code == slashed.status_code == 200
    assert slashed.json() == gateway.json()
    assert not {key for key in keys(gateway.json()) if SNAKE.search(key)}
    assert not {key for key in keys(native.json()) if re.search("[A-Z]", key)}
    assert native.get("ETag") == gateway.get("ETag")

    def camel(name: str) -> str:
        return re.sub("_([a-z0-9])", lambda found: found[1].upper(), name)

    extra = {"content"} if path.endswith("journal") else set()
    assert keys(gateway.json()) - extra == {camel(key) for key in keys(native.json())}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("spelling", ["snake", "camel"])
def test_both_spellings_are_read(api: Any, seller: User, client_of: Any, face: str, spelling: str) -> None:
    client = str(client_of(seller).pk)
    sent = (
        {"client_id": client, "title": "А", "next_review_at": "2026-04-01"}
        if spelling == "snake"
        else {"clientId": client, "title": "А", "nextReviewAt": "2026-04-01"}
    )
    answer = api(seller).post(f"{face}/deals", sent)
    assert answer.status_code == 201
    body = {"validity_period": {"start": "2026-03-01"}, "insurance_company": "А", "calculation_date": "2026-03-01"}
    if spelling == "camel":
        body = {"validityPeriod": {"start": "2026-03-01"}, "insuranceCompany": "А", "calculationDate": "2026-03-01"}
    assert api(seller).post(f"{face}/deals/{answer.json()['id']}/calculations", body).status_code == 201


@pytest.mark.parametrize(("face", "field"), [(FACES[0], "next_review_at"), (FACES[1], "nextReviewAt")])
def test_conflicting_spellings(api: Any, deal: Deal, seller: User, face: str, field: str) -> None:
    body = {"next_review_at": "2026-04-01", "nextReviewAt": "2026-04-02"}
    answer = api(seller).patch(f"{face}/deals/{deal.pk}", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert [(each["field"], each["code"]) for each in answer.json()["errors"]] == [(field, "conflicting_spellings")]
    agreeing = {"next_review_at": "2026-04-02", "nextReviewAt": "2026-04-02"}
    assert api(seller).patch(f"{face}/deals/{deal.pk}", agreeing).status_code == 200


@pytest.mark.parametrize(("face", "field"), [(FACES[0], "client_id"), (FACES[1], "clientId")])
def test_conflicting_parameters(api: Any, deal: Deal, seller: User, face: str, field: str) -> None:
    answer = api(seller).get(f"{face}/deals?client_id={deal.client_id}&clientId={deal.pk}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_filters")
    assert answer.json()["errors"][0]["field"] == field
    same = api(seller).get(f"{face}/deals?client_id={deal.client_id}&clientId={deal.client_id}")
    assert len(same.json()) == 1


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", ["manager", "manager[]"])
def test_lists_of_parameters(api: Any, admin: User, deal: Deal, deal_of: Any, face: str, name: str) -> None:
    mine = deal_of(admin)
    found = api(admin).get(f"{face}/deals?{name}={deal.owner_id}&{name}=__NO_MANAGER__").json()
    assert {each["id"] for each in found} == {str(deal.pk), str(mine.pk)}


def test_errors_name_fields_as_the_face_spells_them(api: Any, deal: Deal, seller: User) -> None:
    for face, field in zip(FACES, ["calculation_date", "calculationDate"], strict=True):
        answer = api(seller).post(f"{face}/deals/{deal.pk}/calculations", {"insurance_company": "А"})
        assert answer["Content-Type"] == "application/problem+json"
        assert [each["field"] for each in answer.json()["errors"]] == [field]
        assert answer.json()["message"] == answer.json()["detail"]
        assert "trace_id" in answer.json()


def test_the_journal_speaks_of_content(api: Any, deal: Deal, seller: User) -> None:
    url = f"/deals/{deal.pk}/journal"
    for sent in ({"content": "Позвонил"}, {"body": "Позвонил"}):
        made = api(seller).post(FACES[1] + url, sent)
        assert made.status_code == 201
        assert (made.json()["content"], made.json()["body"]) == ("Позвонил", "Позвонил")
    assert {each["content"] for each in api(seller).get(FACES[1] + url).json()["items"]} == {"Позвонил"}
    assert api(seller).post(FACES[0] + url, {"content": "А"}).status_code == 400
    assert all("content" not in each for each in api(seller).get(FACES[0] + url).json()["items"])


def test_limits(api: Any, deal: Deal, seller: User) -> None:
    rows = Deal.objects.bulk_create(
        Deal(client_id=deal.client_id, owner=seller, title=str(n), next_review_at=date(2026, 5, 1), search_text="")
        for n in range(1000)
    )
    DealMember.objects.bulk_create(DealMember(deal=row, user=seller, role="seller", via="owner") for row in rows)
    native, gateway = (api(seller).get(f"{face}/deals") for face in FACES)
    assert (len(native.json()), len(gateway.json())) == (50, 1000)
    assert 'rel="next"' in gateway["Link"]
    assert "X-Total-Count" not in gateway
    assert api(seller).get(f"{FACES[1]}/deals?limit=1001").status_code == 400
    assert len(api(seller).get(f"{FACES[0]}/deals?limit=200").json()) == 200
    assert api(seller).get(f"{FACES[0]}/deals?limit=201").status_code == 400
    rest = api(seller).get(re.search("<(.*)>", gateway["Link"])[1])  # type: ignore[index]
    assert (len(rest.json()), "Link" in rest) == (1, False)


def test_a_cursor_is_of_its_list(api: Any, deal: Deal, seller: User, deal_of: Any) -> None:
    deal_of(seller)
    link = api(seller).get(f"{FACES[0]}/deals?limit=1")["Link"]
    cursor = re.search("cursor=([^>&]*)", link)[1]  # type: ignore[index]
    assert api(seller).get(f"{FACES[0]}/deals?cursor={cursor}").status_code == 200
    for other in ("deals?open=true&", "clients?", "policies?"):
        answer = api(seller).get(f"{FACES[0]}/{other}cursor={cursor}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_filters")


def test_idempotent_creation(api: Any, deal: Deal, seller: User) -> None:
    body = {"client_id": str(deal.client_id), "title": "А", "next_review_at": "2026-04-01"}
    key = {"Idempotency-Key": "one"}
    first, again = (api(seller).post(f"{FACES[1]}/deals", body, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code, again["Idempotency-Replayed"]) == (201, 201, "true")
    assert (first.json(), first["ETag"]) == (again.json(), again["ETag"])
    other = api(seller).post(f"{FACES[1]}/deals", {**body, "title": "Б"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert Deal.objects.count() == 2


def test_stage_of_a_deal_on_the_gateway(api: Any, deal: Deal, seller: User) -> None:
    answer = api(seller).patch(f"{FACES[1]}/deals/{deal.pk}", {"status": "closedLost"})
    assert (answer.status_code, answer.json()["stage"]) == (200, "closedLost")
    again = api(seller).patch(f"{FACES[1]}/deals/{deal.pk}/stage", {"stage": "proposal"})
    assert (again.status_code, again.json()["code"]) == (409, "invalid_stage_transition")
    deals.reopen_deal(deal_id=deal.pk, reason="А", actor=seller)
    native = api(seller).patch(f"{FACES[0]}/deals/{deal.pk}", {"status": "closedLost"})
    assert (native.status_code, native.json()["code"]) == (400, "reason_required")
