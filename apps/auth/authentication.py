"""Who is calling: a bearer token (a user's or a service's), else Django's admin session.

Rights come from the database with the same query that finds the caller. No cookie carries a token, and a request with a
bad Authorization header never falls back to the session.
"""

import re
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication, CSRFCheck, SessionAuthentication
from rest_framework.request import Request

from apps.auth import queries, tokens
from apps.auth.models import ServiceToken, User
from apps.auth.services import service_tokens
from apps.core.api.problems import Unauthenticated
from apps.core.errors import Forbidden

SERVICE_TOKEN_PREFIX = "crm_st_"  # noqa: S105 - the public part
TOUCHED_EVERY = timedelta(minutes=1)

_VISIBLE = re.compile(r"[!-~]+")

_MESSAGES = {
    "invalid_authorization_header": _("The Authorization header must be `Bearer <token>`."),
    "invalid_token": _("The token is not valid."),
    "invalid_token_subject": _("The token names no user."),
    "invalid_token_email": _("The token carries no e-mail."),
    "session_ended": _("The session has ended. Sign in again."),
}


def refusal(code: str) -> Unauthenticated:
    return Unauthenticated(code, _MESSAGES[code])


def text_of(header: str) -> str:
    """The token of an Authorization header.

    :raises Unauthenticated: it is not `Bearer <token>`
    """
    scheme, _space, text = header.strip(" ").partition(" ")
    text = text.strip(" ")
    if scheme.lower() != "bearer" or not text or not _VISIBLE.fullmatch(text):
        raise refusal("invalid_authorization_header")
    return text


def identify(header: str, *, now: datetime) -> tuple[User | ServiceToken, UUID | None]:
    """The caller whom an Authorization header names, and the id of the session if it is a user's. One query.

    :raises Unauthenticated: with the code that says why
    """
    text = text_of(header)
    if text.startswith(SERVICE_TOKEN_PREFIX):
        return _service(text, now), None
    try:
        claims = tokens.read(text)
    except tokens.TokenRefused as refused:
        raise refusal(refused.code) from None
    user = queries.user_of_session(session_id=claims.session_id, user_id=claims.user_id, now=now)
    if user is None:
        raise refusal("session_ended")
    return user, claims.session_id


def _service(text: str, now: datetime) -> ServiceToken:
    token = queries.service_token_of(text, now=now)
    if token is None:
        raise refusal("invalid_token")
    if token.last_used_at is None or now - token.last_used_at > TOUCHED_EVERY:
        service_tokens.touch(token=token, now=now)
    return token


class Bearer(BaseAuthentication):
    """`Authorization: Bearer`: `request.auth` is the session's id, None for a service token."""

    def authenticate(self, request: Request) -> tuple[User | ServiceToken, UUID | None] | None:
        header = request.META.get("HTTP_AUTHORIZATION")
        return None if header is None else identify(header, now=timezone.now())

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class AdminSession(SessionAuthentication):
    """The session of the admin's sign-in, with CSRF on unsafe methods; a disabled user is nobody."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        if settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return None
        return super().authenticate(request)  # type: ignore[return-value]

    def enforce_csrf(self, request: Request) -> None:
        check = CSRFCheck(lambda _: None)  # type: ignore[arg-type,return-value]
        check.process_request(request)  # type: ignore[arg-type]
        if check.process_view(request, None, (), {}):  # type: ignore[arg-type]
            raise Forbidden(_("The CSRF token is missing or wrong."))
