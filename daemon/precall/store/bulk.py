"""One statement for many rows, as each database takes it fastest. What the statements say belongs to the neighbours.

Statements are written for one row, with a bound parameter per value. SQLite executes them row by row in one call of the
driver; PostgreSQL gets them rewritten over `unnest` of one array per value, so that a thousand rows are one statement
and its count of rows is known. Both are compiled once, and the driver is called with plain values: SQLAlchemy's own
way takes twice as long per row.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Insert,
    Table,
    UpdateBase,
    bindparam,
    column,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.visitors import replacement_traverse

INSERTS: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

SLICE = 500
"""Rows per call of the driver: their conversion takes some 5 ms of the loop, which readers share."""

Convert = Callable[[Sequence[Mapping[str, Any]]], Any]


async def execute_many(
    connection: AsyncConnection, statement: UpdateBase, rows: Iterable[Mapping[str, Any]]
) -> int:
    """Execute for each of `rows`, in slices: between two of them the loop is free for others.

    The rows have equal keys, and no two of them touch the same stored row. Gives how many rows were touched.
    `statement` is made once and used again: what is compiled of it is kept for good.
    """
    left, touched = iter(rows), 0
    while part := list(islice(left, SLICE)):
        sql, convert = _compiled(statement, tuple(part[0]), connection.dialect)
        result = await connection.exec_driver_sql(sql, convert(part))
        touched += result.rowcount
    return touched


_COMPILED: dict[tuple[UpdateBase, tuple[str, ...], str], tuple[str, Convert]] = {}


def _compiled(statement: UpdateBase, keys: tuple[str, ...], dialect: Dialect) -> tuple[str, Convert]:
    """(SQL text for the driver, what makes its parameters of some rows)."""
    found = _COMPILED.get((statement, keys, dialect.name))
    if found is None:
        by_row = dialect.name == "sqlite"
        told = statement if by_row else over_arrays(statement, keys)
        compiled: Any = told.compile(
            dialect=dialect, column_keys=keys if by_row else None, for_executemany=by_row
        )
        values = _picked(tuple(compiled.positiontup))
        convert = _by_row(values) if by_row else _by_column(values)
        found = _COMPILED[statement, keys, dialect.name] = (str(compiled), convert)
    return found


def _picked(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    # itemgetter of a single name gives no tuple.
    return itemgetter(*names) if len(names) > 1 else (lambda row: (row[names[0]],))


def _by_row(values: Callable[[Mapping[str, Any]], tuple[Any, ...]]) -> Convert:
    return lambda rows: list(map(values, rows))


def _by_column(values: Callable[[Mapping[str, Any]], tuple[Any, ...]]) -> Convert:
    return lambda rows: tuple(zip(*map(values, rows), strict=True))


def over_arrays(statement: UpdateBase, keys: Sequence[str]) -> UpdateBase:
    """`statement`, whose parameters are named `keys`, for as many rows as its parameters, now arrays, are long."""
    table: Any = statement.table
    types: dict[str, Any] = {key: table.c[key].type for key in keys if key in table.c}

    def note(element: Any, **_: Any) -> None:
        if isinstance(element, BindParameter) and element.key in keys and element.key not in types:
            types[element.key] = element.type

    replacement_traverse(statement, {}, note)
    arrays = [bindparam(key, type_=postgresql.ARRAY(types[key])) for key in keys]
    given = func.unnest(*arrays).table_valued(*(column(key, types[key]) for key in keys), name="given")
    given = given.render_derived()
    if isinstance(statement, Insert):
        return statement.from_select(list(keys), select(*(given.c[key] for key in keys)))

    def replace(element: Any, **_: Any) -> ColumnElement[Any] | None:
        if isinstance(element, BindParameter) and element.key in types:
            found: ColumnElement[Any] = given.c[element.key]
            return found
        return None

    result: Any = replacement_traverse(statement, {}, replace)
    return cast("UpdateBase", result)


@functools.cache
def insert_new(dialect: str, table: Table) -> UpdateBase:
    """INSERT that leaves alone what is there already."""
    statement: UpdateBase = INSERTS[dialect](table).on_conflict_do_nothing()
    return statement


@functools.cache
def upsert(dialect: str, table: Table) -> UpdateBase:
    """INSERT that replaces every column of a row with the same primary key."""
    statement = INSERTS[dialect](table)
    keys: list[Column[Any]] = list(table.primary_key.columns)
    replaced = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
    result: UpdateBase = statement.on_conflict_do_update(index_elements=keys, set_=replaced)
    return result
