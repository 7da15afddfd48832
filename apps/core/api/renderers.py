"""Answers: JSON by orjson; camelCase where the face asks for it. Nothing else is offered."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import orjson
from django.utils.functional import Promise
from rest_framework.renderers import BaseRenderer

from apps.core.api.faces import is_camel, to_camel


def dumps(data: Any) -> bytes:
    """JSON bytes: UUIDs, dates and moments natively, money and lazy texts as text."""
    return orjson.dumps(data, default=_default)


def _default(value: Any) -> Any:
    if isinstance(value, Decimal | Promise):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(type(value).__name__)


class JsonRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        if data is None:
            return b""
        context = renderer_context or {}
        if is_camel(context.get("request"), context.get("view")):
            data = to_camel(data)
        return dumps(data)
