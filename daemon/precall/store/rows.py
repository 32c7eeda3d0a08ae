"""The mapping between a row of the routing table and the tables `bindings`, `routes` and `overrides`.

Each column has one owner, and a change names the columns it writes. A registration writes `bindings`, and `routes` only
if it begins a generation; an operator writes `overrides`; an answer writes the observed columns. Every change writes
`version`, `index`, `action` and `reason`.
"""

import functools
import json
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, UpdateBase, and_, bindparam, case, delete, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.model import Action, BindingState, Change, ColumnGroup, NumberRole, Override, Row, State
from precall.core.numbers import clean, may_be_same, mistake, same
from precall.core.packing import FACTS, OBSERVED, ORDERED, Packed, wrap
from precall.store.bulk import INSERTS, execute_many, upsert
from precall.store.cipher import Cipher
from precall.store.schema import bindings, overrides, routes
from precall.store.sealed_columns import BINDINGS, OVERRIDES, ROUTES

BATCH = 5000
OBSERVED_COLUMNS = ("state", *OBSERVED)

_LOAD = (
    select(
        bindings.c.subs_id,
        # As returned by the driver: a single column converted by SQLAlchemy doubles the cost of a row.
        *(type_coerce(bindings.c[name], Integer) if name == "sound" else bindings.c[name] for name in FACTS),
        *(
            type_coerce(routes.c[name], Integer) if name == "blocked" else routes.c[name]
            for name in OBSERVED_COLUMNS
        ),
        routes.c.version,
        routes.c.index,
        *(overrides.c[name].label(f"override_{name}") for name in (*ORDERED, "number")),
    )
    .select_from(bindings)
    .join(routes, routes.c.subs_id == bindings.c.subs_id)
    .join(overrides, overrides.c.subs_id == bindings.c.subs_id, isouter=True)
)

_SEALED = tuple(
    (at, f"{places.table.name}.{name}")
    for start, names, places in (
        (1, FACTS, BINDINGS),
        (1 + len(FACTS), OBSERVED_COLUMNS, ROUTES),
        (1 + len(FACTS) + len(OBSERVED_COLUMNS) + len(("version", "index")), (*ORDERED, "number"), OVERRIDES),
    )
    for at, name in enumerate(names, start)
    if name in places.columns
)
"""The positions of sealed columns in a row of `_LOAD`, and their names."""

_REFRESH = (
    update(routes)
    .where(
        and_(
            routes.c.subs_id == bindparam("of_subs_id"),
            routes.c.generation == bindparam("of_generation"),
            routes.c.seq <= bindparam("to_seq"),
        )
    )
    .values({name: bindparam(name) for name in OBSERVED_COLUMNS})
)

_REMOVE = [
    delete(table).where(table.c.subs_id == bindparam("of_subs_id")) for table in (bindings, routes, overrides)
]


@functools.cache
def _keep_observed(dialect: str) -> UpdateBase:
    """Build an upsert of a route that keeps its observed columns, unless a generation begins."""
    statement = INSERTS[dialect](routes)
    new = statement.excluded
    same = routes.c.generation == new.generation
    replaced = {name: new[name] for name in ("generation", "version", "index", "action", "reason")}
    replaced |= {name: case((same, routes.c[name]), else_=new[name]) for name in OBSERVED_COLUMNS}
    result: UpdateBase = statement.on_conflict_do_update(index_elements=[routes.c.subs_id], set_=replaced)
    return result


@dataclass(slots=True)
class _Outcome:
    """The combined effect of several changes to one binding: the last one, and all columns they write."""

    last: Change
    columns: ColumnGroup


