"""Calculations: the offers of insurers, their path to a policy."""

from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from django.db.backends.postgresql.psycopg_any import DateRange

from apps.auth.models import User
from apps.core.models import Event
from apps.crm.models import Calculation, Deal, Insurer, Policy
from apps.crm.services import calculations, catalogs, deals, members, policies

pytestmark = pytest.mark.django_db

WHOLE = {
    "insurance_company": "РЕСО", "program_name": "КАСКО", "premium_amount": "24000", "coverage_sum": "1500000.5",
    "calculation_date": "2026-03-01", "validity_period": {"start": "2026-03-01", "end": "2026-03-31"},
    "files": ["offer.pdf"], "comments": "Франшиза 20 000",
}  # fmt: skip


def url(deal: Deal, row: Any = None, *rest: str) -> str:
    parts = [f"/api/v1/deals/{deal.pk}/calculations", *([str(getattr(row, "pk", row))] if row else []), *rest]
    return "/".join(parts)


@pytest.fixture
def ready(api: Any, deal: Deal, executor: User) -> Calculation:
    """Everything filled in by the executor, and ready."""
    made = api(executor).post(url(deal), WHOLE).json()
    assert api(executor).post(url(deal, made["id"], "status"), {"status": "ready"}).status_code == 200
    return Calculation.objects.get(pk=made["id"])


@pytest.fixture
def confirmed(ready: Calculation, policy: Policy, seller: User) -> Calculation:
    ids: dict[str, Any] = {"deal_id": ready.deal_id, "calculation_id": ready.pk}
    return calculations.change_status(**ids, status="confirmed", policy_id=policy.pk, actor=seller)


def test_created_as_a_draft(api: Any, deal: Deal, executor: User, seller: User) -> None:
    answer = api(executor).post(url(deal), {**WHOLE, "owner_id": str(seller.pk), "status": "confirmed"})
    assert (answer.status_code, answer["ETag"]) == (201, '"1"')
    made = answer.json()
    assert (made["status"], made["owner_id"], made["linked_policy_id"]) == ("draft", str(executor.pk), None)
    assert (made["premium_amount"], made["coverage_sum"]) == ("24000.00", "1500000.50")
    assert made["validity_period"] == {"start": "2026-03-01", "end": "2026-03-31"}
    assert (made["files"], made["deal_id"]) == (["offer.pdf"], str(deal.pk))
    assert api(executor).get(url(deal, made["id"])).json() == made


def test_least_of_it(api: Any, deal: Deal, executor: User) -> None:
    made = api(executor).post(url(deal), {"insurance_company": "РЕСО", "calculation_date": "2026-03-01"}).json()
    assert (made["files"], made["premium_amount"], made["validity_period"]) == ([], None, None)


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"insurance_company": None}, "insurance_company", "null"),
        ({"insurance_company": ""}, "insurance_company", "blank"),
        ({"insurance_company": "x" * 256}, "insurance_company", "max_length"),
        ({"program_name": "x" * 256}, "program_name", "max_length"),
        ({"premium_amount": "0"}, "premium_amount", "must_be_positive"),
        ({"premium_amount": "-1"}, "premium_amount", "must_be_positive"),
        ({"coverage_sum": 0}, "coverage_sum", "must_be_positive"),
        ({"premium_amount": "1.001"}, "premium_amount", "max_decimal_places"),
        ({"premium_amount": True}, "premium_amount", "invalid"),
        ({"premium_amount": "NaN"}, "premium_amount", "invalid"),
        ({"premium_amount": "1" * 13}, "premium_amount", "max_whole_digits"),
        ({"calculation_date": None}, "calculation_date", "null"),
        ({"calculation_date": "1999-12-31"}, "calculation_date", "out_of_range"),
        ({"validity_period": {"start": "2026-03-02", "end": "2026-03-01"}}, "validity_period.end", "end_before_start"),
        ({"validity_period": {"start": "сегодня"}}, "validity_period.start", "invalid"),
        ({"validity_period": "2026"}, "validity_period", "invalid"),
        ({"files": "offer.pdf"}, "files", "not_a_list"),
        ({"files": [1, []]}, "files.1", "invalid"),
        ({"comments": "x" * 2001}, "comments", "max_length"),
    ],
)
def test_bad_fields_are_named(
    api: Any, deal: Deal, executor: User, calculation: Calculation, body: dict[str, Any], field: str, code: str
) -> None:
    for answer in (api(executor).post(url(deal), {**WHOLE, **body}), api(executor).patch(url(deal, calculation), body)):
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
        assert [(each["field"], each["code"]) for each in answer.json()["errors"]] == [(field, code)]
    assert Calculation.objects.count() == 1


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (DateRange(date(2024, 1, 1), date(2024, 1, 11)), {"start": "2024-01-01", "end": "2024-01-10"}),
        (DateRange(date(2024, 1, 1), date(2024, 1, 10), "[]"), {"start": "2024-01-01", "end": "2024-01-10"}),
        (DateRange(date(2024, 1, 1), None), {"start": "2024-01-01", "end": None}),
        (DateRange(None, date(2024, 1, 11), "()"), {"start": None, "end": "2024-01-10"}),
        (None, None),
    ],
)
def test_the_period_reads_with_its_last_day(
    api: Any, deal: Deal, executor: User, calculation: Calculation, stored: Any, shown: Any
) -> None:
    Calculation.objects.filter(pk=calculation.pk).update(validity_period=stored)
    assert api(executor).get(url(deal, calculation)).json()["validity_period"] == shown
    same = api(executor).patch(url(deal, calculation), {"validity_period": shown})
    assert same.json()["version"] == calculation.version


