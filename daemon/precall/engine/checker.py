"""Flow 1, the main job: take > ask > advance > commit > publish > settle.

The planner says which binding a call is worth most on, the quota whether a call may be made; what the reply makes of
the binding is decided in `core.state`. Nothing is decided here: this module asks, and carries out.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from math import inf
from typing import Any

from precall.clocks import Clocks
from precall.concurrency import breathe
from precall.config.settings import Settings
from precall.core.ages import SMALLEST_STEP, Tick, age_of
from precall.core.calls.calibration import Calibration
from precall.core.calls.suspicion import CallSuspicion
from precall.core.limits.quota import Priority, Quota
from precall.core.model import (
    Answer,
    BindingState,
    Check,
    Flag,
    NonAnswer,
    Reply,
    Row,
    State,
    WriteCause,
)
from precall.core.numbers import key_of
from precall.core.planning.planner import CheckKind, Planner
from precall.core.planning.sample import LogEvent as Event
from precall.core.planning.sample import Sample, face_of
from precall.core.rounding import micro
from precall.core.routing.brake import Brake, may_turn
from precall.core.routing.route import expired_locally, held_by_brake, known_age, too_old
from precall.core.routing.state import CheckResult, Step, advance, is_gone
from precall.engine.brake_release import BrakeRelease
from precall.engine.call_gate import CallGate
from precall.engine.provider_health import ProviderHealth
from precall.provider import Provider
from precall.table.table import Table
from precall.table.writer import Writer
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

ABREAST = 4
"""Checks started before the loop is let go: signing and sending one takes some 0.5 ms, and readers share the loop."""
SLICE = 250
"""Rows a sweep looks at before it lets the loop go: some 8 ms, if all are to be planned."""


class Checker:
    """Keeps the routes of all active bindings true, within the quota."""

    def __init__(
        self,
        *,
        provider: Provider,
        ledger: Writer,
        table: Table,
        planner: Planner,
        quota: Quota,
        brake: Brake,
        settings: Settings,
        metrics: Metrics,
        sample: Sample,
        seq: int,
        clocks: Clocks,
        chance: Callable[[], float],
    ) -> None:
        self.brake, self.planner, self.quota = brake, planner, quota
        self.braking = BrakeRelease(brake, ledger, table, settings, metrics, clocks)
        self._standing = ProviderHealth(quota, metrics, clocks.tick, provider.questions)
        self.circuit, self.outage = self._standing.circuit, self._standing.outage
        self.suspicion, self.calibration = CallSuspicion(), Calibration()
        self.gate: CallGate | None = None
        self.paused: frozenset[str] = frozenset()
        self.ticked_at: float = clocks.tick()
        self._provider, self._ledger, self._table, self._metrics = provider, ledger, table, metrics
        self._settings, self._sample, self._seq = settings, sample, seq
        self._clocks, self._chance = clocks, chance
        self._lead = clocks.lead
        self._running: dict[str, asyncio.Task[CheckResult]] = {}
        self._doubted: set[str] = set()
        table.listeners += [self.follow, self.braking.follow]

    # -- the main job -------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Start every check that is due and may be made now. Their ends are their own (`_check`): a slow
        provider never holds a tick back."""
        tick = self._clocks.tick()
        self.ticked_at = tick
        if not self.may_call():
            return
        for count, row in enumerate(self._due(tick), 1):
            self.start(row, Priority.BACKGROUND)
            await breathe(count, ABREAST)

    def _due(self, tick: Tick) -> Iterator[Row]:
        """What the planner wants asked, as long as quota, circuit and the number in flight allow."""
        now = self._clocks.now()
        while len(self._running) < self.max_in_flight and self._standing.may_call(tick):
            subs_id = self.planner.take(tick)
            if subs_id is None:
                return
            row = self._table.get(str(subs_id))
            if row is None:
                self.planner.remove(subs_id)
            elif expired_locally(row.binding, self._settings.policy, now):
                self._lapse(row)
            else:
                self.quota.spend(tick, Priority.BACKGROUND)
                yield row

    @property
    def asks(self) -> bool:
        """Whether this daemon leads, so that checks are its own."""
        return self._ledger.leads

    def may_call(self) -> bool:
        """Whether nothing puts in doubt that calls are ours to make."""
        return self.gate is None or self.gate.is_open()

    async def _check(self, row: Row, seq: int, since: float) -> CheckResult:
        """Ask about one binding, and carry out what its answer amounts to."""
        subs_id, generation, asked_at = row.binding.subs_id, row.binding.generation, self._clocks.now()
        if not self.may_call():
            # This process stood still before the call was sent: by now another daemon may spend the quota.
            tick = self._clocks.tick()
            self.planner.release(subs_id, tick, tick)
            return CheckResult.LATE
        self._metrics.check_queue.observe(self._clocks.tick() - since)
        asked = await self._provider.query_binding(row.binding, again=self._again)
        now, tick = self._clocks.now(), self._clocks.tick()
        self._standing.learn(asked.reply, asked.seconds, tick)
        if not isinstance(asked.reply, NonAnswer):
            self._metrics.last_success.set(now)
        current = self._table.get(subs_id)
        if current is None:
            self._metrics.checks.labels(CheckResult.LATE).inc()
            return CheckResult.LATE
        step = self._advance(current, asked.reply, generation, seq, now, tick)
        step = self.braking.admit(current, step, now)
        check = _record(subs_id, generation, seq, asked_at, asked.seconds, step.result, asked.reply)
        self._metrics.checks.labels(step.result).inc()
        if step.changed:
            self._count_temporary(current.state, step.state)
            await self._ledger.submit(
                subs_id, WriteCause.CHECKED, _observed(step.state, generation), check=check
            )
        else:
            self._refresh(current, step, check)
        self._settle(subs_id, step, asked.reply, tick)
        return step.result

    def _advance(self, row: Row, reply: Reply, generation: int, seq: int, now: float, tick: Tick) -> Step:
        return advance(
            row.binding,
            row.state,
            reply,
            generation=generation,
            seq=seq,
            policy=self._settings.policy,
            now=now,
            chance=self._chance(),
            gone_is_credible=self._standing.believes(reply, row, tick),
        )

    def _refresh(self, row: Row, step: Step, check: Check) -> None:
        """An unchanged check: memory at once, the database with the next batch."""
        refreshed = None
        if step.state is not row.state:
            refreshed = replace(row, state=step.state)
            self._table.refresh(refreshed)
        self._ledger.note(check, refreshed)

    def _settle(self, subs_id: str, step: Step, reply: Reply, tick: Tick) -> None:
        """Give the binding back to the planner, with when to ask again if that is not the planner's to choose."""
        state = step.state
        if step.answered or step.at_rest:
            (self._doubted.add if step.result is CheckResult.X_ABNORMAL else self._doubted.discard)(subs_id)
            self.planner.settle(subs_id, face_of(state), tick)
            self._log(subs_id, Event.ANSWER)
            if step.at_rest:
                self.planner.rest(subs_id)
            if step.again is not None:
                kind = CheckKind.GONE if is_gone(state) else CheckKind.CONFIRM
                self.planner.appoint(subs_id, tick + step.again, kind=kind)
            return
        after = step.again or 0.0
        if isinstance(reply, NonAnswer) and reply.retry_after:
            after = max(after, reply.retry_after)
        self.planner.release(subs_id, tick + after, tick)
        if state.gone_at:
            self.planner.appoint(subs_id, tick + after, kind=CheckKind.CONFIRM)

    def _again(self) -> bool:
        """Whether the budget has one call more, for a repetition."""
        return self.may_call() and self.quota.spend(self._clocks.tick(), Priority.BACKGROUND)

    def _count_temporary(self, before: BindingState, after: BindingState) -> None:
        if before.state is State.TEMPORARY is after.state and before.temp_number != after.temp_number:
            self._metrics.temporary_changes.inc()

    # -- checks under way ------------------------------------------------------------------------------

    def start(self, row: Row, lane: Priority) -> "asyncio.Task[CheckResult]":
        """Check this binding, for which a call of that lane was spent."""
        subs_id = row.binding.subs_id
        if lane is Priority.DEMAND:
            self.planner.demand(subs_id, self._clocks.tick())
        self._seq += 1
        task = asyncio.create_task(
            self._check(row, self._seq, self._clocks.tick()), name=f"check-{self._seq}"
        )
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

    # -- what the rest of the daemon asks for ----------------------------------------------------------------

    def follow(self, before: Row | None, after: Row | None) -> None:
        """Keep the planner's set of bindings that of the table."""
        if after is None:
            if before is not None:
                self._doubted.discard(before.binding.subs_id)
                self.planner.remove(before.binding.subs_id)
                self._log_row(before, Event.REMOVE)
            return
        if before is not None and before.binding.generation == after.binding.generation:
            return
        if before is not None:
            self._doubted.discard(before.binding.subs_id)
            self.planner.remove(before.binding.subs_id)
            self._log_row(before, Event.REMOVE)
        self._log_row(after, Event.ADD)
        self._adopt(after, self._clocks.now(), self._clocks.tick())

    def _adopt(self, row: Row, now: float, tick: Tick) -> None:
        """Plan checks of this binding from now on. The planner keeps `tick`: many should share one. What it is told of
        the past it is told by its age; an answer whose age cannot be known is none."""
        binding, state = row.binding, row.state
        if state.state is State.EXPIRED or expired_locally(binding, self._settings.policy, now):
            return
        abnormal = state.state in (State.TEMPORARY, State.FALLBACK)
        age = known_age(state.checked_at, now)
        self.planner.add(
            binding.subs_id,
            tick,
            pool=binding.pool_key,
            x=key_of(binding.number_x),
            registered_at=tick - max(0.0, now - binding.registered_at),
            checked_at=None if age is None else tick - age,
            face=(state.temp_number or state.state) if abnormal else "",
        )

    async def sweep(self, pause: float = 0.0) -> None:
        """Walk the whole table, in slices with a pause (s) after each: let expired bindings rest, take up any the
        planner has lost sight of, and what the clock has done to those whose time it changed."""
        lead, before = self._clocks.lead, self._lead
        self._lead = lead
        for rows in self._table.slices(SLICE):
            now, tick, ages = self._clocks.now(), self._clocks.tick(), list[float]()
            for row in rows:
                if row.state.state is State.EXPIRED:
                    continue
                if expired_locally(row.binding, self._settings.policy, now):
                    self._lapse(row)
                    continue
                age = age_of(row.state.checked_at or row.binding.registered_at, now)
                if age < inf:
                    ages.append(age)
                self._look_after(row, now, tick, lead - before)
            self._metrics.ages.tally(ages)
            await asyncio.sleep(pause)
        self._metrics.ages.turn()
        self._metrics.keep_pools(self._table.pools())

    def _look_after(self, row: Row, now: float, tick: Tick, forward: float) -> None:
        """See that a binding is planned as it stands. `forward`: by how much the clock was set ahead since the last
        time; what that alone makes too old is held until it is checked."""
        subs_id, policy = row.binding.subs_id, self._settings.policy
        if subs_id not in self.planner:
            self._table.revive(row)
            self._adopt(row, now, tick)
        if forward <= -SMALLEST_STEP and self._table.restamp(subs_id):
            self._ledger.renew(row)
        if may_turn(row.state, policy) and held_by_brake(row, policy, now):
            self.braking.hold(row)
        misdated = age_of(max(row.state.checked_at, row.state.temp_at), now) == inf
        aged = (
            forward >= SMALLEST_STEP and too_old(row, policy, now) and not too_old(row, policy, now - forward)
        )
        if misdated or aged:
            self.planner.hasten(subs_id, tick)

    def report(self, subs_id: str) -> None:
        """Calls of this binding fail, or its number is reported: check it soon, whatever else is to be done."""
        self.planner.appoint(subs_id, self._clocks.tick(), kind=CheckKind.REPORT)

    def dialled(self, subs_id: str, pool_key: str, *, verified: bool) -> None:
        """A read that is about to be dialled; `verified` when it was just checked, or need not be."""
        tick = self._clocks.tick()
        self.calibration.dialled(self._metrics.pool(pool_key), self.planner.wrong_now(subs_id, tick))
        self.planner.dial(subs_id, tick, verified=verified)
        self._log(subs_id, Event.DIAL, verified=verified)

    def _lapse(self, row: Row) -> None:
        """Its time has come, though no answer has said so."""
        if row.binding.subs_id in self.planner:
            self.planner.remove(row.binding.subs_id)
            self._log_row(row, Event.REMOVE)
        self._table.lapse(row)

    def _log(self, subs_id: str, kind: Event, *, verified: bool = False) -> None:
        """Write to the log of dials what happened to a binding, if it is in the sample."""
        if self._sample.holds(subs_id) and (row := self._table.get(subs_id)):
            if kind is Event.ANSWER and row.state.state is State.EXPIRED:
                kind = Event.REMOVE
            self._ledger.jot(self._sample.event(row, kind, self._clocks.now(), verified=verified))

    def _log_row(self, row: Row, kind: Event) -> None:
        """The same where the row is not, or not yet, that of the table."""
        if self._sample.holds(row.binding.subs_id):
            self._ledger.jot(self._sample.event(row, kind, self._clocks.now()))

    @property
    def short_of_budget(self) -> bool:
        """Whether the budget cannot hold `max_age`: a binding may go unchecked for (kappa + 2) rounds."""
        rounds = self.planner.kappa + 2
        return rounds * len(self.planner) / self.quota.rate > self._settings.policy.max_age

    def flags(self, row: Row) -> tuple[Flag, ...]:
        """What readers should know that no row knows of itself."""
        found = list(self.suspicion.flags(row, self._clocks.now()))
        if row.binding.subs_id in self._doubted and Flag.SUSPECT not in found:
            found.append(Flag.SUSPECT)
        if self.outage.degraded:
            found.append(Flag.DEGRADED)
        if row.binding.subs_id in self._table.unsaved:
            found.append(Flag.UNSAVED)
        return tuple(found)

    def pause(self, pool_key: str) -> None:
        """Stop the background checks of a pool, or of all (""); forced ones still run."""
        self.paused |= {pool_key}
        self.planner.pause(pool_key or None)

    def resume(self, pool_key: str) -> None:
        """Go on with a pool, or with all ("")."""
        self.paused = self.paused - {pool_key} if pool_key else frozenset()
        self.planner.resume(pool_key or None)

    def explain(self, subs_id: str) -> dict[str, object] | None:
        """The plan for one binding, as plain data; None when none is planned."""
        plan = self.planner.explain(subs_id, self._clocks.tick())
        if plan is None:
            return None
        moment_of = self._clocks.moment_of
        next_at = None if plan.next_at is None else moment_of(plan.next_at)
        return asdict(plan) | {"checked_at": moment_of(plan.checked_at), "next_at": next_at}

    def under_way(self, subs_id: str) -> "asyncio.Task[CheckResult] | None":
        """The check of this binding that has not come to its end, if there is one."""
        return self._running.get(subs_id)

    @property
    def max_in_flight(self) -> int:
        """How many background calls may be."""
        return self._settings.config.provider.max_in_flight

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""
        return len(self._running)

    async def drain(self, limit: float) -> None:
        """Let the checks under way end, for at most `limit` seconds; then cancel them."""
        await drained([*self._running.values(), *self.braking.under_way], limit)


async def drained(under_way: Iterable[asyncio.Task[Any]], limit: float) -> None:
    """Return when all of them have ended; those that have not after `limit` seconds are cancelled."""
    tasks = set(under_way)
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=limit)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


def _observed(state: BindingState, generation: int) -> Callable[[Row | None, int], Row | None]:
    """Amend a row by an observation, if it is still the generation that was asked about."""

    def amend(row: Row | None, _index: int) -> Row | None:
        if row is None or row.binding.generation != generation or row.state.seq > state.seq:
            return row
        return replace(row, state=state)

    return amend


def _record(
    subs_id: str,
    generation: int,
    seq: int,
    asked_at: float,
    seconds: float,
    result: CheckResult,
    reply: Reply,
) -> Check:
    """One line of history."""
    told = reply if isinstance(reply, Answer) else None
    return Check(
        subs_id=subs_id,
        generation=generation,
        seq=seq,
        asked_at=asked_at,
        seconds=micro(seconds),
        result=result,
        status=int(told.status) if told else 0,
        number=told.called_no if told else "",
        extension=told.extension if told else "",
        code=reply.code if isinstance(reply, NonAnswer) else "OK",
        request_id=reply.request_id,
    )
