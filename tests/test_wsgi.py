"""What gunicorn serves: liveness before Django, everything else by it."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections

from crm2.wsgi import application

pytestmark = pytest.mark.django_db
SIGNALS = (request_started, request_finished)


@pytest.fixture(autouse=True)
def kept_connection() -> Iterator[None]:
    """A request would drop the connection that holds the test's transaction; Django's own test client does the same."""
    for signal in SIGNALS:
        signal.disconnect(close_old_connections)
    yield
    for signal in SIGNALS:
        signal.connect(close_old_connections)


def ask(path: str, host: str) -> tuple[str, bytes]:
    seen: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": host, "SERVER_PORT": "80", "HTTP_HOST": host,
        "wsgi.url_scheme": "http", "wsgi.input": BytesIO(), "REMOTE_ADDR": "127.0.0.1",
    }  # fmt: skip

    def start(status: str, headers: Any, *_: Any) -> None:
        seen.append(status)

    body = b"".join(application(environ, start))
    return seen[0], body


@pytest.mark.parametrize("path", ["/healthz", "/healthz/"])
def test_liveness_answers_any_host(path: str) -> None:
    assert ask(path, "10.0.0.7") == ("200 OK", b'{"status":"ok"}')


def test_the_rest_is_django() -> None:
    status, body = ask("/api/v1/deals", "localhost")
    assert (status, b"authorization_required" in body) == ("401 Unauthorized", True)
