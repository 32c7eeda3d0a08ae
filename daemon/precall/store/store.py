"""The store: precall's interface to its database. Columns and statements belong to the neighbouring modules.

Writes are serialized, one transaction each, and every one has a deadline. A write that exceeds it raises
StoreUnavailable and ends later without a commit. Until then, further writes are refused.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from math import inf
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from sqlalchemy import Table, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.concurrency import retrieve_exception
from precall.core.errors import LeadershipLost, StoreError, StoreUnavailable
from precall.core.model import Change, Check, Exposure, Policy, Row, State
from precall.core.packing import Packed
from precall.core.planning.sample import DialRecord
from precall.core.role import CurrentRole, Role
from precall.store import audit, fencing, history, key_registry, members, migration, orders, policy, rows
from precall.store.attempt import Attempt, Work
from precall.store.audit import EVERY, AuditFilter
from precall.store.bulk import execute_many, upsert
from precall.store.calls import CallBook
from precall.store.cipher import Cipher
from precall.store.connection import DatabaseAddress, Unwritable, close, failures_of
from precall.store.orders import OrderBook
from precall.store.persons import PersonRecords
from precall.store.rings import RingBook
from precall.store.schema import bindings, exposures, marks, route_changes, routes

History = Literal["runs", "every"]
T = TypeVar("T")

PATIENCE_PER_ROW = 0.001
"""Seconds by which each row extends the deadline of its transaction: twenty times the usual cost."""

HIGH_INDEX, HIGH_SEQ, COMPACTED = "high_index", "high_seq", "compacted"
OWN = {HIGH_INDEX, HIGH_SEQ, COMPACTED, fencing.MARK}


class Store:
    """The database, in domain terms.

    Every method raises StoreUnavailable if the database is unreachable, locked, full, broken or slower than the
    deadline. Nothing of the call is stored then, and repeating it with the same values is always safe. OutcomeUnknown
    means that the connection was lost during COMMIT, so the values may have been stored.

    Writes carry the `fencing_token` (0: no fencing). Once another daemon holds a higher token, a write is refused and
    `when_deposed` is called. A store whose `role` is fenced refuses every write.
    """

    fencing_token = 0

    def __init__(self, address: DatabaseAddress, timeout: float, keep: History, cipher: Cipher) -> None:
        self.name = address.name
        self._address, self._cipher, self._sealing_with = address, cipher, ""
        self._timeout = timeout
        self._fold = keep == "runs"
        self._writer = address.engine(timeout, writes=True)
        self._reader = address.engine(timeout, writes=False)
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._high: dict[str, int] = {}
        self.when_deposed: Callable[[], None] = _nothing
        self.role = CurrentRole()
        self.calls = CallBook(self._write, self._read)
        self.orders = OrderBook(self._seal, self._write, self._read, self._keys)
        self.persons = PersonRecords(self._write, self._read, self._keys)
        self.rings = RingBook(self._write, self._read)

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
        """Open the database at `url` (`sqlite:///path` or `postgresql://...`).

        `timeout` is the limit of a transaction in seconds; a batch gets one more millisecond per row.
        `history="every"` stores each check as its own row. With a `key_file` numbers are sealed; the file may change
        while the store is open.

        Raises StoreError if the database is unusable or its numbers cannot be opened, and StoreUnavailable if it
        cannot be reached. Raises SchemaOutdated if it must be migrated and `auto_migrate` is off, and ConfigError for
        an unusable `key_file`.
        """
        try:
            return await cls._open(url, timeout, history, Cipher.of(key_file), auto_migrate=auto_migrate)
        except Unwritable as error:
            raise StoreError(str(error)) from error

    @classmethod
    async def _open(
        cls, url: str, timeout: float, history: History, cipher: Cipher, *, auto_migrate: bool
    ) -> Self:
        address = DatabaseAddress(url)
        store = cls(address, timeout, history, cipher)
        address.hold()
        try:
            # Checked before any write: a daemon without the keys must not write.
            await store._read(lambda connection: key_registry.admit(connection, cipher, store.name))
            await (migration.upgrade if auto_migrate else migration.check)(url, timeout)
            cipher.strict = await store._read(key_registry.is_strict)
            store._high = await store._read(_high)
            await store.ping()
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Wait for transactions in progress, at most until their deadline, and close all connections."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timeout)
        await close(self._writer, self._timeout)
        await close(self._reader, self._timeout)

    # -- the routing table ----------------------------------------------------------------------------

    async def load(self) -> AsyncIterator[list[Packed]]:
        """Yield all rows, packed and unordered, in batches of `rows.BATCH`.

        To load a million rows, disable the garbage collector meanwhile and freeze the result. Collections would find
        nothing and double the time.
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
        """Return the next of `batches`, or an empty list after the last."""

        async def step() -> list[Packed]:
            return await anext(batches, [])

        task = self._start(step())
        try:
            return await attempt.ended(task, self._timeout + rows.BATCH * PATIENCE_PER_ROW)
        finally:
            # A task that was given up still ends later, and holds the connection until then.
            await asyncio.wait({task}, timeout=self._timeout)

    async def active(self, now: float) -> int:
        """Return how many bindings have not ended by `now`, in Unix seconds."""
        going_on = or_(bindings.c.expires_at.is_(None), bindings.c.expires_at > now)
        joined = bindings.join(routes, bindings.c.subs_id == routes.c.subs_id)
        wanted = (
            select(func.count()).select_from(joined).where(going_on, routes.c.state != State.EXPIRED.value)
        )
        return await self._read(lambda connection: connection.scalar(wanted)) or 0

    async def high_water(self) -> tuple[int, int]:
        """Return (highest change index ever committed, highest sequence number ever stored), 0 for none."""
        high = await self._read(_high)
        return high[HIGH_INDEX], high[HIGH_SEQ]

    async def commit(
        self,
        changes: Sequence[Change],
        checks: Sequence[Check] = (),
        refreshed: Sequence[Row] = (),
        dials: Sequence[DialRecord] = (),
    ) -> None:
        """Store a batch in one transaction.

        `changes` are applied in order and appended to the feed. Their checks, and `checks` (which changed nothing),
        go to the history, and their orders to the log of orders. The observed columns of `refreshed` rows are stored,
        and `dials` go to the dial log.

        A change writes only the columns of its cause. OVERRIDE and REGISTERED store or remove an override; CHECKED,
        and a REGISTERED that begins a generation, store observed columns. A refreshed row of another generation, or
        older than the stored one, is skipped.
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

        async def work(connection: AsyncConnection, cipher: Cipher) -> None:
            await rows.write(connection, changes, cipher)
            await orders.append(connection, changes, cipher)
            await history.append(connection, changes, cipher)
            await history.record(connection, kept, cipher, fold=self._fold)
            await rows.refresh(connection, refreshed, cipher)
            await history.log(connection, dials)
            await _mark(connection, {name: str(value) for name, value in risen.items()})

        await self._seal(work, len(changes) + len(kept) + len(refreshed) + len(dials))
        self._high |= risen

    # -- history and audit ----------------------------------------------------------------------------

    async def history(
        self, subs_id: str, *, before: tuple[int, int] | None = None, limit: int
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return (runs of equal replies, changes) of one binding, at most `limit` of each, newest first.

        Rows are dictionaries by column name. `before` continues after a page: (`first_seq` of its last run, `index`
        of its last change), with 0 for an empty list. Runs contain real numbers.
        """
        cipher = self._keys()
        return await self._read(lambda connection: history.page(connection, cipher, subs_id, before, limit))

    async def dials(self, *, after_id: int, limit: int) -> list[dict[str, Any]]:
        """Return rows of the dial log, oldest first, by column name.

        `after_id` is the `id` of the last row on the previous page.
        """
        return await self._read(lambda connection: history.logged(connection, after_id, limit))

    async def knows(self, index: int) -> bool:
        """Return whether the change with this index is stored."""
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
        """Return (changes, position): at most `limit` changes after `since` and up to `until`, oldest first.

        Changes are dictionaries by column name, limited to `subs_ids` and `pool_keys` unless these are empty.
        `position` is the index up to which the answer is complete, and equals `until` when nothing is left. The list
        may be short or even empty before that. Returns None if retention has deleted changes after `since`.
        """

        cipher = self._keys()

        async def work(connection: AsyncConnection) -> tuple[list[dict[str, Any]], int] | None:
            found = await history.after(connection, cipher, since, until, subs_ids, pool_keys, limit)
            # Read last, to notice a retention that ran in between.
            return None if since < await _compacted(connection) else found

        return await self._read(work)

    async def expose(self, *exposures: Exposure, fold: float = 60.0) -> None:
        """Write audit rows for all exposures, in one transaction.

        Equal exposures within `fold` seconds of the first share a row; with 0 each has its own.
        """
        await self._write(lambda connection: audit.expose(connection, exposures, fold), len(exposures))

    async def exposures(
        self, *, limit: int, before_id: int | None = None, wanted: AuditFilter = EVERY
    ) -> list[dict[str, Any]]:
        """Return audit rows, newest first, by column name. `before_id` is the last `id` on the previous page."""
        return await self._read(lambda connection: audit.page(connection, wanted, before_id, limit))

    async def retire(
        self, before: float, now: float = inf, batch: int = 5000, *, audit_before: float = -inf
    ) -> int:
        """Delete history and changes that ended before `before`, and audit rows that ended before `audit_before`.

        The transactions are short. Returns the number of rows deleted. Rows that began after `now` were written while
        the clock was ahead. They are kept, and do not block the deletion of others.
        """
        total = 0
        for table in history.RETIRED:
            start: int | None = 0
            limit = audit_before if table is exposures else before
            while start is not None:
                gone, start = await self._retire(table, start, limit, now, batch)
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

    # -- the policy, and what follows from it ---------------------------------------------------------

    async def store_policy(self, allowed: Policy, at: float) -> None:
        """Store the policy in force since `at`, which the view `routing_table` applies.

        The view does not exist where numbers are sealed.
        """
        await self._seal(lambda connection, _cipher: policy.state(connection, allowed, at))

    async def turned(self, since: float) -> list[tuple[str, float]]:
        """Return (pool, time) of each change after `since` in which an answer exposed a real number, oldest first."""
        return await self._read(lambda connection: history.turned(connection, since))

    # -- marks ----------------------------------------------------------------------------------------

    async def marks(self) -> dict[str, str]:
        """Return the marks (small named values), except those of the store itself."""
        found = await self._read(_marks)
        return {name: value for name, value in found.items() if name not in OWN}

    async def mark(self, values: Mapping[str, str]) -> None:
        """Store marks. Names not in `values` are unchanged."""
        await self._write(lambda connection: _mark(connection, values))

    async def secret(self, name: str, fresh: str) -> str:
        """Return the database's secret of this name, storing `fresh` if there is none."""
        return await self._seal(
            lambda connection, cipher: key_registry.secret(connection, cipher, name, fresh)
        )

    async def forget_members(self, silent: float) -> int:
        """Delete daemons that have given no sign of life for `silent` seconds. Return their number."""
        return await self._write(lambda connection: members.forget(connection, silent))

    async def ping(self) -> None:
        """Return if the database accepts writes now; otherwise raise StoreUnavailable."""
        await self._write(lambda connection: connection.execute(select(1)))

    # -- transactions ---------------------------------------------------------------------------------

    def _keys(self) -> Cipher:
        """Return the keys, reloading their file if it changed."""
        self._cipher = self._cipher.renewed()
        return self._cipher

    async def _seal(self, work: Callable[[AsyncConnection, Cipher], Awaitable[T]], size: int = 1) -> T:
        """Run a write that seals numbers, registering a new key first."""
        cipher = self._keys()

        async def sealed(connection: AsyncConnection) -> T:
            if cipher.newest != self._sealing_with:
                await key_registry.begin(connection, cipher)
            return await work(connection, cipher)

        result = await self._write(sealed, size)
        self._sealing_with = cipher.newest
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
        self._address.confirm()
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
            self._address.confirm()
            with failures_of(self.name):
                async with self._reader.connect() as connection:
                    await attempt.over(connection)
                    return await work(connection)

        return await attempt.ended(self._start(transact()), self._timeout + size * PATIENCE_PER_ROW)

    def _start(self, work: Any) -> "asyncio.Task[Any]":
        """Run `work` in its own task, which outlives a caller that was cancelled or timed out."""
        task = asyncio.create_task(work, name="store")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(retrieve_exception)
        return task


def _nothing() -> None:
    """Do nothing; the default of `when_deposed`."""


async def _marks(connection: AsyncConnection) -> dict[str, str]:
    found = await connection.execute(select(marks.c.name, marks.c.value))
    return {name: value for name, value in found}  # noqa: C416


async def _mark(connection: AsyncConnection, values: Mapping[str, str]) -> None:
    facts = ({"name": name, "value": value} for name, value in values.items())
    await execute_many(connection, upsert(connection.dialect.name, marks), facts)


async def _compacted(connection: AsyncConnection) -> int:
    """Return the highest change index deleted by retention, 0 for none."""
    return int(await connection.scalar(select(marks.c.value).where(marks.c.name == COMPACTED)) or 0)


async def _high(connection: AsyncConnection) -> dict[str, int]:
    found = await _marks(connection)
    return {name: int(found.get(name, "0")) for name in (HIGH_INDEX, HIGH_SEQ)}
