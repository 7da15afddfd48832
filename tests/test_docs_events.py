"""docs/events.md tells what the code emits: every name, and of each a sample with the real keys."""

from typing import Any

import pytest

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
