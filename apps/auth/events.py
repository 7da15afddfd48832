"""The names of what happens to people, roles and service tokens. Sign-ins go to the security log, not here."""

USER_CREATED = "user.created"
USER_UPDATED = "user.updated"
USER_PASSWORD_CHANGED = "user.password.changed"  # noqa: S105 - a name of an event
USER_ROLE_ADDED = "user.role.added"
USER_ROLE_REMOVED = "user.role.removed"

ROLE_CREATED = "role.created"

SERVICE_TOKEN_CREATED = "service_token.created"  # noqa: S105
SERVICE_TOKEN_REVOKED = "service_token.revoked"  # noqa: S105
