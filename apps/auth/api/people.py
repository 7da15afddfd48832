"""`/users` and `/roles`: the administrator's people, and everyone's drop-downs. (docs/contract.md, "People")"""

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.auth import queries
from apps.auth.api.forms import (
    ROLE,
    AssignableOut,
    GivenRoleIn,
    RoleIn,
    RoleOut,
    UserIn,
    UserOut,
    UserPatch,
    UserQuery,
    user_answer,
)
from apps.auth.models import Role, User
from apps.auth.services import people, roles
from apps.core.api.pages import Keyset, ListQuery, page, read_query
from apps.core.api.versions import expected_version, with_etag
from apps.core.api.views import SIGNED_IN, ApiViewSet, validated

BY_EMAIL = Keyset(("email",))
BY_NAME = Keyset(("name",))
ASSIGNABLE = ("id", "email", "full_name", "role_names_list")


class UserViewSet(ApiViewSet):
    capabilities = {
        "list": "users.manage",
        "create": "users.manage",
        "retrieve": "users.manage",
        "partial_update": "users.manage",
        "give_role": "users.manage",
        "take_role": "users.manage",
        "assignable": SIGNED_IN,
    }

    @extend_schema(parameters=[UserQuery], responses=UserOut(many=True))
    def list(self, request: Request) -> Response:
        """Everyone, by e-mail."""
        query = read_query(request, UserQuery)
        users = User.objects.filter(**query.filters).defer("password").prefetch_related("roles")
        rows, headers = page(request, users, query, BY_EMAIL)
        return Response([user_answer(user) for user in rows], headers=headers)

    @extend_schema(request=UserIn, responses={201: UserOut})
    def create(self, request: Request) -> Response:
        """Makes a user; ROLE_USER is given to everyone."""
        return _answer(people.create_user(**validated(UserIn, request), actor=request.user), status=201)

    @extend_schema(responses=UserOut)
    def retrieve(self, request: Request, id: UUID) -> Response:
        return _answer(people.find_user(id))

    @extend_schema(request=UserPatch, responses=UserOut)
    def partial_update(self, request: Request, id: UUID) -> Response:
        """Changes what is given. Disabling, and any change of roles, ends all the user's sessions."""
        data = validated(UserPatch, request)
        user = people.change_user(
            user=people.find_user(id), **data, actor=request.user, expected_version=expected_version(request)
        )
        return _answer(user)

    @extend_schema(request=GivenRoleIn, responses=UserOut)
    def give_role(self, request: Request, id: UUID) -> Response:
        """Gives a role; giving a held one changes nothing."""
        role = validated(GivenRoleIn, request)["role_name"]
        user = people.assign_role(
            user=people.find_user(id), role=role, actor=request.user, expected_version=expected_version(request)
        )
        return _answer(user)

    @extend_schema(responses=UserOut)
    def take_role(self, request: Request, id: UUID, role: str) -> Response:
        """Takes a role; ROLE_USER stays."""
        user = people.remove_role(
            user=people.find_user(id), role=role, actor=request.user, expected_version=expected_version(request)
        )
        return _answer(user)

    @extend_schema(parameters=[ListQuery], responses=AssignableOut(many=True))
    def assignable(self, request: Request) -> Response:
        """Enabled people, for drop-downs."""
        rows, headers = page(request, queries.assignable_people(), read_query(request, ListQuery), BY_EMAIL, ASSIGNABLE)
        answer = [{"id": row[0], "email": row[1], "full_name": row[2], "roles": row[3]} for row in rows]
        return Response(answer, headers=headers)


class RoleViewSet(ApiViewSet):
    capabilities = {"list": SIGNED_IN, "create": "roles.manage"}

    @extend_schema(parameters=[ListQuery], responses=RoleOut(many=True))
    def list(self, request: Request) -> Response:
        """The roles, by name."""
        rows, headers = page(request, Role.objects.all(), read_query(request, ListQuery), BY_NAME)
        return Response([ROLE.of(role) for role in rows], headers=headers)

    @extend_schema(request=RoleIn, responses={201: RoleOut})
    def create(self, request: Request) -> Response:
        """Makes a role; it grants nothing until config/roles.toml says so."""
        return Response(ROLE.of(roles.create_role(**validated(RoleIn, request), actor=request.user)), status=201)


def _answer(user: User, *, status: int = 200) -> Response:
    return with_etag(Response(user_answer(user), status=status), user.version)
