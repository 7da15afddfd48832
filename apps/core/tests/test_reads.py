"""Readings: built once a shape, given their own values each time, and refused where a value would be lost."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import InternalError, OperationalError, ProgrammingError, connection, transaction
from django.db.models import ExpressionWrapper, F, FloatField, QuerySet
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.core import reads
from apps.core.models import Event
from apps.core.reads import Reading

pytestmark = pytest.mark.django_db
COLUMNS = ("name", "version", "aggregate_id")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No shape is known yet."""
    kept = dict(reads._known)
    reads._known.clear()
    yield
    reads._known.clear()
    reads._known.update(kept)


@pytest.fixture
def deal_id() -> UUID:
    return uuid4()


@pytest.fixture(autouse=True)
def events(deal_id: UUID) -> None:
    for version, name in enumerate(("a", "b", "a"), start=1):
        Event.objects.create(
            name=name, aggregate="deal", aggregate_id=deal_id, version=version, via="job", payload={}, at=timezone.now()
        )  # fmt: skip


def named(built: list[Any], **values: Any) -> Reading:
    def build(given: Mapping[str, Any]) -> QuerySet[Any, Any]:
        built.append(given)
        mine = {name: given[name] for name in values}
        return Event.objects.filter(**mine).order_by("version").values_list(*COLUMNS)

    return Reading(Event, tuple(sorted(values)), values, build)


def test_gives_the_rows_of_its_queryset(deal_id: UUID) -> None:
    reading = named([], name="a", aggregate_id=deal_id)
    assert reading.rows() == list(reading.queryset) == [("a", 1, deal_id), ("a", 3, deal_id)]


def test_is_built_once_and_takes_new_values(deal_id: UUID) -> None:
    built: list[Any] = []
    assert [len(named(built, name=name, aggregate_id=deal_id).rows()) for name in ("a", "b", "c", "a")] == [2, 1, 0, 2]
    assert named(built, name="a", aggregate_id=uuid4()).rows() == []
    assert len(built) == 1


def test_numbers_are_values_too() -> None:
    assert [[row[1] for row in named([], version=version).rows()] for version in (1, 3, 9)] == [[1], [3], []]


def test_is_built_without_the_values(deal_id: UUID) -> None:
    """What is kept for everybody holds nothing of anybody."""
    built: list[Any] = []
    named(built, name="a", aggregate_id=deal_id).rows()
    assert not {"a", deal_id} & set(built[0].values())
    [compiled] = reads._known.values()
    assert str(deal_id) not in compiled.sql


def test_costs_one_query(deal_id: UUID, django_assert_num_queries: Any) -> None:
    for _ in range(2):
        with django_assert_num_queries(1):
            named([], name="a").rows()


def test_then_adds_a_step(deal_id: UUID) -> None:
    now = timezone.now()
    for before, count in ((now + timedelta(hours=1), 3), (now - timedelta(hours=1), 0)):
        reading = named([], aggregate_id=deal_id).then(
            "until", step=lambda rows, values: rows.filter(at__lt=values["until"]), values={"until": before}
        )
        assert len(reading.rows()) == count


def test_converts_what_the_database_does_not() -> None:
    def build(given: Mapping[str, Any]) -> QuerySet[Any, Any]:
        half = ExpressionWrapper(F("version") * Decimal("0.5"), output_field=FloatField())
        return Event.objects.filter(name=given["name"]).values_list(half, "version")

    rows = Reading(Event, ("halves",), {"name": "b"}, build).rows()
    assert rows == [(1.0, 2)]
    assert isinstance(rows[0][0], float)


@pytest.mark.parametrize(
    ("lookup", "value"),
    [("name__contains", "a"), ("position__isnull", True), ("name__in", ["a"])],
    ids=["changed on the way", "a switch", "a list"],
)
def test_refuses_a_value_that_would_be_lost(lookup: str, value: Any) -> None:
    def build(given: Mapping[str, Any]) -> QuerySet[Any, Any]:
        return Event.objects.filter(**{lookup: given["value"]}).values_list("pk")

    reading = Reading(Event, ("lost",), {"value": value}, build)
    with pytest.raises(ValueError):
        reading.rows()


def test_forgets_before_it_grows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "MOST_SHAPES", 3)
    for limit in range(1, 9):
        reading = named([], name="a").then(limit, step=lambda rows, _, limit=limit: rows[:limit], values={})  # type: ignore[misc]
        assert len(reading.rows()) == min(limit, 2)
        assert len(reads._known) <= 3


