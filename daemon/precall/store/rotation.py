"""Everything under the newest key: what lies in plain is sealed, what another key sealed is sealed anew.

A table is walked by its key, some rows per transaction. A row is replaced only where it is still as it was read, so a
daemon may write all the while; what it wrote with an earlier key meanwhile is found by the next walk. Nothing is kept
of the way: a walk that is begun again passes by what is done.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, UpdateBase, and_, bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from precall.core.errors import StoreError, StoreUnavailable
from precall.store import key_registry, migration
from precall.store.bulk import execute_many
from precall.store.cipher import NOTHING, Cipher, is_sealed, key_of
from precall.store.connection import DatabaseAddress, close, failures_of
from precall.store.schema import marks
from precall.store.sealed_columns import EVERYWHERE, MARKS, SealedColumns

SLICE = 500
PAUSE = 0.005
"""Seconds between two slices, in which others get at the database."""
SETTLE = 3.0
"""Seconds after which no transaction is under way any more that began with an earlier key."""
WALKS = 5
POLL = 0.2
PATIENCE = 30.0

Progress = Callable[[int, int], None]
"""Called with the rows walked so far, and all there are in this walk."""


@dataclass(slots=True)
class RotationReport:
    """How many rows were sealed anew, how many of them had lain there in plain, and the keys nothing needs any more."""

    rows: int = 0
    plain: int = 0
    idle: list[str] = field(default_factory=list)


class KeyRotation:
    """Brings the database at `url` under the newest of `seals`, which holds every key that it needs."""

    def __init__(self, url: str, seals: Cipher, timeout: float = PATIENCE) -> None:
        self._url, self._seals, self._timeout = url, seals, timeout
        self._place = DatabaseAddress(url)

    async def due(self) -> bool:
        """Whether anything is not under the newest key. Raises StoreError, SchemaOutdated, StoreUnavailable."""
        engine = await self._opened(writes=False)
        try:
            with failures_of(self._place.name):
                async with engine.connect() as connection:
                    if any(key != self._seals.newest for key in await key_registry.needed(connection)):
                        return True
                    for places in EVERYWHERE:
                        wanted = select(places.table.c[places.key]).where(self._stale(places)).limit(1)
                        if await connection.scalar(wanted) is not None:
                            return True
                    return False
        finally:
            await close(engine, self._timeout)

    async def run(self, tell: Progress, settle: float = SETTLE) -> RotationReport:
        """Seal everything anew. Raises StoreError where a row does not open, or somebody goes on sealing with another
        key; then what was done stays done."""
        done = RotationReport()
        engine = await self._opened(writes=True)
        try:
            with failures_of(self._place.name):
                async with engine.begin() as connection:
                    await key_registry.begin(connection, self._seals)
                for _ in range(WALKS):
                    before = done.rows
                    await self._walk(engine, done, tell)
                    await asyncio.sleep(settle)
                    if done.rows == before:
                        break
                else:
                    raise StoreError(
                        f"a daemon goes on sealing with another key than {self._seals.newest}: give it"
                        f" {self._seals.file} as it is here, then rotate again"
                    )
                async with engine.begin() as connection:
                    done.idle = await key_registry.complete(connection, self._seals)
                if done.plain:
                    await self._wipe(engine)
        finally:
            await close(engine, self._timeout)
        return done

    async def _opened(self, *, writes: bool) -> AsyncEngine:
        await migration.check(self._url, self._timeout)
        engine = self._place.engine(self._timeout, writes=writes)
        try:
            with failures_of(self._place.name):
                async with engine.connect() as connection:
                    await key_registry.admit(connection, self._seals, self._place.name)
        except BaseException:
            await close(engine, self._timeout)
            raise
        return engine

    async def _walk(self, engine: AsyncEngine, done: RotationReport, tell: Progress) -> None:
        """All tables, from their first row to their last."""
        async with engine.begin() as connection:
            counts = [
                await connection.scalar(select(func.count()).select_from(p.table)) or 0 for p in EVERYWHERE
            ]
        walked = 0
        for places, count in zip(EVERYWHERE, counts, strict=True):
            passed, last = 0, None
            while True:
                async with engine.begin() as connection:
                    read, last = await self._slice(connection, places, last, done)
                passed += read
                tell(walked + min(passed, count), sum(counts))
                if read < SLICE:
                    break
                await asyncio.sleep(PAUSE)
            walked += count
        async with engine.begin() as connection:
            await self._secrets(connection, done)

    async def _slice(
        self, connection: AsyncConnection, places: SealedColumns, after: Any, done: RotationReport
    ) -> tuple[int, Any]:
        """(how many rows were read, the key of the last)"""
        table = places.table
        key = table.c[places.key]
        wanted = select(*(table.c[name] for name in dict.fromkeys((places.key, places.row, *places.columns))))
        if after is not None:
            wanted = wanted.where(key > after)
        found = (await connection.execute(wanted.order_by(key).limit(SLICE))).mappings().all()
        changed: list[dict[str, Any]] = []
        for row in found:
            if all(self._is_fresh(row[name]) for name in places.columns):
                continue
            done.plain += any(
                row[name] not in NOTHING and not is_sealed(row[name]) for name in places.columns
            )
            sealed = places.seal(self._seals, places.open(self._seals, row))
            changed.append(
                {"of_key": row[places.key]}
                | {f"of_{name}": row[name] for name in places.columns}
                | {name: sealed[name] for name in places.columns}
            )
        done.rows += await execute_many(connection, _REPLACE[table.name], changed)
        return len(found), found[-1][places.key] if found else after

    async def _secrets(self, connection: AsyncConnection, done: RotationReport) -> None:
        """The secrets among the marks. One in plain is dropped: the daemon makes another."""
        for name in key_registry.SECRETS:
            kept = await connection.scalar(select(marks.c.value).where(marks.c.name == name))
            if kept is None or self._is_fresh(kept):
                continue
            if is_sealed(kept):
                await key_registry.secret(connection, self._seals, name, "")
            else:
                await connection.execute(marks.delete().where(marks.c.name == name))
            done.rows += 1

    async def _wipe(self, engine: AsyncEngine) -> None:
        """Take away what the pages of the database still hold of the plain rows."""
        try:
            async with engine.connect() as connection:
                raw: Any = (await connection.get_raw_connection()).driver_connection
                if self._place.is_sqlite:
                    await raw.execute("VACUUM")
                    await self._checkpointed(raw)
                else:
                    await raw.execute("SET statement_timeout = 0")
                    for places in (*EVERYWHERE, MARKS):
                        await raw.execute(f"VACUUM (FULL) {places.table.name}")
        except Exception as error:  # noqa: BLE001  whatever it is, it is told as what is left to be done
            raise StoreUnavailable(
                f"all is sealed, but old pages of {self._place.name} may still hold plain numbers"
                f" ({type(error).__name__}): run VACUUM (PostgreSQL: VACUUM FULL) when it is quiet"
            ) from None

    async def _checkpointed(self, raw: Any) -> None:
        """The journal emptied: it holds the pages as they were. A reader who is at it is waited for."""
        for _ in range(int(self._timeout / POLL)):
            cursor = await raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy, _, _ = await cursor.fetchone()
            if not busy:
                return
            await asyncio.sleep(POLL)
        raise StoreUnavailable("the journal is in use")

    def _is_fresh(self, value: str) -> bool:
        return value in NOTHING or (is_sealed(value) and key_of(value) == self._seals.newest)

    def _stale(self, places: SealedColumns) -> ColumnElement[bool]:
        columns = [places.table.c[name] for name in places.columns]
        fresh = self._seals.head
        return or_(*(and_(c.not_in(NOTHING), ~c.startswith(fresh, autoescape=True)) for c in columns))


def _replacing(places: SealedColumns) -> UpdateBase:
    table = places.table
    as_read = (table.c[name] == bindparam(f"of_{name}", type_=table.c[name].type) for name in places.columns)
    return (
        update(table)
        .where(table.c[places.key] == bindparam("of_key"), *as_read)
        .values({name: bindparam(name) for name in places.columns})
    )


_REPLACE = {places.table.name: _replacing(places) for places in EVERYWHERE}
