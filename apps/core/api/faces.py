"""One site, two faces: `/api/v1/...` speaks snake_case, `/api/v1/crm/...` answers camelCase; both read both.

Field names are renamed, never the keys inside free JSON. (docs/contract.md, "Two faces")
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request

from apps.core.errors import FieldError, Invalid, invalid

GATEWAY_PREFIX = "/api/v1/crm/"
FREE_JSON = frozenset({"payload", "context", "metadata", "before", "after"})
KEPT_NAMES = frozenset({"trace_id"})  # one spelling on both faces
MAX_DEPTH = 32
_HUMPS = re.compile(r"(?<=[a-z0-9])([A-Z])")


def is_gateway(request: HttpRequest | Request) -> bool:
    return str(request.path).startswith(GATEWAY_PREFIX)


def is_camel(request: Request | None, view: object = None) -> bool:
    """Whether the answer is camelCase: the gateway face, and the views that speak it on both faces."""
    return bool(getattr(view, "camel_case", False)) or (request is not None and is_gateway(request))


@lru_cache(maxsize=4096)
def camel(name: str) -> str:
    """`next_review_at` as `nextReviewAt`; a dotted path by its parts."""
    if name in KEPT_NAMES:
        return name
    if "." in name:
        return ".".join(camel(part) for part in name.split("."))
    head, *tail = re.split("[_-]", name)
    return head[:1].lower() + head[1:] + "".join(part[:1].upper() + part[1:] for part in tail)


@lru_cache(maxsize=4096)
def snake(name: str) -> str:
    """`nextReviewAt` as `next_review_at`; `name[]` as `name`."""
    return _HUMPS.sub(lambda hump: "_" + hump[1].lower(), name.removesuffix("[]"))


def to_camel(data: Any) -> Any:
    """The answer with its field names in camelCase."""
    if isinstance(data, Mapping):
        return {
            camel(key) if isinstance(key, str) else key: value if key in FREE_JSON else to_camel(value)
            for key, value in data.items()
        }
    if isinstance(data, list | tuple):
        return [to_camel(item) for item in data]
    return data


def from_wire(data: Any, *, depth: int = 1) -> Any:
    """A request body with its field names in snake_case.

    :raises Invalid: if two spellings of one field disagree, a text holds NUL, or the nesting passes 32
    """
    if depth > MAX_DEPTH:
        raise Invalid(errors=[FieldError("", "too_deep", "The nesting is deeper than 32.")])
    if isinstance(data, dict):
        result: dict[str, Any] = {}
        for key, value in data.items():
            name = snake(key)
            inner = _without_nul(value, depth) if name in FREE_JSON else from_wire(value, depth=depth + 1)
            if name in result and result[name] != inner:
                raise invalid(name, "conflicting_spellings", "Two spellings of this field disagree.")
            result[name] = inner
        return result
    if isinstance(data, list):
        return [from_wire(item, depth=depth + 1) for item in data]
    if isinstance(data, str) and "\0" in data:
        raise Invalid(errors=[FieldError("", "null_characters_not_allowed", "NUL characters are not allowed.")])
    return data


def _without_nul(data: Any, depth: int) -> Any:
    """Free JSON: kept as it is, but no deeper and no dirtier than the rest."""
    if isinstance(data, dict):
        from_wire(list(data.keys()), depth=depth)
        for value in data.values():
            _without_nul(value, depth + 1)
    elif isinstance(data, list):
        for value in data:
            _without_nul(value, depth + 1)
    from_wire(data if not isinstance(data, dict | list) else None, depth=depth)
    return data
