"""The bytes of a stream (server-sent events), and what a client may ask: the position he has, the names he wants."""

import json
import random
import re
import time
from dataclasses import dataclass
from typing import Any

import orjson
from django.http import QueryDict

from apps.core.errors import InvalidFilters

RETRY_MS = (3000, 3600)  # spread, so that a restart is not followed by everyone at once
LATER_MS = 60_000  # to a client that was closed for having too many streams
MOST_TYPES = 50
_ID = re.compile(r"([0-9A-Za-z_]{1,16})-([0-9]{1,18})")
_TYPE = re.compile(r"[A-Za-z0-9_-]{1,100}(\.[A-Za-z0-9_-]{1,100}){0,9}(\.\*)?")
_NOT_IN_A_LINE = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")


def retry() -> bytes:
    return f"retry: {random.randint(*RETRY_MS)}\n\n".encode()  # noqa: S311 - no secret


def event(name: str, data: Any, *, position: str = "") -> bytes:
    """One frame; `position` is its `id:`."""
    head = f"id: {position}\n" if position else ""
    return f"{head}event: {_NOT_IN_A_LINE.sub(' ', name)}\ndata: ".encode() + _dumped(data) + b"\n\n"


def parsed(text: str) -> Any:
    """JSON of the database, whose numbers may be longer than 64 bits."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def _dumped(data: Any) -> bytes:
    try:
        return orjson.dumps(data)
    except TypeError:
        return json.dumps(data).encode()


def heartbeat(upstream: str, *, position: str = "") -> bytes:
    return event("heartbeat", {"upstream": upstream, "ts": int(time.time() * 1000)}, position=position)


def numbered(sequence: int) -> bytes:
    """The bare heartbeat of /streams/heartbeat."""
    return b'data: {"type":"heartbeat","sequence":%d}\n\n' % sequence


def reset(position: str, reason: str) -> bytes:
    """The client's position is of no use: `too_old` or `unknown`. He reads anew and goes on from `position`."""
    return event("reset", {"position": position, "reason": reason}, position=position)


def error(code: str) -> bytes:
    head = f"retry: {LATER_MS}\n".encode() if code == "too_many_streams" else b""
    return head + event("error", {"code": code})


@dataclass(frozen=True, slots=True)
class Asked:
    """What the client wants: `last` as he sent it ("" for nothing), `types` or everything."""

    last: str = ""
    types: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def wants(self, name: str) -> bool:
        if not self.types and not self.prefixes:
            return True
        return name in self.types or (bool(self.prefixes) and name.startswith(self.prefixes))


def asked(query: QueryDict, *, last_event_id: str, with_types: bool) -> Asked:
    """Reads `types` and `last_event_id`; the header's id counts before the parameter's.

    :raises InvalidFilters: another parameter, one given twice, a list of types that is none
    """
    allowed = {"last_event_id", "types"} if with_types else {"last_event_id"}
    if set(query) - allowed or any(len(query.getlist(name)) > 1 for name in query):
        raise InvalidFilters
    last = last_event_id or str(query.get("last_event_id", ""))
    if "types" not in query:
        return Asked(last)
    given = [each.strip() for each in str(query["types"]).split(",")]
    if len(given) > MOST_TYPES or not all(_TYPE.fullmatch(each) for each in given):
        raise InvalidFilters
    prefixes = tuple(each.removesuffix("*") for each in given if each.endswith("*"))
    return Asked(last, frozenset(each for each in given if not each.endswith("*")), prefixes)


def position_in(text: str) -> tuple[str, int] | None:
    """(epoch, position) of an id of ours; None of anything else."""
    match = _ID.fullmatch(text)
    return (match[1], int(match[2])) if match else None
