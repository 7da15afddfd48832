"""What a password must be, what its hash is, and that an unknown account costs what a wrong password does."""

import pytest
from django.contrib.auth import hashers
from django.contrib.auth.hashers import check_password, make_password
from django.test import override_settings
from rest_framework.test import APIClient

from apps.auth.models import User
from apps.auth.services import people
from apps.auth.tests.conftest import PASSWORD
from apps.core.errors import Invalid
from apps.core.models import Event

URL = "/api/v1/auth/password"
NEW = "Осенний-ветер-77"


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("Краткий-11x", "password_too_short"),
        ("", "password_too_short"),
        ("x7-" * 43, "password_too_long"),
        ("password1234", "password_too_common"),
        ("qwertyuiop123", "password_too_common"),
        ("1q2w3e4r5t6y", "password_too_common"),
        ("insurance2026!!", "password_too_common"),
        ("страхование2026", "password_too_common"),
        ("пароль123456", "password_too_common"),
        ("aaaaaaaaaaaaaaaa", "password_too_common"),
        ("121212121212", "password_too_common"),
        ("ivan.petrov@example.com", "password_too_similar"),
        ("IVAN.PETROV@EXAMPLE.COM", "password_too_similar"),
        ("my-ivan.petrov-77", "password_too_similar"),
    ],
)
def test_refused(password, code):
    with pytest.raises(Invalid) as caught:
        people.refuse_weak_password(password, User(email="ivan.petrov@example.com"), field="password")
    assert code in [each.code for each in caught.value.errors]
    assert {each.field for each in caught.value.errors} == {"password"}


@pytest.mark.parametrize(
    "password",
    [
        "Зимний-лес-2026",
        "correct horse battery staple",
        "просто длинная фраза без цифр",
        "tY7#kQ2!vB9x",
        ("x7-йЁ " * 22)[:128],
        "🦊 лиса в лесу 🌲",
    ],
)
def test_accepted(password):
    people.refuse_weak_password(password, User(email="ivan.petrov@example.com"), field="password")


class TestHash:
    @pytest.fixture(autouse=True)
    def _argon2(self):
        with override_settings(PASSWORD_HASHERS=["apps.auth.hashers.Argon2id"]):
            yield

    def test_is_argon2id_at_our_cost(self):
        encoded = make_password(PASSWORD)
        assert encoded.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
        assert check_password(PASSWORD, encoded)
        assert not check_password(PASSWORD + " ", encoded)

    def test_is_salted(self):
        assert make_password(PASSWORD) != make_password(PASSWORD)

    def test_fits_its_column(self):
        assert len(make_password("x" * 128)) <= 128


@pytest.fixture
def hashings(monkeypatch):
    """How often a password was hashed, to make a hash or to verify one."""
    calls = []
    hasher = hashers.get_hasher()

    def counted(name):
        original = getattr(hasher, name)

        def run(*args):
            calls.append(name)
            return original(*args)

        return run

    # MD5's verify encodes: count the outer call alone.
    monkeypatch.setattr(hasher, "verify", lambda password, encoded: calls.append("verify") or False)
    monkeypatch.setattr(hasher, "encode", counted("encode"))
    return calls


@pytest.mark.parametrize("who", ["wrong password", "unknown", "disabled", "no usable password"])
def test_every_refusal_costs_one_hashing(make_user, sign_in, hashings, who):
    user = make_user("someone", enabled=who != "disabled")
    if who == "no usable password":
        user.set_unusable_password()
        user.save()
    hashings.clear()
    assert sign_in("nobody@example.com" if who == "unknown" else user.email, "wrong password 1").status_code == 401
    assert len(hashings) == 1


def test_throttled_costs_none(seller, sign_in, hashings):
    for _ in range(5):
        sign_in(seller.email, "wrong password 1")
    hashings.clear()
    assert sign_in(seller.email).status_code == 429
    assert hashings == []


class TestChange:
    def change(self, client, current=PASSWORD, new=NEW):
        return client.post(URL, {"currentPassword": current, "newPassword": new})

    def test_ends_every_session(self, seller, pair_of, bearer, sign_in):
        one, other = pair_of(seller), pair_of(seller)
        assert self.change(bearer(one["accessToken"])).status_code == 204
        for pair in (one, other):
            assert bearer(pair["accessToken"]).get("/api/v1/auth/me").json()["code"] == "session_ended"
            refreshed = APIClient().post("/api/v1/auth/refresh", {"refreshToken": pair["refreshToken"]})
            assert refreshed.json()["code"] == "refresh_token_expired"
        assert sign_in(seller.email).status_code == 401
        assert sign_in(seller.email, NEW).status_code == 200

    def test_wrong_current(self, seller, as_user):
        client = as_user(seller)
        answer = self.change(client, current="wrong password 1")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_credentials")
        assert client.get("/api/v1/auth/me").status_code == 200

    def test_weak_new(self, seller, as_user):
        client = as_user(seller)
        answer = self.change(client, new="short")
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
        assert answer.json()["errors"][0] | {"message": ""} == {
            "field": "newPassword",
            "code": "password_too_short",
            "message": "",
        }
        assert client.get("/api/v1/auth/me").status_code == 200

    def test_needs_a_session(self, db):
        assert self.change(APIClient()).status_code == 401

    def test_tells_without_the_password(self, seller, as_user):
        self.change(as_user(seller))
        event = Event.objects.get(name="user.password.changed")
        seller.refresh_from_db()
        assert (event.aggregate_id, event.actor_id, event.version) == (seller.pk, seller.pk, seller.version)
        assert NEW not in str(event.__dict__)
        assert seller.password not in str(event.__dict__)
        assert event.changes == {}
