"""Around every request: whose it is, its trace id and log line, the guard against an old schema."""

import gzip
import logging
import re

import pytest
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client, RequestFactory

from apps.core import context, middleware
from apps.core.middleware import SchemaGuardMiddleware, TraceMiddleware, TrustedProxyMiddleware
from conftest import PASSWORD


def ok(_request) -> HttpResponse:
    return HttpResponse(context.trace_id())


@pytest.mark.django_db
@pytest.mark.urls("apps.core.tests.site")
class TestTrace:
    @pytest.mark.parametrize("given", ["abc", "a.b-C_1", "x" * 64])
    def test_a_good_one_is_taken(self, api, reader, given):
        assert api(reader).get("/api/v1/notes", headers={"X-Trace-Id": given})["X-Trace-Id"] == given

    @pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\nb", "ключ", '{"a":1}', None])
    def test_any_other_is_replaced(self, given):
        request = RequestFactory().get("/", headers={"X-Trace-Id": given} if given is not None else {})
        answer = TraceMiddleware(ok)(_resolved(request))
        assert re.fullmatch(r"[0-9a-f]{32}", answer["X-Trace-Id"])
        assert answer.content.decode() == answer["X-Trace-Id"]

    def test_nothing_of_it_is_left(self):
        TraceMiddleware(ok)(_resolved(RequestFactory().get("/")))
        assert context.trace_id() == ""

    @pytest.mark.parametrize(("path", "via"), [("/admin/core/event/", "admin"), ("/api/v1/deals", "http")])
    def test_the_way_in(self, path, via):
        seen = []

        def view(_request) -> HttpResponse:
            seen.append(context.via())
            return HttpResponse()

        TraceMiddleware(view)(_resolved(RequestFactory().get(path)))
        assert seen == [via]

    def test_one_line_without_query_and_body(self, api, reader, caplog):
        caplog.set_level(logging.INFO, logger="crm2.access")
        api(reader).get("/api/v1/notes?job=Иванов")
        (record,) = [each for each in caplog.records if each.name == "crm2.access"]
        assert (record.method, record.route, record.status) == ("GET", "api/v1/notes", 200)
        assert "Иванов" not in str(record.__dict__)


def _resolved(request):
    request.resolver_match = None
    return request


class TestSchemaGuard:
    @pytest.fixture
    def guard(self, monkeypatch):
        state = {"pending": True, "asked": 0}

        def pending() -> bool:
            state["asked"] += 1
            if isinstance(state["pending"], Exception):
                raise state["pending"]
            return state["pending"]

        monkeypatch.setattr(middleware, "migrations_pending", pending)
        monkeypatch.setattr(SchemaGuardMiddleware, "current", False)
        return SchemaGuardMiddleware(ok), state

    def test_closed_while_a_migration_is_missing(self, guard):
        answer = guard[0](RequestFactory().get("/api/v1/deals"))
        assert answer.status_code == 503
        assert b'"migrations_pending"' in answer.content
        assert answer["Retry-After"] == "5"

    def test_closed_while_the_database_cannot_be_asked(self, guard):
        guard[1]["pending"] = OperationalError("connection refused")
        answer = guard[0](RequestFactory().get("/api/v1/deals"))
        assert answer.status_code == 503
        assert b'"service_unavailable"' in answer.content

    @pytest.mark.parametrize("path", ["/healthz", "/healthz/"])
    def test_liveness_is_no_matter_of_the_schema(self, guard, path):
        assert guard[0](RequestFactory().get(path)).status_code == 200
        assert guard[1]["asked"] == 0

    def test_open_once_it_is_there_and_never_asked_again(self, guard):
        serve, state = guard
        serve(RequestFactory().get("/"))
        state["pending"] = False
        assert [serve(RequestFactory().get("/")).status_code for _ in range(3)] == [200] * 3
        assert state["asked"] == 2


@pytest.mark.django_db
def test_the_tests_run_on_the_present_schema():
    assert not middleware.migrations_pending()


