"""How calls end, whoever tells it: stored first, then told to the bindings they were placed on.

Dispatchers and the provider's receipts report calls one by one and by thousands; all that wait are stored in one
transaction, and acknowledged after it. What failed calls say of a binding is decided in `core.suspicion`; here one in
doubt is given to the planner.
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
"""Calls per transaction: routes wait for their turn behind it."""
SLICE = 250
"""Calls after which the loop is let go: readers share it."""
RECALLED = 50_000
"""Calls of the last hour that are remembered at start, at most."""

ENDED = frozenset({CallResult.CONNECTED, CallResult.FAILED, CallResult.NOT_CONNECTED})


@dataclass(slots=True)
class _Wish:
    """Calls to be stored; `done` holds them by their ids as they stand then, or the error that refused them."""

    told: list[Call]
    done: "asyncio.Future[dict[str, StoredCall]]"


class CallResults:
    """Takes in what is told of calls and of numbers."""

    def __init__(
        self,
        *,
        store: Store,
        ledger: Writer,
        table: Table,
        checker: Checker,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float],
        broken: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        self._store, self._ledger, self._table = store, ledger, table
        self._checker, self._settings, self._metrics, self._clock = checker, settings, metrics, clock
        self._broken = broken
        self._wishes: deque[_Wish] = deque()
        self._writer: asyncio.Task[None] | None = None

    @property
    def saving(self) -> bool:
        """Whether the database takes what is learned of calls."""
        return self._ledger.saving

    async def file(self, told: Sequence[Call]) -> dict[str, StoredCall]:
        """Store what is told of calls; gives them as they stand then, by id. Raises StoreUnavailable when not all of it
        was stored: telling all of it again is always right."""
        if not self._ledger.saving:
            raise StoreUnavailable("the database does not take writes now")
        placed: list[Call] = []
        for place, call in enumerate(told, 1):
            placed.append(self._placed(call))
            await breathe(place, SLICE)
        filed = await asyncio.gather(
            *(self._wish(placed[i : i + BATCH]) for i in range(0, len(placed), BATCH))
        )
        return {call_id: one for part in filed for call_id, one in part.items()}

    async def report_numbers(self, reports: Sequence[NumberReport]) -> None:
        """Store what the provider says of numbers, and check every binding on them. Raises StoreUnavailable."""
        if not self._ledger.saving:
            raise StoreUnavailable("the database does not take writes now")
        now = self._clock()
        told = [
            (row.binding.subs_id, report.at, report.abnormal)
            for report in reports
            for row in self._table.by_x(report.number_x)
            if report.pool_key in ("", row.binding.pool_key)
        ]
        if told:
            await self._store.calls.file_numbers(told, now)
            await self._hear_numbers(told)

    async def recall(self) -> None:
        """Doubt again what was in doubt before a restart, and check it."""
        since = self._clock() - FORGET_AFTER
        ended = await self._store.calls.ended(since, RECALLED)
        await self._hear(StoredCall(call, None) for call in reversed(ended))
        await self._hear_numbers(await self._store.calls.numbers(since))

    async def close(self) -> None:
        """Let what waits be stored. To be called after everybody who reports has stopped."""
        if self._writer is not None:
            await asyncio.wait({self._writer})

    def _placed(self, call: Call) -> Call:
        """With what is known of its binding now: where the history knows the time it was placed, that will count."""
        row = self._table.get(call.subs_id)
        if row is None:
            return call
        over = expired_locally(row.binding, self._settings.policy, call.called_at)
        state = State.EXPIRED if over else row.state.state
        return call.with_route(row.binding.pool_key, state.value)

    async def _write(self) -> None:
        """Store all that waits, some thousands at a time, until nothing does."""
        while self._wishes:
            group = list(self._some())
            try:
                filed = await self._store.calls.file([call for wish in group for call in wish.told])
            except Exception as error:  # noqa: BLE001  whoever waits is told, and the writer goes on
                if isinstance(error, StoreError):
                    self._ledger.doubt()
                for wish in group:
                    if not wish.done.done():
                        wish.done.set_exception(error)
                continue
            stands = {one.call.call_id: one for one in filed}
            for wish in group:
                if not wish.done.done():
                    wish.done.set_result({call.call_id: stands[call.call_id] for call in wish.told})
            await self._hear(filed)

    def _wish(self, told: list[Call]) -> "asyncio.Future[dict[str, StoredCall]]":
        """Queue calls that stand in one transaction."""
        wish = _Wish(told, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        if self._writer is None or self._writer.done():
            self._writer = guarded(self._write(), "outcomes", self._broken)
        return wish.done

    def _some(self) -> Iterator[_Wish]:
        size = 0
        while self._wishes and (not size or size + len(self._wishes[0].told) <= BATCH):
            wish = self._wishes.popleft()
            size += len(wish.told)
            yield wish

    async def _hear(self, filed: Iterable[StoredCall]) -> None:
        """Tell the bindings how their calls ended."""
        for place, one in enumerate(filed, 1):
            call = one.call
            if call.result in ENDED and call.result is not one.before:
                if one.before not in ENDED:
                    wrong = call.result is CallResult.FAILED
                    self._checker.plan.calibration.ended(self._metrics.pool(call.pool_key), wrong=wrong)
                row = self._table.get(call.subs_id)
                if row is not None:
                    self._judge(row, call)
            await breathe(place, SLICE)

    def _judge(self, row: Row, call: Call) -> None:
        failed = call.result is CallResult.FAILED
        verdict = CallVerdict(
            call.call_id, call.called_at, failed, damning=failed and call.state == RECLAIMED
        )
        if self._checker.suspicion.record(row, verdict, call.route_state, self._clock()):
            self._checker.plan.hasten(row.binding.subs_id)

    async def _hear_numbers(self, told: Iterable[tuple[str, float, bool]]) -> None:
        """(id of a binding, when its number was reported, whether as abnormal)."""
        for place, (subs_id, at, abnormal) in enumerate(told, 1):
            row = self._table.get(subs_id)
            if row is not None:
                self._checker.suspicion.report(row, abnormal=abnormal, at=at, now=self._clock())
                self._checker.plan.hasten(subs_id)
            await breathe(place, SLICE)
