"""Who gets a stream at all, and what he is told who gets none."""

import json
from typing import Any

import pytest
from django.db import OperationalError

from apps.core.middleware import SchemaGuardMiddleware
from apps.notifications.streams import log
from apps.notifications.tests.conftest import Office, program, token_of

pytestmark = pytest.mark.django_db


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "status", "code"),
        [
            ("x=1", 400, "invalid_filters"),
            ("types=", 400, "invalid_filters"),
            ("types=a b", 400, "invalid_filters"),
            ("types=*", 400, "invalid_filters"),
            ("types=deal.*.x", 400, "invalid_filters"),
            ("types=a&types=b", 400, "invalid_filters"),
            ("types=" + ",".join(["a"] * 51), 400, "invalid_filters"),
            ("types=%ff%00", 400, "invalid_filters"),
        ],
    )
    def test_parameters(self, office, seller, query, status, code):
        self._is_refused(office, status, code, who=seller, query=query)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
    def test_methods(self, office, seller, method):
        headers = self._is_refused(office, 405, "method_not_allowed", who=seller, method=method)
        assert headers["allow"] == "GET"

    @pytest.mark.parametrize("name", ["deals", "crm", "notifications", "heartbeat"])
    def test_no_credentials(self, office, name):
        headers = self._is_refused(office, 401, "authorization_required", stream=name)
        assert headers["www-authenticate"] == "Bearer"

    def test_bad_credentials(self, office):
        self._is_refused(office, 401, "invalid_token", who="junk")
        self._is_refused(office, 401, "invalid_authorization_header", authorization="Basic x")

    def test_types_of_a_bare_heartbeat(self, office, seller):
        self._is_refused(office, 400, "invalid_filters", who=seller, stream="heartbeat", query="types=a")

    def test_a_host_of_others(self, office, seller):
        self._is_refused(office, 400, "validation_error", who=token_of(seller), x_trace_id="abc", host="evil.example")

    def test_an_old_schema(self, office, seller, monkeypatch):
        token = token_of(seller)
        monkeypatch.setattr(SchemaGuardMiddleware, "current", False)
        monkeypatch.setattr("apps.core.middleware.migrations_pending", lambda: True)
        headers = self._is_refused(office, 503, "migrations_pending", who=token)
        assert headers["retry-after"] == "5"

    def test_no_database(self, office, seller, monkeypatch):
        token = token_of(seller)

        def away() -> None:
            raise OperationalError

        monkeypatch.setattr(log, "head", away)
        headers = self._is_refused(office, 503, "service_unavailable", who=token)
        assert headers["retry-after"] == "2"

    def test_a_program_without_the_scope(self, office):
        async def go() -> None:
            async with office.listen(program("deals.edit")) as stream:
                await stream.next()
                frame = await stream.next()
                assert (frame.event, frame.data) == ("error", {"code": "forbidden"})
                await stream.closed()
                assert stream.complete

        office.run(go)

    def _is_refused(self, office: Office, status: int, code: str, **asked: Any) -> dict[str, str]:
        async def go() -> dict[str, str]:
            async with office.listen(**asked) as stream:
                await stream.closed()
                assert stream.status == status
                assert stream.headers["content-type"] == "application/problem+json"
                body = json.loads(stream.raw)
                assert body["code"] == code
                assert body["trace_id"] == stream.headers["x-trace-id"]
                return stream.headers

        return office.run(go)


class TestOtherOrigins:
    """A browser program of another origin listens as it reads the rest of the API: by token."""

    ORIGIN = "https://app.example.org"

    @pytest.fixture(autouse=True)
    def listed(self, settings):
        settings.CORS_ALLOW_ALL_ORIGINS = False
        settings.CORS_ALLOWED_ORIGINS = [self.ORIGIN]

    def test_it_asks_first_and_listens(self, office, seller):
        async def go() -> None:
            asked = {"access_control_request_method": "GET", "access_control_request_headers": "last-event-id"}
            async with office.listen(method="OPTIONS", origin=self.ORIGIN, **asked) as stream:
                assert stream.status == 200
                assert stream.headers["access-control-allow-origin"] == self.ORIGIN
                assert "last-event-id" in stream.headers["access-control-allow-headers"]
                assert stream.raw == b""
            async with office.listen(seller, origin=self.ORIGIN) as stream:
                await stream.opening()
                assert stream.headers["access-control-allow-origin"] == self.ORIGIN
                assert stream.headers["content-type"].startswith("text/event-stream")
            async with office.listen(origin=self.ORIGIN) as stream:
                assert (stream.status, stream.headers["access-control-allow-origin"]) == (401, self.ORIGIN)

        office.run(go)

    def test_any_other_is_told_nothing(self, office, seller):
        async def go() -> None:
            async with office.listen(seller, origin="https://evil.example") as stream:
                await stream.opening()
                assert "access-control-allow-origin" not in stream.headers

        office.run(go)