def test_refuses_json(deal_id: UUID) -> None:
    def build(given: Mapping[str, Any]) -> QuerySet[Any, Any]:
        return Event.objects.filter(aggregate_id=given["id"]).values_list("payload")

    with pytest.raises(ValueError, match="JSON"):
        Reading(Event, ("payload",), {"id": deal_id}, build).rows()


def test_moments_are_those_of_the_queryset(deal_id: UUID) -> None:
    def build(given: Mapping[str, Any]) -> QuerySet[Any, Any]:
        return Event.objects.filter(aggregate_id=given["id"]).order_by("version").values_list("at", "position")

    reading = Reading(Event, ("at",), {"id": deal_id}, build)
    read, meant = reading.rows(), list(reading.queryset)
    assert read == meant
    assert {row[0].utcoffset() for row in read} == {timedelta(0)}


class TestFetch:
    def test_named_values_may_come_twice_and_a_percent_sign_stays(self) -> None:
        sql = "SELECT %(a)s::int, %(b)s::text, %(a)s::int + 1, 5 %% 3, 'x' LIKE '%%'"
        assert reads.fetch(sql, {"b": "b", "a": 1, "more": 2}) == [(1, "b", 2, 2, True)]

    @pytest.mark.parametrize("logged", [False, True], ids=["as ever", "counted"])
    def test_a_statement_takes_values_of_any_size(self, logged: bool) -> None:
        """psycopg names the smallest type for a number: each is a statement of its own."""
        with CaptureQueriesContext(connection) if logged else nullcontext():
            for number in (1, 2**20, 2**40, -1):
                assert reads.fetch("SELECT %s", [number]) == [(number,)]

    def test_nothing_and_lists(self, deal_id: UUID) -> None:
        assert reads.fetch("SELECT %s::text", [None]) == [(None,)]
        assert reads.fetch("SELECT count(*) FROM core_event WHERE aggregate_id = ANY(%s)", [[deal_id]]) == [(3,)]
        assert reads.fetch("SELECT name FROM core_event WHERE aggregate_id = ANY(%s)", [[]]) == []

    @pytest.mark.parametrize("one_plan", [True, False])
    def test_refusals_are_djangos(self, one_plan: bool) -> None:
        with transaction.atomic():
            with pytest.raises(ProgrammingError, match="no_such_table"):
                reads.fetch("SELECT 1 FROM no_such_table", one_plan=one_plan)
            transaction.set_rollback(False)
            with pytest.raises(InternalError, match="aborted"):
                reads.fetch("SELECT 1", one_plan=one_plan)
            transaction.set_rollback(True)

    def test_a_broken_transaction_is_not_read_in(self) -> None:
        with transaction.atomic():
            transaction.set_rollback(True)
            with pytest.raises(TransactionManagementError):
                reads.fetch("SELECT 1")

    def test_what_the_server_has_forgotten_is_prepared_anew(self) -> None:
        sql = "SELECT 'kept'"
        connection.connection.readings = {}  # the server forgets all that other tests have prepared
        assert reads.fetch(sql) == [("kept",)]
        connection.connection.execute("DEALLOCATE ALL")
        with pytest.raises(ProgrammingError, match="does not exist"), transaction.atomic():
            reads.fetch(sql)
        assert reads.fetch(sql) == [("kept",)]

    def test_the_oldest_makes_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reads, "MOST_PREPARED", 2)
        connection.connection.readings = {}
        for _ in range(2):
            for number in range(4):
                assert reads.fetch(f"SELECT {number}") == [(number,)]
        kept = reads.fetch("SELECT count(*) FROM pg_prepared_statements WHERE statement ~ '^SELECT [0-9]$'")
        assert kept == [(1,)]


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
class TestFetchAndTransactions:
    def test_the_first_of_a_transaction_is_in_it(self) -> None:
        with transaction.atomic():
            first, second = (reads.fetch("SELECT pg_current_xact_id()::text") for _ in range(2))
        assert first == second
        assert reads.fetch("SELECT pg_current_xact_id()::text") != second

    def test_a_connection_that_is_gone_is_told_as_such(self) -> None:
        connection.ensure_connection()
        [(pid,)] = reads.fetch("SELECT pg_backend_pid()")
        with psycopg.connect(**{**connection.get_connection_params(), "cursor_factory": None}) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        with pytest.raises(OperationalError):
            reads.fetch("SELECT 1")
        connection.close_if_unusable_or_obsolete()
        assert reads.fetch("SELECT 1") == [(1,)]
