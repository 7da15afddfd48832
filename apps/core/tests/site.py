"""A site of one small resource, on both faces: what the kernel's API does for every view, seen from outside.

A note is a `JobRun` row. The body's `fault` says how the view is to fail after its work.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import DataError, IntegrityError, OperationalError, connection
from django.http import Http404
from django.urls import include, path
from psycopg_pool import PoolTimeout
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import errors
from apps.core.api.pages import Keyset, ListQuery, page, read_query
from apps.core.api.parsers import BodyTooLarge
from apps.core.api.versions import expected_version, with_etag
from apps.core.api.views import PUBLIC, SIGNED_IN, ApiViewSet, route, validated
from apps.core.models import JobRun

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
OLDEST_FIRST = Keyset(("slot", "id"))
NEWEST_FIRST = Keyset(("slot", "id"), descending=True)


class Taken(errors.DomainError):
    code = "note_taken"


FAULTS: dict[str, Any] = {
    "domain": Taken,
    "named_fields": lambda: errors.invalid("next_review_at", "too_late", "Too late."),
    "extra": lambda: Taken(blockers=[{"type": "note", "id": "1", "label": "a", "reason": "b"}]),
    "not_found": errors.NotFound,
    "http404": Http404,
    "drf404": exceptions.NotFound,
    "forbidden": errors.Forbidden,
    "django_forbidden": PermissionDenied,
    "unauthenticated": exceptions.NotAuthenticated,
    "bad_credentials": exceptions.AuthenticationFailed,
    "drf_invalid": lambda: exceptions.ValidationError({"next_review_at": ["wrong"]}),
    "django_invalid": lambda: DjangoValidationError({"next_review_at": "wrong"}),
    "parse": exceptions.ParseError,
    "suspicious": SuspiciousOperation,
    "too_big": RequestDataTooBig,
    "body_too_large": BodyTooLarge,
    "media_type": lambda: exceptions.UnsupportedMediaType("text/plain"),
    "throttled": lambda: exceptions.Throttled(wait=7),
    "rate_limited": lambda: errors.RateLimited(9),
    "unavailable": errors.Unavailable,
    "version": lambda: errors.VersionMismatch(4),
    "version_required": errors.VersionRequired,
    "data": DataError,
    "database_away": OperationalError,
    "pool": PoolTimeout,
    "integrity": lambda: IntegrityError("password=hunter2"),
    "bug": lambda: RuntimeError("password=hunter2"),
}


class NoteIn(serializers.Serializer[Any]):
    job = serializers.CharField(max_length=20)
    fault = serializers.ChoiceField(list(FAULTS), required=False)
    next_review_at = serializers.DateField(required=False)
    payload = serializers.JSONField(required=False)


class NoteQuery(ListQuery):
    job = serializers.CharField(required=False)
    slot_after = serializers.DateTimeField(required=False)
    id = serializers.ListField(child=serializers.IntegerField(), required=False)
    repeatable = ("id",)


class NoteViewSet(ApiViewSet):
    capabilities = {
        "list": SIGNED_IN,
        "create": SIGNED_IN,
        "change": SIGNED_IN,
        "hidden": "events.view",
        "knock": PUBLIC,
    }
    keyset = OLDEST_FIRST
    columns: tuple[str, ...] = ("id", "job", "slot")

    def list(self, request: Request) -> Response:
        query = read_query(request, NoteQuery)
        rows = JobRun.objects.all()
        if "job" in query.filters:
            rows = rows.filter(job=query.filters["job"])
        found, headers = page(request, rows, query, self.keyset, self.columns)
        notes = (
            [dict(zip(self.columns, row, strict=True)) for row in found]
            if self.columns
            else [as_dict(row) for row in found]
        )
        return Response(notes, headers=headers)

    def create(self, request: Request) -> Response:
        values = validated(NoteIn, request)
        note = add_note(values["job"])
        if fault := values.get("fault"):
            raise FAULTS[fault]()
        body = {"id": note.pk, "job_name": note.job, "payload": values.get("payload"), "trace_id": "kept"}
        return with_etag(Response(body, status=201, headers={"Location": f"/api/v1/notes/{note.pk}"}), 1)

    def change(self, request: Request) -> Response:
        return Response({"expected": expected_version(request)})

    def hidden(self, request: Request) -> Response:
        return Response({})

    def closed(self, request: Request) -> Response:
        return Response({})

    def knock(self, request: Request) -> Response:
        return Response({"caller": request.user and str(request.user.pk)}, status=201)


class NewestViewSet(NoteViewSet):
    """The other direction, and whole rows instead of columns."""

    keyset = NEWEST_FIRST
    columns = ()


def as_dict(note: JobRun) -> dict[str, Any]:
    return {"id": note.pk, "job": note.job, "slot": note.slot}


def add_note(job: str) -> JobRun:
    """A note; every three share a slot, so that the order needs its second column."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('core_jobrun', 'id'))")
        number = cursor.fetchone()[0]
    return JobRun.objects.create(
        id=number, job=f"{job}", slot=EPOCH + timedelta(hours=number // 3, microseconds=number % 3)
    )


routes = [
    *route("notes", NoteViewSet, get="list", post="create", patch="change"),
    *route("newest", NewestViewSet, get="list"),
    *route("hidden", NoteViewSet, get="hidden"),
    *route("closed", NoteViewSet, get="closed"),
    *route("knock", NoteViewSet, post="knock"),
]
urlpatterns = [path("api/v1/", include(routes)), path("api/v1/crm/", include(routes))]
handler400 = "apps.core.api.problems.bad_request"
handler403 = "apps.core.api.problems.permission_denied"
handler404 = "apps.core.api.problems.not_found"
handler500 = "apps.core.api.problems.server_error"
