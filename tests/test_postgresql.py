"""The pooled connections: one whose server side has gone is never given out."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, connections

from crm2.postgresql import base
from crm2.postgresql.base import DatabaseWrapper

pytestmark = pytest.mark.django_db


def wrapper_of_pool(size: int) -> DatabaseWrapper:
    settings = connections["default"].settings_dict
    options = {**settings["OPTIONS"], "pool": {"min_size": 1, "max_size": size, "timeout": 10}}
    return DatabaseWrapper({**settings, "OPTIONS": options}, alias="default")


@pytest.fixture
def pooled() -> Iterator[DatabaseWrapper]:
    wrapper = wrapper_of_pool(1)
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


class TestStaying:
    """Where threads live as long as the process, a connection stays with its thread from request to request."""

    @pytest.fixture
    def two(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[DatabaseWrapper]]:
        """Two threads' wrappers over a pool of two, of which one may stay."""
        monkeypatch.setattr(DatabaseWrapper, "connections_stay", True)
        wrappers = [wrapper_of_pool(2), wrapper_of_pool(2)]
        yield wrappers
        for wrapper in wrappers:
            wrapper.close()
        wrappers[0].close_pool()

    def ask(self, wrapper: DatabaseWrapper) -> int:
        """A request: asks for the server process; what comes after."""
        wrapper.close_if_unusable_or_obsolete()
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid = int(cursor.fetchone()[0])
        wrapper.close_if_unusable_or_obsolete()
        return pid

    def test_one_stays_and_the_other_goes_back(self, two: list[DatabaseWrapper]) -> None:
        first = self.ask(two[0])
        assert two[0].connection is not None
        other = self.ask(two[1])
        assert two[1].connection is None
        assert (self.ask(two[0]), self.ask(two[1])) == (first, other)

    def test_the_place_is_free_again_when_it_goes(self, two: list[DatabaseWrapper]) -> None:
        self.ask(two[0])
        two[0].close()
        self.ask(two[1])
        assert two[1].connection is not None

    @pytest.mark.parametrize("idle", [0.0, 60.0], ids=["after a rest", "at once"])
    def test_a_dead_one_goes(self, two: list[DatabaseWrapper], monkeypatch: pytest.MonkeyPatch, idle: float) -> None:
        first = self.ask(two[0])
        monkeypatch.setattr(base, "IDLE_SECONDS", idle)
        end(first)
        assert self.ask(two[0]) != first

    def test_one_in_a_transaction_never_stays(self, two: list[DatabaseWrapper]) -> None:
        two[0].connect()
        two[0].set_autocommit(False)
        two[0].close_if_unusable_or_obsolete()
        assert two[0].connection is None