async def write(connection: AsyncConnection, changes: Sequence[Change], cipher: Cipher) -> None:
    """Store the combined effect of `changes`, in order. The operation is idempotent."""
    outcomes: dict[str, _Outcome] = {}
    for change in changes:
        outcome = outcomes.setdefault(change.subs_id, _Outcome(change, change.columns))
        outcome.last = change
        outcome.columns |= change.columns
    removed = [subs_id for subs_id, outcome in outcomes.items() if outcome.last.row is None]
    for statement in _REMOVE:
        await execute_many(connection, statement, ({"of_subs_id": subs_id} for subs_id in removed))

    dialect = connection.dialect.name
    kept = [(o.last, o.last.row, o.columns) for o in outcomes.values() if o.last.row is not None]
    facts = (
        BINDINGS.seal(cipher, _registered(row))
        for _, row, columns in kept
        if ColumnGroup.REGISTERED in columns
    )
    await execute_many(connection, upsert(dialect, bindings), facts)
    unobserved = (
        ROUTES.seal(cipher, _route(change, row))
        for change, row, columns in kept
        if ColumnGroup.OBSERVED not in columns
    )
    await execute_many(connection, _keep_observed(dialect), unobserved)
    answered = (
        ROUTES.seal(cipher, _route(change, row))
        for change, row, columns in kept
        if ColumnGroup.OBSERVED in columns
    )
    await execute_many(connection, upsert(dialect, routes), answered)

    owned = [row for _, row, columns in kept if ColumnGroup.OVERRIDE in columns]
    lifted = ({"of_subs_id": row.binding.subs_id} for row in owned if row.override is None)
    await execute_many(connection, _REMOVE[-1], lifted)
    orders = (
        OVERRIDES.seal(cipher, _override(row, row.override)) for row in owned if row.override is not None
    )
    await execute_many(connection, upsert(dialect, overrides), orders)


async def refresh(connection: AsyncConnection, rows: Iterable[Row], cipher: Cipher) -> None:
    """Store the observed columns of rows whose route did not change.

    A stored row of another generation, or with a newer answer, is left unchanged.
    """
    await execute_many(
        connection,
        _REFRESH,
        (
            {
                "of_subs_id": row.binding.subs_id,
                "of_generation": row.binding.generation,
                "to_seq": row.state.seq,
                **ROUTES.seal(cipher, {"subs_id": row.binding.subs_id, **_observed(row.state)}),
            }
            for row in rows
        ),
    )


async def read(connection: AsyncConnection, cipher: Cipher) -> AsyncGenerator[list[Packed], None]:
    """Yield all rows, unordered, in batches. Raises StoreError for a number that does not open."""
    async with connection.stream(_LOAD) as result:
        async for part in result.partitions(BATCH):
            yield [_packed(_opened(row, cipher) if cipher else row) for row in part]


def _opened(columns: Sequence[Any], cipher: Cipher) -> list[Any]:
    """Return a row of `_LOAD` with its sealed columns opened."""
    opened = list(columns)
    for at, column in _SEALED:
        if opened[at]:
            opened[at] = cipher.open(f"{column} {opened[0]}", opened[at])
    return opened


def _registered(row: Row) -> dict[str, Any]:
    binding = row.binding
    return {
        "subs_id": binding.subs_id,
        "generation": binding.generation,
        "pool_key": binding.pool_key,
        "number_x": binding.number_x,
        "number_a": binding.number_a,
        "number_b": binding.number_b,
        "extension": binding.extension,
        "expires_at": binding.expires_at,
        "labels": json.dumps(dict(binding.labels), ensure_ascii=False) if binding.labels else "{}",
        "origin": binding.origin,
        "registered_at": binding.registered_at,
        "sound": binding.sound,
    }


def _observed(state: BindingState) -> dict[str, Any]:
    return {
        "state": state.state.value,
        "status": int(state.status),
        "number": state.number,
        "extension": state.extension,
        "checked_at": state.checked_at,
        "seq": state.seq,
        "streak": state.streak,
        "temp_number": state.temp_number,
        "temp_extension": state.temp_extension,
        "temp_at": state.temp_at,
        "exposed_at": state.exposed_at,
        "gone_at": state.gone_at,
        "blocked": state.blocked,
        "failures": state.failures,
        "moves": json.dumps(state.moves) if state.moves else "[]",
        "request_id": state.request_id,
    }