@pytest.mark.parametrize("sent", [None, {}, {"start": None, "end": None}])
def test_a_null_period_clears(api: Any, deal: Deal, ready: Calculation, executor: User, sent: Any) -> None:
    answer = api(executor).patch(url(deal, ready), {"validity_period": sent})
    assert (answer.status_code, answer.json()["validity_period"]) == (200, None)
    changes = api(executor).get(f"/api/v1/deals/{deal.pk}/history").json()[0]["changes"]
    before = {"start": "2026-03-01", "end": "2026-03-31"}
    assert changes == [{"field": "validity_period", "before": before, "after": None}]


def test_patch_keeps_what_is_absent(api: Any, deal: Deal, ready: Calculation, executor: User) -> None:
    answer = api(executor).patch(url(deal, ready), {"premium_amount": "25000.5"}).json()
    assert (answer["premium_amount"], answer["program_name"], answer["files"]) == ("25000.50", "КАСКО", ["offer.pdf"])
    again = api(executor).patch(url(deal, ready), {"premium_amount": "25000.50", "files": ["offer.pdf"]}).json()
    assert again["version"] == answer["version"] == ready.version + 1


def test_versions(api: Any, deal: Deal, ready: Calculation, executor: User, seller: User) -> None:
    stale = {"If-Match": '"1"'}
    for answer in (
        api(executor).patch(url(deal, ready), {"comments": "А"}, headers=stale),
        api(executor).post(url(deal, ready, "status"), {"status": "archived"}, headers=stale),
        api(seller).delete(url(deal, ready), headers=stale),
    ):
        assert (answer.status_code, answer["ETag"]) == (412, f'"{ready.version}"')


@pytest.mark.parametrize(
    ("lacks", "code"),
    [
        ({"files": []}, "files_required_for_ready"),
        ({"program_name": None}, "program_required_for_ready"),
        ({"program_name": ""}, "program_required_for_ready"),
        ({"premium_amount": None}, "premium_required_for_ready"),
        ({"validity_period": None}, "validity_period_required_for_ready"),
        ({"validity_period": {"start": "2026-03-01"}}, "validity_period_required_for_ready"),
        ({"validity_period": {"end": "2026-03-31"}}, "validity_period_required_for_ready"),
    ],
)
def test_ready_needs_everything(api: Any, deal: Deal, executor: User, lacks: dict[str, Any], code: str) -> None:
    made = api(executor).post(url(deal), {**WHOLE, **lacks}).json()
    answer = api(executor).post(url(deal, made["id"], "status"), {"status": "ready"})
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert Calculation.objects.get(pk=made["id"]).status == "draft"


@pytest.mark.parametrize("now", ["draft", "ready", "confirmed", "archived"])
@pytest.mark.parametrize("wanted", ["ready", "confirmed", "archived"])
def test_moves(api: Any, deal: Deal, seller: User, now: str, wanted: str) -> None:
    made = api(seller).post(url(deal), WHOLE).json()
    for step in {
        "draft": [],
        "ready": ["ready"],
        "confirmed": ["ready", "confirmed"],
        "archived": ["ready", "archived"],
    }[now]:
        assert api(seller).post(url(deal, made["id"], "status"), {"status": step}).status_code == 200
    answer = api(seller).post(url(deal, made["id"], "status"), {"status": wanted})
    if (now, wanted) in {
        ("draft", "ready"), ("ready", "confirmed"), ("ready", "archived"), ("confirmed", "archived")
    }:  # fmt: skip
        assert (answer.status_code, answer.json()["status"]) == (200, wanted)
    else:
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_status_transition")


