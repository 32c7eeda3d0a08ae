"""On-demand checks, which a reader or operator waits for, and hints of upcoming dials.

They share the checker's quota, with a priority of their own. The planner decides what a call is worth.
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
"""Seconds before a hinted dial at which the binding is checked."""
MAX_HINTS = 100_000
RETRY_LEAD = 0.05
"""Seconds until a retry while the lead is in doubt, and no call may start."""
QUEUE = 0.05
"""Calls count as scarce once the waiting readers need this many seconds of the quota."""


class OnDemandOutcome(StrEnum):
    """How an on-demand check ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    SPENT = "spent"
    LATE = "late"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OnDemandCheck:
    """The outcome of an on-demand check, the seconds until a retry makes sense, and the result of the check itself."""

    outcome: OnDemandOutcome
    retry_after: float = 0.0
    result: str = ""


class HintOutcome(StrEnum):
    """How a hint was handled."""

    TAKEN = "taken"
    UNKNOWN = "unknown"
    FULL = "full"


class OnDemandChecks:
    """Runs on-demand checks and schedules hinted ones."""

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

    async def check_now(
        self, subs_id: str, *, timeout: float, caller: str = "", forced: bool = False
    ) -> OnDemandCheck:
        """Check one binding now, waiting for at most `timeout` seconds. `caller` is the calling number, if known.

        `forced`: also while the provider is out of reach or refuses the account. An answer shows that this is over.

        Concurrent readers of the same binding share one call, also a background one. It keeps running after a reader
        has given up. Since an answer concerns the binding as a whole, the caller of the reader who came first is sent,
        and the others wait for the same answer.
        """
        started = self._clocks.tick()
        task = self._checker.under_way(subs_id)
        if task is None:
            row = self._table.get(subs_id)
            if row is None:
                return OnDemandCheck(OnDemandOutcome.UNKNOWN)
            refusal = await self._afford(timeout, forced=forced)
            if refusal is not None:
                self._metrics.on_demand.labels(refusal.outcome).inc()
                return refusal
            task = self._checker.under_way(subs_id) or self._checker.start(row, Priority.DEMAND, caller)
        left = max(0.0, timeout - (self._clocks.tick() - started))
        await asyncio.wait({task}, timeout=left)
        check = _outcome(task)
        self._metrics.on_demand.labels(check.outcome).inc()
        return check

    async def _afford(self, timeout: float, *, forced: bool) -> OnDemandCheck | None:
        """Spend one on-demand call, waiting for up to `timeout` seconds. Return None, or why no call may be made."""
        checker, quota = self._checker, self._checker.quota
        while True:
            tick = self._clocks.tick()
            in_trouble = checker.outage.degraded or checker.circuit.is_open
            if not checker.leads or (in_trouble and not forced):
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
            wait = max(wait, 0.005 if may_call else RETRY_LEAD)
            timeout -= wait
            self._waiting += 1
            try:
                await asyncio.sleep(wait)
            finally:
                self._waiting -= 1

    def worth_waiting(self, subs_id: str) -> bool:
        """Return whether a reader who wants a fresher route gets a check.

        While no queue of readers has formed, always. Otherwise only if this check is expected to save more wrong
        dials than the planner's current price of a call.
        """
        scarce = self._waiting >= max(1.0, QUEUE * self._checker.quota.rate)
        return not scarce or self._checker.planner.worth_waiting(subs_id, self._clocks.tick())

    def hint(self, subs_id: str, dial_at: float) -> HintOutcome:
        """Schedule a check just before a dial at `dial_at` (Unix seconds). Only the newest hint per binding counts."""
        planner = self._checker.planner
        if subs_id not in planner:
            return HintOutcome.UNKNOWN
        if subs_id in self._hints and self._hints[subs_id][0] == dial_at:
            return HintOutcome.TAKEN
        if len(self._hints) >= MAX_HINTS:
            return HintOutcome.FULL
        at = self._clocks.tick() + max(0.0, dial_at - HINT_LEAD - self._clocks.now())
        self._hints[subs_id] = dial_at, at
        planner.schedule(subs_id, at, kind=CheckKind.HINT)
        return HintOutcome.TAKEN

    def forget_hints(self) -> None:
        """Drop hints whose time has passed."""
        tick = self._clocks.tick()
        self._hints = {subs_id: hint for subs_id, hint in self._hints.items() if hint[1] > tick}


def _outcome(task: "asyncio.Task[CheckResult]") -> OnDemandCheck:
    if not task.done():
        return OnDemandCheck(OnDemandOutcome.LATE, 1.0)
    if task.cancelled() or task.exception() is not None:
        return OnDemandCheck(OnDemandOutcome.FAILED, 1.0)
    result = task.result()
    answered = result in ANSWERED or result is CheckResult.CONTRADICTED
    return OnDemandCheck(
        OnDemandOutcome.ANSWERED if answered else OnDemandOutcome.FAILED, 0.0 if answered else 1.0, result
    )
