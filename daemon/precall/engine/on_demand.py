"""Checks that somebody waits for, and hints of what will be dialled: what readers and operators ask of the checker.

They share its quota, in a lane of their own. What a call is worth to whom is decided in `core.price`.
"""

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from precall.clocks import Clocks
from precall.core.limits.quota import Priority
from precall.core.planning.planner import CheckKind
from precall.core.routing.state import ANSWERED, CheckResult
from precall.engine.checker import Checker
from precall.table.table import Table
from precall.telemetry.metrics import Metrics

HINT_LEAD = 2.0
MOST_HINTS = 100_000
UNSURE = 0.05
"""Seconds until it is asked again whether calls are ours to make."""
QUEUE = 0.05
"""Seconds' worth of calls that readers may wait for before calls are scarce."""


class OnDemandOutcome(StrEnum):
    """How a check somebody waited for ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    SPENT = "spent"
    LATE = "late"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OnDemandCheck:
    """The outcome, when to come again (seconds) if the budget was spent, and the check's own result."""

    outcome: OnDemandOutcome
    retry_after: float = 0.0
    result: str = ""


class HintOutcome(StrEnum):
    """What became of a hint."""

    TAKEN = "taken"
    UNKNOWN = "unknown"
    FULL = "full"


class OnDemandChecks:
    """What readers want checked, now or soon."""

    def __init__(
        self,
        checker: Checker,
        table: Table,
        metrics: Metrics,
        *,
        clocks: Clocks,
    ) -> None:
        self._checker, self._table, self._metrics, self._clocks = checker, table, metrics, clocks
        self._hints: dict[str, tuple[float, float]] = {}
        self._waiting = 0

    async def check_now(self, subs_id: str, *, timeout: float) -> OnDemandCheck:
        """Check one binding now, for somebody who waits at most `timeout` seconds. Callers who ask for the same
        binding share one call; whoever gives up leaves it running."""
        begun = self._clocks.tick()
        task = self._checker.under_way(subs_id)
        if task is None:
            row = self._table.get(subs_id)
            if row is None:
                return OnDemandCheck(OnDemandOutcome.UNKNOWN)
            refusal = await self._afford(timeout)
            if refusal is not None:
                self._metrics.on_demand.labels(refusal.outcome).inc()
                return refusal
            task = self._checker.under_way(subs_id) or self._checker.start(row, Priority.DEMAND)
        left = max(0.0, timeout - (self._clocks.tick() - begun))
        await asyncio.wait({task}, timeout=left)
        checked = _how(task)
        self._metrics.on_demand.labels(checked.outcome).inc()
        return checked

    async def _afford(self, timeout: float) -> OnDemandCheck | None:
        """Spend a call of the demand lane, waiting for it within `timeout`; else why there is none."""
        checker, quota = self._checker, self._checker.quota
        while True:
            tick = self._clocks.tick()
            if not checker.asks or checker.outage.degraded or checker.circuit.is_open:
                return OnDemandCheck(OnDemandOutcome.FAILED, 1.0)
            may_call = checker.queries.may_call()
            if (
                may_call
                and checker.in_flight < 2 * checker.max_in_flight
                and quota.spend(tick, Priority.DEMAND)
            ):
                return None
            wait = quota.until(tick, Priority.DEMAND)
            if wait > timeout:
                return OnDemandCheck(OnDemandOutcome.SPENT, wait)
            wait = max(wait, 0.005 if may_call else UNSURE)
            timeout -= wait
            self._waiting += 1
            try:
                await asyncio.sleep(wait)
            finally:
                self._waiting -= 1

    def worth_waiting(self, subs_id: str) -> bool:
        """Whether a reader who wants a fresher route gets a check: always while calls are not scarce (readers do not
        queue for them), else when this check saves more wrong dials than the calls are going for."""
        scarce = self._waiting >= max(1.0, QUEUE * self._checker.quota.rate)
        return not scarce or self._checker.planner.worth_waiting(subs_id, self._clocks.tick())

    def hint(self, subs_id: str, dial_at: float) -> HintOutcome:
        """It will be dialled at `dial_at`: check it just before. One hint per binding counts, the newest."""
        planner = self._checker.planner
        if subs_id not in planner:
            return HintOutcome.UNKNOWN
        if subs_id in self._hints and self._hints[subs_id][0] == dial_at:
            return HintOutcome.TAKEN
        if len(self._hints) >= MOST_HINTS:
            return HintOutcome.FULL
        at = self._clocks.tick() + max(0.0, dial_at - HINT_LEAD - self._clocks.now())
        self._hints[subs_id] = dial_at, at
        planner.schedule(subs_id, at, kind=CheckKind.HINT)
        return HintOutcome.TAKEN

    def forget_hints(self) -> None:
        """Make room: those whose time has come count no more."""
        tick = self._clocks.tick()
        self._hints = {subs_id: hint for subs_id, hint in self._hints.items() if hint[1] > tick}


def _how(task: "asyncio.Task[CheckResult]") -> OnDemandCheck:
    if not task.done():
        return OnDemandCheck(OnDemandOutcome.LATE, 1.0)
    if task.cancelled() or task.exception() is not None:
        return OnDemandCheck(OnDemandOutcome.FAILED, 1.0)
    result = task.result()
    answered = result in ANSWERED or result is CheckResult.CONTRADICTED
    return OnDemandCheck(
        OnDemandOutcome.ANSWERED if answered else OnDemandOutcome.FAILED, 0.0 if answered else 1.0, result
    )