@pytest.mark.parametrize("status", ["draft", "won", None, ""])
def test_unknown_target_status(api: Any, deal: Deal, ready: Calculation, seller: User, status: Any) -> None:
    answer = api(seller).post(url(deal, ready, "status"), {"status": status})
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")


def test_confirmed_binds_a_policy_of_the_deal(
    api: Any, deal: Deal, ready: Calculation, policy: Policy, seller: User
) -> None:
    answer = api(seller).post(url(deal, ready, "status"), {"status": "confirmed", "policy_id": str(policy.pk)})
    assert (answer.status_code, answer.json()["linked_policy_id"]) == (200, str(policy.pk))
    read = api(seller).get(f"/api/v1/policies/{policy.pk}").json()
    assert (read["calculation_id"], read["version"]) == (str(ready.pk), policy.version + 1)


def test_confirmed_without_a_policy(api: Any, deal: Deal, ready: Calculation, seller: User) -> None:
    answer = api(seller).post(url(deal, ready, "status"), {"status": "confirmed"})
    assert (answer.status_code, answer.json()["linked_policy_id"]) == (200, None)


def test_confirming_is_the_sellers(api: Any, deal: Deal, ready: Calculation, executor: User) -> None:
    assert api(executor).post(url(deal, ready, "status"), {"status": "confirmed"}).status_code == 403


def test_a_policy_of_elsewhere_is_not_found(
    api: Any, deal: Deal, ready: Calculation, policy: Policy, seller: User, deal_of: Callable[..., Deal]
) -> None:
    other = deal_of(seller)
    values = {"client_id": other.client_id, "deal_id": other.pk, "policy_number": "ДРУГОЙ 1"}
    elsewhere = policies.create_policy(values=values, actor=seller)
    policies.delete_policy(policy_id=policy.pk, actor=seller)
    for policy_id in (uuid4(), elsewhere.pk, policy.pk):
        answer = api(seller).post(url(deal, ready, "status"), {"status": "confirmed", "policy_id": str(policy_id)})
        assert (answer.status_code, answer.json()["code"]) == (400, "policy_not_found")
    assert Calculation.objects.get(pk=ready.pk).status == "ready"


def test_a_policy_comes_of_one_calculation(
    api: Any, deal: Deal, confirmed: Calculation, policy: Policy, seller: User
) -> None:
    other = api(seller).post(url(deal), WHOLE).json()["id"]
    api(seller).post(url(deal, other, "status"), {"status": "ready"})
    answer = api(seller).post(url(deal, other, "status"), {"status": "confirmed", "policy_id": str(policy.pk)})
    assert (answer.status_code, answer.json()["code"]) == (400, "policy_already_linked")


@pytest.mark.parametrize("ending", ["archived", "deleted"])
def test_the_policy_is_unbound_at_the_end(
    api: Any, deal: Deal, confirmed: Calculation, policy: Policy, seller: User, ending: str
) -> None:
    if ending == "archived":
        answer = api(seller).post(url(deal, confirmed, "status"), {"status": "archived"})
        assert (answer.status_code, answer.json()["linked_policy_id"]) == (200, None)
    else:
        assert api(seller).delete(url(deal, confirmed)).status_code == 204
    assert api(seller).get(f"/api/v1/policies/{policy.pk}").json()["calculation_id"] is None
    told = Event.objects.filter(name="policy.updated").order_by("-version").first()
    assert told is not None
    assert told.changes == {"calculation_id": [str(confirmed.pk), None]}


def test_a_deleted_policy_is_not_shown_as_linked(
    api: Any, deal: Deal, confirmed: Calculation, policy: Policy, seller: User
) -> None:
    policies.delete_policy(policy_id=policy.pk, actor=seller)
    assert api(seller).get(url(deal, confirmed)).json()["linked_policy_id"] is None
    policies.restore_policy(policy_id=policy.pk, actor=seller)
    assert api(seller).get(url(deal, confirmed)).json()["linked_policy_id"] == str(policy.pk)


@pytest.mark.parametrize("path", [["confirmed"], ["archived"], ["confirmed", "archived"]])
def test_frozen(api: Any, deal: Deal, ready: Calculation, seller: User, path: list[str]) -> None:
    for step in path:
        assert api(seller).post(url(deal, ready, "status"), {"status": step}).status_code == 200
    answer = api(seller).patch(url(deal, ready), {"comments": "А"})
    assert (answer.status_code, answer.json()["code"]) == (400, "calculation_update_forbidden")


