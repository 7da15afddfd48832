"""Reads that are asked so often that building their SQL costs more than running it.

A `Reading` is a queryset that is built and compiled once for each shape; later readings of the shape only give their
values. The queryset stays the one place that says which rows are seen: nothing but the text of the SQL is kept.
"""

import itertools
import re
import secrets
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property, lru_cache
from typing import Any
from uuid import UUID, uuid4

import psycopg
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import JSONField, Model, QuerySet
from psycopg import Cursor
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus

Values = Mapping[str, Any]
Rows = QuerySet[Any, Any]
MOST_SHAPES = 512  # a caller chooses filters and limits: beyond it, all shapes are forgotten and built anew
MOST_PREPARED = 128  # on one connection
_PARAMETER = re.compile(r"%%|%s|%\((\w+)\)s")
_numbers = itertools.count()  # of prepared statements


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
        return compiled.convert(fetch(compiled.sql, given, one_plan=self.one_plan))


def fetch(sql: str, values: Sequence[Any] | Mapping[str, Any] = (), *, one_plan: bool = True) -> list[tuple[Any, ...]]:
    """All rows of a statement whose text never varies. The server parses and plans it once for each connection, and
    answers in binary: moments come as they are, where Django has them read by Python, one by one.

    Django's cursors write the values into the text, and cost as much again as the server's answer; here psycopg's own
    call is made. Who counts or times statements sees this one too.

    :raises django.db.Error: as from a cursor of Django's
    """
    wrapper: Any = connections[DEFAULT_DB_ALIAS]  # asked of the thread once, not for each attribute
    wrapper.ensure_connection()
    if wrapper.queries_logged or wrapper.execute_wrappers:
        with wrapper._prepare_cursor(Cursor(wrapper.connection)) as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall())
    wrapper.validate_no_broken_transaction()
    with wrapper.wrap_database_errors:
        return _fetch(wrapper.connection, sql, values, one_plan)


def _fetch(
    connection: Any, sql: str, values: Sequence[Any] | Mapping[str, Any], one_plan: bool
) -> list[tuple[Any, ...]]:
    """On a connection of psycopg's, which carries as `readings` the names of what is prepared on it.

    :raises psycopg.Error: the server refuses, or is gone
    """
    text, names = _numbered(sql)
    given = [values[name] for name in names] if isinstance(values, Mapping) else values
    server, transformer = connection.pgconn, Transformer(connection)
    dumped = transformer.dump_sequence(given, [PyFormat.AUTO] * len(given))
    if not connection.autocommit and server.transaction_status == TransactionStatus.IDLE:
        server.exec_(b"BEGIN")  # Django has begun it, and psycopg waits for the first statement
    if one_plan:
        name = _prepared(connection, text, transformer.types or ())
        result = server.exec_prepared(name, dumped, transformer.formats, Format.BINARY)
    else:
        result = server.exec_params(text, dumped, transformer.types, transformer.formats, Format.BINARY)
    if result.status != ExecStatus.TUPLES_OK:
        if one_plan:  # the next one prepares it anew, should the server have forgotten it or its columns have changed
            del connection.readings[text, transformer.types or ()]
        raise _fault(connection, result)
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)


def _prepared(connection: Any, text: bytes, types: tuple[int, ...]) -> bytes:
    """The name of the statement on this connection; the oldest makes room."""
    try:
        names: dict[tuple[bytes, tuple[int, ...]], bytes] = connection.readings
    except AttributeError:
        names = connection.readings = {}
    name = names.get((text, types))
    if name is None:
        if len(names) >= MOST_PREPARED:
            connection.pgconn.exec_(b"DEALLOCATE " + names.pop(next(iter(names))))
        name = b"reading_%d" % next(_numbers)
        result = connection.pgconn.prepare(name, text, types)
        if result.status != ExecStatus.COMMAND_OK:
            raise _fault(connection, result)
        names[text, types] = name
    return name


def _fault(connection: Any, result: Any) -> psycopg.Error:
    if connection.pgconn.status != ConnStatus.OK:
        return psycopg.OperationalError(connection.pgconn.get_error_message())
    return psycopg.errors.error_from_result(result)


@lru_cache(MOST_SHAPES)
def _numbered(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """The text with parameters as the server counts them, and their names in that order."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found[1] or str(len(names))
        return "%" if found[0] == "%%" else f"${names.setdefault(name, len(names) + 1)}"

    return _PARAMETER.sub(number, sql).encode(), tuple(names)


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
