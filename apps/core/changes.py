"""Applying a change to an aggregate: what differs, written once, with the version raised by one."""

from collections.abc import Mapping
from typing import Any, Protocol

from django.utils import timezone

from apps.core.errors import VersionMismatch

Changes = dict[str, tuple[Any, Any]]


class Aggregate(Protocol):
    pk: Any
    version: int
    updated_at: Any

    def save(self, *, update_fields: list[str]) -> None: ...


def expect_version(subject: Aggregate, expected: int | None) -> None:
    """:raises VersionMismatch: if the locked row is not the version that the caller has read; None expects nothing"""
    if expected is not None and subject.version != expected:
        raise VersionMismatch(subject.version)


def differing(subject: object, values: Mapping[str, Any]) -> Changes:
    """{field: (before, after)} of the values that differ from the object's own."""
    return {name: (getattr(subject, name), value) for name, value in values.items() if getattr(subject, name) != value}


def apply(subject: Aggregate, changes: Changes, *, also: Mapping[str, Any] | None = None) -> None:
    """Writes the changes to the locked row and raises its version; `also` are twins that no history shows."""
    written = {name: after for name, (_, after) in changes.items()} | dict(also or {})
    for name, value in written.items():
        setattr(subject, name, value)
    subject.version += 1
    subject.updated_at = timezone.now()
    subject.save(update_fields=[*written, "version", "updated_at"])
