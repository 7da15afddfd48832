"""The role table against the running API: every operation, every person, every object, on both faces."""

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from django.db import transaction
from django.db.backends.postgresql.psycopg_any import DateRange
from django.utils import timezone
from rest_framework.test import APIClient

from apps.auth.models import User
from apps.auth.services import people, service_tokens, sessions
from apps.crm.models import InsuranceType, Insurer, SalesChannel
from apps.crm.services import calculations, catalogs, clients, deals, members, policies
from apps.payments.services import operations, payments
from conftest import PASSWORD, new_user
from tests.role_table import NOBODY, OBJECTS, OK, TABLE

pytestmark = pytest.mark.xdist_group("role table")
API_FILES = Path(__file__).resolve().parents[1] / "docs" / "api"
PEOPLE = ("anonymous", "disabled", "seller", "other_seller", "executor", "observer", "reader", "admin")


def operations_of(name: str) -> dict[str, tuple[str, str]]:
    paths = yaml.safe_load((API_FILES / f"{name}.yaml").read_text(encoding="utf-8"))["paths"]
    return {
        each["operationId"]: (method.upper(), path) for path, item in paths.items() for method, each in item.items()
    }


NATIVE, GATEWAY = operations_of("openapi"), operations_of("gateway")


def test_every_operation_has_a_row_and_every_row_an_operation() -> None:
    assert set(TABLE) == set(NATIVE)


def test_the_gateway_has_no_operation_of_its_own() -> None:
    native = set(NATIVE.values())
    for method, path in GATEWAY.values():
        same = "/api/v1/users/assignable" if path == "/api/v1/crm/users" else path.replace("/api/v1/crm/", "/api/v1/")
        assert (method, same) in native, f"{method} {path}"


def test_the_table_is_large_enough() -> None:
    assert len(TABLE) * len(PEOPLE) * len(OBJECTS) >= 1500


class World:
    """Two sellers' deals, a deleted one, and the ids of everything in them."""

    def __init__(self, cast: dict[str, User]) -> None:
        self.cast = cast
        admin = cast["admin"]
        token, _ = service_tokens.create_service_token(name="t", scopes=["clients.edit"], expires_at=None, actor=admin)
        entries = {
            "insurers": catalogs.create_entry(Insurer, values={"name": "Первая"}, actor=admin).pk,
            "insurance-types": catalogs.create_entry(InsuranceType, values={"name": "КАСКО"}, actor=admin).pk,
            "sales-channels": catalogs.create_entry(SalesChannel, values={"name": "Офис"}, actor=admin).pk,
        }
        common = {**entries, "users": cast["colleague"].pk, "service-tokens": token.pk, "role": "ROLE_EXECUTOR"}
        self.objects: dict[str, dict[str, Any]] = {
            "ours": {**common, **self._deal(cast["seller"], "1", team=True)},
            "theirs": {**common, **self._deal(cast["other_seller"], "2")},
            "deleted": {**common, **self._deal(cast["seller"], "3", money=False)},
            "absent": dict.fromkeys([*common, "deals", "clients", "policies", "payments", "incomes", "expenses",
                                     "calculations", "members"], uuid4()) | {"role": "ROLE_EXECUTOR"},
        }  # fmt: skip
        gone = self.objects["deleted"]
        deals.delete_deal(deal_id=gone["deals"], actor=cast["seller"])
        clients.delete_client(client_id=gone["clients"], actor=cast["seller"])

    def _deal(self, owner: User, mark: str, *, team: bool = False, money: bool = True) -> dict[str, UUID]:
        client = clients.create_client(values={"name": f"Клиент {mark}"}, actor=owner)
        deal = deals.create_deal(client_id=client.pk, title=mark, next_review_at=date(2026, 4, 1), actor=owner)
        executor = self.cast["executor"]
        if team:
            for name, role in (("executor", "executor"), ("observer", "observer")):
                members.add_member(deal=deal, user_id=self.cast[name].pk, role=role, actor=owner)
        else:
            members.add_member(deal=deal, user_id=self.cast["former"].pk, role="observer", actor=owner)
        values = {
            "insurance_company": "Первая", "program_name": "П", "premium_amount": 1, "files": ["a.pdf"],
            "calculation_date": date(2026, 3, 1),
            "validity_period": DateRange(date(2026, 3, 1), date(2026, 3, 31)),
        }  # fmt: skip
        calculation = calculations.create_calculation(deal_id=deal.pk, values=values, actor=executor if team else owner)
        policy = policies.create_policy(
            values={"client_id": client.pk, "deal_id": deal.pk, "policy_number": f"П {mark}"},
            actor=executor if team else owner,
        )
        ids = {"deal_id": deal.pk, "policy_id": policy.pk}
        payment = payments.create_payment(**ids, values={"planned_amount": 100}, actor=owner)
        found = {"deals": deal.pk, "clients": client.pk, "policies": policy.pk, "payments": payment.pk}
        found |= {"calculations": calculation.pk, "members": self.cast["executor" if team else "former"].pk}
        if money:
            entry = {"amount": 1, "category": "x", "posted_at": date(2026, 1, 1)}
            for kind, record in (("incomes", operations.record_income), ("expenses", operations.record_expense)):
                found[kind] = record(**ids, payment_id=payment.pk, values=entry, actor=owner).pk
        else:
            found |= {"incomes": uuid4(), "expenses": uuid4()}
        return found

    def url(self, path: str, which: str) -> str:
        """The path with each placeholder filled by the object of the collection before it."""
        known = self.objects[which]
        parts = path.split("/")
        for index, part in enumerate(parts):
            if part.startswith("{"):
                parts[index] = str(known["role"] if part == "{role}" else known[parts[index - 1]])
        return "/".join(parts)

    def body(self, body: dict[str, Any] | None, which: str) -> dict[str, Any] | None:
        known = self.objects[which]
        words = {
            "{client}": known["clients"],
            "{deal}": known["deals"],
            "{colleague}": self.cast["colleague"].pk,
            "{someone}": f"{uuid4().hex}@example.com",
        }
        return (
            {key: str(words.get(value, value)) if isinstance(value, str) else value for key, value in body.items()}
            if body
            else body
        )


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """One world for all cells, in a transaction that every cell's savepoint hangs from."""
    sells, does = "ROLE_SALES_AGENT", "ROLE_EXECUTOR"
    roles = {"seller": [sells], "other_seller": [sells], "executor": [does], "observer": [sells, does], "reader": [],
             "admin": ["ROLE_ADMIN"], "disabled": [sells, "ROLE_ADMIN"],
             "colleague": [does], "former": [does]}  # fmt: skip
    with django_db_blocker.unblock(), transaction.atomic():
        yield World({name: new_user(name, *held) for name, held in roles.items()})
        transaction.set_rollback(True)


