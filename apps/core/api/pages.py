"""Lists: filters that refuse what they do not know, keyset pages with `Link`. (docs/contract.md, "Lists")"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import datetime
from functools import cache, cached_property
from typing import Any
from urllib.parse import urlencode

import orjson
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import DateTimeField, F, Func, Model, QuerySet, Value
from django.db.models.lookups import GreaterThan, LessThan
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.request import Request

from apps.core.api.faces import camel as to_camel_name
from apps.core.api.faces import is_camel, is_gateway, snake
from apps.core.api.renderers import dumps
from apps.core.errors import FieldError, InvalidFilters
from apps.core.reads import Reading

NATIVE_DEFAULT, NATIVE_MOST = 50, 200
GATEWAY_MOST = 1000
MOST_OFFSET = 10_000


class QueryForm(serializers.Serializer[Any]):
    """The parameters of a read; whatever else is sent is refused."""

    repeatable: tuple[str, ...] = ()  # parameters that may repeat


class ListQuery(QueryForm):
    """The parameters every list takes; a list's own filters are the fields of a subclass."""

    limit = serializers.IntegerField(min_value=1, required=False, help_text="Rows of a page; 50, at most 200.")
    cursor = serializers.CharField(required=False, max_length=2000, help_text="Opaque; from the `Link` header.")
    offset = serializers.IntegerField(min_value=0, max_value=MOST_OFFSET, required=False, help_text="At most 10,000.")
    count = serializers.BooleanField(required=False, help_text="`true` adds `X-Total-Count`.")


@dataclass(frozen=True, slots=True)
class Query:
    """A validated query string: `filters` without the paging parameters."""

    filters: dict[str, Any]
    limit: int
    offset: int
    cursor: str | None
    count: bool
    fingerprint: str


def read_query(request: Request, form: type[QueryForm]) -> Query:
    """The query of a list request.

    :raises InvalidFilters: an unknown parameter, a bad value, a limit over the maximum, an offset over 10,000
    """
    raw: dict[str, Any] = {}
    for key, values in request._request.GET.lists():
        name = snake(key)
        if name not in form._declared_fields:
            raise _refuse(name, "unknown_parameter", _("There is no such parameter."))
        if any("\0" in value for value in values):
            raise _refuse(name, "null_characters_not_allowed", _("NUL characters are not allowed."))
        if name in form.repeatable:
            raw.setdefault(name, []).extend(values)
        elif len(set(values)) > 1 or raw.get(name, values[0]) != values[0]:
            raise _refuse(name, "repeated_parameter", _("The parameter is given twice with different values."))
        else:
            raw[name] = values[0]
    data: dict[str, Any] = {}
    if raw:
        try:
            data = dict(_reader(form).run_validation(raw))
        except serializers.ValidationError as error:
            raise InvalidFilters(errors=_errors(error.detail)) from None
    gateway = is_gateway(request)
    most = GATEWAY_MOST if gateway else NATIVE_MOST
    limit = data.pop("limit", GATEWAY_MOST if gateway else NATIVE_DEFAULT)
    if limit > most:
        raise _refuse("limit", "max_value", _("The limit is over the maximum."))
    cursor, offset, count = data.pop("cursor", None), data.pop("offset", 0), data.pop("count", False)
    shape = orjson.dumps(sorted((k, str(v)) for k, v in data.items()))
    fingerprint = hashlib.blake2b(request.path.rstrip("/").encode() + shape, digest_size=6).hexdigest()
    return Query(data, limit, offset, cursor, count, fingerprint)


@cache
def _reader(form: type[QueryForm]) -> QueryForm:
    """One form for all requests: without data it holds nothing of any of them, and its fields are made once."""
    return form()


def _refuse(name: str, code: str, message: Any) -> InvalidFilters:
    return InvalidFilters(errors=[FieldError(name, code, message)])


def _errors(errors: Any) -> list[FieldError]:
    result = []
    for name, details in errors.items():
        for detail in details.values() if isinstance(details, dict) else details:
            first = detail[0] if isinstance(detail, list) else detail
            result.append(FieldError(str(name), str(getattr(first, "code", "invalid")), str(first)))
    return result


class Row(Func):
    """A row constructor: compared with another it walks an index of the same columns."""

    function = "ROW"


@dataclass(frozen=True, slots=True)
class Keyset:
    """The order of a list: columns that are never null, the last one unique; all ascending or all descending."""

    columns: tuple[str, ...]
    descending: bool = False

    def order(self) -> tuple[str, ...]:
        return tuple(f"-{name}" if self.descending else name for name in self.columns)

    def after(self, queryset: QuerySet[Any, Any], values: Sequence[Any]) -> QuerySet[Any, Any]:
        """The rows beyond the one that holds these values, which are of the columns' types."""
        fields = self._fields(queryset.model)
        bound = [Value(value, output_field=field) for field, value in zip(fields, values, strict=True)]
        compare = LessThan if self.descending else GreaterThan
        key = Row(*(F(name) for name in self.columns), output_field=fields[0])
        return queryset.filter(compare(key, Row(*bound, output_field=fields[0])))

    def read(self, model: type[Model], texts: Sequence[str]) -> list[Any]:
        """The columns' values that a cursor carries as texts; :raises DjangoValidationError: they are none"""
        return [_from_cursor(field, text) for field, text in zip(self._fields(model), texts, strict=True)]

    def _fields(self, model: type[Model]) -> list[Any]:
        return [model._meta.get_field(name) for name in self.columns]


