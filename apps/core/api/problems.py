"""Errors as RFC 9457 problem documents, the same on both faces. (docs/contract.md, "Errors")"""

import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import DatabaseError, DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from psycopg_pool import PoolTimeout
from rest_framework import exceptions
from rest_framework.response import Response

from apps.core import constraints, context
from apps.core.api.faces import camel, is_camel
from apps.core.api.renderers import dumps
from apps.core.errors import (
    DomainError,
    FieldError,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
    Unavailable,
    VersionMismatch,
)

CONTENT_TYPE = "application/problem+json"
log = logging.getLogger(__name__)


class Unauthenticated(DomainError):
    """401 with `WWW-Authenticate: Bearer`; `code` says what was wrong with the credentials."""

    code = "authorization_required"
    status = 401
    message = _("Sign in first.")

    def __init__(self, code: str = "authorization_required", message: Any = None) -> None:
        super().__init__(message)
        self.code = code


class MethodNotAllowed(DomainError):
    code = "method_not_allowed"
    status = 405
    message = _("This method is not allowed here.")


class UnsupportedMediaType(DomainError):
    code = "unsupported_media_type"
    status = 415
    message = _("Send application/json.")


class Internal(DomainError):
    code = "internal_error"
    status = 500
    message = _("Something went wrong on our side.")


def exception_handler(exc: Exception, handler_context: dict[str, Any]) -> Response | None:
    """DRF's hook: the problem document of a refusal, or None for a bug, which Django reports as a 500."""
    error = as_domain_error(exc)
    if error is None:
        return None
    request, view = handler_context.get("request"), handler_context.get("view")
    response = Response(document(error), status=error.status, content_type=CONTENT_TYPE)
    if is_camel(request, view):
        for each in response.data.get("errors", []):
            each["field"] = camel(each["field"])
    for name, value in headers(error).items():
        response[name] = value
    return response


def document(error: DomainError) -> dict[str, Any]:
    """The members of the problem document, field names in snake_case."""
    detail = str(error)
    body: dict[str, Any] = {
        "type": f"urn:crm2:problem:{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "code": error.code,
        "detail": detail,
        "message": detail,
        "trace_id": context.trace_id(),
    }
    if error.errors:
        body["errors"] = [{"field": e.field, "code": e.code, "message": str(e.message)} for e in error.errors]
    return {**body, **error.extra}


def headers(error: DomainError) -> dict[str, str]:
    result = {}
    if error.status == 401:
        result["WWW-Authenticate"] = "Bearer"
    if isinstance(error, VersionMismatch):
        result["ETag"] = f'"{error.current}"'
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        result["Retry-After"] = str(retry_after)
    return result


def plain_response(error: DomainError) -> HttpResponse:
    """The problem document outside DRF: unknown routes, middleware."""
    response = HttpResponse(dumps(document(error)), status=error.status, content_type=CONTENT_TYPE)
    for name, value in headers(error).items():
        response[name] = value
    return response


def as_domain_error(exc: Exception) -> DomainError | None:
    """What the exception says to a caller; None when it is a bug of ours."""
    match exc:
        case DomainError():
            return exc
        case exceptions.ValidationError():
            return Invalid(errors=list(_flatten(exc.get_full_details(), "")))
        case DjangoValidationError():
            return Invalid(errors=list(_flatten_django(exc)))
        case Http404() | exceptions.NotFound():
            return NotFound()
        case PermissionDenied() | exceptions.PermissionDenied():
            return Forbidden()
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return Unauthenticated()
        case exceptions.MethodNotAllowed():
            return MethodNotAllowed()
        case exceptions.UnsupportedMediaType():
            return UnsupportedMediaType()
        case exceptions.Throttled():
            return RateLimited(int(getattr(exc, "wait", None) or 1))
        case RequestDataTooBig():  # a SuspiciousOperation too
            too_large = Invalid(_("The request body is too large."))
            too_large.code, too_large.status = "body_too_large", 413
            return too_large
        case exceptions.ParseError() | SuspiciousOperation():
            return Invalid()
        case DatabaseError() | InterfaceError() | PoolTimeout():
            return _of_database(exc)
    return None


def _of_database(exc: Exception) -> DomainError | None:
    cause = exc.__cause__
    state = getattr(cause, "sqlstate", None) or ""
    name = getattr(getattr(cause, "diag", None), "constraint_name", None)
    if name and (error := constraints.error_of(name)):
        return error
    if isinstance(exc, DataError):
        return Invalid()
    if state == "23505":
        return DomainError(_("Such a record exists already."))
    if state == "23503":
        return DomainError(_("Other records refer to this one."))
    if state in ("23514", "P0001"):
        log.warning("unmapped constraint", extra={"code": name or state})
        return Invalid()
    if not isinstance(exc, OperationalError | InterfaceError | PoolTimeout):
        return None
    log.warning("database unavailable", extra={"code": state, "reason": type(cause or exc).__name__})
    return Unavailable()


def _flatten(detail: Any, path: str) -> Iterator[FieldError]:
    if _is_leaf(detail):
        yield FieldError(path, str(detail["code"]), detail["message"])
    elif isinstance(detail, dict):
        for key, value in detail.items():
            step = "" if key == "non_field_errors" else str(key)
            yield from _flatten(value, ".".join(part for part in (path, step) if part))
    elif isinstance(detail, list):
        for index, value in enumerate(detail):
            leaf = _is_leaf(value)
            yield from _flatten(value, path if leaf else f"{path}.{index}".lstrip("."))


def _is_leaf(detail: Any) -> bool:
    """One fault, not the faults of two fields that happen to be called so."""
    return isinstance(detail, dict) and set(detail) == {"message", "code"} and isinstance(detail["code"], str)


def _flatten_django(exc: DjangoValidationError) -> Iterator[FieldError]:
    if hasattr(exc, "error_dict"):
        for field, errors in exc.error_dict.items():
            for error in errors:
                yield FieldError("" if field == "__all__" else field, error.code or "invalid", error.messages[0])
    else:
        for error in exc.error_list:
            yield FieldError("", error.code or "invalid", error.messages[0])


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return plain_response(as_domain_error(exception) or Invalid())


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return plain_response(Forbidden())


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return plain_response(NotFound())


def server_error(request: HttpRequest) -> HttpResponse:
    return plain_response(Internal())