@pytest.fixture(scope="module")
def signed_in(world: World) -> dict[str, APIClient]:
    """A client a person, with real tokens."""
    result = {"anonymous": APIClient()}
    for name in PEOPLE[1:]:
        pair = sessions.sign_in(
            email=world.cast[name].email, password=PASSWORD, address=None, user_agent="", now=timezone.now()
        )
        result[name] = APIClient(headers={"Authorization": f"Bearer {pair.access_token}"})
    people.change_user(user=world.cast["disabled"], enabled=False, actor=world.cast["admin"])
    return result


def _kinds(path: str) -> tuple[str, ...]:
    if "{" in path or path.endswith(("/deals", "/policies")):
        return OBJECTS
    return ("ours",)


def _cells(operation: str, path: str) -> Iterator[tuple[str, str, int]]:
    pattern, success, _ = TABLE[operation]
    for person in PEOPLE:
        for which, expected in zip(OBJECTS, {**NOBODY, **pattern}[person], strict=True):
            if which in _kinds(path):
                yield person, which, success if expected == OK else expected


@pytest.mark.parametrize("operation", sorted(NATIVE))
def test_native(operation: str, world: World, signed_in: dict[str, APIClient]) -> None:
    method, path = NATIVE[operation]
    _walk(operation, method, path, world, signed_in)


@pytest.mark.parametrize("operation", sorted(name for name, (_, path) in GATEWAY.items() if "/crm/" in path))
def test_gateway(operation: str, world: World, signed_in: dict[str, APIClient]) -> None:
    method, path = GATEWAY[operation]
    row = "users_assignable" if path == "/api/v1/crm/users" else re.sub("^crm_", "", operation)
    _walk(row, method, path, world, signed_in)


def _walk(operation: str, method: str, path: str, world: World, signed_in: dict[str, APIClient]) -> None:
    body = TABLE[operation][2]
    seen, expected = {}, {}
    for person, which, status in _cells(operation, path):
        with transaction.atomic():
            sent = world.body(body, which)
            answer = signed_in[person].generic(
                method, world.url(path, which), _json(sent), content_type="application/json"
            )
            transaction.set_rollback(True)
        expected[person, which] = status
        seen[person, which] = answer.status_code
        if answer.status_code >= 400 and operation != "health":
            assert answer["Content-Type"] == "application/problem+json"
    wrong = {cell: f"{status}, not {expected[cell]}" for cell, status in seen.items() if status != expected[cell]}
    assert wrong == {}


def _json(body: dict[str, Any] | None) -> str:
    return APIClient()._encode_data(body, "json")[0].decode() if body is not None else ""
