"""Django's own sign-in (the admin's): the same check, throttle and refusals as the API's."""

from typing import Any
from uuid import UUID

from django.contrib.auth.backends import BaseBackend
from django.http import HttpRequest

from apps.auth.models import User
from apps.auth.services import sessions


class EmailBackend(BaseBackend):
    """Signs in by e-mail; a session stays good while its user is enabled and keeps his password."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        """The user, None when the credentials are wrong.

        :raises RateLimited, AccountDisabled: the sign-in form shows them
        """
        if not username or password is None:
            return None
        address = request.META.get("REMOTE_ADDR") if request else None
        try:
            return sessions.check_credentials(email=username, password=password, address=address)
        except sessions.InvalidCredentials:
            return None

    def get_user(self, user_id: UUID) -> User | None:
        return User.objects.with_roles().filter(pk=user_id, enabled=True).first()
