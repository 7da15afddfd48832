"""Idempotency-Key on POST: the first answer is kept in the transaction of the work and replayed to its repeats.

A concurrent twin waits on the unique index until the first commits, then replays; a crash or a 5xx leaves nothing; a
deterministic refusal rolls its savepoint back and is kept. (docs/contract.md, "Versions and idempotency")
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
from django.db import OperationalError, connection, transaction
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request

from apps.core.errors import DomainError, invalid
from apps.core.models import IdempotencyKey

HEADER = "Idempotency-Key"
KEPT_HEADERS = ("Content-Type", "ETag", "Location", "Link", "Retry-After")
LOCK_TIMEOUT = "4s"  # how long a twin waits for the first
NOT_KEPT = {401, 403, 429, 503}
_KEY = re.compile(r"[!-~]{1,255}")


class KeyInUse(DomainError):
    """The first request with this key is still running."""

    code = "idempotency_key_in_use"
    status = 409
    message = _("A request with this Idempotency-Key is still running.")
    retry_after = 1


class KeyReused(DomainError):
    code = "idempotency_key_reused"
    status = 422
    message = _("This Idempotency-Key was used for another request.")


class _Undo(Exception):
    """Carries an answer out of a transaction that must leave nothing."""

    def __init__(self, response: HttpResponseBase) -> None:
        self.response = response


def run(request: Request, work: Callable[[], HttpResponse]) -> HttpResponseBase:
    """Does the work once per caller and key; `work` returns a rendered response and raises nothing that it can answer.

    :raises KeyReused: 422, the key came with another method, path or body
    :raises KeyInUse: 409, the first request has been running for over 4 seconds
    """
    key = request.headers[HEADER]
    if not _KEY.fullmatch(key):
        raise invalid("Idempotency-Key", "invalid", _("The key is 1 to 255 visible ASCII characters."))
    caller: Any = request.user
    owner: UUID = caller.pk
    fingerprint = _fingerprint(request)
    try:
        with transaction.atomic():
            if not _claim(owner, key, request.path, fingerprint):
                return _replay(owner, key, fingerprint)
            response = work()
            if response.status_code in NOT_KEPT or response.status_code >= 500:
                raise _Undo(response)
            IdempotencyKey.objects.filter(owner=owner, key=key).update(
                status=response.status_code,
                headers={name: response[name] for name in KEPT_HEADERS if name in response},
                body=response.content,
            )
            return response
    except _Undo as undo:
        return undo.response


def _claim(owner: UUID, key: str, route: str, fingerprint: bytes) -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
            cursor.execute(
                "INSERT INTO core_idempotencykey (owner, key, route, fingerprint, headers, body)"
                " VALUES (%s, %s, %s, %s, '{}', '') ON CONFLICT DO NOTHING",
                [owner, key, route[:255], fingerprint],
            )
            claimed = bool(cursor.rowcount == 1)
            cursor.execute("SET LOCAL lock_timeout = DEFAULT")
            return claimed
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) == "55P03":
            raise KeyInUse from None
        raise


def _replay(owner: UUID, key: str, fingerprint: bytes) -> HttpResponse:
    kept = IdempotencyKey.objects.get(owner=owner, key=key)
    if bytes(kept.fingerprint) != fingerprint:
        raise KeyReused
    response = HttpResponse(bytes(kept.body), status=kept.status)
    for name, value in kept.headers.items():
        response[name] = value
    response["Idempotency-Replayed"] = "true"
    return response


def _fingerprint(request: Request) -> bytes:
    body: Any = request.data
    canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(f"{request.method} {request.path.rstrip('/')}\n".encode() + canonical).digest()
