"""The list of a policy's payments: filters, pages, both faces, and what it costs."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.auth.models import User
from apps.crm.models import Policy
from apps.payments.models import Payment
from apps.payments.services import payments
from apps.payments.tests import factory
from apps.payments.tests.factory import ids, receive, spend, url

pytestmark = pytest.mark.usefixtures("noon")


@pytest.fixture
def four(policy: Policy, admin: User) -> list[Payment]:
    """Scheduled, partially paid, paid, cancelled."""
    made = [factory.plan(policy, admin, "100", planned_date=date(2026, 3, 9 + n)) for n in range(4)]
    receive(made[1], admin, "50")
    receive(made[2], admin, "60", date(2026, 3, 2))
    receive(made[2], admin, "40", date(2026, 3, 1))
    spend(made[2], admin, "7")
    payments.change_payment(**ids(made[3]), values={"status": "cancelled"}, actor=admin)
    return made


def numbers(answer: Any) -> list[int]:
    return [item["sequence"] for item in answer.json()["items"]]


def test_by_number_with_a_total(api: Callable[..., Any], four: list[Payment], policy: Policy, seller: User) -> None:
    answer = api(seller).get(url(policy))
    assert (numbers(answer), answer.json()["total"]) == ([1, 2, 3, 4], 4)
    assert all(item["incomes"] == item["expenses"] == [] for item in answer.json()["items"])
    assert "ETag" not in answer


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=paid", [3]),
        ("status[]=paid&status[]=cancelled", [3, 4]),
        ("status=scheduled&status[]=partially_paid", [1, 2]),
        ("limit=2", [1, 2]),
        ("limit=2&offset=1", [2, 3]),
        ("offset=9", []),
    ],
)
def test_filters(
    api: Callable[..., Any], four: list[Payment], policy: Policy, seller: User, query: str, found: list[int]
) -> None:
    answer = api(seller).get(f"{url(policy)}?{query}")
    assert (answer.status_code, numbers(answer)) == (200, found)
    assert answer.json()["total"] == (len(found) if "status" in query else 4)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=overdue", "status"), ("include=notes", "include"), ("limit=0", "limit"), ("limit=201", "limit"),
        ("offset=-1", "offset"), ("offset=10001", "offset"), ("cursor=zzz", "cursor"), ("sort=status", "sort"),
    ],
)  # fmt: skip
def test_refuses_what_it_does_not_know(
    api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, query: str, field: str
) -> None:
    answer = api(seller).get(f"{url(policy)}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_filters")
    assert answer.json()["errors"][0]["field"].startswith(field)


def test_pages_follow_their_links(api: Callable[..., Any], four: list[Payment], policy: Policy, seller: User) -> None:
    answer = api(seller).get(f"{url(policy)}?limit=3&include=incomes")
    assert numbers(answer) == [1, 2, 3]
    following = api(seller).get(answer["Link"].partition("<")[2].partition(">")[0])
    assert (numbers(following), following.json()["total"], "Link" in following) == ([4], 4, False)


def test_includes_the_oldest_money_first(
    api: Callable[..., Any], four: list[Payment], policy: Policy, seller: User
) -> None:
    items = api(seller).get(f"{url(policy)}?include[]=incomes&include[]=expenses").json()["items"]
    assert [[each["amount"] for each in item["incomes"]] for item in items] == [[], ["50.00"], ["40.00", "60.00"], []]
    assert [[each["amount"] for each in item["expenses"]] for item in items] == [[], [], ["7.00"], []]
    assert api(seller).get(f"{url(policy)}?include=incomes").json()["items"][2]["expenses"] == []


def test_overdue_is_computed(api: Callable[..., Any], four: list[Payment], policy: Policy, seller: User) -> None:
    """Planned on 9, 10, 11 and 12 March; the last two are paid and cancelled."""
    for day, found in (("2026-03-10T12:00+03:00", [1]), ("2026-03-20T12:00+03:00", [1, 2])):
        with time_machine.travel(day):
            items = api(seller).get(url(policy)).json()["items"]
            assert [item["sequence"] for item in items if item["is_overdue"]] == found
            for item in items:
                assert api(seller).get(url(policy, item["id"])).json()["is_overdue"] == item["is_overdue"]


def test_both_faces_say_the_same(api: Callable[..., Any], four: list[Payment], policy: Policy, seller: User) -> None:
    native = f"{url(policy)}?include=incomes&include=expenses"
    gateway = native.replace("/api/v1/", "/api/v1/crm/")
    snake, camel = api(seller).get(native).json(), api(seller).get(gateway).json()
    keys = {"plannedAmount", "isOverdue", "incomesTotal", "isDeleted", "createdById", "updatedAt", "dealId"}
    assert keys < set(camel["items"][0])
    assert "postedAt" in camel["items"][1]["incomes"][0]
    assert [item["id"] for item in snake["items"]] == [item["id"] for item in camel["items"]]
    renamed = {key.replace("_", "") for key in snake["items"][0]}
    assert renamed == {key.lower() for key in camel["items"][0]}


def test_gateway_writes(api: Callable[..., Any], policy: Policy, seller: User) -> None:
    path = url(policy).replace("/api/v1/", "/api/v1/crm/")
    made = api(seller).post(path, {"plannedAmount": "10", "plannedDate": "2026-03-01"}).json()
    assert (made["plannedAmount"], made["isOverdue"]) == ("10.00", True)
    income = api(seller).post(
        f"{path}/{made['id']}/incomes", {"amount": 10, "category": "premium", "postedAt": "2026-03-10"}
    )
    assert (income.status_code, income.json()["postedAt"]) == (201, "2026-03-10")
    bad = api(seller).patch(f"{path}/{made['id']}", {"plannedAmount": 0}).json()
    assert bad["errors"][0]["field"] == "plannedAmount"


@pytest.mark.parametrize(("tail", "most"), [("", 1), ("?include=incomes", 2), ("?include=incomes&include=expenses", 2)])
@pytest.mark.parametrize("who", ["seller", "admin"])
def test_costs_the_same_at_10_and_200_rows(
    api: Callable[..., Any],
    policy: Policy,
    admin: User,
    request: pytest.FixtureRequest,
    tail: str,
    most: int,
    who: str,
) -> None:
    client = api(request.getfixturevalue(who))
    client.get(url(policy))  # the first request of a process looks at the migrations too
    counts = []
    for rows in (10, 200):
        made = Payment.objects.count()
        for payment in Payment.objects.bulk_create(
            Payment(policy=policy, deal=policy.deal, sequence=n + 1, planned_amount=5, currency="RUB")
            for n in range(made, rows)
        ):
            if payment.sequence % 50 == 1:
                receive(payment, admin, "5")
        with CaptureQueriesContext(
            connection,
        ) as queries:
            answer = client.get(f"{url(policy)}{tail}{'&' if tail else '?'}limit=200")
        assert len(answer.json()["items"]) == rows
        counts.append(len(queries))
    assert counts == [most, most]


def test_detail_costs_two(
    api: Callable[..., Any], payment: Payment, policy: Policy, seller: User, django_assert_num_queries: Any
) -> None:
    receive(payment, seller, "5")
    client = api(seller)
    client.get(url(policy))  # the first request of a process looks at the migrations too
    with django_assert_num_queries(2):
        assert client.get(f"{url(policy, payment.pk)}?include=incomes&include=expenses").status_code == 200


def test_operations_are_pages_too(api: Callable[..., Any], payment: Payment, policy: Policy, seller: User) -> None:
    for day in (3, 1, 2):
        receive(payment, seller, f"{day}", date(2026, 3, day))
    first = api(seller).get(f"{url(policy, payment.pk, 'incomes')}?limit=2")
    assert [row["amount"] for row in first.json()] == ["1.00", "2.00"]
    rest = api(seller).get(first["Link"].partition("<")[2].partition(">")[0])
    assert [row["amount"] for row in rest.json()] == ["3.00"]
