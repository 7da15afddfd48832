"""Reads that are asked so often that building their SQL costs more than running it.

A `Reading` is a queryset that is built and compiled once for each shape; later readings of the shape only give their
values. The queryset stays the one place that says which rows are seen: nothing but the text of the SQL is kept.
"""

import secrets
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import JSONField, Model, QuerySet
from psycopg import Cursor
from psycopg.pq import Format

Values = Mapping[str, Any]
Rows = QuerySet[Any, Any]
MOST_SHAPES = 512  # a caller chooses filters and limits: beyond it, all shapes are forgotten and built anew


@dataclass(frozen=True, slots=True)
class _Compiled:
    """SQL, for each of its parameters the name of a value, or None and a constant, and what makes values of columns."""

    sql: str
    parameters: tuple[tuple[str | None, Any], ...]
    convert: Callable[[list[tuple[Any, ...]]], list[tuple[Any, ...]]]


_known: dict[Hashable, _Compiled] = {}


@dataclass(frozen=True)
class Reading:
    """What `build` reads with the `values`: ids, texts, numbers, dates and moments that go into the SQL unchanged.

    Whatever else decides the SQL (whether a filter is given, whether the caller sees all) stands in `shape`.
    """

    model: type[Model]
    shape: tuple[Hashable, ...]
    values: Values
    build: Callable[[Values], Rows]
    # One plan for all values. Not where the best plan depends on whose rows they are: few memberships or many.
    one_plan: bool = True

    @cached_property
    def queryset(self) -> Rows:
        return self.build(self.values)

    def then(self, *shape: Hashable, step: Callable[[Rows, Values], Rows], values: Values) -> "Reading":
        """This reading and one more step; `values` are the step's own."""
        return Reading(
            self.model,
            (*self.shape, *shape),
            {**self.values, **values},
            lambda given: step(self.build(given), given),
            self.one_plan,
        )

    def rows(self) -> list[tuple[Any, ...]]:
        """The rows of the queryset, which ends with `values_list`. One query."""
        key = (self.model, *self.shape)
        compiled = _known.get(key)
        if compiled is None:
            compiled = _compile(self)
            if len(_known) >= MOST_SHAPES:
                _known.clear()
            _known[key] = compiled
        given = [self.values[name] if name else constant for name, constant in compiled.parameters]
        with prepared_cursor() if self.one_plan else connection.cursor() as cursor:
            cursor.execute(compiled.sql, given)
            return compiled.convert(cursor.fetchall())


def prepared_cursor() -> Any:
    """A cursor whose statements the server parses and plans once for each connection; for texts that never vary.

    Django's own cursors write the values into the text, so that no two texts are alike.
    """
    wrapper: Any = connections[DEFAULT_DB_ALIAS]  # asked of the thread once, not for each attribute
    wrapper.ensure_connection()
    cursor: Cursor[Any] = Cursor(wrapper.connection)
    cursor.format = Format.BINARY  # moments come as they are: as text Django has them read by Python, one by one
    return wrapper._prepare_cursor(cursor)


def _compile(reading: Reading) -> _Compiled:
    """Builds the queryset with a stand-in for every value and finds them again among the parameters.

    :raises ValueError: a value does not reach the SQL unchanged, or a column is JSON
    """
    stand_ins = {name: _like(value) for name, value in reading.values.items()}
    compiler = reading.build(stand_ins).query.get_compiler(connection=connection)
    sql, parameters = compiler.as_sql()
    names = {value: name for name, value in stand_ins.items()}
    found = tuple((names.get(each), each) if isinstance(each, Hashable) else (None, each) for each in parameters)
    if lost := stand_ins.keys() - {name for name, _ in found}:
        raise ValueError(f"{reading.shape}: not in the SQL as given: {', '.join(sorted(lost))}")
    selected = [each for each, _, _ in compiler.select]
    if any(isinstance(each.output_field, JSONField) for each in selected):
        raise ValueError(f"{reading.shape}: JSON is not read in binary")
    converters = compiler.get_converters(selected)

    def convert(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in compiler.apply_converters(rows, converters)] if converters else rows

    return _Compiled(sql, found, convert)


def _like(value: Any) -> Any:
    """Another value of that type, which nothing else in the SQL equals."""
    if isinstance(value, UUID):
        return uuid4()
    if isinstance(value, datetime):
        return datetime.fromtimestamp(secrets.randbelow(10**9), UTC)
    if isinstance(value, date):
        return date.fromordinal(1 + secrets.randbelow(700_000))
    if isinstance(value, int) and not isinstance(value, bool):
        return 10**6 + secrets.randbelow(10**9)
    if isinstance(value, str):
        return secrets.token_hex(16)
    raise ValueError(f"{type(value).__name__} cannot stand in the SQL of a Reading")
