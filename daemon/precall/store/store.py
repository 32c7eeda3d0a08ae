"""The store: what precall promises of its database. Which columns and statements that takes is the neighbours' part.

Writes go one after the other, each in a transaction of its own, and each is over after a while: one that hangs is
told as StoreUnavailable and ends by itself later, without a commit; the next ones are refused until it has.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.concurrency import retrieve_exception
from precall.core.errors import LeadershipLost, StoreError, StoreUnavailable
from precall.core.model import Change, Check, Exposure, Policy, Row
from precall.core.packing import Packed
from precall.core.planning.sample import DialRecord
from precall.core.role import CurrentRole, Role
from precall.store import audit, fencing, history, key_registry, migration, operator_state, rows
from precall.store.attempt import Attempt
from precall.store.audit import EVERY, AuditFilter
from precall.store.bulk import execute_many, upsert
from precall.store.calls import CallBook
from precall.store.cipher import Cipher
from precall.store.connection import DatabaseAddress, Unwritable, close, failures_of
from precall.store.schema import marks, pauses, policy, route_changes
from precall.store.sealed_columns import BRAKES, PAUSES

History = Literal["runs", "every"]
T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

PATIENCE_PER_ROW = 0.001
"""Seconds a row may add to the deadline of its transaction: twenty times what it takes."""

HIGH_INDEX, HIGH_SEQ, COMPACTED = "high_index", "high_seq", "compacted"
OWN = {HIGH_INDEX, HIGH_SEQ, COMPACTED, fencing.MARK}


class Store:
    """The database, in the words of the domain.

    Every method raises StoreUnavailable when the database is refused, locked, full, broken or slower than the
    deadline; then nothing of the call is stored, and calling again with the same values is always right. Only
    where the database is lost in the very COMMIT may it turn out to be stored: that is told as OutcomeUnknown.

    It writes by its `fencing_token` (0: no other writer is to be shut out). A write is refused once another daemon has
    a higher token; `when_deposed` is called then. A store whose `role` is fenced refuses every write.
    """

    fencing_token = 0

    def __init__(self, place: DatabaseAddress, timeout: float, keep: History, seals: Cipher) -> None:
        self.name = place.name
        self._place, self._seals, self._sealing_with = place, seals, ""
        self._timeout = timeout
        self._fold = keep == "runs"
        self._writer = place.engine(timeout, writes=True)
        self._reader = place.engine(timeout, writes=False)
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._high: dict[str, int] = {}
        self.when_deposed: Callable[[], None] = _nothing
        self.role = CurrentRole()
        self.calls = CallBook(self._write, self._read)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        timeout: float = 1.0,
        history: History = "runs",
        key_file: Path | None = None,
        auto_migrate: bool,
    ) -> Self:
        """Open the database at `url` (`sqlite:///path` or `postgresql://...`). `timeout`, in seconds, is how long a
        transaction may take, a batch longer by a millisecond per row. `history="every"` keeps each check as a row.
        With a `key_file` numbers are sealed; the file may change while the store is open.

        Raises StoreError for a database that cannot be used, or whose numbers cannot be opened, SchemaOutdated for one
        to be migrated first unless `auto_migrate`, StoreUnavailable, ConfigError for a `key_file` that is no good.
        """
        try:
            return await cls._open(url, timeout, history, Cipher.of(key_file), auto_migrate=auto_migrate)
        except Unwritable as error:
            raise StoreError(str(error)) from error

    @classmethod
    async def _open(
        cls, url: str, timeout: float, history: History, seals: Cipher, *, auto_migrate: bool
    ) -> Self:
        place = DatabaseAddress(url)
        store = cls(place, timeout, history, seals)
        place.hold()
        try:
            # Before anything is written: whoever has not got the keys must not.
            await store._read(lambda connection: key_registry.admit(connection, seals, store.name))
            await (migration.upgrade if auto_migrate else migration.check)(url, timeout)
            seals.strict = await store._read(key_registry.is_strict)
            store._high = await store._read(_high)
            await store.ping()
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Let what is under way end, for at most the deadline, and close all connections."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timeout)
        await close(self._writer, self._timeout)
        await close(self._reader, self._timeout)

    # -- the routing table ----------------------------------------------------------------------------

    async def load(self) -> AsyncIterator[list[Packed]]:
        """All rows, packed, in no order, in batches of `rows.BATCH`.

        For a million of them, keep the garbage collector off meanwhile and freeze what was loaded: it finds
        nothing, and doubles the time.
        """
        attempt = Attempt(self.name)
        with failures_of(self.name):
            async with (
                self._reader.connect() as connection,
                aclosing(rows.read(connection, self._keys())) as batches,
            ):
                await attempt.over(connection)
                while batch := await self._next(batches, attempt):
                    yield batch

    async def _next(self, batches: AsyncIterator[list[Packed]], attempt: Attempt) -> list[Packed]:
        """The next of `batches`, empty after the last."""

        async def step() -> list[Packed]:
            return await anext(batches, [])

        task = self._start(step())
        try:
            return await attempt.ended(task, self._timeout + rows.BATCH * PATIENCE_PER_ROW)
        finally:
            # Given up, it still ends, and has the connection until then.
            await asyncio.wait({task}, timeout=self._timeout)

    async def high_water(self) -> tuple[int, int]:
        """(highest change index ever committed, highest sequence number ever stored); 0 for none."""
        high = await self._read(_high)
        return high[HIGH_INDEX], high[HIGH_SEQ]

    async def commit(
        self,
        changes: Sequence[Change],
        checks: Sequence[Check] = (),
        refreshed: Sequence[Row] = (),
        dials: Sequence[DialRecord] = (),
    ) -> None:
        """In one transaction: make `changes`, in their order, and append them to the feed; keep their checks and
        `checks` (those that changed nothing) in the history; store the observed columns of `refreshed` rows; append
        `dials` to the log of dials.

        A change writes the columns its cause owns: an order is stored or lifted by OVERRIDE and REGISTERED alone,
        observed columns by CHECKED and by a REGISTERED that begins a generation. A refreshed row of another
        generation, or older than what is stored, is left out.
        """
        kept = [change.check for change in changes if change.check is not None]
        kept += checks
        seqs = [check.seq for check in kept] + [row.state.seq for row in refreshed]
        seqs += [change.row.state.seq for change in changes if change.row is not None]
        high = {
            HIGH_INDEX: max((change.index for change in changes), default=0),
            HIGH_SEQ: max(seqs, default=0),
        }
        risen = {name: value for name, value in high.items() if value > self._high[name]}

        async def work(connection: AsyncConnection, seals: Cipher) -> None:
            await rows.write(connection, changes, seals)
            await history.append(connection, changes, seals)
            await history.record(connection, kept, seals, fold=self._fold)
            await rows.refresh(connection, refreshed, seals)
            await history.log(connection, dials)
            await _mark(connection, {name: str(value) for name, value in risen.items()})

        await self._seal(work, len(changes) + len(kept) + len(refreshed) + len(dials))
        self._high |= risen

    # -- history and audit ----------------------------------------------------------------------------

    async def history(
        self, subs_id: str, *, before: tuple[int, int] | None = None, limit: int
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(runs of equal replies, changes) of one binding, at most `limit` of each, newest first, by column name.

        `before` goes on where a page ended: (`first_seq` of its last run, `index` of its last change), with 0 for
        a list that was empty. The numbers in the runs are real ones.
        """
        seals = self._keys()
        return await self._read(lambda connection: history.page(connection, seals, subs_id, before, limit))

    async def dials(self, *, after_id: int, limit: int) -> list[dict[str, Any]]:
        """The log of dials in the order of its writing, by column name; `after_id` is the `id` the page before ended
        with."""
        return await self._read(lambda connection: history.logged(connection, after_id, limit))

    async def knows(self, index: int) -> bool:
        """Whether a change of this index was committed and is kept."""
        wanted = select(route_changes.c.index).where(route_changes.c.index == index)
        return await self._read(lambda connection: connection.scalar(wanted)) is not None

    async def changes(
        self,
        since: int,
        until: int,
        *,
        subs_ids: Collection[str] = (),
        pool_keys: Collection[str] = (),
        limit: int,
    ) -> tuple[list[dict[str, Any]], int] | None:
        """(changes, position): at most `limit` of the changes after `since` and up to `until`, in order and by column
        name, of these ids and in these pools (none: all), and the index up to which there are no others: that of a
        change, or `until` when none is left. The list may be short, or empty, before. None when changes after `since`
        are kept no more.
        """

        seals = self._keys()

        async def work(connection: AsyncConnection) -> tuple[list[dict[str, Any]], int] | None:
            found = await history.after(connection, seals, since, until, subs_ids, pool_keys, limit)
            # Asked last: what a retention takes away in between is noticed.
            return None if since < await _compacted(connection) else found

        return await self._read(work)

    async def expose(self, *exposures: Exposure, fold: float = 60.0) -> None:
        """Write the audit of exposures, of all or of none. Equal ones within `fold` seconds of the first are counted in
        one row; with 0 each has its own."""
        await self._write(lambda connection: audit.expose(connection, exposures, fold), len(exposures))

    async def exposures(
        self, *, limit: int, before_id: int | None = None, wanted: AuditFilter = EVERY
    ) -> list[dict[str, Any]]:
        """The audit, newest first, by column name; `before_id` is the `id` that the page before ended with."""
        return await self._read(lambda connection: audit.page(connection, wanted, before_id, limit))

    async def retire(self, before: float, now: float = inf, batch: int = 5000) -> int:
        """Delete history, changes and audit rows that ended before `before`, in short transactions. Gives how many.
        What began after `now` was written while the clock was ahead: it stays, and holds nothing else up."""
        total = 0
        for table in history.RETIRED:
            start: int | None = 0
            while start is not None:
                gone, start = await self._retire(table, start, before, now, batch)
                total += gone
        return total

    async def _retire(
        self, table: Table, start: int, before: float, now: float, batch: int
    ) -> tuple[int, int | None]:
        async def work(connection: AsyncConnection) -> tuple[int, int | None]:
            gone, highest, following = await history.retire(connection, table, start, before, now, batch)
            if gone and table is route_changes:
                known = await _compacted(connection)
                await _mark(connection, {COMPACTED: str(max(known, highest))})
            return gone, following

        return await self._write(work, batch)

    # -- what operators said --------------------------------------------------------------------------

    async def pauses(self) -> dict[str, dict[str, Any]]:
        """Paused pools ("": all) with `at`, `reason` and `by`."""
        seals = self._keys()
        return await self._read(lambda connection: operator_state.said(connection, seals, PAUSES))

    async def pause(self, pool_key: str, at: float, reason: str, by: str) -> None:
        """Remember that a pool ("": all) is paused."""
        order = {"at": at, "reason": reason, "by": by}
        await self._seal(lambda connection, seals: operator_state.pause(connection, seals, pool_key, order))

    async def resume(self, pool_key: str) -> None:
        """Forget the pause of a pool; of "", every pause."""
        statement = delete(pauses)
        if pool_key:
            statement = statement.where(pauses.c.pool_key == pool_key)
        await self._write(lambda connection: connection.execute(statement))

    async def brakes(self) -> dict[str, dict[str, Any]]:
        """What was last said of each pool's brake ("": all): `engaged`, `at`, `reason` and `by`."""
        seals = self._keys()
        return await self._read(lambda connection: operator_state.said(connection, seals, BRAKES))

    async def brake(self, pool_key: str, engaged: bool, at: float, reason: str, by: str) -> None:
        """Remember that a pool's brake ("": all) is engaged or was released; all released is each released."""
        order = {"engaged": engaged, "at": at, "reason": reason, "by": by}
        await self._seal(lambda connection, seals: operator_state.brake(connection, seals, pool_key, order))

    async def state_policy(self, allowed: Policy) -> None:
        """Tell SQL readers by what, from now on, the view `routing_table` decides. Where numbers are sealed there is no
        view any more."""
        stated = {"id": 1, **asdict(allowed)}

        async def work(connection: AsyncConnection, _seals: Cipher) -> None:
            await execute_many(connection, upsert(connection.dialect.name, policy), [stated])

        await self._seal(work)

    async def turned(self, since: float) -> list[tuple[str, float]]:
        """(pool, when) of every binding an answer turned to its real number after `since`, in order of time."""
        return await self._read(lambda connection: history.turned(connection, since))

    # -- small facts ----------------------------------------------------------------------------------

    async def marks(self) -> dict[str, str]:
        """Small facts by name."""
        found = await self._read(_marks)
        return {name: value for name, value in found.items() if name not in OWN}

    async def mark(self, values: Mapping[str, str]) -> None:
        """Remember small facts; names that are not in `values` stay."""
        await self._write(lambda connection: _mark(connection, values))

    async def secret(self, name: str, fresh: str) -> str:
        """This database's own secret of this name: `fresh`, unless it has one already."""
        return await self._seal(lambda connection, seals: key_registry.secret(connection, seals, name, fresh))

    async def ping(self) -> None:
        """Return if a write would be taken now."""
        await self._write(lambda connection: connection.execute(select(1)))

    # -- transactions ---------------------------------------------------------------------------------

    def _keys(self) -> Cipher:
        """The keys as they are in their file by now."""
        self._seals = self._seals.renewed()
        return self._seals

    async def _seal(self, work: Callable[[AsyncConnection, Cipher], Awaitable[T]], size: int = 1) -> T:
        """A write that has numbers to seal."""
        seals = self._keys()

        async def sealed(connection: AsyncConnection) -> T:
            if seals.newest != self._sealing_with:
                await key_registry.begin(connection, seals)
            return await work(connection, seals)

        result = await self._write(sealed, size)
        self._sealing_with = seals.newest
        return result

    async def _write(self, work: Work[T], size: int = 1) -> T:
        if self.role.value is Role.FENCED:
            raise LeadershipLost(f"{self.name}: another precall leads")
        patience = self._timeout + size * PATIENCE_PER_ROW
        try:
            async with asyncio.timeout(patience):
                await self._lock.acquire()
        except TimeoutError:
            raise StoreUnavailable(f"{self.name} is still busy with an earlier write") from None
        attempt = Attempt(self.name)
        task = self._start(self._transact(work, attempt))
        task.add_done_callback(lambda _: self._lock.release())
        return await attempt.ended(task, patience)

    async def _transact(self, work: Work[T], attempt: Attempt) -> T:
        self._place.confirm()
        with failures_of(self.name):
            async with self._writer.connect() as connection:
                await attempt.over(connection)
                async with connection.begin():
                    await self._confirm_token(connection)
                    result = await work(connection)
                    if attempt.given_up:
                        raise StoreUnavailable(f"{self.name} took too long")
                    attempt.committing = True
                return result

    async def _confirm_token(self, connection: AsyncConnection) -> None:
        try:
            if self.fencing_token:
                await fencing.confirm(connection, self.fencing_token, self.name)
        except LeadershipLost:
            self.when_deposed()
            raise

    async def _read(self, work: Work[T], size: int = 1) -> T:
        attempt = Attempt(self.name)

        async def transact() -> T:
            self._place.confirm()
            with failures_of(self.name):
                async with self._reader.connect() as connection:
                    await attempt.over(connection)
                    return await work(connection)

        return await attempt.ended(self._start(transact()), self._timeout + size * PATIENCE_PER_ROW)

    def _start(self, work: Any) -> "asyncio.Task[Any]":
        """In a task of its own, which outlives a caller who is cancelled or has lost patience."""
        task = asyncio.create_task(work, name="store")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(retrieve_exception)
        return task


def _nothing() -> None:
    """Nobody is to be called."""


async def _marks(connection: AsyncConnection) -> dict[str, str]:
    found = await connection.execute(select(marks.c.name, marks.c.value))
    return {name: value for name, value in found}  # noqa: C416


async def _mark(connection: AsyncConnection, values: Mapping[str, str]) -> None:
    facts = ({"name": name, "value": value} for name, value in values.items())
    await execute_many(connection, upsert(connection.dialect.name, marks), facts)


async def _compacted(connection: AsyncConnection) -> int:
    """The highest change index that retention has taken away."""
    return int(await connection.scalar(select(marks.c.value).where(marks.c.name == COMPACTED)) or 0)


async def _high(connection: AsyncConnection) -> dict[str, int]:
    found = await _marks(connection)
    return {name: int(found.get(name, "0")) for name in (HIGH_INDEX, HIGH_SEQ)}
