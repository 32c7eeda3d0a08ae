"""What the database holds of a person outside the routing table, and its removal: history, calls, audit.

A sealed number can only be compared once it is opened, so the history is read by primary key, a slice per transaction.
The exposure audit stores a keyed hash in place of the number and is never changed here.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import UpdateBase, bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.concurrency import breathe
from precall.core.errors import StoreError
from precall.core.persons import Person
from precall.store.bulk import execute_many
from precall.store.calls import Transact
from precall.store.cipher import MARK, Cipher, is_sealed
from precall.store.schema import calls, exposures
from precall.store.sealed_columns import CHANGES, RESULTS, SealedColumns

SLICE = 2000
"""Rows read per transaction."""
OPENED = 100
"""Rows opened at once: about a millisecond."""
IDS = 500
"""Ids per statement."""


class HistoryTable(StrEnum):
    """The tables whose rows may hold a number of a person."""

    RESULTS = "check_results"
    CHANGES = "route_changes"


_COLUMNS = {HistoryTable.RESULTS: RESULTS, HistoryTable.CHANGES: CHANGES}


def _blanking(columns: SealedColumns) -> UpdateBase:
    key = columns.table.c[columns.key]
    return (
        update(columns.table)
        .where(key == bindparam("of_key"))
        .values({name: bindparam(name) for name in columns.columns})
    )


_BLANK = {name: _blanking(columns) for name, columns in _COLUMNS.items()}


@dataclass(frozen=True, slots=True)
class HistorySlice:
    """What one slice of a table holds of a person: the binding of each row.

    `unreadable` rows do not open. The next slice begins after the key `last`, which is None at the end of the table.
    """

    subs_ids: Sequence[str]
    unreadable: int
    last: int | None


class PersonRecords:
    """Records of persons. Methods raise StoreUnavailable, like those of `Store`.

    `keys` returns the keys that open numbers.
    """

    def __init__(self, write: Transact, read: Transact, keys: Callable[[], Cipher]) -> None:
        self._write, self._read, self._keys = write, read, keys

    async def history(
        self, table: HistoryTable, person: Person, after: int, *, erase: bool, size: int = SLICE
    ) -> HistorySlice:
        """Search the `size` rows after the key `after` for the number. With `erase`, blank it."""
        seals, columns = self._keys(), _COLUMNS[table]

        async def work(connection: AsyncConnection) -> HistorySlice:
            last, rows = await _candidates(connection, columns, person, after, size)
            found, unreadable = await _holding(rows, columns, seals, person)
            if erase:
                blank = dict.fromkeys(columns.columns, "")
                blanked = ({"of_key": row[columns.key], **blank} for row in found)
                await execute_many(connection, _BLANK[table], blanked)
            return HistorySlice([row["subs_id"] for row in found], unreadable, last)

        return await (self._write if erase else self._read)(work, size)

    async def calls(self, subs_ids: Collection[str], *, erase: bool) -> int:
        """Count the calls of these bindings. With `erase`, they lose the id of the binding."""
        total, ids = 0, sorted(subs_ids)
        for start in range(0, len(ids), IDS):
            of_these = calls.c.subs_id.in_(ids[start : start + IDS])
            total += await (self._unlinked(of_these) if erase else self._counted(of_these))
        return total

    async def _unlinked(self, of_these: Any) -> int:
        """Take the binding off these calls, at most `SLICE` per transaction."""

        async def work(connection: AsyncConnection) -> int:
            some = select(calls.c.call_id).where(of_these).limit(SLICE)
            done = await connection.execute(update(calls).where(calls.c.call_id.in_(some)).values(subs_id=""))
            return done.rowcount

        total = done = await self._write(work, SLICE)
        while done == SLICE:
            done = await self._write(work, SLICE)
            total += done
        return total

    async def _counted(self, of_these: Any) -> int:
        wanted = select(func.count()).select_from(calls).where(of_these)
        return await self._read(lambda connection: connection.scalar(wanted), SLICE) or 0

    async def exposures(self, number_hashes: Sequence[str]) -> tuple[int, list[str]]:
        """Return (number of audit rows with one of these hashes, ids of their bindings)."""
        of_these = exposures.c.number_hash.in_(number_hashes)

        async def work(connection: AsyncConnection) -> tuple[int, list[str]]:
            count = await connection.scalar(select(func.count()).select_from(exposures).where(of_these))
            ids = await connection.scalars(select(exposures.c.subs_id).where(of_these).distinct())
            return count or 0, sorted(ids)

        return await self._read(work, SLICE)


async def _candidates(
    connection: AsyncConnection, columns: SealedColumns, person: Person, after: int, size: int
) -> tuple[int | None, list[dict[str, Any]]]:
    """Return (key of the last of `size` rows after `after`, those among them that may hold the number)."""
    table = columns.table
    key, number = table.c[columns.key], table.c.number
    part = select(key).where(key > after).order_by(key).limit(size).subquery()
    last = await connection.scalar(select(func.max(part.c[0])))
    if last is None:
        return None, []
    wanted = (
        select(*(table.c[name] for name in dict.fromkeys((columns.key, columns.row, "subs_id", "number"))))
        .where(key > after, key <= last)
        .where(or_(number.contains(person.digits), number.startswith(MARK)))
    )
    return last, [dict(row) for row in (await connection.execute(wanted)).mappings()]


async def _holding(
    rows: Sequence[dict[str, Any]], columns: SealedColumns, seals: Cipher, person: Person
) -> tuple[list[dict[str, Any]], int]:
    """Return (the rows whose number is that of the person, how many do not open)."""
    found, unreadable = [], 0
    for place, row in enumerate(rows, 1):
        await breathe(place, OPENED)
        number = row["number"]
        if is_sealed(number):
            try:
                number = seals.open(columns.location("number", row[columns.row]), number)
            except StoreError:
                unreadable += 1
                continue
        if person.has(number):
            found.append(row)
    return found, unreadable
