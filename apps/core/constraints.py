"""Which refusal a violated database constraint stands for: the last guard speaks like the first one."""

from collections.abc import Callable

from apps.core.errors import DomainError

_errors: dict[str, Callable[[], DomainError]] = {}


def register(name: str, error: Callable[[], DomainError]) -> None:
    """Says what a violation of the named constraint (or trigger exception) means to a caller."""
    _errors[name] = error


def error_of(name: str) -> DomainError | None:
    make = _errors.get(name)
    return make() if make else None
