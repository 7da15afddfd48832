"""ETag and If-Match over an aggregate's version. (docs/contract.md, "Versions and idempotency")"""

import re

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.errors import VersionRequired

_TAG = re.compile(r'\s*(?:W/)?"([^"]*)"\s*')
NEVER = -1  # a tag that no version has


def expected_version(request: Request) -> int | None:
    """The version that the caller has read, None where any will do; an unreadable tag matches no version.

    :raises VersionRequired: without If-Match where STRICT_IF_MATCH is on
    """
    header = request.headers.get("If-Match")
    if header is None:
        if settings.STRICT_IF_MATCH:
            raise VersionRequired
        return None
    if header.strip() == "*":
        return None
    match = _TAG.fullmatch(header)
    return int(match[1]) if match and match[1].isascii() and match[1].isdigit() and len(match[1]) < 10 else NEVER


def with_etag(response: Response, version: int) -> Response:
    response["ETag"] = f'"{version}"'
    return response
