"""docs/events.md tells what the code emits: every name, and of each a sample with the real keys."""

from datetime import datetime
from typing import Any

import orjson
import pytest

from apps.core import bus
from apps.core.models import Event
from tests import events_doc

PAGE = events_doc.PAGE.read_text(encoding="utf-8")
STALE = "docs/events.md is old: python -m tests.events_doc"


@pytest.fixture
def emitted(db: None) -> dict[str, Any]:
    return events_doc.collect()


def test_the_page_names_what_the_code_declares() -> None:
    assert set(events_doc.samples(PAGE)) == events_doc.declared(), STALE


def test_every_declared_event_happens_and_no_other(emitted: dict[str, Any]) -> None:
    assert set(emitted) == events_doc.declared()


def test_each_sample_has_the_keys_of_the_real_payload(emitted: dict[str, Any]) -> None:
    shown = {name: events_doc.keys(sample) for name, sample in events_doc.samples(PAGE).items()}
    assert shown == {name: events_doc.keys(event.payload) for name, event in emitted.items()}, STALE


def test_the_page_names_the_aggregate_of_each(emitted: dict[str, Any]) -> None:
    for name, event in emitted.items():
        assert event.aggregate in events_doc.ABOUT[name][0].replace(" or ", ", ").split(", "), name


def test_the_generated_part_is_fresh(emitted: dict[str, Any]) -> None:
    assert events_doc.generated(PAGE) == events_doc.render(emitted), STALE


def test_the_bus_part_is_fresh(emitted: dict[str, Any]) -> None:
    shown = events_doc.generated(PAGE, events_doc.BUS_BEGIN, events_doc.BUS_END)
    assert shown == events_doc.render_bus(emitted), STALE


def test_what_is_said_to_leave_leaves(emitted: dict[str, Any]) -> None:
    leaving = set(Event.objects.filter(bus.leaving()).values_list("name", flat=True))
    assert leaving == {name for name in emitted if f"[`{name}`]" in PAGE and events_doc._leaves(name) == "yes"}
    assert {name.partition(".")[0] for name in leaving} == {"client", "deal", "policy"}


def test_every_message_is_a_cloudevent(emitted: dict[str, Any]) -> None:
    """The required attributes of CloudEvents 1.0, and `data` as it is kept: money is text, ids are text."""
    for event in emitted.values():
        if events_doc._leaves(event.name) == "yes":
            body = orjson.loads(bus.message(event).body)
            assert body["specversion"] == "1.0"
            assert all(isinstance(body[name], str) and body[name] for name in ("id", "source", "type", "subject"))
            assert datetime.fromisoformat(body["time"]).tzinfo is not None
            assert body["data"] == event.payload
            assert "changes" not in body


def test_the_runbook_knows_every_trouble() -> None:
    text = (events_doc.PAGE.parent / "runbooks" / "bus.md").read_text(encoding="utf-8")
    assert {code for code in bus.TROUBLES if f"| `{code}` |" not in text} == set()
