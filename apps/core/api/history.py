"""Histories: queries of events, newest first, with what changed. (docs/contract.md, "Histories")"""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.pages import Keyset, ListQuery, page, read_query
from apps.core.models import Event

NEWEST_FIRST = Keyset(("at", "id"), descending=True)
People = Callable[[set[UUID]], Mapping[UUID, Any]]


class ActorOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    email = serializers.CharField(help_text="The e-mail of a person, `token:<name>` of a service token.")


class ChangeOut(serializers.Serializer[Any]):
    field = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class HistoryEntry(serializers.Serializer[Any]):
    """One event as people read it."""

    id = serializers.UUIDField()
    at = serializers.DateTimeField()
    actor = ActorOut(allow_null=True)
    via = serializers.ChoiceField(choices=["http", "admin", "bot", "command", "job"])
    event = serializers.CharField()
    aggregate = serializers.CharField()
    aggregate_id = serializers.UUIDField()
    changes = ChangeOut(many=True)


def history_page(request: Request, events: QuerySet[Event], people: People) -> Response:
    """One page of the events as a bare array, newest first; `people` names the actors, in one query."""
    rows, headers = page(request, events, read_query(request, ListQuery), NEWEST_FIRST)
    return Response(history_rows(rows, people), headers=headers)


def history_rows(events: list[Event], people: People) -> list[dict[str, Any]]:
    known = people({event.actor_id for event in events if event.actor_id})
    return [
        {
            "id": event.id,
            "at": event.at,
            "actor": known.get(event.actor_id) if event.actor_id else None,
            "via": event.via,
            "event": event.name,
            "aggregate": event.aggregate,
            "aggregate_id": event.aggregate_id,
            "changes": [
                {"field": field, "before": before, "after": after} for field, (before, after) in event.changes.items()
            ],
        }
        for event in events
    ]