class TestTrustedProxy:
    @pytest.mark.parametrize(
        ("peer", "forwarded", "address"),
        [
            ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
            ("10.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),
            ("10.0.0.1", "203.0.113.7, 10.0.0.2", "203.0.113.7"),
            ("10.0.0.1", "10.0.0.2", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "rubbish", "10.0.0.1"),
            ("203.0.113.9", "1.2.3.4", "203.0.113.9"),
        ],
    )
    def test_whose_request_it_is(self, settings, peer, forwarded, address):
        settings.TRUSTED_PROXIES = ["10.0.0.0/24"]
        request = RequestFactory().get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded)
        TrustedProxyMiddleware(ok)(request)
        assert request.META["REMOTE_ADDR"] == address
        assert "HTTP_X_FORWARDED_FOR" not in request.META

    @pytest.mark.parametrize(("peer", "secure"), [("10.0.0.1", True), ("203.0.113.9", False)])
    def test_https_is_believed_from_the_proxy_only(self, settings, peer, secure):
        settings.TRUSTED_PROXIES = ["10.0.0.1"]
        request = RequestFactory().get(
            "/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_PROTO="https", HTTP_X_FORWARDED_HOST="evil"
        )
        TrustedProxyMiddleware(ok)(request)
        assert request.is_secure() is secure
        assert "HTTP_X_FORWARDED_HOST" not in request.META


@pytest.mark.django_db
class TestBearerLane:
    """A token's request passes by the pages' middleware, and nobody can tell."""

    PATHS = ("/api/v1/deals", "/api/v1/deals/00000000-0000-4000-8000-000000000000", "/api/v1/nothing", "/api/v1/users")

    def ask(self, monkeypatch, path: str, *, lane: bool, **headers: str):
        if not lane:
            monkeypatch.setattr(middleware, "_innermost", lambda handler: handler)
        client = Client(raise_request_exception=False)
        return client.get(path, headers={"Authorization": "Bearer nobody", "X-Trace-Id": "t", **headers})

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("language", ["", "en", "ru,en;q=0.5", "xx"])
    def test_answers_as_the_whole_chain_does(self, monkeypatch, path, language):
        headers = {"Accept-Language": language} if language else {}
        short = self.ask(monkeypatch, path, lane=True, **headers)
        whole = self.ask(monkeypatch, path, lane=False, **headers)
        assert short.content == whole.content
        assert short.status_code == whole.status_code
        assert {**short.headers} == {**whole.headers}

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Accept-Encoding": "gzip"},
            {"Origin": "https://crm.example"},
            {"Accept-Encoding": "br", "Origin": "null"},
        ],
    )
    @pytest.mark.parametrize("path", ["/api/v1/deals", "/api/v1/auth/me", "/api/v1/users"])
    def test_what_is_given_out_comes_the_same_way(self, monkeypatch, admin, path, headers):
        token = Client().post(
            "/api/v1/auth/token", {"email": admin.email, "password": PASSWORD}, content_type="application/json"
        )
        headers = {**headers, "Authorization": f"Bearer {token.json()['accessToken']}"}
        short, whole = (self.ask(monkeypatch, path, lane=lane, **headers) for lane in (True, False))
        assert short.status_code == whole.status_code == 200
        compressed = "Content-Encoding" in whole.headers
        for answer in (short, whole):
            if compressed:  # with bytes at random
                answer.content = gzip.decompress(answer.content)
                answer.headers["Content-Length"] = "-"
        assert short.content == whole.content
        assert {**short.headers} == {**whole.headers}

    @pytest.mark.parametrize("lane", [True, False])
    def test_over_plain_http_where_it_must_not_be(self, monkeypatch, settings, lane):
        settings.SECURE_SSL_REDIRECT = True
        answer = self.ask(monkeypatch, "/api/v1/deals", lane=lane)
        assert (answer.status_code, answer["Location"]) == (301, "https://testserver/api/v1/deals")

    @pytest.mark.parametrize("lane", [True, False])
    def test_an_old_schema_is_refused(self, monkeypatch, lane):
        monkeypatch.setattr(middleware.SchemaGuardMiddleware, "current", False)
        monkeypatch.setattr(middleware, "migrations_pending", lambda: True)
        assert self.ask(monkeypatch, "/api/v1/deals", lane=lane).status_code == 503

    def test_a_strange_host_is_refused(self, monkeypatch):
        answers = [self.ask(monkeypatch, self.PATHS[0], lane=lane, Host="evil.example") for lane in (True, False)]
        assert [answer.status_code for answer in answers] == [400, 400]
        assert answers[0].content == answers[1].content

    def test_it_is_shorter(self, monkeypatch):
        def never(*_):
            raise AssertionError("a token has no session")

        monkeypatch.setattr(SessionMiddleware, "process_request", never)
        assert self.ask(monkeypatch, self.PATHS[0], lane=True).status_code == 401
        with pytest.raises(AssertionError, match="no session"):
            Client().get("/api/v1/deals")
