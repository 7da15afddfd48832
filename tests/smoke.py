"""Walks the main job over HTTP against a running installation: `python -m tests.smoke --base-url http://127.0.0.1:8080`.

Needs an administrator's sign-in (SMOKE_EMAIL, SMOKE_PASSWORD; the demo one unless told); makes people of every role for
itself and disables them at the end. Prints a line a step and `N passed, 0 failed`; the exit code says the same.
Standard library only: it runs beside any installation.
"""

import argparse
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

ROLES = ["ROLE_USER", "ROLE_SALES_AGENT", "ROLE_EXECUTOR", "ROLE_FINANCE_MANAGER", "ROLE_TEAM_LEAD", "ROLE_ADMIN"]
TIMEOUT = 15


@dataclass
class Answer:
    status: int
    headers: Any
    body: Any

    def __getitem__(self, key: str) -> Any:
        return self.body[key]


class Failed(Exception):
    """What was seen instead of what was expected."""


@dataclass
class Person:
    """Someone signed in; calls the API as a client would."""

    base_url: str
    token: str = ""
    refresh_token: str = ""
    id: str = ""

    def call(self, method: str, path: str, body: Any = None, expect: int = 200, **headers: str) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.base_url + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                answer = _answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            answer = _answer(error.code, error.headers, error.read())
        except OSError as error:
            raise Failed(f"{method} {path}: {error}") from None
        if answer.status != expect:
            raise Failed(f"{method} {path}: {answer.status}, not {expect}: {str(answer.body)[:300]}")
        return answer

    def get(self, path: str, expect: int = 200, **headers: str) -> Answer:
        return self.call("GET", path, None, expect, **headers)

    def post(self, path: str, body: Any = None, expect: int = 201, **headers: str) -> Answer:
        return self.call("POST", path, body or {}, expect, **headers)

    def patch(self, path: str, body: Any, expect: int = 200, **headers: str) -> Answer:
        return self.call("PATCH", path, body, expect, **headers)

    @contextmanager
    def listen(self, **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The events of the deals' stream, once it is open."""
        sent = {"Authorization": f"Bearer {self.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        request = urllib.request.Request(f"{self.base_url}/api/v1/streams/deals", headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                frames = _frames(response)
                equal(next(frames)["event"], "heartbeat")
                yield (each for each in frames if each["event"] != "heartbeat")
        except OSError as error:
            raise Failed(f"stream: {error}") from None


def _frames(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Server-sent events as {id, event, data}; :raises Failed: the stream has ended"""
    frame: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.decode().strip().partition(": ")
        if name:
            frame[name] = value
        elif "data" in frame:
            yield {"id": "", "event": "message", **frame, "data": json.loads(frame["data"])}
            frame = {}
    raise Failed("the stream has ended")


def _answer(status: int, headers: Any, raw: bytes) -> Answer:
    try:
        body = json.loads(raw) if raw else None
    except ValueError:
        body = raw.decode(errors="replace")
    return Answer(status, headers, body)


def equal(seen: Any, expected: Any) -> None:
    if seen != expected:
        raise Failed(f"{seen!r}, not {expected!r}")


def holds(condition: bool, seen: Any) -> None:
    if not condition:
        raise Failed(f"saw {str(seen)[:300]}")


@dataclass
class Walk:
    """The steps in order; a failed step does not hide the ones that can still run."""

    base_url: str
    email: str
    password: str
    passed: int = 0
    failed: int = 0
    people: dict[str, Person] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except (Failed, KeyError, TypeError, IndexError) as error:
            self.failed += 1
            print(f"FAIL  {title}: {error}")
        else:
            self.passed += 1
            print(f"ok    {title} ({(time.perf_counter() - started) * 1000:.0f} ms)")

    def sign_in(self, email: str, password: str) -> Person:
        person = Person(self.base_url)
        tokens = person.post("/api/v1/auth/token", {"email": email, "password": password}, 200)
        equal(tokens["tokenType"], "Bearer")
        person.token, person.refresh_token = tokens["accessToken"], tokens["refreshToken"]
        person.id = person.get("/api/v1/auth/me")["id"]
        return person

    def run(self) -> int:
        for stage in (
            self.alive,
            self.everyone,
            self.deal,
            self.offers,
            self.money,
            self.streams,
            self.rights,
            self.figures,
            self.leave,
        ):
            stage()
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0

    def alive(self) -> None:
        nobody = Person(self.base_url)
        with self.step("the process lives"):
            equal(nobody.get("/healthz").body, {"status": "ok"})
            equal(nobody.get("/readyz").body, {"status": "ready"})
        with self.step("everything it needs answers"):
            deadline = time.monotonic() + 30  # relay, worker and beat show themselves within seconds of their start
            while True:
                try:
                    equal(nobody.get("/api/v1/health")["status"], "ok")
                    break
                except Failed:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.5)
        with self.step("nobody enters without credentials"):
            equal(nobody.get("/api/v1/deals", 401)["code"], "authorization_required")

    def everyone(self) -> None:
        with self.step("the administrator signs in"):
            self.people["admin"] = self.sign_in(self.email, self.password)
        admin, mark = self.people["admin"], secrets.token_hex(4)
        for role in ROLES:
            with self.step(f"{role} signs in"):
                email, password = (
                    f"smoke-{mark}-{role[5:].lower().replace('_', '-')}@example.com",
                    secrets.token_urlsafe(16),
                )
                admin.post(
                    "/api/v1/users", {"email": email, "password": password, "roles": [role], "full_name": "Smoke"}
                )
                self.people[role] = self.sign_in(email, password)
                names = [each["name"] for each in self.people[role].get("/api/v1/auth/me")["roles"]]
                holds(role in names and "ROLE_USER" in names, names)
        with self.step("an access token is refreshed, the old refresh token is worth nothing"):
            seller = self.people["ROLE_SALES_AGENT"]
            old = seller.refresh_token
            tokens = seller.post("/api/v1/auth/refresh", {"refreshToken": old}, 200)
            seller.token, seller.refresh_token = tokens["accessToken"], tokens["refreshToken"]
            equal(
                Person(self.base_url).post("/api/v1/auth/refresh", {"refreshToken": old}, 401)["code"],
                "refresh_token_expired",
            )

    def deal(self) -> None:
        seller, executor = self.people["ROLE_SALES_AGENT"], self.people["ROLE_EXECUTOR"]
        with self.step("the seller opens a client"):
            body = {"name": "Ёлкина Анна (smoke)", "phone": "8 (912) 000-00-01", "email": "elkina@example.com"}
            client = seller.post("/api/v1/clients", body)
            equal((client["phone"], client["phone_e164"]), ("8 (912) 000-00-01", "+79120000001"))
            self.ids["client"] = client["id"]
        with self.step("the client is found by a part of the name and of the phone"):
            for text in ("%D0%B5%D0%BB%D0%BA%D0%B8%D0%BD%D0%B0", "912000"):
                found = [each["id"] for each in seller.get(f"/api/v1/clients?search={text}&limit=200").body]
                holds(self.ids["client"] in found, found)
        with self.step("the seller opens a deal, twice by one key, and it is one"):
            body = {
                "client_id": self.ids["client"],
                "title": "Octavia 2021 (smoke)",
                "next_review_at": str(date.today() + timedelta(days=3)),
            }
            key = str(uuid.uuid4())
            first = seller.post("/api/v1/deals", body, Idempotency_Key=key)
            again = seller.post("/api/v1/deals", body, Idempotency_Key=key)
            equal((again.body, again.headers["Idempotency-Replayed"]), (first.body, "true"))
            seller.post("/api/v1/deals", {**body, "title": "another"}, 422, Idempotency_Key=key)
            self.ids["deal"] = first["id"]
        with self.step("the executor joins the deal and sees it"):
            executor.get(f"/api/v1/deals/{self.ids['deal']}", 404)
            seller.post(f"/api/v1/deals/{self.ids['deal']}/members", {"user_id": executor.id, "role": "executor"})
            equal(executor.get(f"/api/v1/deals/{self.ids['deal']}")["stage"], "qualification")
        with self.step("the journal is written and read"):
            path = f"/api/v1/deals/{self.ids['deal']}/journal"
            seller.post(path, {"body": "Просит КАСКО без франшизы"})
            equal([each["body"] for each in executor.get(path)["items"]], ["Просит КАСКО без франшизы"])
        with self.step("a change by a stale version is refused"):
            path = f"/api/v1/deals/{self.ids['deal']}"
            tag = seller.get(path).headers["ETag"]
            seller.patch(path, {"description": "VIN будет позже"}, If_Match=tag)
            equal(seller.patch(path, {"description": "x"}, 412, If_Match=tag)["code"], "version_mismatch")

    def offers(self) -> None:
        seller, executor = self.people["ROLE_SALES_AGENT"], self.people["ROLE_EXECUTOR"]
        path = f"/api/v1/deals/{self.ids['deal']}/calculations"
        with self.step("the executor returns two calculations"):
            for name, company, premium in (
                ("a", "Первая страховая", "42000.00"),
                ("b", "Вторая страховая", "45500.50"),
            ):
                made = executor.post(
                    path,
                    {
                        "insurance_company": company,
                        "program_name": "КАСКО",
                        "premium_amount": premium,
                        "calculation_date": str(date.today()),
                        "validity_period": {"start": str(date.today()), "end": str(date.today() + timedelta(days=14))},
                        "files": ["offer.pdf"],
                    },
                )
                equal((made["status"], made["premium_amount"]), ("draft", premium))
                self.ids[f"calculation_{name}"] = made["id"]
                executor.post(f"{path}/{made['id']}/status", {"status": "ready"}, 200)
        with self.step("the seller enters the policy"):
            number = f"ХХХ {secrets.randbelow(10**10):010d}"
            body = {
                "client_id": self.ids["client"],
                "deal_id": self.ids["deal"],
                "policy_number": number,
                "status": "active",
                "premium": "42000.00",
                "effective_from": str(date.today()),
                "effective_to": str(date.today() + timedelta(days=364)),
            }
            policy = seller.post("/api/v1/policies", body)
            equal(policy["policy_number_key"], number.replace("ХХХ ", "XXX"))
            self.ids["policy"] = policy["id"]
            twin = seller.post("/api/v1/policies", {**body, "policy_number": number.replace(" ", "")}, 409)
            equal((twin["code"], twin["policy_id"]), ("policy_number_exists", policy["id"]))
        with self.step("the chosen calculation is confirmed and bound to the policy, the other archived"):
            executor.post(f"{path}/{self.ids['calculation_a']}/status", {"status": "confirmed"}, 403)
            body = {"status": "confirmed", "policy_id": self.ids["policy"]}
            chosen = seller.post(f"{path}/{self.ids['calculation_a']}/status", body, 200)
            equal((chosen["status"], chosen["linked_policy_id"]), ("confirmed", self.ids["policy"]))
            seller.post(f"{path}/{self.ids['calculation_b']}/status", {"status": "archived"}, 200)

    def money(self) -> None:
        seller = self.people["ROLE_SALES_AGENT"]
        path = f"/api/v1/deals/{self.ids['deal']}/policies/{self.ids['policy']}/payments"
        with self.step("two instalments are planned"):
            for amount, days in (("24000.00", 0), ("18000.00", 184)):
                body = {"planned_amount": amount, "planned_date": str(date.today() + timedelta(days=days))}
                made = seller.post(path, body)
                equal((made["status"], made["currency"]), ("scheduled", "RUB"))
                self.ids[f"payment_{made['sequence']}"] = made["id"]
        first = f"{path}/{self.ids.get('payment_1')}"
        today = str(date.today())
        with self.step("money comes in: in part, then whole"):
            seller.post(f"{first}/incomes", {"amount": "10000", "category": "premium", "posted_at": today})
            equal(seller.get(first)["status"], "partially_paid")
            seller.post(f"{first}/incomes", {"amount": "14000", "category": "premium", "posted_at": today})
            paid = seller.get(first)
            equal((paid["status"], paid["incomes_total"], paid["actual_date"]), ("paid", "24000.00", today))
        with self.step("an expense is recorded and the net follows"):
            seller.post(f"{first}/expenses", {"amount": "1200.50", "category": "partner_fee", "posted_at": today})
            equal(seller.get(first)["net_total"], "22799.50")
        with self.step("a paid payment is not deleted, nor is its deal"):
            equal(seller.call("DELETE", first, None, 409)["code"], "payment_has_transactions")
            blocked = seller.call("DELETE", f"/api/v1/deals/{self.ids['deal']}", None, 409)
            equal((blocked["code"], blocked["blockers"][0]["id"]), ("deletion_blocked", self.ids["payment_1"]))
        with self.step("money of tomorrow is refused"):
            body = {"amount": "1", "category": "premium", "posted_at": str(date.today() + timedelta(days=2))}
            equal(seller.post(f"{first}/incomes", body, 400)["code"], "posted_at_in_future")

    def streams(self) -> None:
        seller, colleague, path = (
            self.people["ROLE_SALES_AGENT"],
            self.people["ROLE_USER"],
            f"/api/v1/deals/{self.ids['deal']}",
        )
        last = ""
        title = "the stream tells the seller of his deal at once, a colleague of his own affairs only"
        with self.step(title), seller.listen() as mine, colleague.listen() as theirs:
            seller.patch(path, {"description": "VIN пришёл"})
            heard = next(mine)
            equal((heard["event"], heard["data"]["deal_id"]), ("deal.updated", self.ids["deal"]))
            last = heard["id"]
            own = {"name": "Клиент коллеги (smoke)", "owner_id": colleague.id}
            made = self.people["admin"].post("/api/v1/clients", own)
            heard = next(theirs)
            equal((heard["event"], heard["data"]["client_id"]), ("client.created", made["id"]))
        with self.step("a stream goes on where it broke off"):
            seller.post(f"{path}/journal", {"body": "Позвонил сам"})
            with seller.listen(Last_Event_ID=last) as again:
                equal(next(again)["data"]["body"], "Позвонил сам")

    def rights(self) -> None:
        path = f"/api/v1/deals/{self.ids['deal']}"
        with self.step("a colleague outside the deal sees nothing of it, those who see all do"):
            self.people["ROLE_USER"].get(path, 404)
            for role in ("ROLE_FINANCE_MANAGER", "ROLE_TEAM_LEAD", "ROLE_ADMIN"):
                self.people[role].get(path)
        with self.step("who only sees may not write"):
            self.people["ROLE_TEAM_LEAD"].patch(path, {"title": "x"}, 403)
            self.people["ROLE_EXECUTOR"].get("/api/v1/users", 403)

    def figures(self) -> None:
        seller = self.people["ROLE_SALES_AGENT"]
        with self.step("the deal moves and is won"):
            path = f"/api/v1/deals/{self.ids['deal']}/stage"
            seller.patch(path, {"stage": "proposal"})
            equal(seller.patch(path, {"stage": "closedWon"})["status"], "won")
            equal(seller.patch(path, {"stage": "proposal"}, 409)["code"], "invalid_stage_transition")
        with self.step("the figures of the stages count it"):
            rows = {row["stage"]: row for row in seller.get(f"/api/v1/deals/stage-metrics?manager={seller.id}").body}
            equal((rows["closedWon"]["count"], rows["closedWon"]["total_value"]), (1, "42000.00"))
        with self.step("the history tells all of it, with actors, before and after"):
            entries = seller.get(f"/api/v1/deals/{self.ids['deal']}/history?limit=200").body
            seen = {each["event"] for each in entries}
            wanted = {
                "deal.created", "deal.updated", "deal.stage.changed", "deal.member.added", "deal.journal.appended",
                "deal.calculation.created", "deal.calculation.status.confirmed", "policy.created",
                "deal.payment.created", "deal.payment.income.created", "deal.payment.expense.created",
            }  # fmt: skip
            holds(wanted <= seen, sorted(wanted - seen))
            won = next(each for each in entries if each["event"] == "deal.stage.changed")
            change = next(each for each in won["changes"] if each["field"] == "stage")
            equal((change["before"], change["after"], won["actor"]["id"]), ("proposal", "closedWon", seller.id))
        with self.step("the gateway face says the same in camelCase"):
            deal = seller.get(f"/api/v1/crm/deals/{self.ids['deal']}")
            equal((deal["clientId"], deal["stage"]), (self.ids["client"], "closedWon"))
        with self.step("the relay has numbered every event"):
            deadline = time.monotonic() + 10
            while (
                lag := self.people["admin"].get("/api/v1/health")["details"]["relay"]["lag"]
            ) and time.monotonic() < deadline:
                time.sleep(0.2)
            equal(lag, 0)

    def leave(self) -> None:
        with self.step("sign-out ends the session at once"):
            seller = self.people["ROLE_SALES_AGENT"]
            seller.post("/api/v1/auth/logout", {}, 204)
            equal(seller.get("/api/v1/auth/me", 401)["code"], "session_ended")
        with self.step("disabled people are out"):
            admin = self.people["admin"]
            for role in ROLES:
                admin.patch(f"/api/v1/users/{self.people[role].id}", {"enabled": False})
            self.people["ROLE_EXECUTOR"].get("/api/v1/auth/me", 401)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    email = os.environ.get("SMOKE_EMAIL", "anna.admin@example.com")
    password = os.environ.get("SMOKE_PASSWORD", "Passw0rd!")
    walk = Walk(options.base_url.rstrip("/"), email, password)
    try:
        return walk.run()
    except KeyError as missing:
        print(f"stopped: {missing} is missing, see the failed steps above")
        print(f"{walk.passed} passed, {walk.failed + 1} failed")
        return 1


if __name__ == "__main__":
    sys.exit(main())
