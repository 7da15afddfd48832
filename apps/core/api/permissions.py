"""May this role do such things? Every action says which capability it needs, or is closed."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.core.api.problems import Unauthenticated

PUBLIC = "public"  # no credentials asked for
SIGNED_IN = "signed_in"  # anyone with valid credentials; rows are narrowed by visible_to


class NamesItsCapability(BasePermission):
    """An action that names no capability is closed."""

    def has_permission(self, request: Request, view: Any) -> bool:
        capability = view.capabilities.get(view.action)
        if capability == PUBLIC:
            return True
        caller: Any = request.user
        if caller is None:
            raise Unauthenticated
        return bool(capability) and (capability == SIGNED_IN or caller.can(capability))