@pytest.mark.parametrize(
    ("who", "author", "status"),
    [
        ("executor", "executor", 204),
        ("executor", "seller", 403),
        ("seller", "executor", 204),
        ("other_seller", "executor", 204),
        ("admin", "executor", 204),
        ("stranger", "executor", 404),
        ("reader", "executor", 403),
    ],
)
def test_who_may_delete(api: Any, deal: Deal, who: str, author: str, status: int, request: Any) -> None:
    """Its author, the deal's sellers, admins; `other_seller` is a seller of the deal by hand."""
    owner = request.getfixturevalue("seller")
    other = request.getfixturevalue("other_seller")
    members.add_member(deal=deal, user_id=other.pk, role="seller", actor=owner)
    made = api(request.getfixturevalue(author)).post(url(deal), WHOLE).json()["id"]
    person = request.getfixturevalue(who)
    assert api(person).delete(url(deal, made)).status_code == status
    assert api(owner).get(url(deal, made)).status_code == (404 if status == 204 else 200)


def test_deleted_is_gone(api: Any, deal: Deal, calculation: Calculation, seller: User) -> None:
    assert api(seller).delete(url(deal, calculation)).status_code == 204
    assert api(seller).get(url(deal)).json() == []
    for answer in (
        api(seller).get(url(deal, calculation)),
        api(seller).patch(url(deal, calculation), {}),
        api(seller).delete(url(deal, calculation)),
        api(seller).post(url(deal, calculation, "status"), {"status": "ready"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "calculation_not_found")


def test_a_calculation_lives_in_its_deal(
    api: Any, calculation: Calculation, seller: User, deal_of: Callable[..., Deal]
) -> None:
    answer = api(seller).get(url(deal_of(seller), calculation))
    assert (answer.status_code, answer.json()["code"]) == (404, "calculation_not_found")


def test_no_calculations_in_an_unknown_or_deleted_deal(api: Any, deal: Deal, seller: User, stranger: User) -> None:
    assert api(stranger).get(url(deal)).json()["code"] == "deal_not_found"
    deals.delete_deal(deal_id=deal.pk, actor=seller)
    for answer in (api(seller).get(url(deal)), api(seller).post(url(deal), WHOLE)):
        assert (answer.status_code, answer.json()["code"]) == (404, "deal_not_found")


def test_filters_and_order(api: Any, deal: Deal, seller: User) -> None:
    ids = {}
    for company, day in (("РЕСО-Гарантия", "2026-03-01"), ("Ёж-Полис", "2026-03-10"), ("ресо", "2026-03-20")):
        body = {**WHOLE, "insurance_company": company, "calculation_date": day}
        ids[company] = api(seller).post(url(deal), body).json()["id"]
    api(seller).post(url(deal, ids["РЕСО-Гарантия"], "status"), {"status": "ready"})

    def found(query: str = "") -> list[str]:
        answer = api(seller).get(f"{url(deal)}?{query}")
        assert answer.status_code == 200, answer.json()
        return [each["insurance_company"] for each in answer.json()]

    assert found() == ["РЕСО-Гарантия", "ресо", "Ёж-Полис"]
    assert found("status[]=draft") == ["ресо", "Ёж-Полис"]
    assert found("status=draft&status=ready") == ["РЕСО-Гарантия", "ресо", "Ёж-Полис"]
    assert found("insurance_company=РЕСО") == ["РЕСО-Гарантия", "ресо"]
    assert found("insuranceCompany=еж") == ["Ёж-Полис"]
    assert found("calculation_date_from=2026-03-10") == ["ресо", "Ёж-Полис"]
    assert found("calculation_date_to=2026-03-10") == ["РЕСО-Гарантия", "Ёж-Полис"]
    assert found("calculationDateFrom=2026-03-10&calculationDateTo=2026-03-10") == ["Ёж-Полис"]


@pytest.mark.parametrize("query", ["status=won", "insurance_company=", "calculation_date_from=x", "sort=x"])
def test_unknown_filters_are_refused(api: Any, deal: Deal, seller: User, query: str) -> None:
    answer = api(seller).get(f"{url(deal)}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_filters")


def test_text_of_the_catalog_names_the_insurer(api: Any, deal: Deal, executor: User, admin: User) -> None:
    reso = catalogs.create_entry(Insurer, values={"name": "РЕСО-Гарантия", "aliases": ["Ресо"]}, actor=admin)
    for text, insurer in (("  ресо ", str(reso.pk)), ("РЕСО-гарантия", str(reso.pk)), ("Ресо Гарантия", None)):
        made = api(executor).post(url(deal), {**WHOLE, "insurance_company": text}).json()
        assert (made["insurance_company"], made["insurer_id"]) == (text.strip(), insurer)
    changed = api(executor).patch(url(deal, made["id"]), {"insurance_company": "РЕСО"}).json()
    assert changed["insurer_id"] == str(reso.pk)
    assert api(executor).patch(url(deal, made["id"]), {"insurance_company": "Другая"}).json()["insurer_id"] is None
