"""Every refusal is a problem document; what is no refusal says nothing about itself."""

import pytest

pytestmark = [pytest.mark.django_db, pytest.mark.urls("apps.core.tests.site")]

NOTES = "/api/v1/notes"


@pytest.fixture
def client(api, reader):
    signed = api(reader)
    signed.raise_request_exception = False
    return signed


def fail(client, fault: str, url: str = NOTES):
    return client.post(url, {"job": "a", "fault": fault})


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("domain", 409, "note_taken"),
        ("named_fields", 400, "validation_error"),
        ("not_found", 404, "not_found"),
        ("http404", 404, "not_found"),
        ("drf404", 404, "not_found"),
        ("forbidden", 403, "forbidden"),
        ("django_forbidden", 403, "forbidden"),
        ("unauthenticated", 401, "authorization_required"),
        ("bad_credentials", 401, "authorization_required"),
        ("drf_invalid", 400, "validation_error"),
        ("django_invalid", 400, "validation_error"),
        ("parse", 400, "validation_error"),
        ("suspicious", 400, "validation_error"),
        ("too_big", 413, "body_too_large"),
        ("body_too_large", 413, "body_too_large"),
        ("media_type", 415, "unsupported_media_type"),
        ("throttled", 429, "rate_limited"),
        ("rate_limited", 429, "rate_limited"),
        ("unavailable", 503, "service_unavailable"),
        ("version", 412, "version_mismatch"),
        ("version_required", 428, "version_required"),
        ("data", 400, "validation_error"),
        ("database_away", 503, "service_unavailable"),
        ("pool", 503, "service_unavailable"),
        ("integrity", 500, "internal_error"),
        ("bug", 500, "internal_error"),
    ],
)
def test_each_error_has_its_status_and_code(client, fault, status, code):
    answer = fail(client, fault)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert answer["Content-Type"] == "application/problem+json"
    assert body["status"] == status
    assert body["type"] == f"urn:crm2:problem:{code}"
    assert body["message"] == body["detail"] != ""
    assert body["trace_id"] == answer["X-Trace-Id"]


@pytest.mark.parametrize(
    ("fault", "header", "value"),
    [
        ("unauthenticated", "WWW-Authenticate", "Bearer"),
        ("throttled", "Retry-After", "7"),
        ("rate_limited", "Retry-After", "9"),
        ("unavailable", "Retry-After", "2"),
        ("version", "ETag", '"4"'),
    ],
)
def test_headers_that_belong_to_the_refusal(client, fault, header, value):
    assert fail(client, fault)[header] == value


@pytest.mark.parametrize("fault", ["bug", "integrity"])
def test_a_bug_says_nothing_about_itself(client, fault):
    text = fail(client, fault).content.decode()
    assert "hunter2" not in text
    assert "Traceback" not in text
    assert "Error(" not in text


@pytest.mark.parametrize(("url", "field"), [(NOTES, "next_review_at"), ("/api/v1/crm/notes", "nextReviewAt")])
@pytest.mark.parametrize("fault", ["named_fields", "drf_invalid", "django_invalid"])
def test_fields_are_spelled_as_the_face_spells_them(client, url, field, fault):
    body = fail(client, fault, url).json()
    assert [each["field"] for each in body["errors"]] == [field]
    assert body["trace_id"]


def test_further_members_stand_beside_the_code(client):
    assert fail(client, "extra").json()["blockers"] == [{"type": "note", "id": "1", "label": "a", "reason": "b"}]


def test_texts_follow_accept_language(client):
    answer = client.get("/api/v1/nowhere", headers={"Accept-Language": "en"})
    assert answer.json()["detail"] == "Not found."


@pytest.mark.parametrize("url", ["/api/v1/nowhere", "/nowhere", "/api/v1/notes/1"])
def test_an_unknown_route_is_a_problem_too(client, url):
    answer = client.get(url)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["put", "delete"])
def test_a_method_that_is_not_there(client, method):
    answer = getattr(client, method)(NOTES, {})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert set(answer["Allow"].split(", ")) >= {"GET", "POST", "PATCH"}


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "validation_error"),
        (b"\xff", "application/json", 400, "validation_error"),
        (b"[1]", "application/json", 400, "validation_error"),
        (b'"text"', "application/json", 400, "validation_error"),
        (b'{"job": NaN}', "application/json", 400, "validation_error"),
        (b'{"job": "\\ud800"}', "application/json", 400, "validation_error"),
        (b'{"job": "a\\u0000b"}', "application/json", 400, "validation_error"),
        (b"[" * 2000 + b"]" * 2000, "application/json", 400, "validation_error"),
        (b'{"job": "' + b"x" * 1024 * 1024 + b'"}', "application/json", 413, "body_too_large"),
        (b"job=a", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"<a/>", "text/xml", 415, "unsupported_media_type"),
        (b"{}", "", 415, "unsupported_media_type"),
        (b"", "application/json", 400, "validation_error"),
    ],
)
def test_a_body_that_cannot_be_read(client, body, content_type, status, code):
    answer = client.generic("POST", NOTES, body, content_type=content_type)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


class TestWhoMay:
    def test_nobody_without_credentials(self, api):
        answer = api().get(NOTES)
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")

    @pytest.mark.parametrize(("who", "status"), [("admin", 200), ("reader", 403), ("seller", 403)])
    def test_those_with_the_capability(self, api, request, who, status):
        assert api(request.getfixturevalue(who)).get("/api/v1/hidden").status_code == status

    def test_an_action_without_a_capability_is_closed(self, api, admin):
        assert api(admin).get("/api/v1/closed").status_code == 403

    def test_anyone_where_it_is_public(self, api):
        assert api().post("/api/v1/knock", {}).status_code == 201

    def test_nobodys_idempotency_key_is_ignored(self, api):
        answer = api().post("/api/v1/knock", {}, headers={"Idempotency-Key": "k"})
        assert (answer.status_code, answer.json()) == (201, {"caller": None})


@pytest.mark.parametrize("url", [NOTES, f"{NOTES}/"])
def test_a_route_answers_with_and_without_its_slash(client, url):
    assert client.get(url).status_code == 200
