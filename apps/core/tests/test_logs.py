"""Logs: one JSON object a line, whatever a record holds, and nothing that is not listed."""

import json
import logging
import sys

import pytest

from apps.core import context
from apps.core.logs import JsonFormatter


def line(message: object, *args: object, exc_info: object = None, **extra: object) -> dict[str, object]:
    record = logging.LogRecord("crm2.test", logging.WARNING, __file__, 1, message, args, exc_info)
    record.__dict__.update(extra)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert "\r" not in text
    assert "\x1b" not in text
    return json.loads(text)


@pytest.mark.parametrize("text", ["a\r\nlevel=error", "\x1b[31mred\x1b[0m", "tab\tnull\0", 'quote"', "\ud800", "Ёлка"])
def test_one_line_for_any_text(text):
    assert line("%s", text)["message"] == text


def test_a_listed_field_passes_and_no_other():
    told = line("request", status=200, route="api/v1/deals", phone="+79120000001")
    assert (told["status"], told["route"]) == (200, "api/v1/deals")
    assert "phone" not in told


@pytest.mark.parametrize("value", [2**70, object, {"a": 1}])
def test_any_value_can_be_told(value):
    assert "count" in line("x", count=value)


def test_the_trace_is_told():
    context.enter(trace_id="trace-1", via="http")
    try:
        assert line("x")["trace_id"] == "trace-1"
    finally:
        context.leave()
    assert "trace_id" not in line("x")


def test_an_exception_is_part_of_the_line():
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        told = line("failed", exc_info=sys.exc_info())
    assert "ValueError: first\nsecond" in str(told["exception"])
    assert told["level"] == "warning"
