"""The routes of people and rights: native, but for the drop-down that the gateway's clients read."""

from apps.auth.api import openapi
from apps.auth.api.people import RoleViewSet, UserViewSet
from apps.auth.api.service_tokens import ServiceTokenViewSet
from apps.auth.api.sign_in import AccountViewSet, SignInViewSet
from apps.core.api.views import route

__all__ = ["gateway_patterns", "native_patterns", "openapi"]

native_patterns = [
    *route("auth/register", SignInViewSet, post="register"),
    *route("auth/token", SignInViewSet, post="token"),
    *route("auth/refresh", SignInViewSet, post="refresh"),
    *route("auth/logout", AccountViewSet, post="logout"),
    *route("auth/password", AccountViewSet, post="password"),
    *route("auth/me", AccountViewSet, get="me"),
    *route("users", UserViewSet, get="list", post="create"),
    *route("users/assignable", UserViewSet, get="assignable"),
    *route("users/<id:id>", UserViewSet, get="retrieve", patch="partial_update"),
    *route("users/<id:id>/roles", UserViewSet, post="give_role"),
    *route("users/<id:id>/roles/<str:role>", UserViewSet, delete="take_role"),
    *route("roles", RoleViewSet, get="list", post="create"),
    *route("service-tokens", ServiceTokenViewSet, get="list", post="create"),
    *route("service-tokens/<id:id>", ServiceTokenViewSet, delete="destroy"),
]

gateway_patterns = [*route("users", UserViewSet, get="assignable")]
