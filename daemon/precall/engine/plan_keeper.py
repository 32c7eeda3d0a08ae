"""Keeps the planner in step with the routing table.

The planner is pure and knows only ids, ages and counts. This module derives them from the rows of the table: at each
change of a row, and in a regular sweep of the whole table that repairs whatever the changes missed.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import StrEnum
from math import inf

from precall.clocks import Clocks
from precall.config.settings import Settings
from precall.core.ages import SMALLEST_STEP, Tick, age_of
from precall.core.calls.calibration import Calibration
from precall.core.model import ABNORMAL, BindingState, Row, State
from precall.core.numbers import key_of
from precall.core.planning.next_check import NextCheck
from precall.core.planning.planner import RESTING, CheckKind, Planner
from precall.core.planning.sample import LogEvent, variant_of
from precall.core.routing.explain import CheckPlan
from precall.core.routing.exposure import may_turn, must_withdraw
from precall.core.routing.route import expired_locally, held_by_brake, is_over, known_age, too_old
from precall.engine.brake_release import BrakeRelease
from precall.engine.dial_log import DialLog
from precall.table.table import Table
from precall.table.writer import Writer
from precall.telemetry.metrics import Metrics

LATEST_REPORT = 3600.0
"""Seconds after a call within which its report still says when the binding is dialled."""
WHOLE_SECOND = 1.0
"""Reports give whole seconds, so a call may have been placed this much later than told."""

SLICE = 250
"""Rows processed by a sweep before it yields to the event loop. At worst, if all must be planned, that takes 8 ms."""


class DialSource(StrEnum):
    """How a dial becomes known whose route was not read here."""

    CALL = "call"
    CACHE = "cache"


class PlanKeeper:
    """Feeds the planner with changes of the table and results of checks."""

    def __init__(
        self,
        planner: Planner,
        table: Table,
        writer: Writer,
        braking: BrakeRelease,
        dial_log: DialLog,
        settings: Settings,
        metrics: Metrics,
        clocks: Clocks,
    ) -> None:
        self.planner = planner
        self.calibration = Calibration()
        self.paused: frozenset[str] = frozenset()
        self.oldest: Mapping[str, float] = {}
        """The age of the oldest route of each pool, in seconds, as of the last sweep."""
        self._table, self._writer, self._braking, self._dial_log = table, writer, braking, dial_log
        self._settings, self._metrics, self._clocks = settings, metrics, clocks
        self._lead = clocks.lead
        self._began_at = clocks.tick()
        table.listeners.append(self.follow)

    def follow(self, before: Row | None, after: Row | None) -> None:
        """Add or remove a binding after a change of its row. To the planner, a new generation is a new binding."""
        if before is not None and after is not None and before.binding.generation == after.binding.generation:
            return
        if before is not None:
            self.planner.remove(before.binding.subs_id)
            self._dial_log.record_row(before, LogEvent.REMOVE)
        if after is not None:
            self._dial_log.record_row(after, LogEvent.ADD)
            self._add(after, self._clocks.now(), self._clocks.tick())

    def settle(self, subs_id: str, state: BindingState, then: NextCheck, tick: Tick) -> None:
        """Return a binding to the planner after a check. `state` is its state after the check."""
        if then.settled:
            self.planner.settle(subs_id, variant_of(state), tick)
            self._dial_log.record(subs_id, LogEvent.ANSWER)
            if then.at_rest:
                self.planner.rest(subs_id)
        else:
            self.planner.release(subs_id, tick + (then.after or 0.0), tick)
        if then.kind is not None and then.after is not None:
            self.planner.schedule(subs_id, tick + then.after, kind=then.kind)

    def hasten(self, subs_id: str) -> None:
        """Check this binding ahead of others, because its calls fail or its number was reported."""
        self.planner.schedule(subs_id, self._clocks.tick(), kind=CheckKind.REPORT)

    def record_dial(self, subs_id: str, pool_key: str, *, verified: bool) -> None:
        """Record that a reader is about to dial. `verified`: the route was as fresh as the reader required."""
        tick = self._clocks.tick()
        self.calibration.dialled(self._metrics.pool(pool_key), self.planner.wrong_now(subs_id, tick))
        self.planner.dial(subs_id, tick, verified=verified)
        self._dial_log.record(subs_id, LogEvent.DIAL, verified=verified)

    def record_call(self, subs_id: str, pool_key: str, called_at: float) -> None:
        """Record a call, placed at `called_at` (Unix seconds). It counts as a dial unless its read did.

        Not if it is reported late, or was placed before this daemon began to count reads.
        """
        at = self._clocks.tick_of(called_at)
        tick = self._clocks.tick()
        if at >= max(tick - LATEST_REPORT, self._began_at - WHOLE_SECOND):
            wrong = self.planner.wrong_now(subs_id, tick)
            dials = self.planner.dial_of_call(subs_id, at, tick)
            self._tell(DialSource.CALL, subs_id, pool_key, dials, wrong)

    def record_reads(self, subs_id: str, pool_key: str, count: int, last_at: float) -> None:
        """Record reads for dials that a cache answered, the last of them at `last_at` (Unix seconds)."""
        at = self._clocks.tick_of(last_at)
        tick = self._clocks.tick()
        wrong = self.planner.wrong_now(subs_id, tick)
        dials = self.planner.dials_of_cache(subs_id, count, at, tick)
        self._tell(DialSource.CACHE, subs_id, pool_key, dials, wrong)

    def _tell(self, source: DialSource, subs_id: str, pool_key: str, dials: int, wrong: float) -> None:
        """Count dials that were not asked for here, each with P(its route was wrong), wherever reads are counted."""
        self._metrics.unread_dials.labels(source).inc(dials)
        pool = self._metrics.pool(pool_key)
        for _ in range(dials):
            self.calibration.dialled(pool, wrong)
            self._dial_log.record(subs_id, LogEvent.DIAL)

    def lapse(self, row: Row) -> None:
        """End a binding that has expired by the clock, without an answer of the provider."""
        if row.binding.subs_id in self.planner:
            self.planner.remove(row.binding.subs_id)
            self._dial_log.record_row(row, LogEvent.REMOVE)
        self._table.lapse(row)

    def pause(self, pool_key: str) -> None:
        """Stop the background checks of a pool, or of all pools (""). On-demand checks still run."""
        self.paused |= {pool_key}
        self.planner.pause(pool_key or None)

    def resume(self, pool_key: str) -> None:
        """Resume the background checks of a pool; for "", of every pool."""
        resumed = frozenset({pool_key}) if pool_key else self.paused
        self.paused -= resumed
        for each in resumed:
            self.planner.resume(each or None)

    def explain(self, subs_id: str) -> dict[str, object] | None:
        """Return the plan for one binding as plain data, or None if no check is planned. Times are Unix seconds."""
        plan = self.planner.explain(subs_id, self._clocks.tick())
        if plan is None:
            return None
        moment_of = self._clocks.moment_of
        next_at = None if plan.next_at is None else moment_of(plan.next_at)
        return asdict(plan) | {"checked_at": moment_of(plan.checked_at), "next_at": next_at}

    def next_check(self, subs_id: str) -> CheckPlan | None:
        """Return the next check of one binding, or None if no check is planned."""
        tick = self._clocks.tick()
        plan = self.planner.explain(subs_id, tick)
        if plan is None or plan.lane == RESTING:
            return None
        due_in = None if plan.next_at is None else max(0.0, plan.next_at - tick)
        return CheckPlan(due_in, plan.why, plan.wrong)

    async def sweep(self, pause: float = 0.0, ended: Callable[[Row], None] = lambda _row: None) -> None:
        """Compare the whole table with the plan, in slices with a pause of `pause` seconds after each.

        Expired bindings leave the plan, and missing ones are added. Bindings that became too old only because the clock
        was stepped are checked soon. Also refreshes `oldest` and the metrics of ages. Calls `ended` with each row that
        has ended.
        """
        lead, before = self._clocks.lead, self._lead
        self._lead, oldest = lead, dict[str, float]()
        for rows in self._table.slices(SLICE):
            now, tick, ages = self._clocks.now(), self._clocks.tick(), list[float]()
            for row in rows:
                if row.state.state is State.EXPIRED:
                    ended(row)
                    continue
                if expired_locally(row.binding, self._settings.policy, now):
                    self.lapse(row)
                    ended(row)
                    continue
                age = age_of(row.state.checked_at or row.binding.registered_at, now)
                if age < inf:
                    ages.append(age)
                    pool_key = row.binding.pool_key
                    oldest[pool_key] = max(age, oldest.get(pool_key, 0.0))
                self._reconcile(row, now, tick, lead - before)
            self._metrics.ages.tally(ages)
            await asyncio.sleep(pause)
        self.oldest = oldest
        self._metrics.ages.turn()
        self._metrics.keep_pools(self._table.pools())

    def _add(self, row: Row, now: float, tick: Tick) -> None:
        """Add a binding to the plan, unless it is over.

        Past times are converted to ticks by their age. An answer whose age is unknown counts as none. The planner keeps
        a reference to `tick`; sharing one among many bindings saves memory.
        """
        binding, state = row.binding, row.state
        if is_over(row, self._settings.policy, now):
            return
        age = known_age(state.checked_at, now)
        self.planner.add(
            binding.subs_id,
            tick,
            pool=binding.pool_key,
            x=key_of(binding.number_x),
            registered_at=tick - max(0.0, now - binding.registered_at),
            checked_at=None if age is None else tick - age,
            variant=(state.temp_number or state.state) if state.state in ABNORMAL else "",
        )

    def _reconcile(self, row: Row, now: float, tick: Tick, forward: float) -> None:
        """Bring the plan in line with a row.

        `forward` is by how many seconds the clock was set ahead since the last sweep (negative: back). A route that
        became too old only by that is on hold, so its binding is checked soon.
        """
        subs_id, policy = row.binding.subs_id, self._settings.policy
        if subs_id not in self.planner:
            self._table.revive(row)
            self._add(row, now, tick)
        if forward <= -SMALLEST_STEP and self._table.restamp(subs_id):
            self._writer.renew(row)
        if must_withdraw(row, policy):
            self._braking.withdraw(row)
        if may_turn(row.binding, row.state, policy) and held_by_brake(row, policy, now):
            self._braking.hold(row)
        misdated = age_of(max(row.state.checked_at, row.state.temp_at), now) == inf
        aged = (
            forward >= SMALLEST_STEP and too_old(row, policy, now) and not too_old(row, policy, now - forward)
        )
        if misdated or aged:
            self.planner.check_soon(subs_id, tick)
