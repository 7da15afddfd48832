"""The pooled connections: one whose server side has gone is never given out."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, connections

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


class TestResting:
    """Where threads live as long as the process, a connection rests between requests, ready for any thread."""

    @pytest.fixture
    def two(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[DatabaseWrapper]]:
        """Two threads' wrappers over a pool of two, of which one may rest; each has connected once."""
        monkeypatch.setattr(DatabaseWrapper, "connections_rest", True)
        monkeypatch.setattr(DatabaseWrapper, "_resting", [])
        wrappers = [wrapper_of_pool(2), wrapper_of_pool(2)]
        for wrapper in wrappers:
            backend(wrapper)
        yield wrappers
        for wrapper in wrappers:
            wrapper.close()
        wrappers[0].close_pool()

    def begin(self, wrapper: Any) -> int:
        """The begin of a request; the server process that serves it."""
        wrapper.close_if_unusable_or_obsolete()
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])

    def ask(self, wrapper: DatabaseWrapper) -> int:
        """A whole request."""
        pid = self.begin(wrapper)
        wrapper.close_if_unusable_or_obsolete()
        return pid

    def test_the_last_used_serves_the_next_whichever_thread_asks(self, two: list[DatabaseWrapper]) -> None:
        first = self.ask(two[0])
        assert [self.ask(each) for each in (two[1], two[0], two[1])] == [first] * 3
        assert two[0].connection is None

    def test_two_at_once_have_one_each_and_one_place_to_rest(self, two: list[DatabaseWrapper]) -> None:
        first, second = self.begin(two[0]), self.begin(two[1])
        assert first != second
        for wrapper in two:
            wrapper.close_if_unusable_or_obsolete()
        assert [each.info.backend_pid for each in DatabaseWrapper._resting] == [first]
        assert two[0].pool.get_stats()["pool_available"] == 1

    def test_a_request_that_needs_none_leaves_none_with_its_thread(self, two: list[DatabaseWrapper]) -> None:
        two[1].close_if_unusable_or_obsolete()  # its begin: none rests yet
        first = self.ask(two[0])
        two[1].close_if_unusable_or_obsolete()
        assert two[1].connection is None
        assert self.ask(two[1]) == first

    @pytest.mark.parametrize("idle", [0.0, 60.0], ids=["after a rest", "at once"])
    def test_a_dead_one_is_replaced(
        self, two: list[DatabaseWrapper], monkeypatch: pytest.MonkeyPatch, idle: float
    ) -> None:
        first = self.ask(two[0])
        monkeypatch.setattr(base, "IDLE_SECONDS", idle)
        end(first)
        assert self.ask(two[1]) != first

    def test_one_in_a_transaction_never_rests(self, two: list[DatabaseWrapper]) -> None:
        self.begin(two[0])
        two[0].set_autocommit(False)
        two[0].close_if_unusable_or_obsolete()
        assert two[0].connection is None
        assert not DatabaseWrapper._resting

    def test_nor_one_that_has_failed(self, two: list[DatabaseWrapper]) -> None:
        first = self.begin(two[0])
        end(first)
        with pytest.raises(OperationalError), two[0].cursor() as cursor:
            cursor.execute("SELECT 1")
        two[0].close_if_unusable_or_obsolete()
        assert not DatabaseWrapper._resting
        assert self.ask(two[0]) != first
