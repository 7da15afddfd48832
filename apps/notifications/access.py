"""Who may listen, and as what: a stream's listener is a set of keys, an event's audience another; they meet or not."""

from collections.abc import Hashable

from apps.auth.access import holds_a_role
from apps.auth.models import ServiceToken, User

# Beside the ids of users. Programs see every row; admins every row of the office, but not what is addressed to others.
PROGRAMS, ADMINS, SEE_ALL_DEALS = "programs", "admins", "see all deals"


def may_listen(caller: User | ServiceToken) -> bool:
    """A program needs the scope `events.view`; a person any role of the office."""
    return caller.can("events.view") if isinstance(caller, ServiceToken) else holds_a_role(caller)


def keys_of(caller: User | ServiceToken) -> frozenset[Hashable]:
    """What the caller is to an audience."""
    if isinstance(caller, ServiceToken):
        return frozenset({PROGRAMS})
    keys: set[Hashable] = {caller.pk}
    if caller.is_admin:
        keys.add(ADMINS)
    if caller.sees_all_deals:
        keys.add(SEE_ALL_DEALS)
    return frozenset(keys)
