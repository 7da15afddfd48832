"""Forged, foreign and stale access tokens: all refused, none with a 500."""

import base64
import hashlib
import hmac
import json
import os
import uuid
from datetime import timedelta

import jwt
import pytest
import time_machine
from django.conf import settings
from django.utils import timezone

from apps.auth import tokens
from apps.auth.models import SigningKey

ME = "/api/v1/auth/me"
OTHER_SECRET = "b" * 25 + "Z9-" * 12


def b64(data):
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.fixture
def good(admin, pair_of):
    """A live token and its parts."""
    token = pair_of(admin)["accessToken"]
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    return token, header, claims


def signed(claims, header, secret=None, algorithm="HS256"):
    headers = {name: value for name, value in header.items() if name not in ("alg", "typ")}
    return jwt.encode(claims, secret or settings.AUTH_JWT_SECRET, algorithm=algorithm, headers=headers)


def now():
    return int(timezone.now().timestamp())


def without(mapping, *names):
    return {name: value for name, value in mapping.items() if name not in names}


def by_rsa(claims, header):
    """A token of another algorithm; whatever signs it, we have no such key."""
    return f"{b64({**header, 'alg': 'RS256'})}.{b64(claims)}.{b64(os.urandom(256))}"


def by_public_key(claims, header):
    """The RS/HS mix: an HMAC whose key is somebody's public key."""
    pem = (
        b"-----BEGIN PUBLIC KEY-----\n"
        b"MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----"
    )
    unsigned = f"{b64({**header, 'alg': 'HS256'})}.{b64(claims)}"
    return f"{unsigned}.{b64(hmac.digest(pem, unsigned.encode(), hashlib.sha256))}"


