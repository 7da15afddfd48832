"""What the kernel's own tests share: events made by hand, and a database whose commits are real."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction

from apps.core import events
from apps.core.models import Event

CLEAN = """
TRUNCATE core_event, core_subscription, core_parked, core_idempotencykey, core_jobrun, core_inbox, core_processbeat;
INSERT INTO core_relayhead (id, epoch, position) VALUES (1, 'test', 0)
    ON CONFLICT (id) DO UPDATE SET position = 0, beat_at = NULL;
"""


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """For what only commits show: threads and second connections. Leaves the kernel's tables as they were."""
    with django_db_blocker.unblock():
        _clean()  # a test that flushes the database may have gone before
        yield
        _clean()
        connection.close()


def _clean() -> None:
    # pytest-django makes the test database only if some collected test is marked django_db.
    assert connection.settings_dict["NAME"].startswith("test_"), "collect a test marked django_db too"
    with connection.cursor() as cursor:
        cursor.execute(CLEAN)


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> dict[str, events.SubscriptionSpec]:
    """An empty registry: only what the test registers is fed."""
    registry: dict[str, events.SubscriptionSpec] = {}
    monkeypatch.setattr(events, "registry", registry)
    monkeypatch.setattr("apps.core.subscriptions.registry", registry)
    monkeypatch.setattr("apps.core.subscriptions.autodiscover_modules", lambda _name: None)
    return registry


@pytest.fixture
def happen() -> Callable[..., Event]:
    """Emits an event of a fresh aggregate, or of the given one: `happen("deal.created", deal_id=...)`."""
    versions: dict[UUID, int] = {}

    def make(name: str = "thing.changed", *, of: UUID | None = None, **fields: Any) -> Event:
        pk = of or uuid4()
        versions[pk] = versions.get(pk, 0) + 1
        subject = SimpleNamespace(pk=pk, version=versions[pk])
        with transaction.atomic():
            return events.emit(name, subject, actor=None, payload={}, aggregate="thing", **fields)

    return make
