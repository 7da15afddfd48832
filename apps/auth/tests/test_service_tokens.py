"""Keys of programs: made once, shown once, taken back."""

import hashlib
import re
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from apps.auth.models import ServiceToken
from apps.auth.services import service_tokens
from apps.core.models import Event

URL = "/api/v1/service-tokens"
NOBODY = "7e57ab1e-0000-4000-8000-000000000000"
NEW = {"name": "Сайт", "scopes": ["deals.manage", "clients.edit"]}


class TestCreate:
    def test_shows_the_token_once(self, api, admin):
        answer = api(admin).post(URL, NEW)
        body = answer.json()
        assert answer.status_code == 201
        assert answer["Cache-Control"] == "no-store"
        assert re.fullmatch(r"crm_st_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", body["token"])
        assert body | {"id": "", "prefix": "", "created_at": "", "token": ""} == {
            "id": "",
            "name": "Сайт",
            "prefix": "",
            "scopes": ["clients.edit", "deals.manage"],
            "created_by_id": str(admin.pk),
            "created_at": "",
            "expires_at": None,
            "revoked_at": None,
            "last_used_at": None,
            "token": "",
        }
        [listed] = api(admin).get(URL).json()
        assert "token" not in listed
        assert listed["id"] == body["id"]

    def test_keeps_the_hash_only(self, api, admin):
        secret = api(admin).post(URL, NEW).json()["token"][16:]
        token = ServiceToken.objects.get()
        assert bytes(token.secret_hash) == hashlib.sha256(secret.encode()).digest()
        event = Event.objects.get()
        assert (event.name, event.aggregate, event.aggregate_id) == (
            "service_token.created",
            "service_token",
            token.pk,
        )
        assert secret not in str(event.__dict__)

    def test_idempotency_key_keeps_no_answer(self, api, admin):
        tokens = {api(admin).post(URL, NEW, HTTP_IDEMPOTENCY_KEY="k").json()["token"] for _ in range(2)}
        assert len(tokens) == 2

    @pytest.mark.parametrize(
        ("change", "code", "field"),
        [
            ({"name": ""}, "blank", "name"),
            ({"name": "x" * 101}, "max_length", "name"),
            ({"scopes": []}, "empty", None),
            ({"scopes": ["deals.edti"]}, "unknown_capability", "scopes"),
            ({"scopes": "deals.edit"}, "not_a_list", "scopes"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "in_the_past", "expires_at"),
            ({"expires_at": "soon"}, "invalid", "expires_at"),
        ],
    )
    def test_refuses(self, api, admin, change, code, field):
        answer = api(admin).post(URL, {**NEW, **change})
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
        [error] = answer.json()["errors"]
        if field:
            assert (error["field"], error["code"]) == (field, code)

    def test_nobody_hands_out_more_than_he_holds(self, admin, bearer):
        _, text = service_tokens.create_service_token(name="x", scopes=["tokens.manage"], actor=admin)
        client = bearer(text)
        assert client.post(URL, {"name": "y", "scopes": ["users.manage"]}).status_code == 403
        answer = client.post(URL, {"name": "y", "scopes": ["tokens.manage"]})
        assert (answer.status_code, answer.json()["created_by_id"]) == (201, None)


class TestRevoke:
    def test_at_once_and_once(self, api, admin, bearer):
        body = api(admin).post(URL, NEW).json()
        for _ in range(2):
            assert api(admin).delete(f"{URL}/{body['id']}").status_code == 204
        assert bearer(body["token"]).get("/api/v1/roles").status_code == 401
        assert api(admin).get(URL).json()[0]["revoked_at"] is not None
        assert Event.objects.filter(name="service_token.revoked").count() == 1

    def test_unknown(self, api, admin):
        answer = api(admin).delete(f"{URL}/{NOBODY}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("who", ["seller", "reader", None])
@pytest.mark.parametrize(("method", "path"), [("get", URL), ("post", URL), ("delete", f"{URL}/{NOBODY}")])
def test_administrators_alone(api, request, who, method, path):
    caller = request.getfixturevalue(who) if who else None
    assert getattr(api(caller), method)(path).status_code == (403 if who else 401)


class TestCommand:
    def run(self, *args):
        out, err = StringIO(), StringIO()
        call_command("service_token", *args, stdout=out, stderr=err)
        return out.getvalue().strip()

    def test_create_list_revoke(self, db, bearer):
        text = self.run("create", "site", "--scopes", "deals.edit, clients.edit", "--days", "90")
        token = ServiceToken.objects.get()
        assert timedelta(days=89) < token.expires_at - timezone.now() <= timedelta(days=90)
        assert token.scopes == ["clients.edit", "deals.edit"]
        assert bearer(text).get("/api/v1/roles").status_code == 200
        listing = self.run("list")
        assert str(token.pk) in listing
        assert "good" in listing
        assert text[16:] not in listing
        self.run("revoke", str(token.pk))
        assert bearer(text).get("/api/v1/roles").status_code == 401
        assert "revoked" in self.run("list")

    @pytest.mark.parametrize(
        "args",
        [
            ("create", "site", "--scopes", "deals.edti"),
            ("create", " ", "--scopes", "deals.edit"),
            ("create", "site", "--scopes", ""),
            ("create", "site", "--scopes", "deals.edit", "--days", "0"),
            ("revoke", NOBODY),
            ("revoke", "x"),
            (),
        ],
    )
    def test_refuses_in_words(self, db, args):
        with pytest.raises(CommandError):
            self.run(*args)
        assert not ServiceToken.objects.exists()
