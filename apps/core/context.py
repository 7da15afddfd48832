"""What a request, a job or a command carries with it without being asked: the trace id and the way in.

The actor is not here: services take it as an argument.
"""

import random
import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

Via = Literal["http", "admin", "bot", "command", "job"]


@dataclass(frozen=True, slots=True)
class Context:
    trace_id: str = ""
    via: Via = "command"


TRACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # what is taken over from a caller

_current: ContextVar[Context | None] = ContextVar("crm2_context", default=None)


def enter(*, trace_id: str, via: Via) -> None:
    """Sets the context of this thread or task; the edge calls it first."""
    _current.set(Context(trace_id, via))


def leave() -> None:
    _current.set(None)


def trace_id() -> str:
    """The trace id, or "" outside any request, job or command."""
    current = _current.get()
    return current.trace_id if current else ""


def via() -> Via:
    current = _current.get()
    return current.via if current else "command"


def new_trace_id() -> str:
    """32 hexadecimal digits: a name to find log lines by, no secret."""
    return f"{random.getrandbits(128):032x}"


def trace_id_from(given: object) -> str:
    """The caller's trace id if it can be one, else a new one."""
    return given if isinstance(given, str) and TRACE.fullmatch(given) else new_trace_id()
