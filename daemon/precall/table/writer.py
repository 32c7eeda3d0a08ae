"""The single writer of the routing table: amend > commit > publish.

Registrations, overrides and answers arrive as *writes*: functions that amend a row and touch only the columns their
author owns. The writer applies them in order of arrival, answers first. It commits many writes in one transaction and
publishes them afterwards, so readers never see a change that could be lost.

During an outage of the database, requests are refused at once. Answers of the provider are published at once with the
flag `unsaved`, and queued in order. The writer tries to store the queue every `RETRY` seconds. The outage ends once all
of it is stored. The queue is bounded (`unsaved`).

If the connection is lost during COMMIT, the outcome is unknown. The requests of that transaction are refused, and
changes that undo them are stored before anything later. In a transaction, answers have lower indexes than requests, and
undoing changes have the next ones. A reader that has seen change N can therefore obtain every stored change up to N,
even after `kill -9`.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from precall.clocks import Clocks
from precall.concurrency import breathe, retrieve_exception
from precall.config.settings import Settings
from precall.core.errors import OutcomeUnknown, StoreError, StoreUnavailable
from precall.core.model import COLUMNS_OF, Change, Check, ColumnGroup, Row, WriteCause
from precall.core.planning.sample import DialRecord
from precall.core.role import Role
from precall.core.routing.registration import changes_route
from precall.core.routing.route import decide, removed, withhold
from precall.store import Store
from precall.table.publisher import Publisher
from precall.table.table import Table
from precall.table.unsaved import BatchSize, UnsavedChecks
from precall.table.writes import (
    Amend,
    Amendment,
    PendingAnswers,
    UnchangedChecks,
    V,
    Write,
    WriteBatch,
    left_pool,
    refusable,
)
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

BATCH = 5000
"""Approximate maximum number of writes per transaction."""
SLICE = 250
"""Rows processed before yielding to the event loop."""
FLUSH = 1.0
"""Maximum seconds until an unchanged check is stored."""
RETRY = 0.25
"""Seconds between attempts to store the queue during an outage."""


class Writer:
    """Applies writes to the table and the database, as long as `run` is running."""

    def __init__(
        self,
        store: Store,
        table: Table,
        publisher: Publisher,
        settings: Settings,
        metrics: Metrics,
        clocks: Clocks,
        index: int,
    ) -> None:
        self.index = index
        self._down = False
        self._store, self._table, self._publisher, self._metrics = store, table, publisher, metrics
        self._settings = settings
        self._clock, self._monotonic = clocks.now, clocks.tick
        self._groups: deque[list[Write[Any]]] = deque()
        self.pending_answers = PendingAnswers()
        self._unsaved_checks = UnsavedChecks()
        self._batch_size = BatchSize(BATCH)
        self._backlog = publisher.unsaved
        self._wake = asyncio.Event()
        self._flush_at = 0.0
        self._probing = False
        self._to_isolate = 0
        self._underway = 0
        self.outage_cause, self.down_since = "", 0.0
        self._closing = False

    # -- requests -----------------------------------------------------------------------------------

    def submit(
        self,
        subs_id: str,
        cause: WriteCause,
        amend: Amend[V],
        *,
        check: Check | None = None,
    ) -> "asyncio.Future[Amendment[V]]":
        """Queue one write. The future receives the amendment once committed and published, or StoreUnavailable."""
        return self.submit_all([(subs_id, cause, amend)], check=check)[0]

    def submit_all(
        self, writes: Sequence[tuple[str, WriteCause, Amend[V]]], *, check: Check | None = None
    ) -> "list[asyncio.Future[Amendment[V]]]":
        """Queue several writes that share one transaction: all are stored, or none."""
        loop = asyncio.get_running_loop()
        group = [
            Write(subs_id, cause, amend, loop.create_future(), check) for subs_id, cause, amend in writes
        ]
        for write in group:
            write.done.add_done_callback(retrieve_exception)
            self.pending_answers.add(write)
        if group:
            self._groups.append(group)
        if not self.saving:
            self._refuse_requests()
        self._wake.set()
        return [write.done for write in group]

    def record_unchanged(self, check: Check, row: Row | None) -> None:
        """Queue a check that changed nothing. `row` is the row it refreshed in the table, if any."""
        self._schedule_flush()
        self._unsaved_checks.keep(check, refreshed=row is not None)
        if len(self._unsaved_checks.checks) in (1, BATCH):
            self._wake.set()

    def renew(self, row: Row) -> None:
        """Queue the observation of `row` to be stored again, because its times were corrected."""
        self._schedule_flush()
        self._unsaved_checks.renew(row.binding.subs_id, row.state.seq)
        self._wake.set()

    def log_dial(self, dial: DialRecord) -> None:
        """Queue a line of the dial log."""
        self._schedule_flush()
        self._unsaved_checks.dials.append(dial)
        if len(self._unsaved_checks.dials) == 1:
            self._wake.set()

    def _schedule_flush(self) -> None:
        if not self._unsaved_checks:
            self._flush_at = self._monotonic() + FLUSH

    def probe_database(self) -> None:
        """Test the database now, because a write of another component has failed."""
        self._probing = True
        self._wake.set()

    @property
    def leads(self) -> bool:
        """Whether this daemon is the leader, and so may write."""
        return self._store.role.leads

    @property
    def saving(self) -> bool:
        """Whether requests are accepted. They are refused on standby and while the database is down."""
        return not self._down and self._store.role.value is not Role.STANDBY

    @property
    def pending(self) -> int:
        """Number of rows that wait for the database."""
        queued = self._underway + sum(len(group) for group in self._groups)
        return queued + len(self._unsaved_checks) + len(self._backlog)

    async def run(self) -> None:
        """Write until `close` is called, then store what is still queued."""
        while not self._closing:
            if self.saving:
                await self._wait_for_work()
                await self._write()
            else:
                await self._run_unsaved()
        while self.saving and self.pending:
            await self._write()
        if not self.saving:
            await self._publish_unsaved()
            await self._catch_up()
        if self.pending:
            log.error("store.lost", rows=self.pending, error=self.outage_cause)
        self._publisher.close()

    def close(self) -> None:
        """Make `run` end. Call this after everything that submits writes has stopped."""
        self._closing = True
        self._wake.set()

    async def _wait_for_work(self) -> None:
        while not (self._groups or self._probing or self._closing):
            left = None
            if self._unsaved_checks:
                left = self._flush_at - self._monotonic()
                if left <= 0 or len(self._unsaved_checks.checks) >= BATCH:
                    return
            await self._pause(left)

    async def _pause(self, seconds: float | None) -> None:
        """Wait until a write is submitted, or `seconds` have passed."""
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _write(self) -> None:
        batch = await self._gather()
        unchanged = UnchangedChecks() if self._to_isolate else await self._gather_unchanged()
        changes = batch.changes
        self._underway = len(batch.items)
        if changes or unchanged.checks or unchanged.rows or unchanged.dials or self._probing:
            begun = self._monotonic()
            try:
                await self._store.commit(changes, unchanged.checks, unchanged.rows, unchanged.dials)
            except StoreError as error:
                await self._enter_outage(batch, error)
                return
            except Exception as error:
                if not batch.groups:
                    raise
                self._isolate(batch, error)
                return
            self._metrics.store_write_seconds.observe(self._monotonic() - begun)
            self._flush_at = begun + FLUSH
            self._batch_size.succeeded()
        self._probing = False
        self._to_isolate = max(0, self._to_isolate - 1)
        self._unsaved_checks.stored(unchanged)
        await self._publish(batch, saved=True)
        self._underway = 0

    async def _gather(self) -> WriteBatch:
        """Apply about `BATCH` writes, in whole groups and in order, answers first."""
        batch, now, turn = WriteBatch(), self._clock(), SLICE
        self._groups = deque(sorted(self._groups, key=refusable))
        while self._groups and len(batch.items) < BATCH:
            if batch.groups and refusable(batch.groups[-1]) > refusable(self._groups[0]):
                break
            await self._apply(self._groups.popleft(), batch, now)
            if self._to_isolate:
                break
            if len(batch.items) >= turn:
                turn += SLICE
                await asyncio.sleep(0)
        return batch

    async def _apply(self, group: list[Write[Any]], batch: WriteBatch, now: float) -> None:
        """Add a group to the batch. If one of its amendments raises, refuse the whole group."""
        amended: dict[str, Row | None] = {}
        items: list[tuple[Write[Any], Change | None]] = []
        try:
            for i, write in enumerate(group, 1):
                subs_id = write.subs_id
                known = next((rows for rows in (amended, batch.amended) if subs_id in rows), None)
                before = self._table.get(subs_id) if known is None else known[subs_id]
                amended_row = write.amend(before, self.index + 1)
                write.verdict, after = amended_row.verdict, amended_row.row
                change = None
                if after is not before:
                    quiet = after is not None and not changes_route(before, after)
                    change = self._change(
                        subs_id, write.cause, before, after, now, check=write.check, quiet=quiet
                    )
                    change = replace(change, order=amended_row.order) if amended_row.order else change
                    amended[subs_id] = change.row
                items.append((write, change))
                await breathe(i, SLICE)
        except Exception as error:  # noqa: BLE001  a bug in one amendment must not stop the writer
            for write in group:
                write.refuse(error)
            return
        batch.groups.append(group)
        batch.items += items
        batch.amended |= amended

    def _change(
        self,
        subs_id: str,
        cause: WriteCause,
        before: Row | None,
        after: Row | None,
        now: float,
        *,
        check: Check | None = None,
        quiet: bool = False,
        columns: ColumnGroup | None = None,
    ) -> Change:
        """Build the next change, which writes `columns` (None: those its cause owns).

        It takes one index, and one more if the binding leaves a pool, whose readers then see a removal.
        """
        left = left_pool(before, after)
        step = 2 if left else 1
        self.index += step
        if after is not None and not quiet:
            after = replace(after, version=after.version + step, index=self.index)
        shown = after or before
        if shown is None:
            raise AssertionError("a change of nothing")
        route = withhold(decide(shown, "", self._settings.policy, now))
        if after is None:
            route = removed(route, shown.version + 1, self.index)
        return Change(
            index=self.index,
            at=now,
            cause=cause,
            subs_id=subs_id,
            pool_key=shown.binding.pool_key,
            before=before.state.state if before else None,
            row=after,
            route=route,
            check=check,
            quiet=quiet,
            left=left,
            columns=COLUMNS_OF[cause] if columns is None else columns,
        )

    async def _gather_unchanged(self) -> UnchangedChecks:
        unchanged = self._unsaved_checks.head(self._batch_size.value)
        for i, (subs_id, _) in enumerate(unchanged.refreshed, 1):
            row = self._table.get(subs_id)
            if row is not None:
                unchanged.rows.append(row)
            await breathe(i, SLICE)
        return unchanged

    async def _publish(self, batch: WriteBatch, *, saved: bool) -> None:
        for i, (write, change) in enumerate(batch.items, 1):
            if change is None:
                write.settle(self._table.get(write.subs_id))
            else:
                write.settle(self._publisher.publish(change, saved=saved))
            await breathe(i, SLICE)

    def _isolate(self, batch: WriteBatch, error: Exception) -> None:
        """Find the group with a value that the database rejects, by storing one group at a time."""
        self._underway = 0
        if len(batch.groups) > 1 or not self._to_isolate:
            self._groups.extendleft(reversed(batch.groups))
            self._to_isolate = len(batch.groups)
            return
        self._to_isolate -= 1
        # Without the error's text, which may quote the value.
        causes = sorted({write.cause for write in batch.groups[0]})
        log.error("ledger.refused", causes=causes, error=type(error).__name__)
        for write in batch.groups[0]:
            write.refuse(StoreError("the database refuses a value of this"))

    # -- while the database is down ------------------------------------------------------------------

    async def _enter_outage(self, batch: WriteBatch, error: StoreError) -> None:
        """Begin an outage: refuse requests, and publish and queue the provider's answers."""
        log.error("store.down", error=str(error), pending=self.pending)
        self._down, self.outage_cause, self.down_since = True, str(error), self._monotonic()
        self._backlog.begin()
        self._to_isolate, self._probing, self._underway = 0, False, 0
        kept, refused = WriteBatch(), list[Change]()
        for write, change in batch.items:
            if not write.refusable:
                kept.items.append((write, change))
                continue
            write.refuse(StoreUnavailable(self.outage_cause))
            if change is not None and isinstance(error, OutcomeUnknown):
                refused.append(change)
        self._refuse_requests()
        await self._publish(kept, saved=False)
        if refused:
            await self._undo(refused)

    def _refuse_requests(self) -> None:
        for group in self._groups:
            if refusable(group):
                for write in group:
                    write.refuse(StoreUnavailable(self.outage_cause))
        self._groups = deque(group for group in self._groups if not refusable(group))

    async def _run_unsaved(self) -> None:
        """Run without the database for `RETRY` seconds, then try to store the queue while still publishing answers."""
        due = self._monotonic() + RETRY
        while not self._closing and (left := due - self._monotonic()) > 0:
            await self._publish_unsaved()
            await self._pause(left)
        self._drop_excess()
        attempt = asyncio.create_task(self._catch_up(left=BATCH), name="ledger-catch-up")
        attempt.add_done_callback(lambda _: self._wake.set())
        while not attempt.done():
            await self._publish_unsaved()
            if not attempt.done():
                await self._pause(None)
        # Store the rest without publishing in between; otherwise the queue might never become empty.
        if attempt.result() and await self._catch_up():
            self._down = False
            seconds = round(self._monotonic() - self.down_since, 1)
            log.warning(
                "store.back", seconds=seconds, changes=self._backlog.late, folded=self._backlog.folded
            )

    async def _publish_unsaved(self) -> None:
        """Publish the provider's answers before they are stored."""
        await self._publish(await self._gather(), saved=False)

    async def _catch_up(self, left: int = 0) -> bool:
        """Store queued changes in order, in batches, until at most `left` remain. Return whether that succeeded."""
        while True:
            changes = self._backlog.head(self._batch_size.value)
            # Refreshed rows are stored with the last change, because an earlier change would overwrite them.
            last = len(changes) == len(self._backlog)
            unchanged = await self._gather_unchanged() if last else UnchangedChecks()
            try:
                await self._store.commit(changes, unchanged.checks, unchanged.rows, unchanged.dials)
            except StoreError as error:
                self.outage_cause = str(error)
                self._batch_size.failed()
                return False
            self._batch_size.succeeded()
            self._unsaved_checks.stored(unchanged)
            self._table.unsaved -= self._backlog.stored(changes)
            if len(self._backlog) <= left:
                return True

    async def _undo(self, refused: Sequence[Change]) -> None:
        """Publish and queue changes that restore the current rows, over refused requests that may have been stored."""
        now, last = self._clock(), {change.subs_id: change for change in refused}
        ordered = tuple(change.index for change in refused if change.order is not None)
        for i, (subs_id, change) in enumerate(last.items(), 1):
            row = self._table.get(subs_id)
            maybe_stored = change.row or row
            if row is not None:
                row = replace(row, version=max(row.version, change.route.version))
                # Any column may have been stored, so all of them are written again.
                again = self._change(
                    subs_id, WriteCause.REGISTERED, maybe_stored, row, now, columns=~ColumnGroup(0)
                )
            elif maybe_stored is not None:
                again = self._change(subs_id, WriteCause.REMOVED, maybe_stored, None, now)
            else:
                continue
            # All of these changes are stored together, so the first one undoes every order.
            self._publisher.publish(replace(again, undoes=ordered), saved=False)
            ordered = ()
            await breathe(i, SLICE)
        self._backlog.keep_together()

    def _drop_excess(self) -> None:
        """Drop what exceeds the limits: the oldest unchanged checks, and all changes but the newest of each binding."""
        self._metrics.store_dropped.inc(self._unsaved_checks.drop_excess())
        self._backlog.drop_excess()
