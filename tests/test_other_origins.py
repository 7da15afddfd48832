"""What stands between a program and the API: browsers of other origins, compression, how long a request may take."""

import copy
import gzip
from typing import Any

import pytest
from django.conf import settings as live_settings
from django.db import OperationalError, connection, connections
from django.test import Client

from apps.auth.models import User
from apps.core.api import problems
from apps.crm.models import Deal
from apps.payments.tests import factory
from crm2 import servers
from crm2.postgresql.base import DatabaseWrapper

pytestmark = pytest.mark.django_db
ORIGIN = "https://app.example.org"
ALLOW = "Access-Control-Allow-Origin"


@pytest.fixture
def listed(settings: Any) -> None:
    """As in production: one origin is named."""
    settings.CORS_ALLOW_ALL_ORIGINS = False
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]


@pytest.fixture
def deal(seller: User) -> Deal:
    return factory.make_deal(seller)


def preflight(path: str, origin: str = ORIGIN, method: str = "PATCH") -> Any:
    return Client().options(
        path,
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type,if-match,idempotency-key",
        },
    )


@pytest.mark.usefixtures("listed")
class TestOrigins:
    @pytest.mark.parametrize("path", ["/api/v1/deals", "/api/v1/crm/deals/", "/api/v1/auth/token", "/api/v1/nothing"])
    def test_a_browser_may_ask_first(self, path: str) -> None:
        answer = preflight(path)
        assert answer.status_code == 200
        assert answer[ALLOW] == ORIGIN
        assert "PATCH" in answer["Access-Control-Allow-Methods"]
        allowed = {name.strip() for name in answer["Access-Control-Allow-Headers"].split(",")}
        assert {"authorization", "content-type", "if-match", "idempotency-key", "last-event-id"} <= allowed
        assert answer["Access-Control-Max-Age"] == "600"

    def test_it_reads_the_answer_and_its_headers(self, api: Any, seller: User, deal: Deal) -> None:
        answer = api(seller).get(f"/api/v1/crm/deals/{deal.pk}", headers={"Origin": ORIGIN})
        assert answer[ALLOW] == ORIGIN
        exposed = {name.strip() for name in answer["Access-Control-Expose-Headers"].split(",")}
        assert {"ETag", "Link", "X-Total-Count", "Retry-After", "X-Trace-Id"} <= exposed
        assert "origin" in answer["Vary"].lower()

    def test_refusals_are_read_too(self) -> None:
        answer = Client().get("/api/v1/deals", headers={"Origin": ORIGIN})
        assert (answer.status_code, answer[ALLOW]) == (401, ORIGIN)

    def test_no_cookie_ever_goes_along(self, api: Any, seller: User) -> None:
        for answer in (preflight("/api/v1/deals"), api(seller).get("/api/v1/deals", headers={"Origin": ORIGIN})):
            assert "Access-Control-Allow-Credentials" not in answer

    @pytest.mark.parametrize("origin", ["https://evil.example", "http://app.example.org", "null", "x", "https://["])
    def test_any_other_is_told_nothing(self, api: Any, seller: User, origin: str) -> None:
        assert ALLOW not in preflight("/api/v1/deals", origin)
        assert ALLOW not in api(seller).get("/api/v1/deals", headers={"Origin": origin})

    @pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/healthz", "/static/x.js"])
    def test_pages_are_not_for_programs(self, path: str) -> None:
        assert ALLOW not in preflight(path)
        assert ALLOW not in Client().get(path, headers={"Origin": ORIGIN})


def test_in_development_any_origin_may(api: Any, seller: User) -> None:
    assert live_settings.CORS_ALLOW_ALL_ORIGINS
    assert api(seller).get("/api/v1/deals", headers={"Origin": "http://localhost:3000"})[ALLOW] == "*"


class TestCompression:
    GZIP = {"Accept-Encoding": "gzip, br"}

    def test_a_long_answer_is_compressed_for_who_reads_it(self, api: Any, seller: User) -> None:
        for _ in range(5):
            factory.make_deal(seller)
        plain = api(seller).get("/api/v1/crm/deals")
        packed = api(seller).get("/api/v1/crm/deals", headers=self.GZIP)
        assert "Content-Encoding" not in plain
        assert packed["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.content) == plain.content
        assert int(packed["Content-Length"]) == len(packed.content) < len(plain.content)

    def test_a_short_one_is_not(self, api: Any, seller: User) -> None:
        assert "Content-Encoding" not in api(seller).get("/api/v1/clients", headers=self.GZIP)

    def test_its_tag_still_names_the_version(self, api: Any, seller: User, deal: Deal) -> None:
        tag = api(seller).get(f"/api/v1/deals/{deal.pk}", headers=self.GZIP)["ETag"]
        assert tag == f'W/"{deal.version}"'
        changed = api(seller).patch(f"/api/v1/deals/{deal.pk}", {"title": "Иначе"}, headers={"If-Match": tag})
        assert changed.status_code == 200
        stale = api(seller).patch(f"/api/v1/deals/{deal.pk}", {"title": "А"}, headers={"If-Match": tag})
        assert stale.status_code == 412


class TestTime:
    def test_what_a_request_may_take_of_the_database(self, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
        settings.REQUEST_STATEMENT_SECONDS, settings.REQUEST_IDLE_TRANSACTION_SECONDS = 5, 10
        database = copy.deepcopy(connections.settings["default"])
        database["OPTIONS"]["options"] = "-c work_mem=5MB"
        monkeypatch.setitem(connections.settings, "default", database)
        servers.bound_requests()
        bounded = DatabaseWrapper(database, alias="default")
        try:
            with bounded.cursor() as cursor:
                shown = []
                for name in ("statement_timeout", "idle_in_transaction_session_timeout", "work_mem"):
                    cursor.execute(f"SHOW {name}")
                    shown.append(cursor.fetchone()[0])
        finally:
            bounded.close()
        assert shown == ["5s", "10s", "5MB"]

    def test_too_long_is_try_again_later(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '20ms'")
            with pytest.raises(OperationalError) as refused:
                cursor.execute("SELECT pg_sleep(5)")
        error = problems.as_domain_error(refused.value)
        assert error is not None
        assert (error.status, error.code) == (503, "service_unavailable")
        assert "Retry-After" in problems.headers(error)