def _route(change: Change, row: Row) -> dict[str, Any]:
    return {
        "subs_id": row.binding.subs_id,
        "generation": row.binding.generation,
        "version": row.version,
        "index": row.index,
        "action": change.route.action.value,
        "reason": change.route.reason.value,
        **_observed(row.state),
    }


def _override(row: Row, override: Override) -> dict[str, Any]:
    return {
        "subs_id": row.binding.subs_id,
        "generation": override.generation,
        "action": override.action.value,
        "means": override.means.value,
        "number": "",
        "until": override.until,
        "reason": override.reason,
        "created_at": override.created_at,
        "created_by": override.created_by,
    }


_STATES = {state.value: state for state in State}


_FACTS_AT = slice(1, 1 + len(FACTS))
_STATE_AT = _FACTS_AT.stop
_OBSERVED_AT = slice(_STATE_AT + 1, _STATE_AT + 1 + len(OBSERVED))
_REST_AT = slice(_OBSERVED_AT.stop, None)
_LABELS, _SOUND = FACTS.index("labels"), FACTS.index("sound")
_NUMBER, _TEMPORARY = OBSERVED.index("number"), OBSERVED.index("temp_number")
_BLOCKED, _MOVES = OBSERVED.index("blocked"), OBSERVED.index("moves")


def _packed(columns: Sequence[Any]) -> Packed:
    """Build the packed row directly from the columns of `_LOAD`, because a million of them may be loaded."""
    subs_id, state, facts, observed = (
        columns[0],
        columns[_STATE_AT],
        list(columns[_FACTS_AT]),
        list(columns[_OBSERVED_AT]),
    )
    version, index, *order = columns[_REST_AT]
    pool_key, number_x, number_a, number_b = facts[:4]
    facts[_LABELS] = () if facts[_LABELS] == "{}" else tuple(json.loads(facts[_LABELS]).items())
    facts[_SOUND] = sound = bool(facts[_SOUND])
    number, temporary = observed[_NUMBER], observed[_TEMPORARY]
    # Share equal strings to save memory.
    observed[_NUMBER] = number = number_x if number == number_x else number
    observed[_TEMPORARY] = number if temporary == number else temporary
    observed[_BLOCKED] = blocked = bool(observed[_BLOCKED])
    observed[_MOVES] = () if observed[_MOVES] == "[]" else tuple(json.loads(observed[_MOVES]))
    override = _override_columns(order, number_x, number, temporary)
    data = wrap(tuple(facts), state, tuple(observed), override, version, index)
    usable = sound and mistake(number_x, number_a, number_b) is None
    if usable and (temporary or number != number_x):
        usable = all(not one or _usable(one, number_a, number_b) for one in (number, temporary))
    return Packed(subs_id, sys.intern(pool_key), number_x, _STATES[state], blocked, data, usable)


def _usable(number: str, number_a: str, number_b: str) -> bool:
    return bool(clean(number)) and not may_be_same(number, number_a) and not may_be_same(number, number_b)


def _override_columns(
    order: Sequence[Any], number_x: str, observed: str, temporary: str
) -> tuple[Any, ...] | None:
    """Return the columns of an override.

    Early versions stored the number itself; it is translated to the role that number has now.
    """
    *columns, number = order
    if columns[0] is None:
        return None
    if number and not columns[1]:
        columns[1] = _role(columns[0], number, number_x, observed, temporary).value
    return tuple(columns)


def _role(action: str, number: str, number_x: str, observed: str, temporary: str) -> NumberRole:
    if action == Action.DIAL_X.value:
        if same(number, number_x):
            return NumberRole.REGISTERED
        return NumberRole.OBSERVED if same(number, observed) else NumberRole.LOST
    return NumberRole.TEMPORARY if same(number, temporary) else NumberRole.LOST