FORGERIES = {
    "alg none": lambda t, h, c: f"{b64({**h, 'alg': 'none'})}.{b64(c)}.",
    "alg None with the old signature": lambda t, h, c: f"{b64({**h, 'alg': 'None'})}.{b64(c)}.{t.split('.')[2]}",
    "no alg": lambda t, h, c: f"{b64(without(h, 'alg'))}.{b64(c)}.{t.split('.')[2]}",
    "HS512 by our key": lambda t, h, c: signed(c, h, algorithm="HS512"),
    "RS256 by another's key": lambda t, h, c: by_rsa(c, h),
    "HMAC by a public key": lambda t, h, c: by_public_key(c, h),
    "another secret": lambda t, h, c: signed(c, h, secret=OTHER_SECRET),
    "empty signature": lambda t, h, c: t.rpartition(".")[0] + ".",
    "cut signature": lambda t, h, c: t[:-8],
    "changed claims": lambda t, h, c: f"{t.split('.')[0]}.{b64({**c, 'sub': str(uuid.uuid4())})}.{t.split('.')[2]}",
    "two parts": lambda t, h, c: t.rpartition(".")[0],
    "four parts": lambda t, h, c: t + ".x",
    "not base64": lambda t, h, c: "§§§".encode().hex() + ".???.!!!",
    "header is a list": lambda t, h, c: f"{b64([])}.{b64(c)}.{t.split('.')[2]}",
    "payload is a list": lambda t, h, c: f"{t.split('.')[0]}.{b64([])}.{t.split('.')[2]}",
    "no kid": lambda t, h, c: signed(c, without(h, "kid")),
    "unknown kid": lambda t, h, c: signed(c, {"kid": "0" * 16}),
    "kid is a path": lambda t, h, c: signed(c, {"kid": "../../../../dev/null"}, secret="\0" * 32),
    "kid is SQL": lambda t, h, c: signed(c, {"kid": "x' UNION SELECT 'a"}),
    "kid is a number": lambda t, h, c: f"{b64({**h, 'kid': 1})}.{b64(c)}.{t.split('.')[2]}",
    "jku": lambda t, h, c: signed(c, {**h, "jku": "https://evil.example/jwks.json"}),
    "x5u": lambda t, h, c: signed(c, {**h, "x5u": "file:///etc/passwd"}),
    "jwk": lambda t, h, c: signed(c, {**h, "jwk": {"kty": "oct", "k": "AAAA"}}),
    "crit": lambda t, h, c: signed(c, {**h, "crit": ["exp"]}),
    "expired": lambda t, h, c: signed({**c, "exp": now() - 1}, h),
    "exp is now": lambda t, h, c: signed({**c, "exp": now()}, h),
    "no exp": lambda t, h, c: signed(without(c, "exp"), h),
    "exp is text": lambda t, h, c: signed({**c, "exp": "never"}, h),
    "nbf in the future": lambda t, h, c: signed({**c, "nbf": now() + 60}, h),
    "iat in the future": lambda t, h, c: signed({**c, "iat": now() + 60}, h),
    "another audience": lambda t, h, c: signed({**c, "aud": ["other"]}, h),
    "no audience": lambda t, h, c: signed(without(c, "aud"), h),
    "another issuer": lambda t, h, c: signed({**c, "iss": "http://evil.example"}, h),
    "no issuer": lambda t, h, c: signed(without(c, "iss"), h),
    "refresh as access": lambda t, h, c: signed({**c, "typ": "refresh"}, h),
    "no type": lambda t, h, c: signed(without(c, "typ"), h),
    "no jti": lambda t, h, c: signed(without(c, "jti"), h),
    "no sid": lambda t, h, c: signed(without(c, "sid"), h),
    "sid is no UUID": lambda t, h, c: signed({**c, "sid": "1"}, h),
    "1 MB": lambda t, h, c: signed({**c, "pad": "x" * 1_000_000}, h),
    "1 MB of dots": lambda t, h, c: "." * 1_000_000,
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_token_is_refused(good, bearer, name):
    token, header, claims = good
    assert bearer(token).get(ME).status_code == 200  # the material itself is good

    answer = bearer(FORGERIES[name](token, header, claims)).get(ME)

    assert answer.status_code == 401
    assert answer.json()["code"] == "invalid_token"
    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("subject", ["", "1", "admin", "not-a-uuid-at-all", "11111111-1111-1111-1111-11111111111Z"])
def test_subject_must_be_a_uuid(good, bearer, subject):
    _, header, claims = good
    answer = bearer(signed({**claims, "sub": subject}, header)).get(ME)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token_subject")


@pytest.mark.parametrize("email", [None, "", "  ", 5, ["a@example.com"]])
def test_email_must_be_there(good, bearer, email):
    _, header, claims = good
    answer = bearer(signed({**claims, "email": email}, header)).get(ME)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token_email")


@pytest.mark.parametrize("claim", ["sid", "sub"])
def test_session_must_be_the_subjects_own(good, seller, bearer, claim):
    _, header, claims = good
    other = str(seller.pk if claim == "sub" else uuid.uuid4())
    answer = bearer(signed({**claims, claim: other}, header)).get(ME)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


def test_rights_come_from_the_database_not_from_the_claim(seller, pair_of, bearer):
    token = pair_of(seller)["accessToken"]
    claims = jwt.decode(token, options={"verify_signature": False})
    forged = signed({**claims, "roles": ["ROLE_ADMIN"]}, jwt.get_unverified_header(token))
    assert bearer(forged).get("/api/v1/users").status_code == 403


def test_large_token_is_refused_before_it_is_read(db, bearer, monkeypatch):
    def explode(*args, **kwargs):
        raise AssertionError("the token was parsed")

    monkeypatch.setattr(tokens.jwt, "get_unverified_header", explode)
    assert bearer("a." * 500_000).get(ME).status_code == 401


def test_claims_and_header(good, admin):
    _, header, claims = good
    assert header == {"alg": "HS256", "typ": "JWT", "kid": tokens._current().kid}
    assert set(claims) == {"iss", "aud", "sub", "iat", "exp", "email", "roles", "sid", "jti", "typ"}
    assert claims["iss"] == settings.AUTH_JWT_ISSUER
    assert claims["aud"] == [settings.AUTH_JWT_AUDIENCE]
    assert claims["exp"] - claims["iat"] == 900
    assert claims["sub"] == str(admin.pk)
    assert claims["email"] == admin.email
    assert claims["roles"] == ["ROLE_ADMIN", "ROLE_USER"]
    assert claims["typ"] == "access"


@pytest.mark.parametrize(("seconds", "status"), [(899, 200), (900, 401)])
def test_access_token_lives_fifteen_minutes(admin, pair_of, bearer, seconds, status):
    with time_machine.travel("2026-03-02T09:00:00Z", tick=False) as clock:
        client = bearer(pair_of(admin)["accessToken"])
        clock.shift(seconds)
        assert client.get(ME).status_code == status


class TestKeyRotation:
    """Two keys for a day: no live session notices."""

    @pytest.fixture
    def rotate(self, settings):
        def turn():
            settings.AUTH_JWT_SECRET_PREVIOUS, settings.AUTH_JWT_SECRET = settings.AUTH_JWT_SECRET, OTHER_SECRET
            tokens._first_used.clear()

        return turn

    def test_tokens_of_the_previous_key_stay_good(self, admin, pair_of, bearer, rotate):
        old = bearer(pair_of(admin)["accessToken"])
        rotate()
        assert old.get(ME).status_code == 200
        assert bearer(pair_of(admin)["accessToken"]).get(ME).status_code == 200
        assert old.get(ME).status_code == 200

    @pytest.mark.parametrize(("hours", "status"), [(23.9, 200), (24, 401), (48, 401)])
    def test_for_a_day_after_the_new_key_was_first_used(
        self, admin, seller, pair_of, bearer, rotate, settings, hours, status
    ):
        settings.AUTH_ACCESS_TOKEN_TTL = 7 * 86400  # so that only the key can end it
        with time_machine.travel("2026-03-02T09:00:00Z", tick=False) as clock:
            old = bearer(pair_of(admin)["accessToken"])
            rotate()
            clock.shift(timedelta(days=2))  # the new key is configured but nobody has signed in yet
            assert old.get(ME).status_code == 200
            pair_of(seller)
            clock.shift(timedelta(hours=hours))
            assert old.get(ME).status_code == status

    def test_first_use_is_recorded_once(self, admin, seller, pair_of):
        with time_machine.travel("2026-03-02T09:00:00Z", tick=False) as clock:
            pair_of(admin)
            clock.shift(3600)
            pair_of(seller)
        [key] = SigningKey.objects.all()
        assert key.first_used_at.isoformat() == "2026-03-02T09:00:00+00:00"

    def test_without_a_previous_key_the_old_token_is_refused(self, admin, pair_of, bearer, rotate, settings):
        old = bearer(pair_of(admin)["accessToken"])
        rotate()
        settings.AUTH_JWT_SECRET_PREVIOUS = ""
        assert old.get(ME).status_code == 401
