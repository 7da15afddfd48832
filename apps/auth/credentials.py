"""What a connection that stays open stands on (an API session, an admin's sign-in, a service token), and whether it
still stands. A request asks once; a stream asks again every few seconds, for all streams of its process together.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session as AdminSession
from django.http import HttpRequest

from apps.auth import queries, tokens
from apps.auth.authentication import identify, text_of
from apps.auth.models import ServiceToken, User
from apps.core.api.problems import Unauthenticated

Person = User | ServiceToken


@dataclass(frozen=True, slots=True)
class Credential:
    """`key` is the id of the session or of the token, or the cookie's session key."""

    kind: Literal["session", "cookie", "token"]
    key: Any
    user_id: UUID | None = None
    expires_at: datetime | None = None  # by itself, whatever the database says
    stamp: str = ""  # of a cookie: changes with the password


def present(request: HttpRequest, *, now: datetime) -> tuple[Person, Credential]:
    """Who opens the connection, and by what. A request with an Authorization header never falls back to the cookie.

    :raises Unauthenticated: with the code that says why
    """
    header = request.META.get("HTTP_AUTHORIZATION")
    if header is None:
        return _signed_in_to_admin(request)
    caller, session_id = identify(header, now=now)
    if isinstance(caller, ServiceToken):
        return caller, Credential("token", caller.pk, expires_at=caller.expires_at)
    expires = datetime.fromtimestamp(tokens.read(text_of(header)).expires, UTC)
    return caller, Credential("session", session_id, caller.pk, expires)


def _signed_in_to_admin(request: HttpRequest) -> tuple[User, Credential]:
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if not key:
        raise Unauthenticated
    request.session = SessionStore(key)
    user: Any = get_user(request)
    if not user.is_active:
        raise Unauthenticated
    return user, Credential("cookie", request.session.session_key, user.pk, stamp=user.get_session_auth_hash())


def standing(credentials: Collection[Credential], *, now: datetime) -> dict[Credential, Person]:
    """Those that still stand, and their holders as they are now. At most a query for each kind, and one for people."""
    keys: dict[str, list[Any]] = {"session": [], "cookie": [], "token": []}
    for each in credentials:
        keys[each.kind].append(each.key)
    holders: dict[tuple[str, Any], Person] = {}
    if keys["session"]:
        holders |= {("session", key): user for key, user in queries.users_of_sessions(keys["session"], now=now).items()}
    if keys["token"]:
        standing_tokens = ServiceToken.objects.standing(now).filter(pk__in=keys["token"])
        holders |= {("token", row.pk): row for row in standing_tokens}
    if keys["cookie"]:
        holders |= _admins_of([each for each in credentials if each.kind == "cookie"], now)
    return {each: holders[each.kind, each.key] for each in credentials if (each.kind, each.key) in holders}


def _admins_of(cookies: Collection[Credential], now: datetime) -> dict[tuple[str, Any], Person]:
    rows = AdminSession.objects.filter(session_key__in=[each.key for each in cookies], expire_date__gt=now)
    still_open = set(rows.values_list("session_key", flat=True))
    wanted = {each.user_id for each in cookies if each.user_id and each.key in still_open}
    people = {user.pk: user for user in User.objects.with_roles().filter(pk__in=wanted, enabled=True)}
    return {
        (each.kind, each.key): people[each.user_id]
        for each in cookies
        if each.key in still_open
        and each.user_id in people
        and people[each.user_id].get_session_auth_hash() == each.stamp
    }
