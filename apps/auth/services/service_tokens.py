"""Keys of programs: shown once, kept as a hash, taken back at once."""

import hashlib
import logging
import secrets
from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.auth import events
from apps.auth.access import CAPABILITIES, Caller
from apps.auth.models import ServiceToken
from apps.core.errors import FieldError, Forbidden, Invalid, NotFound, invalid
from apps.core.events import Actor, emit

security = logging.getLogger("crm2.security")


class ServiceTokenNotFound(NotFound):
    message = _("There is no such service token.")


@transaction.atomic
def create_service_token(
    *, name: str, scopes: Collection[str], expires_at: datetime | None = None, actor: Caller | None
) -> tuple[ServiceToken, str]:
    """Makes a token that acts with the given capabilities and sees every row; the text is never shown again.

    :raises Invalid: blank name, unknown capability, or an expiry that has passed
    :raises Forbidden: the caller would hand out what it may not do itself
    """
    now = timezone.now()
    if not name.strip():
        raise invalid("name", "blank", _("The name must not be blank."))
    if unknown := sorted(set(scopes) - CAPABILITIES):
        message = _("There is no such capability: %(name)s.")
        raise Invalid(errors=[FieldError("scopes", "unknown_capability", message % {"name": each}) for each in unknown])
    if not scopes:
        raise invalid("scopes", "empty", _("Name at least one capability."))
    if expires_at is not None and expires_at <= now:
        raise invalid("expires_at", "in_the_past", _("The expiry must lie in the future."))
    if actor is not None and not all(actor.can(scope) for scope in scopes):
        raise Forbidden
    prefix, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    token = ServiceToken.objects.create(
        prefix=prefix,
        secret_hash=hashlib.sha256(secret.encode()).digest(),
        name=name.strip(),
        scopes=sorted(set(scopes)),
        created_by=actor.author if actor else None,
        created_at=now,
        expires_at=expires_at,
    )
    emit(
        events.SERVICE_TOKEN_CREATED,
        token,
        actor=actor,
        aggregate="service_token",
        version=1,
        payload={"service_token_id": token.pk, "scopes": token.scopes},
        changes={"name": (None, token.name), "scopes": (None, token.scopes), "expires_at": (None, token.expires_at)},
    )
    security.info("service token created", extra={"code": "service_token_created", "actor_id": token.pk})
    return token, f"crm_st_{prefix}_{secret}"


@transaction.atomic
def revoke_service_token(*, token_id: UUID, actor: Actor | None) -> ServiceToken:
    """Takes a token back: its next request is refused. Revoking a revoked one does nothing.

    :raises ServiceTokenNotFound: there is none
    """
    token = ServiceToken.objects.select_for_update(of=("self",)).filter(pk=token_id).first()
    if token is None:
        raise ServiceTokenNotFound
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        emit(
            events.SERVICE_TOKEN_REVOKED,
            token,
            actor=actor,
            aggregate="service_token",
            version=2,
            payload={"service_token_id": token.pk},
            changes={"revoked_at": (None, token.revoked_at)},
        )
        security.info("service token revoked", extra={"code": "service_token_revoked", "actor_id": token.pk})
    return token


def touch(*, token: ServiceToken, now: datetime) -> None:
    """Remembers that the token is in use."""
    ServiceToken.objects.filter(pk=token.pk).update(last_used_at=now)
