"""Access tokens: simplejwt's HS256 tokens that name their key. (docs/contract.md, "Sign-in")

The header's `kid` must be the current key's, or the previous one's for a day after the current was first used. Rights
are never read from a token: the claims only say whose it is.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import jwt
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenError
from rest_framework_simplejwt.tokens import Token

from apps.auth.models import SigningKey, User

ALGORITHM = "HS256"
MAX_LENGTH = 4096  # characters; ours are under 1,000: whatever is longer is refused unread
PREVIOUS_KEY_ACCEPTED = timedelta(hours=24)
_HEADER = {"alg", "typ", "kid"}

# When each key was first used, once that is committed: it never changes.
_first_used: dict[str, datetime] = {}


class TokenRefused(Exception):
    """Not an access token of ours; `code` says what was wrong."""

    def __init__(self, code: str = "invalid_token") -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Claims:
    user_id: UUID
    session_id: UUID
    expires: int  # seconds since 1970


class KeyedBackend(TokenBackend):
    """simplejwt's backend for one secret, whose id stands in the header."""

    def __init__(self, secret: str, *, issuer: str, audience: str) -> None:
        super().__init__(ALGORITHM, secret, issuer=issuer, audience=audience, leeway=0)
        self.kid = hashlib.sha256(b"crm2 access token key\0" + secret.encode()).hexdigest()[:16]

    def encode(self, payload: dict[str, Any]) -> str:
        claims = {**payload, "iss": self.issuer, "aud": [self.audience]}
        return jwt.encode(claims, self.prepared_signing_key, algorithm=ALGORITHM, headers={"kid": self.kid})


@lru_cache(maxsize=4)
def _backend(secret: str, issuer: str, audience: str) -> KeyedBackend:
    return KeyedBackend(secret, issuer=issuer, audience=audience)


def _current() -> KeyedBackend:
    return _backend(settings.AUTH_JWT_SECRET, settings.AUTH_JWT_ISSUER, settings.AUTH_JWT_AUDIENCE)


def _previous() -> KeyedBackend | None:
    secret = settings.AUTH_JWT_SECRET_PREVIOUS
    return _backend(secret, settings.AUTH_JWT_ISSUER, settings.AUTH_JWT_AUDIENCE) if secret else None


class AccessToken(Token):
    """A token that opens the API for AUTH_ACCESS_TOKEN_TTL seconds while its session is open."""

    token_type = "access"  # noqa: S105 - a claim's value

    @property
    def lifetime(self) -> timedelta:  # type: ignore[override]
        return timedelta(seconds=settings.AUTH_ACCESS_TOKEN_TTL)

    def get_token_backend(self) -> TokenBackend:
        return _backend_named_by(str(self.token)) if self.token is not None else _current()


def issue(*, user: User, session_id: UUID) -> str:
    """An access token of the session; the first one of a key starts the last day of its predecessor."""
    _record_first_use(_current().kid)
    token = AccessToken()
    token["sub"] = str(user.pk)
    token["email"] = user.email
    token["roles"] = sorted(user.role_names)
    token["sid"] = str(session_id)
    return str(token)


def read(text: str) -> Claims:
    """Whose token this is.

    :raises TokenRefused: invalid_token (form, key, signature, issuer, audience, times, type), invalid_token_subject,
        invalid_token_email
    """
    if len(text) > MAX_LENGTH:
        raise TokenRefused
    previous = settings.AUTH_JWT_SECRET_PREVIOUS
    seen = _verified(text, settings.AUTH_JWT_SECRET, previous, settings.AUTH_JWT_ISSUER, settings.AUTH_JWT_AUDIENCE)
    if timezone.now().timestamp() >= seen.claims.expires or not (seen.by_current_key or _previous_is_accepted()):
        raise TokenRefused
    return seen.claims


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a token that was verified once says; what time changes is asked with every use."""

    claims: Claims
    by_current_key: bool


@lru_cache(maxsize=2048)
def _verified(text: str, *_settings: str) -> _Seen:
    """The token verified under these settings; a refusal is not remembered.

    :raises TokenRefused: as `read`
    """
    try:
        token = AccessToken(text)  # type: ignore[arg-type]  # simplejwt's annotation; it decodes text
    except (TokenError, TokenBackendError):
        raise TokenRefused from None
    try:
        user_id = UUID(token.get("sub"))
    except (TypeError, ValueError, AttributeError):
        raise TokenRefused("invalid_token_subject") from None
    email = token.get("email")
    if not isinstance(email, str) or not email.strip():
        raise TokenRefused("invalid_token_email")
    try:
        claims = Claims(user_id, UUID(token.get("sid")), int(token["exp"]))
    except (TypeError, ValueError, AttributeError):
        raise TokenRefused from None
    return _Seen(claims, jwt.get_unverified_header(text)["kid"] == _current().kid)


def _backend_named_by(text: str) -> KeyedBackend:
    """:raises TokenBackendError: the header names no key of ours, or says more than ours do"""
    try:
        header = jwt.get_unverified_header(text)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise TokenBackendError("Token is invalid") from None
    kid = header.get("kid")
    if set(header) <= _HEADER and header.get("alg") == ALGORITHM and isinstance(kid, str):
        if kid == _current().kid:
            return _current()
        previous = _previous()
        if previous is not None and kid == previous.kid and _previous_is_accepted():
            return previous
    raise TokenBackendError("Token is invalid")


def _previous_is_accepted() -> bool:
    kid = _current().kid
    first = _first_used.get(kid) or SigningKey.objects.filter(pk=kid).values_list("first_used_at", flat=True).first()
    if first is None:
        return True
    _first_used[kid] = first
    return timezone.now() < first + PREVIOUS_KEY_ACCEPTED


def _record_first_use(kid: str) -> None:
    if kid not in _first_used:
        key, _ = SigningKey.objects.get_or_create(kid=kid, defaults={"first_used_at": timezone.now()})
        transaction.on_commit(lambda: _first_used.update({kid: key.first_used_at}))
