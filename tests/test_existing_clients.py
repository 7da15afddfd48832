"""The shapes that the web and the desktop client send and read, through the gateway face, each with its own tokens.

A field may be added; one that goes or changes its spelling breaks a client that is installed.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
import time_machine
from rest_framework.test import APIClient

from apps.auth.models import User
from apps.payments.tests.factory import NOON
from conftest import PASSWORD

pytestmark = pytest.mark.django_db
CRM = "/api/v1/crm"
TODAY = date(2026, 3, 10)

CLIENT = {"id", "name", "email", "phone", "status", "ownerId", "isDeleted", "createdAt", "updatedAt"}
DEAL = {
    "id", "clientId", "ownerId", "title", "description", "status", "stage", "nextReviewAt", "isDeleted", "createdAt",
    "updatedAt",
}  # fmt: skip
CALCULATION = {
    "id", "dealId", "ownerId", "insuranceCompany", "programName", "premiumAmount", "coverageSum", "calculationDate",
    "validityPeriod", "files", "comments", "status", "linkedPolicyId", "createdAt", "updatedAt",
}  # fmt: skip
POLICY = {
    "id", "clientId", "dealId", "policyNumber", "status", "premium", "effectiveFrom", "effectiveTo", "ownerId",
    "calculationId", "isDeleted", "createdAt", "updatedAt",
}  # fmt: skip
PAYMENT = {
    "id", "dealId", "policyId", "sequence", "status", "plannedDate", "plannedAmount", "currency", "comment",
    "actualDate", "recordedById", "createdById", "updatedById", "incomesTotal", "expensesTotal", "netTotal",
    "isDeleted", "createdAt", "updatedAt", "incomes", "expenses",
}  # fmt: skip
OPERATION = {
    "id", "paymentId", "amount", "currency", "category", "postedAt", "note", "createdById", "updatedById", "isDeleted",
    "createdAt", "updatedAt",
}  # fmt: skip
METRIC = {"stage", "count", "totalValue", "conversionRate", "avgCycleDurationDays"}
JOURNAL = {"id", "dealId", "authorId", "body", "content", "createdAt"}
USER = {"id", "email", "enabled", "roles", "createdAt", "updatedAt"}
PAIR = {"tokenType", "accessToken", "expiresIn", "refreshToken", "refreshExpiresIn"}
PROBLEM = {"type", "title", "status", "code", "detail", "message", "trace_id"}


@pytest.fixture(autouse=True)
def noon() -> Iterator[None]:
    with time_machine.travel(NOON, tick=True):
        yield


class Program:
    """A client program: signs in, keeps its pair of tokens, speaks JSON."""

    def __init__(self, user: User) -> None:
        self.http = APIClient()
        self.pair = self.http.post("/api/v1/auth/token", {"email": user.email, "password": PASSWORD}).json()
        self._carry()

    def _carry(self) -> None:
        self.http.credentials(HTTP_AUTHORIZATION=f"Bearer {self.pair['accessToken']}")

    def refresh(self) -> Any:
        answer = self.http.post("/api/v1/auth/refresh", {"refreshToken": self.pair["refreshToken"]})
        self.pair = answer.json()
        self._carry()
        return answer

    def send(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = getattr(self.http, method)(f"{CRM}{path}", body)
        assert answer.status_code == status, answer.content
        return answer.json() if answer.content else None


@pytest.fixture
def web(seller: User) -> Program:
    return Program(seller)


def shaped(data: Any, fields: set[str]) -> Any:
    """The data, which has at least these fields."""
    assert fields <= set(data), fields - set(data)
    return data


@pytest.fixture
def made(web: Program) -> dict[str, Any]:
    """A client, deal, policy and payment as the web client makes them."""
    client = web.send("post", "/clients", {"name": "Ёлкина Анна", "phone": "8 912 000-00-01"}, 201)
    deal = web.send(
        "post", "/deals", {"clientId": client["id"], "title": "Octavia 2021", "nextReviewAt": "2026-04-01"}, 201
    )
    policy = web.send(
        "post", "/policies", {"clientId": client["id"], "dealId": deal["id"], "policyNumber": "ХХХ 0123"}, 201
    )
    money = f"/deals/{deal['id']}/policies/{policy['id']}/payments"
    payment = web.send("post", money, {"plannedAmount": "1000", "currency": "RUB", "plannedDate": "2026-03-20"}, 201)
    return {"client": client, "deal": deal, "policy": policy, "payment": payment, "money": money}


class TestSignIn:
    def test_the_pair_and_its_owner(self, web: Program, seller: User) -> None:
        shaped(web.pair, PAIR)
        assert (web.pair["tokenType"], web.pair["expiresIn"], web.pair["refreshExpiresIn"]) == ("Bearer", 900, 604800)
        me = shaped(web.http.get("/api/v1/auth/me").json(), USER)
        assert me["email"] == seller.email
        assert [role["name"] for role in me["roles"]] == ["ROLE_SALES_AGENT", "ROLE_USER"]

    def test_a_refresh_gives_a_new_pair_never_an_empty_one(self, web: Program) -> None:
        before = dict(web.pair)
        assert web.refresh().status_code == 200
        assert shaped(web.pair, PAIR)["refreshToken"] not in ("", before["refreshToken"])
        web.send("get", "/deals")

    def test_what_makes_it_drop_its_tokens(self, web: Program) -> None:
        """401 and 403 drop them; 429 and 5xx keep them, and are tried again."""
        web.http.post("/api/v1/auth/logout")
        answer = web.http.get(f"{CRM}/deals")
        assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
        shaped(answer.json(), PROBLEM)

    def test_too_many_wrong_passwords_are_to_be_tried_later(self, seller: User) -> None:
        http = APIClient()
        codes = [
            http.post("/api/v1/auth/token", {"email": seller.email, "password": "wrong"}).status_code for _ in range(8)
        ]
        assert codes[0] == 401
        assert codes[-1] == 429
        last = http.post("/api/v1/auth/token", {"email": seller.email, "password": "wrong"})
        assert int(last["Retry-After"]) > 0


class TestWebClient:
    """camelCase both ways; lists whole, without paging."""

    def test_shapes(self, web: Program, made: dict[str, Any]) -> None:
        shaped(made["client"], CLIENT)
        shaped(made["deal"], DEAL)
        shaped(made["policy"], POLICY)
        shaped(made["payment"], PAYMENT)
        for path, fields in (("/clients", CLIENT), ("/deals", DEAL), ("/policies", POLICY)):
            found = web.send("get", path)
            assert isinstance(found, list)
            shaped(found[0], fields)
            shaped(web.send("get", f"{path}/{found[0]['id']}/"), fields)

    def test_deals_by_stage_and_manager(self, web: Program, made: dict[str, Any], seller: User) -> None:
        query = f"stage=qualification&manager[]={seller.pk}&manager[]=__NO_MANAGER__&period=30d&search=octavia"
        assert [deal["id"] for deal in web.send("get", f"/deals?{query}")] == [made["deal"]["id"]]
        assert len(web.send("get", "/deals?stage=all")) == 1
        metrics = web.send("get", f"/deals/stage-metrics?{query}")
        assert [shaped(row, METRIC)["stage"] for row in metrics] == [
            "qualification", "negotiation", "proposal", "closedWon", "closedLost",
        ]  # fmt: skip
        assert metrics[0]["count"] == 1

    @pytest.mark.parametrize("written", ["closedWon", "closed-won", "closed_won", "won"])
    def test_a_stage_is_written_in_any_spelling(self, web: Program, made: dict[str, Any], written: str) -> None:
        deal = web.send("patch", f"/deals/{made['deal']['id']}", {"status": written})
        assert (deal["status"], deal["stage"]) == ("won", "closedWon")

    def test_the_journal(self, web: Program, made: dict[str, Any]) -> None:
        path = f"/deals/{made['deal']['id']}/journal"
        shaped(web.send("post", path, {"content": "Позвонила"}, 201), JOURNAL)
        page = web.send("get", path)
        assert (page["total"], shaped(page["items"][0], JOURNAL)["content"]) == (1, "Позвонила")

    def test_calculations(self, web: Program, made: dict[str, Any]) -> None:
        path = f"/deals/{made['deal']['id']}/calculations"
        body = {
            "insuranceCompany": "РЕСО", "programName": "КАСКО", "premiumAmount": 42000.5, "coverageSum": "1500000",
            "calculationDate": "2026-03-10", "validityPeriod": {"start": "2026-03-10", "end": "2026-03-31"},
            "files": ["offer.pdf"], "comments": "",
        }  # fmt: skip
        one = shaped(web.send("post", path, body, 201), CALCULATION)
        assert one["validityPeriod"] == {"start": "2026-03-10", "end": "2026-03-31"}
        web.send("post", f"{path}/{one['id']}/status", {"status": "ready"})
        bound = web.send(
            "post", f"{path}/{one['id']}/status", {"status": "confirmed", "policyId": made["policy"]["id"]}
        )
        assert (bound["status"], bound["linkedPolicyId"]) == ("confirmed", made["policy"]["id"])
        assert [each["id"] for each in web.send("get", f"{path}?status[]=confirmed&status[]=draft")] == [one["id"]]

    def test_payments_and_their_money(self, web: Program, made: dict[str, Any]) -> None:
        one = f"{made['money']}/{made['payment']['id']}"
        income = {"amount": 400, "currency": "RUB", "category": "premium", "postedAt": str(TODAY), "note": "аванс"}
        shaped(web.send("post", f"{one}/incomes", income, 201), OPERATION)
        shaped(web.send("post", f"{one}/expenses", {**income, "amount": "50.5"}, 201), OPERATION)
        page = web.send("get", f"{made['money']}?include[]=incomes&include[]=expenses&status[]=partially_paid")
        payment = shaped(page["items"][0], PAYMENT)
        assert page["total"] == 1
        assert (payment["incomesTotal"], payment["expensesTotal"], payment["netTotal"]) == ("400.00", "50.50", "349.50")
        shaped(payment["incomes"][0], OPERATION)
        for ignored in ("scheduled", "paid", "overdue", "pending"):
            assert web.send("patch", one, {"status": ignored})["status"] == "partially_paid"

    def test_drop_downs(self, web: Program, seller: User) -> None:
        people = web.send("get", "/users")
        assert {"id", "email", "fullName", "roles"} <= set(people[0])
        for path in ("/insurers", "/insurance-types", "/sales-channels"):
            assert isinstance(web.send("get", path), list)

    def test_a_fault_names_its_field(self, web: Program, made: dict[str, Any]) -> None:
        fault = web.send("post", "/deals", {"clientId": made["client"]["id"], "title": "А"}, 400)
        shaped(fault, PROBLEM | {"errors"})
        assert (fault["code"], fault["errors"][0]["field"]) == ("validation_error", "nextReviewAt")
        assert fault["message"] == fault["detail"]


class TestDesktopClient:
    """snake_case bodies on the same addresses; it deletes by PATCH and tries 429 and 5xx again."""

    def test_snake_case_bodies(self, web: Program) -> None:
        client = web.send("post", "/clients/", {"name": "Иванов", "phone": None, "email": "ivanov@example.com"}, 201)
        review = str(TODAY + timedelta(days=7))
        deal = web.send("post", "/deals/", {"client_id": client["id"], "title": "Дача", "next_review_at": review}, 201)
        assert (deal["clientId"], deal["nextReviewAt"]) == (client["id"], review)
        changed = web.send("patch", f"/deals/{deal['id']}/", {"next_review_at": "2026-05-01"})
        assert changed["nextReviewAt"] == "2026-05-01"

    @pytest.mark.parametrize("spelling", ["is_deleted", "isDeleted"])
    def test_it_deletes_by_patch(self, web: Program, made: dict[str, Any], spelling: str) -> None:
        for kind in ("policy", "deal", "client"):
            path = f"/{'policies' if kind == 'policy' else kind + 's'}"
            gone = web.send("patch", f"{path}/{made[kind]['id']}", {spelling: True})
            assert gone["isDeleted"] is True
            assert web.send("get", path) == []
            missing = web.send("get", f"{path}/{made[kind]['id']}", status=404)
            assert missing["code"] == f"{kind}_not_found"

    def test_a_repeat_after_a_lost_answer_makes_nothing_twice(self, web: Program, made: dict[str, Any]) -> None:
        body = {"name": "Петров"}
        answers = [web.http.post(f"{CRM}/clients", body, headers={"Idempotency-Key": "desktop-1"}) for _ in range(3)]
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert len(web.send("get", "/clients?search=петров")) == 1
