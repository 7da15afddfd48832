"""The pooled connections: one whose server side has gone is never given out."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, connections

from crm2.postgresql import base
from crm2.postgresql.base import DatabaseWrapper

pytestmark = pytest.mark.django_db


@pytest.fixture
def pooled() -> Iterator[DatabaseWrapper]:
    settings = connections["default"].settings_dict
    options = {**settings["OPTIONS"], "pool": {"min_size": 1, "max_size": 1, "timeout": 10}}
    wrapper = DatabaseWrapper({**settings, "OPTIONS": options}, alias="default")
    yield wrapper
    wrapper.close()
    wrapper.close_pool()


def backend(wrapper: Any) -> int:
    """Connects, asks for the server process, gives the connection back."""
    wrapper.connect()
    try:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])
    finally:
        wrapper.close()


def end(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert cursor.fetchone()[0]


def test_a_living_connection_is_used_again(pooled: DatabaseWrapper) -> None:
    assert backend(pooled) == backend(pooled)


def test_the_server_is_not_asked_about_a_connection_just_used(
    pooled: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend(pooled)
    asked: list[Any] = []
    monkeypatch.setattr(psycopg.Connection, "execute", lambda *given: asked.append(given))
    backend(pooled)
    assert not asked
    monkeypatch.setattr(base, "IDLE_SECONDS", 0.0)
    backend(pooled)
    assert asked


@pytest.mark.parametrize("idle", [0.0, 60.0], ids=["after a rest", "at once"])
def test_a_dead_one_is_replaced(pooled: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch, idle: float) -> None:
    monkeypatch.setattr(base, "IDLE_SECONDS", idle)
    first = backend(pooled)
    end(first)
    assert backend(pooled) != first
