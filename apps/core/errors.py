"""DomainError: a sentence for a person, a code for a program, an HTTP status. Subclasses stand beside their service."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one input field. `field` is a dotted snake_case path; "" is the whole body."""

    field: str
    code: str
    message: Any


class DomainError(Exception):
    """A refusal that its caller can understand and mend."""

    code = "conflict"
    status = 409
    message: Any = _("The request conflicts with the current state.")

    def __init__(self, message: Any = None, *, errors: Sequence[FieldError] = (), **extra: Any) -> None:
        if message is not None:
            self.message = message
        self.errors = list(errors)
        self.extra = extra  # further members of the problem document
        super().__init__(self.code)

    def __str__(self) -> str:
        return str(self.message)


class NotFound(DomainError):
    """Not there, or not visible to the caller: the two look the same."""

    code = "not_found"
    status = 404
    message = _("Not found.")


class Forbidden(DomainError):
    code = "forbidden"
    status = 403
    message = _("Your role does not allow this.")


class Invalid(DomainError):
    """Malformed input; `errors` names the fields."""

    code = "validation_error"
    status = 400
    message = _("The data is not valid.")


def invalid(field: str, code: str, message: Any) -> Invalid:
    """A refusal of one field."""
    return Invalid(errors=[FieldError(field, code, message)])


class InvalidFilters(DomainError):
    code = "invalid_filters"
    status = 400
    message = _("The filter is not valid.")


class VersionMismatch(DomainError):
    """The row has changed since the caller read it; `current` is its version now."""

    code = "version_mismatch"
    status = 412
    message = _("The record has been changed by someone else. Read it again.")

    def __init__(self, current: int) -> None:
        super().__init__()
        self.current = current


class VersionRequired(DomainError):
    code = "version_required"
    status = 428
    message = _("Send If-Match with the version you have read.")


class RateLimited(DomainError):
    code = "rate_limited"
    status = 429
    message = _("Too many attempts. Try again later.")

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after


class Unavailable(DomainError):
    code = "service_unavailable"
    status = 503
    message = _("The service is not available right now. Try again.")
    retry_after = 2
