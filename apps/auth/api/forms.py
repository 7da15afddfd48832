"""What the routes of people take and give, field by field."""

from typing import Any

from rest_framework import serializers

from apps.auth.models import User
from apps.core.api.pages import ListQuery, Shape

ROLE = Shape(("id", "name", "description"))
SERVICE_TOKEN = Shape(
    (
        "id",
        "name",
        "prefix",
        "scopes",
        "created_by_id",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    )
)


def user_answer(user: User) -> dict[str, Any]:
    """A user with his roles by name; prefetch `roles` for lists."""
    return {
        "id": user.pk,
        "email": user.email,
        "full_name": user.full_name,
        "enabled": user.enabled,
        "roles": [ROLE.of(role) for role in sorted(user.roles.all(), key=lambda role: role.name)],
        "version": user.version,
        "created_at": user.created_at,
        "updated_at": user.updated_at,
    }


class SecretField(serializers.CharField):
    """A password as it was typed. Its rules are the service's; the length only bounds the work."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=1000, trim_whitespace=False, style={"input_type": "password"}, **kwargs)


class RegisterIn(serializers.Serializer[Any]):
    email = serializers.EmailField(max_length=255)
    password = SecretField(help_text="12 to 128 characters; not a common one, not the e-mail.")


class SignInIn(serializers.Serializer[Any]):
    email = serializers.CharField(max_length=255)
    password = SecretField()


class RefreshIn(serializers.Serializer[Any]):
    refresh_token = serializers.CharField(max_length=1000)


class TokenOut(serializers.Serializer[Any]):
    token_type = serializers.ChoiceField(choices=["Bearer"])
    access_token = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds.")
    refresh_token = serializers.CharField(help_text="Good for one refresh.")
    refresh_expires_in = serializers.IntegerField(help_text="Seconds.")


class PasswordIn(serializers.Serializer[Any]):
    current_password = SecretField()
    new_password = SecretField(help_text="12 to 128 characters; not a common one, not the e-mail.")


class RoleOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField(allow_null=True)


class RoleIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=64, help_text="Stored in upper case with the prefix `ROLE_`.")
    description = serializers.CharField(max_length=255, required=False, allow_null=True, allow_blank=True)


class UserOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    email = serializers.EmailField()
    full_name = serializers.CharField()
    enabled = serializers.BooleanField()
    roles = RoleOut(many=True)
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class UserIn(RegisterIn):
    full_name = serializers.CharField(max_length=255, required=False, allow_blank=True)
    roles = serializers.ListField(child=serializers.CharField(max_length=64), max_length=100, required=False)


class UserPatch(serializers.Serializer[Any]):
    enabled = serializers.BooleanField(required=False)
    full_name = serializers.CharField(max_length=255, required=False, allow_blank=True)
    roles = serializers.ListField(
        child=serializers.CharField(max_length=64),
        max_length=100,
        required=False,
        help_text="All the roles; ROLE_USER stays whether named or not.",
    )


class UserQuery(ListQuery):
    enabled = serializers.BooleanField(required=False)


class GivenRoleIn(serializers.Serializer[Any]):
    role_name = serializers.CharField(max_length=64)


class AssignableOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    email = serializers.EmailField()
    full_name = serializers.CharField()
    roles = serializers.ListField(child=serializers.CharField())


class ServiceTokenIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(
        child=serializers.CharField(max_length=64), min_length=1, max_length=100, help_text="Capabilities."
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class ServiceTokenOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="The eight characters after `crm_st_`.")
    scopes = serializers.ListField(child=serializers.CharField())
    created_by_id = serializers.UUIDField(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class NewServiceTokenOut(ServiceTokenOut):
    token = serializers.CharField(help_text="Shown this once.")