def _from_cursor(field: Any, text: str) -> Any:
    if not isinstance(field, DateTimeField):
        return field.to_python(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:  # ours always name their offset
        raise DjangoValidationError("not a moment")
    return moment


def page(
    request: Request, source: QuerySet[Any, Any] | Reading, query: Query, keyset: Keyset, columns: Sequence[str] = ()
) -> tuple[list[Any], dict[str, str]]:
    """One page of the source and its headers: model instances, or tuples of `columns`, which hold the keyset's.

    A `Reading` gives tuples only.

    :raises InvalidFilters: a cursor that is garbage or of another filter
    """
    headers: dict[str, str] = {}
    if query.count:
        whole = source.queryset if isinstance(source, Reading) else source
        headers["X-Total-Count"] = str(whole.order_by().count())
    after = _beyond(query, keyset, source.model)

    def step(rows: QuerySet[Any, Any], values: Mapping[str, Any]) -> QuerySet[Any, Any]:
        rows = rows.order_by(*keyset.order())
        if after:
            rows = keyset.after(rows, [values[name] for name in after])
        if columns:
            rows = rows.values_list(*columns)
        return rows[query.offset : query.offset + query.limit + 1]

    if isinstance(source, Reading):
        how = (keyset, tuple(columns), bool(after), query.offset, query.limit)
        found = source.then(*how, step=step, values=after).rows()
    else:
        found = list(step(source, after))
    if len(found) > query.limit:
        found.pop()
        headers["Link"] = f'<{_next_url(request, query, _values(found[-1], keyset, columns))}>; rel="next"'
    return found, headers


def _beyond(query: Query, keyset: Keyset, model: type[Model]) -> dict[str, Any]:
    """Where the page begins, by invented names; empty for the first page."""
    if not query.cursor:
        return {}
    try:
        values = keyset.read(model, _read_cursor(query, len(keyset.columns)))
    except DjangoValidationError:
        raise _refuse("cursor", "invalid_cursor", _("The cursor is not valid.")) from None
    return {f"after_{name}": value for name, value in zip(keyset.columns, values, strict=True)}


def _values(row: Any, keyset: Keyset, columns: Sequence[str]) -> list[Any]:
    values = [row[columns.index(name)] if columns else getattr(row, name) for name in keyset.columns]
    return [value.isoformat() if hasattr(value, "isoformat") else str(value) for value in values]


def _next_url(request: Request, query: Query, values: list[Any]) -> str:
    cursor = base64.urlsafe_b64encode(orjson.dumps([query.fingerprint, *values])).decode().rstrip("=")
    pairs = [
        (key, value)
        for key, group in request._request.GET.lists()
        for value in group
        if snake(key) not in ("cursor", "offset", "count")
    ]
    return request._request.build_absolute_uri(f"{request.path}?{urlencode([*pairs, ('cursor', cursor)])}")


def _read_cursor(query: Query, length: int) -> list[Any]:
    try:
        text = query.cursor or ""
        fingerprint, *values = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, binascii.Error):
        raise _refuse("cursor", "invalid_cursor", _("The cursor is not valid.")) from None
    if fingerprint != query.fingerprint or len(values) != length or not all(isinstance(v, str) for v in values):
        raise _refuse("cursor", "invalid_cursor", _("The cursor belongs to another list."))
    return list(values)


@dataclass(frozen=True)
class Shape:
    """The fields of an answer, named once for each face, so that renaming costs nothing per row.

    `columns` are what `values_list` or the object gives; `constant` are fields equal in every row.
    """

    columns: tuple[str, ...]
    constant: Mapping[str, Any] = dataclass_field(default_factory=dict)

    @cached_property
    def _snake(self) -> tuple[str, ...]:
        return (*self.columns, *self.constant)

    @cached_property
    def _camel(self) -> tuple[str, ...]:
        return tuple(to_camel_name(name) for name in self._snake)

    def rows(self, request: Request, rows: Iterable[tuple[Any, ...]], view: object = None) -> list[dict[str, Any]]:
        """The rows of `values_list(*columns)` as objects, spelled as the request's face spells them."""
        names = self._camel if is_camel(request, view) else self._snake
        constant = tuple(self.constant.values())
        return [dict(zip(names, row + constant, strict=True)) for row in rows]

    def of(self, subject: object) -> dict[str, Any]:
        """One object by its attributes, in snake_case."""
        return {name: getattr(subject, name) for name in self.columns} | dict(self.constant)


def hot_response(data: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> HttpResponse:
    """An answer already spelled for its face, past DRF's rendering: for the most used reads."""
    return HttpResponse(dumps(data), status=status, content_type="application/json", headers=dict(headers or {}))
