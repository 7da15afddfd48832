"""Soft delete in batches: a collector like Django's own, over models that carry `deleted_at` and `deletion_id`.

It follows reverse foreign keys downwards, asks each model's `blocking_deletion()` for what forbids it, and stamps one
batch. It names no app: what may not go says so itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.apps import apps
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.core.errors import DomainError
from apps.core.models import SoftDeleted


@dataclass(frozen=True, slots=True)
class Blocker:
    """A row that forbids the deletion, and why."""

    row: Any
    reason: str


class DeletionBlocked(DomainError):
    """409 with `blockers: [{type, id, label, reason}]`."""

    code = "deletion_blocked"
    message = _("Other records forbid the deletion.")

    def __init__(self, blockers: Sequence[Blocker]) -> None:
        super().__init__(
            blockers=[
                {
                    "type": each.row._meta.model_name,
                    "id": str(each.row.pk),
                    "label": str(each.row),
                    "reason": each.reason,
                }
                for each in blockers
            ]
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """What went or came back together."""

    deletion_id: UUID
    at: datetime
    rows: list[Any]


def delete(root: Any) -> Batch:
    """Hides the locked row with its open children as one batch; returns every row of it, the root first.

    :raises DeletionBlocked: naming each row that forbids it; nothing is changed then
    """
    rows = [root, *_walk(root, set())]
    blockers = [blocker for row in rows[1:] for blocker in _blockers(row, root)]
    if blockers:
        raise DeletionBlocked(blockers)
    deletion_id, now = uuid4(), timezone.now()
    for row in rows:
        _stamp(row, deleted_at=now, deletion_id=deletion_id, now=now)
    return Batch(deletion_id, now, rows)


def restore(root: Any) -> Batch:
    """Brings back exactly the rows that went with the locked root.

    :raises ValueError: if the root is not deleted
    """
    if root.deletion_id is None:
        raise ValueError(f"{root!r} is not deleted")
    now, deletion_id = timezone.now(), root.deletion_id
    rows = [root]
    for model in _models():
        rows += [
            row
            for row in model._base_manager.select_for_update().filter(deletion_id=deletion_id).order_by("pk")
            if row.pk != root.pk
        ]
    for row in rows:
        _stamp(row, deleted_at=None, deletion_id=None, now=now)
    return Batch(deletion_id, now, rows)


def _blockers(row: Any, root: Any) -> list[Blocker]:
    ask = getattr(row, "blocking_deletion", None)
    reason = ask(root) if ask else None
    return [Blocker(row, reason)] if reason else []


def _walk(parent: Any, seen: set[tuple[type, Any]]) -> Iterator[Any]:
    """Living rows that hang from `parent` by a foreign key, locked, depth first; each once."""
    for relation in parent._meta.related_objects:
        model = relation.related_model
        if not (isinstance(model, type) and issubclass(model, SoftDeleted)) or not relation.one_to_many:
            continue
        rows = model._base_manager.filter(**{relation.field.name: parent, "deleted_at": None})
        for row in rows.select_for_update().order_by("pk"):
            if (model, row.pk) not in seen:
                seen.add((model, row.pk))
                yield row
                yield from _walk(row, seen)


def _models() -> list[type[models.Model]]:
    return [model for model in apps.get_models() if issubclass(model, SoftDeleted)]


def _stamp(row: Any, *, deleted_at: datetime | None, deletion_id: UUID | None, now: datetime) -> None:
    row.deleted_at, row.deletion_id = deleted_at, deletion_id
    fields = ["deleted_at", "deletion_id"]
    if hasattr(row, "version"):
        row.version, row.updated_at = row.version + 1, now
        fields += ["version", "updated_at"]
    row.save(update_fields=fields)
