"""emit(): one row in the caller's transaction, which nothing changes afterwards."""

from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction

from apps.core import context
from apps.core.events import SubscriptionSpec, emit, on, plain
from apps.core.models import Event, RelayHead

SUBJECT = SimpleNamespace(pk=uuid4(), version=3)


def test_emit_refuses_to_run_outside_a_transaction(committed):
    with pytest.raises(RuntimeError, match="outside a transaction"):
        emit("thing.changed", SUBJECT, actor=None, payload={}, aggregate="thing")
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_an_event_tells_who_what_and_by_which_way():
    actor, deal = SimpleNamespace(pk=uuid4()), uuid4()
    context.enter(trace_id="trace-1", via="bot")
    try:
        made = emit(
            "thing.changed",
            SUBJECT,
            actor=actor,
            payload={"amount": Decimal("10.50")},
            changes={"day": (None, date(2026, 3, 1))},
            deal_id=deal,
            aggregate="thing",
        )
    finally:
        context.leave()
    row = Event.objects.get(pk=made.pk)
    assert (row.actor_id, row.deal_id, row.via, row.trace_id) == (actor.pk, deal, "bot", "trace-1")
    assert (row.aggregate, row.aggregate_id, row.version, row.position) == ("thing", SUBJECT.pk, 3, None)
    assert row.payload == {"amount": "10.50"}
    assert row.changes == {"day": [None, "2026-03-01"]}


@pytest.mark.django_db
def test_an_aggregate_has_one_event_per_version():
    emit("thing.changed", SUBJECT, actor=None, payload={}, aggregate="thing")
    with pytest.raises(IntegrityError, match="core_event_one_per_aggregate_version"), transaction.atomic():
        emit("thing.renamed", SUBJECT, actor=None, payload={}, aggregate="thing")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM core_event",
        "UPDATE core_event SET payload = '{}'",
        "UPDATE core_event SET changes = '{}'",
        "UPDATE core_event SET actor_id = NULL",
        "UPDATE core_event SET name = 'other'",
        "UPDATE core_event SET at = now()",
        "UPDATE core_event SET position = 2",
        "UPDATE core_event SET position = NULL",
    ],
)
def test_the_log_refuses_to_be_changed(statement, happen):
    happen()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_event SET position = 1")
        with pytest.raises(IntegrityError, match="neither changed nor deleted"), transaction.atomic():
            cursor.execute(statement)
    assert Event.objects.get().position == 1


ID = UUID("6d4b0a6e-7a3c-4d3e-9c53-0a5a4d1a1f10")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (Decimal("10.00"), "10.00"),
        (date(2026, 3, 1), "2026-03-01"),
        (datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC), "2026-03-01T12:00:00.123456+00:00"),
        (ID, str(ID)),
        ({"a": [Decimal("1.50"), (ID, None)]}, {"a": ["1.50", [str(ID), None]]}),
        (True, True),
        ("ё", "ё"),
    ],
)
def test_values_are_kept_as_json_keeps_them(value, kept):
    assert plain(value) == kept


def test_a_handler_is_called_for_its_names_and_the_star(handlers):
    calls = []
    on("a", "b", subscription="s")(lambda event: calls.append("named"))
    on("*", subscription="s")(lambda event: calls.append("all"))
    spec: SubscriptionSpec = handlers["s"]
    assert [len(spec.of(name)) for name in ("a", "b", "c")] == [2, 2, 1]


@pytest.mark.django_db
def test_a_restored_log_gets_another_epoch_and_keeps_its_head():
    RelayHead.objects.update_or_create(id=1, defaults={"epoch": "old", "position": 7})
    call_command("new_epoch", stdout=StringIO())
    head = RelayHead.objects.get()
    assert head.epoch != "old"
    assert head.position == 7
