"""Signing in, staying signed in and signing out. (docs/contract.md, "Sign-in")"""

import base64
import binascii
import hashlib
import hmac
import logging
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.auth import tokens
from apps.auth.models import Session, User
from apps.auth.services import throttle
from apps.core.errors import DomainError

security = logging.getLogger("crm2.security")

REUSE_FORGIVEN = timedelta(seconds=10)  # two tabs, a lost reply
ENDED_KEPT = timedelta(days=30)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class InvalidCredentials(DomainError):
    """Unknown e-mail or wrong password: the two look the same."""

    code = "invalid_credentials"
    status = 401
    message = _("The e-mail or the password is wrong.")


class AccountDisabled(DomainError):
    code = "account_disabled"
    status = 403
    message = _("This account is disabled.")


class RefreshTokenExpired(DomainError):
    """Unknown, used or expired."""

    code = "refresh_token_expired"
    status = 401
    message = _("The refresh token has expired. Sign in again.")


class RefreshTokenInvalid(DomainError):
    code = "refresh_token_invalid"
    status = 401
    message = _("This is not a refresh token.")


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a sign-in and a refresh give; lifetimes in seconds."""

    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int


def check_credentials(*, email: str, password: str, address: str | None) -> User:
    """The enabled user whom the e-mail and the password name. An unknown e-mail costs what a wrong password does.

    :raises RateLimited: too many wrong attempts
    :raises InvalidCredentials: unknown e-mail or wrong password
    :raises AccountDisabled: the password is right, the account is disabled
    """
    email = email.strip().lower()
    attempt = throttle.reserve(email=email, address=address)
    user = User.objects.filter(email=email).first()
    if user is None:
        make_password(password)
        _note("sign_in_failed", reason="unknown")
        raise InvalidCredentials
    if not check_password(password, user.password):
        _note("sign_in_failed", user.pk, reason="password")
        raise InvalidCredentials
    attempt.succeeded()
    if not user.enabled:
        _note("sign_in_failed", user.pk, reason="disabled")
        raise AccountDisabled
    return user


def sign_in(*, email: str, password: str, address: str | None, user_agent: str, now: datetime) -> TokenPair:
    """Opens a session and gives its first pair of tokens.

    :raises RateLimited, InvalidCredentials, AccountDisabled: as `check_credentials`
    """
    checked = check_credentials(email=email, password=password, address=address)
    pair = _open_session(checked, address, user_agent, now)
    _note("signed_in", checked.pk)
    return pair


@transaction.atomic
def _open_session(checked: User, address: str | None, user_agent: str, now: datetime) -> TokenPair:
    # The password was checked without a lock: it may have been changed, or the account disabled, meanwhile.
    user = User.objects.select_for_update(no_key=True).get(pk=checked.pk)
    if user.password != checked.password or not user.enabled:
        raise InvalidCredentials
    family = secrets.token_bytes(16)
    refresh_token, token_hash = _new_refresh_token(family)
    session = Session.objects.create(
        user=user,
        family_hash=_hash(family),
        token_hash=token_hash,
        rotated_at=now,
        created_at=now,
        expires_at=now + timedelta(seconds=settings.AUTH_SESSION_TTL),
        address=address or None,
        user_agent=user_agent.replace("\0", "")[:200],
    )
    return _pair(session, refresh_token, now)


def refresh(*, refresh_token: str, now: datetime) -> TokenPair:
    """Exchanges a refresh token for a new pair, once.

    A token that was exchanged less than ten seconds ago is refused and nothing more; an older one of the family was
    stolen or kept: it ends the session.

    :raises RefreshTokenInvalid: malformed
    :raises RefreshTokenExpired: unknown, used, idle or too old
    :raises AccountDisabled: its user is disabled
    """
    outcome = _rotate(_decoded(refresh_token), now)
    if isinstance(outcome, DomainError):
        raise outcome  # after the commit: what the refusal has ended stays ended
    return outcome


@transaction.atomic
def _rotate(token: bytes, now: datetime) -> TokenPair | DomainError:
    family, presented = token[:16], _hash(token)
    session = (
        Session.objects.select_for_update(of=("self",)).select_related("user").filter(family_hash=_hash(family)).first()
    )
    if session is None:
        return RefreshTokenExpired()
    if not hmac.compare_digest(bytes(session.token_hash), presented):
        just_rotated = session.previous_hash is not None and hmac.compare_digest(
            bytes(session.previous_hash), presented
        )
        if not (just_rotated and now - session.rotated_at < REUSE_FORGIVEN):
            _end(session, Session.REUSED, now)
        return RefreshTokenExpired()
    if not session.user.enabled:
        _end(session, Session.DISABLED, now)
        return AccountDisabled()
    if session.ended_at is not None:
        return RefreshTokenExpired()
    if now >= min(session.expires_at, session.rotated_at + timedelta(seconds=settings.AUTH_REFRESH_TOKEN_TTL)):
        _end(session, Session.EXPIRED, now)
        return RefreshTokenExpired()
    refresh_token, token_hash = _new_refresh_token(family)
    session.previous_hash, session.token_hash, session.rotated_at = session.token_hash, token_hash, now
    session.save(update_fields=["previous_hash", "token_hash", "rotated_at"])
    return _pair(session, refresh_token, now)


def sign_out(*, session_id: UUID) -> None:
    """Ends one session; ending an ended one does nothing."""
    end_sessions(Q(pk=session_id), reason=Session.SIGNED_OUT)


def end_sessions(which: Q, *, reason: str) -> int:
    """Ends the open sessions that match: their access tokens stop with the next request. How many there were."""
    ended = Session.objects.filter(which, ended_at=None).update(ended_at=timezone.now(), end_reason=reason)
    if ended:
        security.info("sessions ended", extra={"code": "sessions_ended", "reason": reason, "count": ended})
    return ended


def end_stale_sessions(*, now: datetime) -> dict[str, Any]:
    """Ends the sessions that are idle or too old, and forgets those that ended over 30 days ago."""
    idle_since = now - timedelta(seconds=settings.AUTH_REFRESH_TOKEN_TTL)
    ended = end_sessions(Q(rotated_at__lte=idle_since) | Q(expires_at__lte=now), reason=Session.EXPIRED)
    forgotten, _ = Session.objects.filter(ended_at__lt=now - ENDED_KEPT).delete()
    return {"ended": ended, "forgotten": forgotten}


def _pair(session: Session, refresh_token: str, now: datetime) -> TokenPair:
    left = int((session.expires_at - now).total_seconds())
    return TokenPair(
        access_token=tokens.issue(user=session.user, session_id=session.pk),
        expires_in=settings.AUTH_ACCESS_TOKEN_TTL,
        refresh_token=refresh_token,
        refresh_expires_in=min(settings.AUTH_REFRESH_TOKEN_TTL, left),
    )


def _end(session: Session, reason: str, now: datetime) -> None:
    if session.ended_at is None:
        session.ended_at, session.end_reason = now, reason
        session.save(update_fields=["ended_at", "end_reason"])
        _note("session_ended", session.user_id, reason=reason)


def _new_refresh_token(family: bytes) -> tuple[str, bytes]:
    token = family + secrets.token_bytes(16)
    return base64.urlsafe_b64encode(token).decode().rstrip("="), _hash(token)


def _decoded(text: str) -> bytes:
    """:raises RefreshTokenInvalid: not 32 bytes in their one URL-safe spelling"""
    try:
        token = base64.urlsafe_b64decode(text + "=") if _TOKEN.fullmatch(text) else b""
    except (ValueError, binascii.Error):
        token = b""
    if len(token) != 32 or base64.urlsafe_b64encode(token).decode().rstrip("=") != text:
        raise RefreshTokenInvalid
    return token


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _note(code: str, user_id: UUID | None = None, *, reason: str | None = None) -> None:
    """A line of the security log: who by id, never by e-mail."""
    security.info(code, extra={"code": code, "actor_id": user_id, "reason": reason})
