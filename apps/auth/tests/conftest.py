"""Real sign-ins: tokens are had by the API, as a client has them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.auth import tokens
from apps.auth.models import User

PASSWORD = "Зимний-лес-2026"


@pytest.fixture(autouse=True)
def _no_remembered_keys() -> Iterator[None]:
    tokens._first_used.clear()
    yield
    tokens._first_used.clear()


@pytest.fixture
def committed(transactional_db: None, django_db_serialized_rollback: None, make_user: Callable[..., User]) -> User:
    """A seller whom other threads see; the rows that migrations made are restored first."""
    return make_user("committed", "ROLE_SALES_AGENT")


@pytest.fixture
def sign_in() -> Callable[..., Any]:
    """`sign_in(email, password)`: the answer of /auth/token."""

    def post(email: str, password: str = PASSWORD, **extra: Any) -> Any:
        return APIClient().post("/api/v1/auth/token", {"email": email, "password": password}, **extra)

    return post


@pytest.fixture
def pair_of(sign_in: Callable[..., Any]) -> Callable[[User], dict[str, Any]]:
    """`pair_of(seller)`: the tokens of a new session."""

    def pair(user: User) -> dict[str, Any]:
        answer = sign_in(user.email)
        assert answer.status_code == 200, answer.content
        return dict(answer.json())

    return pair


@pytest.fixture
def bearer() -> Callable[[str], APIClient]:
    """`bearer(token)`: a client that sends the token."""

    def client(token: str) -> APIClient:
        made = APIClient()
        made.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        return made

    return client


@pytest.fixture
def as_user(pair_of: Callable[[User], dict[str, Any]], bearer: Callable[[str], APIClient]) -> Callable[..., APIClient]:
    """`as_user(seller)`: a client with a real session."""
    return lambda user: bearer(pair_of(user)["accessToken"])
