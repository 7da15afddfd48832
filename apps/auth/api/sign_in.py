"""`/auth/...`: signing in, staying signed in, signing out; camelCase on both faces. (docs/contract.md, "Sign-in")"""

from typing import Any

from django.contrib.auth import logout as end_admin_session
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.auth.api.forms import PasswordIn, RefreshIn, RegisterIn, SignInIn, TokenOut, UserOut, user_answer
from apps.auth.models import User
from apps.auth.services import people, sessions
from apps.auth.services.sessions import TokenPair
from apps.core.api.versions import with_etag
from apps.core.api.views import PUBLIC, SIGNED_IN, ApiViewSet, validated
from apps.core.errors import Forbidden


class SignInViewSet(ApiViewSet):
    """Open to all: whatever credentials come along are not looked at, a stale token must not bar the way in."""

    authentication_classes = []
    capabilities = {"register": PUBLIC, "token": PUBLIC, "refresh": PUBLIC}
    camel_case = True
    idempotent = False

    @extend_schema(request=RegisterIn, responses={201: UserOut})
    def register(self, request: Request) -> Response:
        """Makes an account with ROLE_USER, where AUTH_REGISTRATION_OPEN allows it."""
        people.refuse_closed_registration()
        user = people.register(**validated(RegisterIn, request), address=address_of(request))
        return with_etag(Response(user_answer(user), status=201), user.version)

    @extend_schema(request=SignInIn, responses=TokenOut)
    def token(self, request: Request) -> Response:
        """Opens a session."""
        pair = sessions.sign_in(
            **validated(SignInIn, request),
            address=address_of(request),
            user_agent=request.headers.get("User-Agent", ""),
            now=timezone.now(),
        )
        return _tokens(pair)

    @extend_schema(request=RefreshIn, responses=TokenOut)
    def refresh(self, request: Request) -> Response:
        """Exchanges a refresh token for a new pair, once."""
        return _tokens(sessions.refresh(**validated(RefreshIn, request), now=timezone.now()))


class AccountViewSet(ApiViewSet):
    """One's own account."""

    capabilities = {"me": SIGNED_IN, "logout": SIGNED_IN, "password": SIGNED_IN}
    camel_case = True
    idempotent = False

    @extend_schema(responses=UserOut)
    def me(self, request: Request) -> Response:
        """Who I am."""
        user = _person(request)
        return with_etag(Response(user_answer(user)), user.version)

    @extend_schema(request=None, responses={204: None})
    def logout(self, request: Request) -> Response:
        """Ends this session: its tokens stop at once."""
        _person(request)
        if request.auth is not None:
            sessions.sign_out(session_id=request.auth)  # type: ignore[arg-type]  # the session's id, from Bearer
        else:
            end_admin_session(request._request)
        return Response(status=204)

    @extend_schema(request=PasswordIn, responses={204: None})
    def password(self, request: Request) -> Response:
        """Changes my password and ends all my sessions, this one too."""
        user, data = _person(request), validated(PasswordIn, request)
        people.change_password(
            user=user, current=data["current_password"], new=data["new_password"], address=address_of(request)
        )
        return Response(status=204)


def address_of(request: Request) -> str | None:
    """The caller's address; TrustedProxyMiddleware has decided whose word on it counts."""
    return request.META.get("REMOTE_ADDR") or None


def _person(request: Request) -> User:
    """:raises Forbidden: a service token is nobody's account"""
    if not isinstance(request.user, User):
        raise Forbidden
    return request.user


def _tokens(pair: TokenPair) -> Response:
    answer: dict[str, Any] = {
        "token_type": "Bearer",
        "access_token": pair.access_token,
        "expires_in": pair.expires_in,
        "refresh_token": pair.refresh_token,
        "refresh_expires_in": pair.refresh_expires_in,
    }
    return Response(answer, headers={"Cache-Control": "no-store"})
