"""Logs: one JSON object a line, UTC, with the trace id. Nothing personal: only the fields listed here pass."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import orjson

from apps.core import context

# Nothing below shows who called, in which thread or process: Python's documentation names these to spare the look-up.
logging._srcfile = None
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False

# What a record may carry beside its message; anything else is dropped.
FIELDS = (
    "event", "method", "route", "status", "ms", "actor_id", "subscription", "position", "count", "job", "code",
    "reason",
)  # fmt: skip


class JsonFormatter(logging.Formatter):
    """Renders a record as one line; line breaks and control characters are escaped by JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace := context.trace_id():
            line["trace_id"] = trace
        for name in FIELDS:
            if (value := getattr(record, name, None)) is not None:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # a lone surrogate (an undecodable file name), an integer beyond 64 bits
            return json.dumps(line, default=str)
