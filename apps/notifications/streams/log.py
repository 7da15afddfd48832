"""The event log as streams read it: what comes after a position, as ready frames, each with its audience.

A batch costs two queries, whoever listens and however many. The position is the only cursor there is: nothing that
the log has numbered can be passed over.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from apps.core.reads import fetch
from apps.crm.access import audiences
from apps.notifications.access import ADMINS, PROGRAMS, SEE_ALL_DEALS
from apps.notifications.events import NOTIFICATION_RECEIVED
from apps.notifications.streams import frames

Kind = Literal["crm", "notifications"]
KINDS = ("crm", "notifications")
OF_A_DEAL = ("deal.", "policy.", "task.", "document.")
KEPT = 100_000  # positions that replay reaches back

# One statement, one snapshot: the head is never older than the events below it.
_AFTER = """
SELECT head.epoch, head.position, e.position, e.name, e.aggregate_id, e.deal_id, e.client_id, e.payload
FROM core_relayhead head LEFT JOIN LATERAL (
    SELECT position, name, aggregate_id, deal_id, client_id, payload::text AS payload FROM core_event
    WHERE position > %s ORDER BY position LIMIT %s) e ON true
WHERE head.id = 1
ORDER BY e.position
"""
_HEAD = "SELECT epoch, position FROM core_relayhead WHERE id = 1"


@dataclass(frozen=True, slots=True)
class Item:
    """One event of a stream: its frame, and the keys of those who see it (`access.keys_of`)."""

    position: int
    kind: Kind
    name: str
    frame: bytes
    audience: frozenset[Hashable]


@dataclass(frozen=True, slots=True)
class Batch:
    """The items up to `position` (events that no stream shows are passed over); `head` is the log's end."""

    epoch: str
    head: int
    position: int
    items: list[Item]


def head() -> tuple[str, int]:
    """The epoch and the last position."""
    [(epoch, position)] = fetch(_HEAD)
    return epoch, position


def read(*, after: int, limit: int) -> Batch:
    """The next at most `limit` events after the position. Two queries; one where nothing is new."""
    rows = fetch(_AFTER, [after, limit])
    epoch, end = rows[0][:2]
    events = [_Event(*row[2:]) for row in rows if row[2] is not None]
    shown = [each for each in events if each.kind]
    position = events[-1].position if len(events) == limit else end
    return Batch(epoch, end, position, list(_items(epoch, shown)))


class _Event:
    __slots__ = ("aggregate_id", "client_id", "deal_id", "kind", "name", "payload", "position")

    def __init__(
        self, position: int, name: str, aggregate_id: UUID, deal_id: UUID | None, client_id: UUID | None, payload: str
    ) -> None:
        self.position, self.name, self.aggregate_id = position, name, aggregate_id
        self.deal_id, self.client_id, self.payload = deal_id, client_id, payload
        self.kind: Kind | None = None
        if name == NOTIFICATION_RECEIVED:
            self.kind = "notifications"
        elif name.startswith((*OF_A_DEAL, "client.")):
            self.kind = "crm"

    @property
    def subject(self) -> UUID | None:
        """The row whose visibility decides: the deal, a policy without one, the client."""
        if self.name.startswith("client."):
            return self.aggregate_id
        return self.deal_id or (self.aggregate_id if self.name.startswith("policy.") else None)


def _items(epoch: str, events: list[_Event]) -> Iterator[Item]:
    of_crm = [each for each in events if each.kind == "crm"]
    seen_by = audiences(
        deals={each.deal_id for each in of_crm if each.deal_id and not each.name.startswith("client.")},
        policies={each.aggregate_id for each in of_crm if not each.deal_id and each.name.startswith("policy.")},
        clients={each.aggregate_id for each in of_crm if each.name.startswith("client.")},
    )
    for each in events:
        id_, data = f"{epoch}-{each.position}", frames.parsed(each.payload)
        if each.kind == "notifications":
            name = _text(data, "type") or "notification"
            told = data.get("data") if isinstance(data, dict) else None
            frame = frames.event(name, {"eventType": name, "payload": told}, position=id_)
            yield Item(each.position, "notifications", name, frame, _addressed(told))
            continue
        keys: set[Hashable] = {ADMINS, PROGRAMS}
        if each.subject and (audience := seen_by.get(each.subject)):
            keys |= audience.users
            if audience.all_deals:
                keys.add(SEE_ALL_DEALS)
        yield Item(each.position, "crm", each.name, frames.event(each.name, data, position=id_), frozenset(keys))


def _addressed(told: Any) -> frozenset[Hashable]:
    """Those whom a message names in `recipients[].userId`; admins where it names nobody."""
    listed = told.get("recipients") if isinstance(told, dict) else None
    users: set[Hashable] = set()
    for each in listed if isinstance(listed, list) else []:
        try:
            users.add(UUID(_text(each, "userId")))
        except ValueError:
            continue
    return frozenset({PROGRAMS, *(users or {ADMINS})})


def _text(data: Any, name: str) -> str:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""
