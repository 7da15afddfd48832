"""Request bodies: JSON of at most 1 MiB, read with orjson; both spellings become snake_case."""

from typing import IO, Any

import orjson
from django.conf import settings
from django.utils.translation import gettext_lazy as _
from rest_framework.parsers import BaseParser

from apps.core.api.faces import from_wire
from apps.core.errors import DomainError, FieldError, Invalid


class BodyTooLarge(DomainError):
    code = "body_too_large"
    status = 413
    message = _("The request body is too large.")


class JsonParser(BaseParser):
    """:raises BodyTooLarge: over the limit, before the rest is read; Invalid: not a JSON object"""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        body = stream.read(settings.MAX_BODY_BYTES + 1)
        if len(body) > settings.MAX_BODY_BYTES:
            raise BodyTooLarge
        if not body.strip():
            return {}
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Invalid(errors=[FieldError("", "parse_error", _("The body is not valid JSON."))]) from None
        if not isinstance(data, dict):
            raise Invalid(errors=[FieldError("", "not_an_object", _("The body must be a JSON object."))])
        return dict(from_wire(data))
