"""Reported call results: stored first, then applied to the bindings the calls were placed on.

Dispatchers and the provider's receipts report calls one by one or by the thousand. Waiting reports are stored in one
transaction and then acknowledged. `core.calls.suspicion` decides whether failed calls make a binding suspect. A suspect
binding is then checked soon.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from precall.concurrency import breathe, guarded
from precall.config.settings import Settings
from precall.core.calls.call import Call, CallResult, NumberReport
from precall.core.calls.causes import RECLAIMED
from precall.core.calls.suspicion import FORGET_AFTER, CallVerdict
from precall.core.errors import StoreError, StoreUnavailable
from precall.core.model import Row, State
from precall.core.routing.route import expired_locally
from precall.engine.checker import Checker
from precall.store import Store, StoredCall
from precall.table.table import Table
from precall.table.writer import Writer
from precall.telemetry.metrics import Metrics

BATCH = 2500
"""Calls per transaction, during which writes of routes wait."""
SLICE = 250
"""Calls processed before yielding to the event loop."""
MAX_RESTORED = 50_000
"""Maximum number of recent calls read back at start."""

ENDED = frozenset({CallResult.CONNECTED, CallResult.FAILED, CallResult.NOT_CONNECTED})


@dataclass(slots=True)
class _Write:
    """Reports to be stored together. `done` receives the stored calls by id, or the error."""

    reports: list[Call]
    done: "asyncio.Future[dict[str, StoredCall]]"


class CallResults:
    """Accepts reports about calls and numbers."""

    def __init__(
        self,
        *,
        store: Store,
        writer: Writer,
        table: Table,
        checker: Checker,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float],
        broken: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        self._store, self._writer, self._table = store, writer, table
        self._checker, self._settings, self._metrics, self._clock = checker, settings, metrics, clock
        self._broken = broken
        self._queue: deque[_Write] = deque()
        self._writing: asyncio.Task[None] | None = None

    @property
    def saving(self) -> bool:
        """Whether the database accepts writes."""
        return self._writer.saving

    async def file(self, reports: Sequence[Call], *, placed: bool = False) -> dict[str, StoredCall]:
        """Store reports of calls. Return the merged calls by id.

        `placed`: by whoever placed the calls. Each new one then counts as a dial, unless the read of its route did.
        Raises StoreUnavailable if not all of them were stored; repeating all of them is always safe.
        """
        if not self._writer.saving:
            raise StoreUnavailable("the database does not take writes now")
        calls: list[Call] = []
        for i, call in enumerate(reports, 1):
            calls.append(self._with_binding(call))
            await breathe(i, SLICE)
        filed = await asyncio.gather(
            *(self._enqueue(calls[i : i + BATCH]) for i in range(0, len(calls), BATCH))
        )
        found = {call_id: stored for part in filed for call_id, stored in part.items()}
        if placed:
            await self._count_dials(stored.call for stored in found.values() if stored.before is None)
        return found

    async def _count_dials(self, calls: Iterable[Call]) -> None:
        """Count new calls as dials. A dispatcher that keeps routes reads few of them here."""
        for i, call in enumerate(calls, 1):
            row = self._table.get(call.subs_id)
            if row is not None:
                self._checker.plan.record_call(call.subs_id, row.binding.pool_key, call.called_at)
            await breathe(i, SLICE)

    async def report_numbers(self, reports: Sequence[NumberReport]) -> None:
        """Store the provider's reports about numbers, and schedule checks of their bindings.

        Raises StoreUnavailable.
        """
        if not self._writer.saving:
            raise StoreUnavailable("the database does not take writes now")
        now = self._clock()
        by_binding = [
            (row.binding.subs_id, report.at, report.abnormal)
            for report in reports
            for row in self._table.by_x(report.number_x)
            if report.pool_key in ("", row.binding.pool_key)
        ]
        if by_binding:
            await self._store.calls.file_numbers(by_binding, now)
            await self._apply_numbers(by_binding)

    async def restore(self) -> None:
        """Restore the suspicions from before a restart, and schedule checks."""
        since = self._clock() - FORGET_AFTER
        ended = await self._store.calls.ended(since, MAX_RESTORED)
        await self._apply(StoredCall(call, None) for call in reversed(ended))
        await self._apply_numbers(await self._store.calls.numbers(since))

    async def close(self) -> None:
        """Wait until queued reports are stored. Call this after all sources of reports have stopped."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    def _with_binding(self, call: Call) -> Call:
        """Add the pool and current state of the binding.

        The store replaces the state if its history has the one at the time of the call.
        """
        row = self._table.get(call.subs_id)
        if row is None:
            return call
        expired = expired_locally(row.binding, self._settings.policy, call.called_at)
        state = State.EXPIRED if expired else row.state.state
        return call.with_route(row.binding.pool_key, state.value)

    async def _write(self) -> None:
        """Store queued reports in batches until the queue is empty."""
        while self._queue:
            group = list(self._next_batch())
            try:
                filed = await self._store.calls.file([call for write in group for call in write.reports])
            except Exception as error:  # noqa: BLE001  passed to the callers; the loop continues
                if isinstance(error, StoreError):
                    self._writer.probe_database()
                for write in group:
                    if not write.done.done():
                        write.done.set_exception(error)
                continue
            stored = {each.call.call_id: each for each in filed}
            for write in group:
                if not write.done.done():
                    write.done.set_result({call.call_id: stored[call.call_id] for call in write.reports})
            await self._apply(filed)

    def _enqueue(self, reports: list[Call]) -> "asyncio.Future[dict[str, StoredCall]]":
        """Queue reports that must be stored in one transaction."""
        write = _Write(reports, asyncio.get_running_loop().create_future())
        self._queue.append(write)
        if self._writing is None or self._writing.done():
            self._writing = guarded(self._write(), "outcomes", self._broken)
        return write.done

    def _next_batch(self) -> Iterator[_Write]:
        size = 0
        while self._queue and (not size or size + len(self._queue[0].reports) <= BATCH):
            write = self._queue.popleft()
            size += len(write.reports)
            yield write

    async def _apply(self, filed: Iterable[StoredCall]) -> None:
        """Apply call results to their bindings."""
        for i, stored in enumerate(filed, 1):
            call = stored.call
            if call.result in ENDED and call.result is not stored.before:
                if stored.before not in ENDED and self._by_route(call):
                    wrong = call.result is CallResult.FAILED
                    self._checker.plan.calibration.ended(self._metrics.pool(call.pool_key), wrong=wrong)
                row = self._table.get(call.subs_id)
                if row is not None:
                    self._apply_call(row, call)
            await breathe(i, SLICE)

    def _observes(self, call: Call) -> bool:
        return self._settings.policy.observes(call.pool_key)

    def _by_route(self, call: Call) -> bool:
        """Return whether the number dialled is the one that the route is based on. An observed pool always dials X."""
        known_bad = (State.TEMPORARY, State.FALLBACK, State.EXPIRED)
        return not (self._observes(call) and call.route_state in known_bad)

    def _apply_call(self, row: Row, call: Call) -> None:
        failed = call.result is CallResult.FAILED
        verdict = CallVerdict(
            call.call_id, call.called_at, failed, damning=failed and call.state == RECLAIMED
        )
        # Whatever the route was made of, a call in an observed pool says something of X alone.
        dialled = State.NORMAL if self._observes(call) else call.route_state
        if self._checker.suspicion.record(row, verdict, dialled, self._clock()):
            self._checker.plan.hasten(row.binding.subs_id)

    async def _apply_numbers(self, reports: Iterable[tuple[str, float, bool]]) -> None:
        """Apply reports about numbers: (subs_id, time in Unix seconds, whether abnormal)."""
        for i, (subs_id, at, abnormal) in enumerate(reports, 1):
            row = self._table.get(subs_id)
            if row is not None:
                self._checker.suspicion.report(row, abnormal=abnormal, at=at, now=self._clock())
                self._checker.plan.hasten(subs_id)
            await breathe(i, SLICE)
