"""Flow 1, the main job: take > ask > advance > expose > commit > publish > settle.

All decisions are made elsewhere. The planner chooses the binding, the quota admits the call, and `core.routing` turns
the reply into the next state. This module makes the call and carries out the result.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from precall.clocks import Clocks
from precall.concurrency import breathe, finish_or_cancel
from precall.config.settings import Settings
from precall.core.ages import Tick
from precall.core.calls.suspicion import CallSuspicion
from precall.core.limits.quota import Priority
from precall.core.model import Answer, BindingState, Check, Flag, NonAnswer, Row, State, WriteCause
from precall.core.planning.next_check import next_check
from precall.core.rounding import micro
from precall.core.routing.exposure import turn_to_real, wants_real_number
from precall.core.routing.route import expired_locally
from precall.core.routing.state import CheckResult, Step, advance
from precall.engine.brake_release import BrakeRelease
from precall.engine.plan_keeper import PlanKeeper
from precall.engine.status_queries import QueryReply, StatusQueries, StatusQuery
from precall.table.table import Table
from precall.table.writer import Writer
from precall.table.writes import Amend, Amendment
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

STARTS_PER_YIELD = 4
"""Checks started before yielding to the event loop, which readers share. Signing and sending one takes about 0.5 ms."""


class Checker:
    """Checks all active bindings, within the quota, and applies the results to the table."""

    def __init__(
        self,
        queries: StatusQueries,
        plan: PlanKeeper,
        braking: BrakeRelease,
        table: Table,
        writer: Writer,
        settings: Settings,
        metrics: Metrics,
        clocks: Clocks,
    ) -> None:
        self.queries, self.plan, self.braking = queries, plan, braking
        self.brake, self.planner, self.quota = braking.brake, plan.planner, queries.quota
        self.circuit, self.outage = queries.health.circuit, queries.health.outage
        self.suspicion = CallSuspicion()
        self.ticked_at: float = clocks.tick()
        self._table, self._writer, self._settings = table, writer, settings
        self._metrics, self._clocks = metrics, clocks
        self._running: dict[str, asyncio.Task[CheckResult]] = {}
        self._x_abnormal: set[str] = set()
        table.listeners.append(self._forget)

    # -- the main job -------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Start the checks that are due and admitted. They run as tasks, so a slow provider does not delay a tick."""
        tick = self._clocks.tick()
        self.ticked_at = tick
        if not self.queries.may_call():
            return
        for count, row in enumerate(self._due(tick), 1):
            self.start(row, Priority.BACKGROUND)
            await breathe(count, STARTS_PER_YIELD)

    def _due(self, tick: Tick) -> Iterator[Row]:
        """Yield the rows to check now, as many as quota, circuit and the limit in flight allow."""
        now = self._clocks.now()
        while len(self._running) < self.max_in_flight and self.queries.health.may_call(tick):
            subs_id = self.planner.take(tick)
            if subs_id is None:
                return
            row = self._table.get(str(subs_id))
            if row is None:
                self.planner.remove(subs_id)
            elif expired_locally(row.binding, self._settings.policy, now):
                self.plan.lapse(row)
            else:
                self.quota.spend(tick, Priority.BACKGROUND)
                yield row

    @property
    def leads(self) -> bool:
        """Whether this daemon is the leader. Only the leader checks."""
        return self._writer.leads

    async def _check(self, query: StatusQuery) -> CheckResult:
        """Query one binding, and carry out the result."""
        asked = await self.queries.ask(query)
        row = self._table.get(query.row.binding.subs_id)
        if asked is None or row is None:
            return self._too_late(query, asked)
        step = self._expose(row, self._advance(row, query, asked), asked.now)
        check = history_line(query, asked, step.result)
        self._metrics.checks.labels(step.result).inc()
        # Compared with a row that is about to be replaced, an answer only seems to change nothing.
        overtakes = step.state is not row.state and check.subs_id in self._writer.pending_answers
        if step.changed or overtakes:
            await self._commit(row, step, check)
        else:
            self._refresh(row, step, check)
        self._settle(row, step, asked)
        return step.result

    def _too_late(self, query: StatusQuery, asked: QueryReply | None) -> CheckResult:
        """End a check whose call was not made, or whose binding was removed in the meantime."""
        if asked is None:
            tick = self._clocks.tick()
            self.planner.release(query.row.binding.subs_id, tick, tick)
        else:
            self._metrics.checks.labels(CheckResult.LATE).inc()
        return CheckResult.LATE

    def _advance(self, row: Row, query: StatusQuery, asked: QueryReply) -> Step:
        return advance(
            row.binding,
            row.state,
            asked.reply,
            generation=query.row.binding.generation,
            seq=query.seq,
            policy=self._settings.policy,
            now=asked.now,
            chance=query.chance,
            gone_is_credible=self.queries.health.believes(asked.reply, row, asked.tick),
        )

    def _expose(self, row: Row, step: Step, now: float) -> Step:
        """Ask the exposure brake, if nothing else prevents the route from turning to the real number."""
        policy = self._settings.policy
        if not wants_real_number(row.binding, step, policy):
            return step
        return turn_to_real(row.binding, step, policy, now, has_room=self.braking.admit(row))

    async def _commit(self, row: Row, step: Step, check: Check) -> None:
        before, after = row.state, step.state
        if before.state is State.TEMPORARY is after.state and before.temp_number != after.temp_number:
            self._metrics.temporary_changes.inc()
        await self._writer.submit(
            check.subs_id, WriteCause.CHECKED, _observed(after, check.generation), check=check
        )

    def _refresh(self, row: Row, step: Step, check: Check) -> None:
        """Record a check that changed nothing: in memory at once, in the database with the next batch."""
        refreshed = None
        if step.state is not row.state:
            refreshed = replace(row, state=step.state)
            self._table.refresh(refreshed)
        self._writer.record_unchanged(check, refreshed)

    def _settle(self, row: Row, step: Step, asked: QueryReply) -> None:
        """Return the binding to the plan, and remember whether the provider reported X as abnormal."""
        subs_id, then = row.binding.subs_id, next_check(step, asked.reply)
        if then.settled:
            abnormal = step.result is CheckResult.X_ABNORMAL
            (self._x_abnormal.add if abnormal else self._x_abnormal.discard)(subs_id)
        self.plan.settle(subs_id, step.state, then, asked.tick)

    # -- checks in progress ----------------------------------------------------------------------------

    def start(self, row: Row, priority: Priority, caller: str = "") -> "asyncio.Task[CheckResult]":
        """Start a check of this binding. The caller has spent a call of that priority.

        `caller` is the calling number of a live check, if known.
        """
        subs_id = row.binding.subs_id
        if priority is Priority.DEMAND:
            self.planner.take_on_demand(subs_id, self._clocks.tick())
        query = self.queries.next_query(row, caller)
        task = asyncio.create_task(self._check(query), name=f"check-{query.seq}")
        self._running[subs_id] = task
        task.add_done_callback(lambda done: self._ended(subs_id, done))
        return task

    def _ended(self, subs_id: str, task: "asyncio.Task[CheckResult]") -> None:
        if self._running.get(subs_id) is task:
            del self._running[subs_id]
        if not task.cancelled() and (error := task.exception()):
            log.error("check.broken", subs_id=subs_id, exc_info=error)
            tick = self._clocks.tick()
            self.planner.release(subs_id, tick + 1.0, tick)

    def under_way(self, subs_id: str) -> "asyncio.Task[CheckResult] | None":
        """Return the check of this binding in progress, or None."""
        return self._running.get(subs_id)

    @property
    def max_in_flight(self) -> int:
        """Maximum number of background calls in flight."""
        return self._settings.config.provider.max_in_flight

    @property
    def in_flight(self) -> int:
        """Number of calls in flight."""
        return len(self._running)

    async def drain(self, limit: float) -> None:
        """Wait for the checks in flight, for at most `limit` seconds, then cancel them."""
        await finish_or_cancel([*self._running.values(), *self.braking.under_way], limit)

    # -- information for readers -----------------------------------------------------------------------

    def flags(self, row: Row) -> tuple[Flag, ...]:
        """Return the flags of a route that do not follow from its row."""
        flags = list(self.suspicion.flags(row, self._clocks.now()))
        if row.binding.subs_id in self._x_abnormal and Flag.SUSPECT not in flags:
            flags.append(Flag.SUSPECT)
        if self.outage.degraded:
            flags.append(Flag.DEGRADED)
        if row.binding.subs_id in self._table.unsaved:
            flags.append(Flag.UNSAVED)
        return tuple(flags)

    def _forget(self, before: Row | None, after: Row | None) -> None:
        """Forget reports about X when their generation ends."""
        if before is not None and (after is None or after.binding.generation != before.binding.generation):
            self._x_abnormal.discard(before.binding.subs_id)


def _observed(state: BindingState, generation: int) -> Amend[None]:
    """Return an amendment that sets the observed state, if the row is still of the queried generation."""

    def amend(row: Row | None, _index: int) -> Amendment[None]:
        if row is None or row.binding.generation != generation or row.state.seq > state.seq:
            return Amendment(row, None)
        return Amendment(replace(row, state=state), None)

    return amend


def history_line(query: StatusQuery, asked: QueryReply, result: CheckResult) -> Check:
    """Return the row of history for a check."""
    reply = asked.reply
    answer = reply if isinstance(reply, Answer) else None
    return Check(
        subs_id=query.row.binding.subs_id,
        generation=query.row.binding.generation,
        seq=query.seq,
        asked_at=asked.asked_at,
        seconds=micro(asked.seconds),
        result=result,
        status=int(answer.status) if answer else 0,
        number=answer.called_no if answer else "",
        extension=answer.extension if answer else "",
        code=reply.code if isinstance(reply, NonAnswer) else "OK",
        request_id=reply.request_id,
    )
