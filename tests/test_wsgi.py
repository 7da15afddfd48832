"""What gunicorn serves: liveness before Django, everything else by it."""

from io import BytesIO
from typing import Any

import pytest

from crm2.wsgi import application

pytestmark = pytest.mark.django_db


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
