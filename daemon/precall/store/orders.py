"""The orders of operators in the database. `core.orders` decides which of them are in force.

Reasons are sealed, because operators may write a number in one. A plain reason predates sealing. It affects no
decision, so it is returned as stored, even in a strict database.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import (
    ColumnElement,
    Select,
    UpdateBase,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.concurrency import breathe
from precall.core.model import Change
from precall.core.orders import ENDS, LIFT, OF_POOLS, ListedOrder, Order, OrderKind, in_force
from precall.core.persons import Person
from precall.store.bulk import execute_many, insert_new
from precall.store.calls import Transact
from precall.store.cipher import Cipher, is_sealed
from precall.store.schema import bindings, orders
from precall.store.sealed_columns import ORDERS

T = TypeVar("T")

SLICE = 2000
"""Rows read or deleted per transaction."""
OPENED = 100
"""Reasons opened at once: about a millisecond."""

_COLUMNS = tuple(column for column in orders.columns if column.name != "index")
_IS_OF_POOLS = orders.c.kind.in_(sorted(OF_POOLS))
_ENDS = orders.c.action.in_(sorted(ENDS))
_ENDS_ALL = and_(_IS_OF_POOLS, orders.c.target == "", _ENDS)
_APPEND = insert(orders)
_UNDO = delete(orders).where(orders.c.index == bindparam("of_index"))


class Sealing(Protocol):
    """Runs a write transaction whose values are sealed."""

    async def __call__(self, work: Callable[[AsyncConnection, Cipher], Awaitable[T]], size: int = 1) -> T: ...


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """A filter for orders. "" and None match any value.

    `concerns` is (id of a binding, pool key): orders for this binding, for its pool, or for all pools.
    """

    kind: str = ""
    pool_key: str = ""
    subs_id: str = ""
    in_force: bool = False
    concerns: tuple[str, str] | None = None


EVERY_ORDER = OrderFilter()


class OrderBook:
    """The stored orders. Methods raise StoreUnavailable, like those of `Store`."""

    def __init__(self, seal: Sealing, write: Transact, read: Transact, keys: Callable[[], Cipher]) -> None:
        self._seal, self._write, self._read, self._keys = seal, write, read, keys

    async def give(self, order: Order) -> None:
        """Store an order for a pool, or for all pools. Overrides are stored with the change they make."""

        async def work(connection: AsyncConnection, cipher: Cipher) -> None:
            await execute_many(connection, _APPEND, [_sealed(order, cipher)])

        await self._seal(work)

    async def newest(self, *kinds: OrderKind) -> list[Order]:
        """Return the newest order for each target and the newest that ended those of all pools, without reasons."""

        async def work(connection: AsyncConnection) -> list[Order]:
            return [_order(row, "") for row in await _fetched(_newest(kinds), connection)]

        return await self._read(work, SLICE)

    async def page(
        self, *, now: float, limit: int, before_id: int | None = None, wanted: OrderFilter = EVERY_ORDER
    ) -> list[ListedOrder]:
        """Return orders, newest first, and whether each is in force at `now` (Unix seconds).

        `before_id` is the id of the last order on the previous page.
        """
        cipher = self._keys()

        async def work(connection: AsyncConnection) -> list[ListedOrder]:
            found, before = list[ListedOrder](), before_id
            while len(found) < limit:
                rows = await _rows(connection, wanted, now, before, limit)
                standing = await _standing(connection, rows, now)
                for row in rows:
                    if not wanted.in_force or row["id"] in standing:
                        reason = _opened(row, cipher)
                        found.append(ListedOrder(_order(row, reason), row["id"] in standing))
                if not wanted.in_force or len(rows) < limit:
                    break
                before = rows[-1]["id"]
            return found[:limit]

        return await self._read(work, limit)

    async def retire(self, before: float) -> int:
        """Delete orders that are not in force, given before `before` and replaced, lifted or over by then.

        The transactions are short. Returns the number of rows deleted.
        """
        total = 0
        for over in (_replaced(before), _ended(before)):
            some = delete(orders).where(orders.c.id.in_(select(orders.c.id).where(over).limit(SLICE)))
            gone = SLICE
            while gone == SLICE:
                gone = await self._write(partial(_executed, some), SLICE)
                total += gone
        return total

    async def mentions(self, person: Person, *, erase: bool) -> int:
        """Count the orders whose reason contains the number. With `erase`, blank the reason."""
        cipher, total, last = self._keys(), 0, 0
        key = orders.c.id
        while True:
            wanted = select(*(orders.c[name] for name in ORDERS.needed)).where(
                orders.c.reason != "", key > last
            )
            rows = await self._read(partial(_fetched, wanted.order_by(key).limit(SLICE)), SLICE)
            found = list[int]()
            for place, row in enumerate(rows, 1):
                await breathe(place, OPENED)
                if person.is_in(_opened(row, cipher)):
                    found.append(row["id"])
            total += len(found)
            if erase and found:
                blank = update(orders).where(key.in_(found)).values(reason="")
                await self._write(partial(_executed, blank), SLICE)
            if len(rows) < SLICE:
                return total
            last = rows[-1]["id"]


async def append(connection: AsyncConnection, changes: Collection[Change], cipher: Cipher) -> None:
    """Store the orders of `changes`, and delete those of changes that they undo. The operation is idempotent."""
    undone = ({"of_index": index} for change in changes for index in change.undoes)
    await execute_many(connection, _UNDO, undone)
    given = (
        {**_sealed(change.order, cipher), "index": change.index}
        for change in changes
        if change.order is not None
    )
    await execute_many(connection, insert_new(connection.dialect.name, orders), given)


def _sealed(order: Order, cipher: Cipher) -> Mapping[str, Any]:
    values = asdict(order) | {"kind": order.kind.value}
    del values["id"]
    return ORDERS.seal(cipher, values)


def _opened(row: Mapping[Any, Any], cipher: Cipher) -> str:
    reason: str = (ORDERS.open(cipher, row) if is_sealed(row["reason"]) else row)["reason"]
    return reason


def _order(row: Mapping[Any, Any], reason: str) -> Order:
    values = {column.name: row[column.name] for column in _COLUMNS}
    return Order(**values | {"kind": OrderKind(row["kind"]), "reason": reason})


def _matching(wanted: OrderFilter) -> list[ColumnElement[bool]]:
    criteria: list[ColumnElement[bool]] = []
    if wanted.kind:
        criteria.append(orders.c.kind == wanted.kind)
    if wanted.pool_key:
        criteria += [_IS_OF_POOLS, orders.c.target == wanted.pool_key]
    if wanted.subs_id:
        criteria += [orders.c.kind == OrderKind.OVERRIDE, orders.c.target == wanted.subs_id]
    if wanted.concerns is not None:
        subs_id, pool_key = wanted.concerns
        its_own = and_(orders.c.kind == OrderKind.OVERRIDE, orders.c.target == subs_id)
        criteria.append(or_(its_own, and_(_IS_OF_POOLS, orders.c.target.in_(("", pool_key)))))
    return criteria


async def _rows(
    connection: AsyncConnection, wanted: OrderFilter, now: float, before_id: int | None, limit: int
) -> Sequence[Mapping[Any, Any]]:
    """Return matching rows, newest first. With `in_force` these are those that may be."""
    rows = select(*_COLUMNS).where(*_matching(wanted)).order_by(orders.c.id.desc()).limit(limit)
    if before_id is not None:
        rows = rows.where(orders.c.id < before_id)
    if wanted.in_force:
        heads = select(func.max(orders.c.id)).group_by(orders.c.kind, orders.c.target)
        rows = rows.where(orders.c.id.in_(heads), ~_ENDS)
        rows = rows.where(or_(orders.c.until.is_(None), orders.c.until > now))
    return await _fetched(rows, connection)


async def _standing(connection: AsyncConnection, rows: Sequence[Mapping[Any, Any]], now: float) -> set[int]:
    """Return the ids of those orders for the targets of `rows` that are in force."""
    kinds, targets = {row["kind"] for row in rows}, {row["target"] for row in rows}
    found = await _fetched(_newest(kinds, orders.c.target.in_(targets)), connection)
    ids = [row["target"] for row in found if row["kind"] == OrderKind.OVERRIDE]
    alive = select(bindings.c.subs_id, bindings.c.generation).where(bindings.c.subs_id.in_(ids))
    generations = {subs_id: generation for subs_id, generation in await connection.execute(alive)}  # noqa: C416
    return {order.id for order in in_force((_order(row, "") for row in found), generations, now)}


def _newest(kinds: Iterable[str], *criteria: ColumnElement[bool]) -> Select[Any]:
    """Select the newest order of these kinds for each target, and the newest of each kind that ended all.

    `criteria` limit the targets.
    """
    of_kinds = orders.c.kind.in_(sorted(kinds))
    heads = select(func.max(orders.c.id)).where(of_kinds, *criteria)
    ends = select(func.max(orders.c.id)).where(of_kinds, _ENDS_ALL).group_by(orders.c.kind)
    newest = heads.group_by(orders.c.kind, orders.c.target).union(ends)
    return select(*_COLUMNS).where(orders.c.id.in_(newest)).order_by(orders.c.id)


def _replaced(before: float) -> ColumnElement[bool]:
    """Orders given before `before` that another one had replaced or ended by then.

    One that ended all is not among them: a later one for all pools does not stand for it.
    """
    later = orders.alias("later")
    same_kind = and_(later.c.kind == orders.c.kind, later.c.id > orders.c.id, later.c.at < before)
    ends_all = and_(_IS_OF_POOLS, later.c.target == "", later.c.action.in_(sorted(ENDS)))
    return and_(
        orders.c.at < before,
        ~_ENDS_ALL,
        or_(
            exists().where(same_kind, later.c.target == orders.c.target),
            exists().where(same_kind, ends_all),
        ),
    )


def _ended(before: float) -> ColumnElement[bool]:
    """Orders given before `before` that are over or only ended others, if deleting them revives no earlier one."""
    earlier = orders.alias("earlier")
    bearing = or_(earlier.c.target == orders.c.target, and_(_IS_OF_POOLS, orders.c.target == ""))
    binding = exists().where(
        bindings.c.subs_id == orders.c.target, bindings.c.generation == orders.c.generation
    )
    over = and_(
        orders.c.kind == OrderKind.OVERRIDE,
        orders.c.action != LIFT,
        or_(orders.c.until < before, ~binding),
    )
    return and_(
        orders.c.at < before,
        or_(_ENDS, over),
        ~exists().where(earlier.c.kind == orders.c.kind, earlier.c.id < orders.c.id, bearing),
    )


async def _executed(statement: UpdateBase, connection: AsyncConnection) -> int:
    """Return the number of rows affected."""
    return (await connection.execute(statement)).rowcount


async def _fetched(wanted: Select[Any], connection: AsyncConnection) -> Sequence[Mapping[Any, Any]]:
    return list((await connection.execute(wanted)).mappings())
