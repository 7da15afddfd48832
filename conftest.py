"""The cast of the test suite and the servers it runs on."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from apps.auth.models import Role, User, UserRole
from apps.core.breaker import redis_breaker
from crm2 import servers
from tests.chaos import broker as brokers

PASSWORD = "Зимний-лес-2026"


def pytest_configure(config: pytest.Config) -> None:
    servers.hold(fsync=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `broker` share one private RabbitMQ in one worker; without Debian's packages they are deselected.

    With CI=true they stay, and fail with the packages' names.
    """
    with_broker = [item for item in items if item.get_closest_marker("broker")]
    for item in with_broker:
        item.add_marker(pytest.mark.xdist_group("broker"))
    if with_broker and not brokers.installed() and os.environ.get("CI") != "true":
        config.hook.pytest_deselected(items=with_broker)
        items[:] = [item for item in items if item not in with_broker]


def pytest_report_header() -> str | None:
    return None if brokers.installed() else f"broker: tests marked so are left out: {brokers.PACKAGES}"


@pytest.fixture(scope="session")
def broker() -> Iterator[brokers.Broker]:
    """A RabbitMQ of our own, started once; a test that uses it is marked `broker`."""
    with brokers.private_broker(management=True) as started:
        yield started


@pytest.fixture(autouse=True)
def _clean_cache() -> None:
    redis_breaker.reset()
    cache.clear()


def new_user(name: str, *roles: str, **fields: Any) -> User:
    """A person with PASSWORD and roles; ROLE_USER always."""
    user = User(email=f"{name}@example.com", full_name=name.title(), **fields)
    user.set_password(PASSWORD)
    user.save()
    for role in {"ROLE_USER", *roles}:
        # A test with real commits empties the tables behind it, the rows of migrations too.
        UserRole.objects.create(user=user, role=Role.objects.get_or_create(name=role)[0])
    return user


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    """A person with roles: `make_user("seller", "ROLE_SALES_AGENT")`."""
    return new_user


@pytest.fixture
def admin(make_user: Callable[..., User]) -> User:
    return make_user("admin", "ROLE_ADMIN")


@pytest.fixture
def seller(make_user: Callable[..., User]) -> User:
    return make_user("seller", "ROLE_SALES_AGENT")


@pytest.fixture
def other_seller(make_user: Callable[..., User]) -> User:
    return make_user("other_seller", "ROLE_SALES_AGENT")


@pytest.fixture
def executor(make_user: Callable[..., User]) -> User:
    return make_user("executor", "ROLE_EXECUTOR")


@pytest.fixture
def stranger(make_user: Callable[..., User]) -> User:
    """Someone of the agency with rights, but none in the deals of the test."""
    return make_user("stranger", "ROLE_SALES_AGENT", "ROLE_EXECUTOR")


@pytest.fixture
def reader(make_user: Callable[..., User]) -> User:
    """ROLE_USER alone."""
    return make_user("reader")


@pytest.fixture
def api(db: None) -> Callable[..., APIClient]:
    """A client signed in as someone: `api(seller).get("/api/v1/deals")`; `api()` is anonymous."""

    def client(user: User | None = None) -> APIClient:
        signed = APIClient()
        if user is not None:
            from_db = User.objects.with_roles().get(pk=user.pk)
            signed.force_authenticate(from_db)
        return signed

    return client
