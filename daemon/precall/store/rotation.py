"""Key rotation: seal all plain values, and reseal those of other keys, with the newest key.

Each table is scanned by primary key, a slice per transaction. A row is replaced only if it is unchanged since it was
read, so a daemon can keep writing. The next pass finds what it wrote with an older key in the meantime. No progress is
stored: a restarted rotation skips rows that are done.
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
"""Seconds between two slices, which leave the database to other writers."""
SETTLE = 3.0
"""Seconds after which no transaction that began with an older key is still in progress."""
PASSES = 5
POLL = 0.2
PATIENCE = 30.0

Progress = Callable[[int, int], None]
"""Called with the number of rows scanned so far in this pass, and their total."""


@dataclass(slots=True)
class RotationReport:
    """Rows resealed, how many of them were plain before, and the keys no longer needed."""

    rows: int = 0
    plain: int = 0
    idle: list[str] = field(default_factory=list)


class KeyRotation:
    """Rotation of the database at `url` to the newest key of `cipher`, which must hold every key it needs."""

    def __init__(self, url: str, cipher: Cipher, timeout: float = PATIENCE) -> None:
        self._url, self._cipher, self._timeout = url, cipher, timeout
        self._address = DatabaseAddress(url)

    async def due(self) -> bool:
        """Return whether any value is not sealed with the newest key.

        Raises StoreError, SchemaOutdated, StoreUnavailable.
        """
        engine = await self._open(writes=False)
        try:
            with failures_of(self._address.name):
                async with engine.connect() as connection:
                    if any(key != self._cipher.newest for key in await key_registry.needed(connection)):
                        return True
                    for sealed in EVERYWHERE:
                        stale = select(sealed.table.c[sealed.key]).where(self._stale(sealed)).limit(1)
                        if await connection.scalar(stale) is not None:
                            return True
                    return False
        finally:
            await close(engine, self._timeout)

    async def run(self, progress: Progress, settle: float = SETTLE) -> RotationReport:
        """Reseal everything with the newest key.

        Raises StoreError if a row does not open, or if a daemon keeps sealing with another key. Rows resealed until
        then stay resealed.
        """
        done = RotationReport()
        engine = await self._open(writes=True)
        try:
            with failures_of(self._address.name):
                async with engine.begin() as connection:
                    await key_registry.begin(connection, self._cipher)
                for _ in range(PASSES):
                    before = done.rows
                    await self._scan(engine, done, progress)
                    await asyncio.sleep(settle)
                    if done.rows == before:
                        break
                else:
                    raise StoreError(
                        f"a daemon keeps sealing with another key than {self._cipher.newest}: give it"
                        f" {self._cipher.file} as it is here, then rotate again"
                    )
                async with engine.begin() as connection:
                    done.idle = await key_registry.complete(connection, self._cipher)
                if done.plain:
                    await self._wipe(engine)
        finally:
            await close(engine, self._timeout)
        return done

    async def _open(self, *, writes: bool) -> AsyncEngine:
        await migration.check(self._url, self._timeout)
        engine = self._address.engine(self._timeout, writes=writes)
        try:
            with failures_of(self._address.name):
                async with engine.connect() as connection:
                    await key_registry.admit(connection, self._cipher, self._address.name)
        except BaseException:
            await close(engine, self._timeout)
            raise
        return engine

    async def _scan(self, engine: AsyncEngine, done: RotationReport, progress: Progress) -> None:
        """Scan all tables once."""
        async with engine.begin() as connection:
            counts = [
                await connection.scalar(select(func.count()).select_from(p.table)) or 0 for p in EVERYWHERE
            ]
        scanned = 0
        for sealed, count in zip(EVERYWHERE, counts, strict=True):
            in_table, last = 0, None
            while True:
                async with engine.begin() as connection:
                    read, last = await self._slice(connection, sealed, last, done)
                in_table += read
                progress(scanned + min(in_table, count), sum(counts))
                if read < SLICE:
                    break
                await asyncio.sleep(PAUSE)
            scanned += count
        async with engine.begin() as connection:
            await self._secrets(connection, done)

    async def _slice(
        self, connection: AsyncConnection, sealed: SealedColumns, after: Any, done: RotationReport
    ) -> tuple[int, Any]:
        """Reseal the rows of one slice. Return (number of rows read, key of the last)."""
        table = sealed.table
        key = table.c[sealed.key]
        query = select(*(table.c[name] for name in sealed.needed))
        if after is not None:
            query = query.where(key > after)
        rows = (await connection.execute(query.order_by(key).limit(SLICE))).mappings().all()
        changed: list[dict[str, Any]] = []
        for row in rows:
            if all(self._is_fresh(row[name]) for name in sealed.columns):
                continue
            done.plain += any(
                row[name] not in NOTHING and not is_sealed(row[name]) for name in sealed.columns
            )
            resealed = sealed.seal(self._cipher, sealed.open(self._cipher, row))
            changed.append(
                {"of_key": row[sealed.key]}
                | {f"of_{name}": row[name] for name in sealed.columns}
                | {name: resealed[name] for name in sealed.columns}
            )
        done.rows += await execute_many(connection, _REPLACE[table.name], changed)
        return len(rows), rows[-1][sealed.key] if rows else after

    async def _secrets(self, connection: AsyncConnection, done: RotationReport) -> None:
        """Reseal the secrets in `marks`. A plain one is deleted; the daemon generates another."""
        for name in key_registry.SECRETS:
            stored = await connection.scalar(select(marks.c.value).where(marks.c.name == name))
            if stored is None or self._is_fresh(stored):
                continue
            if is_sealed(stored):
                await key_registry.secret(connection, self._cipher, name, "")
            else:
                await connection.execute(marks.delete().where(marks.c.name == name))
            done.rows += 1

    async def _wipe(self, engine: AsyncEngine) -> None:
        """Erase plain values that remain in old pages of the database."""
        try:
            async with engine.connect() as connection:
                raw: Any = (await connection.get_raw_connection()).driver_connection
                if self._address.is_sqlite:
                    await raw.execute("VACUUM")
                    await self._empty_journal(raw)
                else:
                    await raw.execute("SET statement_timeout = 0")
                    for sealed in (*EVERYWHERE, MARKS):
                        await raw.execute(f"VACUUM (FULL) {sealed.table.name}")
        except Exception as error:  # noqa: BLE001  reported as the step that remains
            raise StoreUnavailable(
                f"everything is sealed, but old pages of {self._address.name} may still hold plain numbers"
                f" ({type(error).__name__}): run VACUUM (PostgreSQL: VACUUM FULL) when it is quiet"
            ) from None

    async def _empty_journal(self, raw: Any) -> None:
        """Truncate the WAL, which contains old pages, waiting for readers that use it."""
        for _ in range(int(self._timeout / POLL)):
            cursor = await raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy, _, _ = await cursor.fetchone()
            if not busy:
                return
            await asyncio.sleep(POLL)
        raise StoreUnavailable("the journal is in use")

    def _is_fresh(self, value: str) -> bool:
        return value in NOTHING or (is_sealed(value) and key_of(value) == self._cipher.newest)

    def _stale(self, sealed: SealedColumns) -> ColumnElement[bool]:
        columns = [sealed.table.c[name] for name in sealed.columns]
        prefix = self._cipher.head
        return or_(*(and_(c.not_in(NOTHING), ~c.startswith(prefix, autoescape=True)) for c in columns))


def _replacing(sealed: SealedColumns) -> UpdateBase:
    table = sealed.table
    as_read = (table.c[name] == bindparam(f"of_{name}", type_=table.c[name].type) for name in sealed.columns)
    return (
        update(table)
        .where(table.c[sealed.key] == bindparam("of_key"), *as_read)
        .values({name: bindparam(name) for name in sealed.columns})
    )


_REPLACE = {sealed.table.name: _replacing(sealed) for sealed in EVERYWHERE}
