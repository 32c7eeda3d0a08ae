"""precall's decisions about one account, made by the daemon's own core and driven as `engine` drives it.

The engine's checks, reads, hints and reports are asynchronous and go through HTTP and a database. Here they are plain
calls, so that a day of ten thousand bindings takes seconds. Nothing is decided here: the planner, the quota, the state
machine, the route, the exposure brake, the suspicion and the health of the provider are the product's. What the engine
adds, the order in which it asks them, is repeated, each method next to the name of the one it repeats;
tests/integration/engine/test_mission_account.py compares it with the daemon.

Wall clock and monotonic clock are one here. An answer arrives at once, unless `deliver` brings it later.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from precall.core.ages import age_of
from precall.core.calls.suspicion import CallSuspicion, CallVerdict
from precall.core.limits.quota import Priority, Quota
from precall.core.model import (
    ABNORMAL,
    Action,
    Binding,
    BindingState,
    Flag,
    NonAnswer,
    Policy,
    Reply,
    Route,
    Row,
    State,
)
from precall.core.numbers import key_of
from precall.core.planning.next_check import next_check
from precall.core.planning.planner import CheckKind, Planner
from precall.core.planning.promise import background_max_age
from precall.core.planning.sample import variant_of
from precall.core.routing.brake import Brake
from precall.core.routing.exposure import may_turn, release_to_real, turn_to_real, wants_real_number
from precall.core.routing.registration import register
from precall.core.routing.route import decide, doubt, expired_locally, held_by_brake, is_over
from precall.core.routing.state import ANSWERED, CheckResult, advance
from precall.engine.on_demand import HINT_LEAD, QUEUE
from precall.engine.provider_health import ProviderHealth
from precall.telemetry.metrics import Metrics

TICK = 0.05
"""Seconds between two looks at what is due."""

Ask = Callable[[Binding, float], Reply]


@dataclass(frozen=True, slots=True)
class MissionSettings:
    """What a configuration says, as far as it is needed here."""

    rate: float
    burst: float
    policy: Policy = Policy()  # noqa: RUF009  immutable
    brake_share: float = 0.05
    brake_floor: int = 20
    brake_window: float = 600.0
    min_interval: float = 5.0
    abnormal_min_interval: float = 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One question under way: its binding, number and generation."""

    row: Row
    seq: int
    chance: float


class MissionAccount:
    """The table, the plan and the limits of one account. `ask` is the provider; times are in seconds.

    `on_check` receives (subs_id, result) of each check.
    """

    def __init__(
        self,
        settings: MissionSettings,
        ask: Ask,
        now: float,
        seed: int,
        on_check: Callable[[tuple[str, str]], None] = lambda _check: None,
    ) -> None:
        policy = settings.policy
        self.policy, self._ask, self._chance, self._on_check = policy, ask, Random(seed).random, on_check
        self.rows: dict[str, Row] = {}
        self.planner = Planner(
            settings.rate,
            max_age=background_max_age(policy.promise, policy.max_age),
            abnormal_max_age=policy.abnormal_max_age,
            min_interval=settings.min_interval,
            abnormal_min_interval=settings.abnormal_min_interval,
        )
        self.quota = Quota(settings.rate, settings.burst, now)
        self.now = now
        self.health = ProviderHealth(self.quota, Metrics(), lambda: self.now, ("QueryCallStatus",))
        self.brake = Brake(settings.brake_share, settings.brake_floor, settings.brake_window)
        self.suspicion = CallSuspicion()
        self.waiting = 0
        self.spent: list[float] = []
        self._active: dict[str, int] = {}
        self._on_x: dict[str, set[str]] = {}
        self._held: dict[str, dict[str, None]] = {}
        self._seq = self._index = 1

    # -- bindings: engine.registry, engine.plan_keeper -------------------------------------------------

    def register(self, wanted: Binding, now: float) -> Row:
        """As `Registry.register` and `PlanKeeper.follow`."""
        self._index += 1
        before = self.rows.get(wanted.subs_id)
        _, row = register(before, wanted, self.policy, now, self._index)
        self.rows[wanted.subs_id] = row
        if before is None or before.binding.generation != row.binding.generation:
            if before is not None:
                self._drop(before)
            self._active[row.binding.pool_key] = self._active.get(row.binding.pool_key, 0) + 1
            self._on_x.setdefault(row.binding.number_x, set()).add(wanted.subs_id)
            self.adopt(row, now)
        return row

    def restore(self, row: Row, now: float) -> None:
        """A row as a start finds it in the database."""
        self._index += 1
        self.rows[row.binding.subs_id] = row
        self._active[row.binding.pool_key] = self._active.get(row.binding.pool_key, 0) + 1
        self._on_x.setdefault(row.binding.number_x, set()).add(row.binding.subs_id)
        self.adopt(row, now)

    def adopt(self, row: Row, now: float) -> None:
        """As `PlanKeeper._adopt`."""
        binding, state = row.binding, row.state
        if is_over(row, self.policy, now):
            return
        self.planner.add(
            binding.subs_id,
            now,
            pool=binding.pool_key,
            x=key_of(binding.number_x),
            registered_at=binding.registered_at,
            checked_at=state.checked_at or None,
            variant=(state.temp_number or state.state) if state.state in ABNORMAL else "",
        )

    def lapse(self, subs_id: str, now: float) -> None:
        """As `PlanKeeper.sweep` for one binding: an expired one leaves the plan."""
        row = self.rows.get(subs_id)
        if row is not None and subs_id in self.planner and expired_locally(row.binding, self.policy, now):
            self._drop(row)

    def _drop(self, row: Row) -> None:
        self.planner.remove(row.binding.subs_id)
        if row.state.state is not State.EXPIRED:
            self._active[row.binding.pool_key] -= 1
        self._on_x[row.binding.number_x].discard(row.binding.subs_id)
        self._held.get(row.binding.pool_key, {}).pop(row.binding.subs_id, None)

    # -- background checks: engine.checker -------------------------------------------------------------

    def background_at(self, now: float) -> float:
        """When the quota next lets a background check start."""
        return now + self.quota.until(now, Priority.BACKGROUND)

    def tick(self, now: float) -> str | None:
        """One round of `Checker._due`, with its check: the id that was checked, or None."""
        self.now = now
        self._look_at_brakes(now)
        if not self.health.may_call(now):
            return None
        while (subs_id := self.planner.take(now)) is not None:
            row = self.rows.get(str(subs_id))
            if row is None:
                self.planner.remove(subs_id)
            elif expired_locally(row.binding, self.policy, now):
                self.lapse(row.binding.subs_id, now)
            else:
                self.quota.spend(now, Priority.BACKGROUND)
                asked = self._number(row, now)
                self.deliver(asked, self._ask(row.binding, now), now)
                return row.binding.subs_id
        return None

    def _number(self, row: Row, now: float) -> Asked:
        self._seq += 1
        self.spent.append(now)
        return Asked(row, self._seq, self._chance())

    def deliver(self, asked: Asked, reply: Reply, now: float) -> CheckResult:
        """As `Checker._check`, from the reply on."""
        self.now = now
        self.health.learn(reply, 0.0, now)
        row = self.rows.get(asked.row.binding.subs_id)
        if row is None:
            return CheckResult.LATE
        step = advance(
            row.binding,
            row.state,
            reply,
            generation=asked.row.binding.generation,
            seq=asked.seq,
            policy=self.policy,
            now=now,
            chance=asked.chance,
            gone_is_credible=self.health.believes(reply, row, now),
        )
        self._on_check((row.binding.subs_id, step.result.value))
        if wants_real_number(row.binding, step, self.policy):
            step = turn_to_real(row.binding, step, self.policy, now, has_room=self._admit(row, now))
        if step.state is not row.state:
            self._publish(row, replace(row, state=step.state))
        then = next_check(step, reply)
        subs_id = row.binding.subs_id
        if then.settled:
            self.planner.settle(subs_id, variant_of(step.state), now)
            if then.at_rest:
                self.planner.rest(subs_id)
        else:
            self.planner.release(subs_id, now + (then.after or 0.0), now)
        if then.kind is not None and then.after is not None:
            self.planner.schedule(subs_id, now + then.after, kind=then.kind)
        return step.result

    def _publish(self, before: Row, after: Row) -> None:
        pool_key, subs_id = after.binding.pool_key, after.binding.subs_id
        self.rows[subs_id] = after
        ended = State.EXPIRED
        self._active[pool_key] += (before.state.state is ended) - (after.state.state is ended)
        if not may_turn(after.binding, after.state, self.policy):
            self._held.get(pool_key, {}).pop(subs_id, None)

    # -- the exposure brake: engine.brake_release ------------------------------------------------------

    def _admit(self, row: Row, now: float) -> bool:
        """As `BrakeRelease.admit`."""
        pool_key = row.binding.pool_key
        if self.brake.admit(pool_key, self._active[pool_key], now):
            return True
        self._held.setdefault(pool_key, {}).setdefault(row.binding.subs_id)
        return False

    def _look_at_brakes(self, now: float) -> None:
        """As `BrakeRelease.look`, with the release itself."""
        for pool_key in [key for key, held in self._held.items() if held]:
            active, held = self._active[pool_key], self._held[pool_key]
            if self.brake.engaged(pool_key, active, now):
                continue
            for subs_id in list(held):
                row = self.rows.get(subs_id)
                if row is not None and held_by_brake(row, self.policy, now):
                    if not self.brake.admit(pool_key, active, now):
                        break
                    self.rows[subs_id] = release_to_real(row, self.policy, now)
                del held[subs_id]

    # -- reads: engine.lookup, engine.on_demand --------------------------------------------------------

    def older(self, subs_id: str, max_age: float, now: float) -> bool:
        """As `Lookup._older`."""
        state = self.rows[subs_id].state
        return not state.checked_at or age_of(state.checked_at, now) > max_age

    def wants_check(self, subs_id: str, now: float) -> bool:
        """As `OnDemandChecks.worth_waiting`: the read waits for a check."""
        scarce = self.waiting >= max(1.0, QUEUE * self.quota.rate)
        return not scarce or self.planner.worth_waiting(subs_id, now)

    def afford(self, now: float, patience: float) -> float | None:
        """As `OnDemandChecks._afford`, up to its wait: seconds until a token may be had; None when that is too long."""
        if self.health.outage.degraded or self.health.circuit.is_open:
            return None
        wait = self.quota.until(now, Priority.DEMAND)
        return None if wait > patience else wait

    def start_on_demand(self, subs_id: str, now: float) -> tuple[Asked, Reply] | None:
        """Spend a token of the readers and ask; None when another reader was faster. `deliver` brings the reply in."""
        self.now = now
        if not self.quota.spend(now, Priority.DEMAND):
            return None
        row = self.rows[subs_id]
        self.planner.take_on_demand(subs_id, now)
        return self._number(row, now), self._ask(row.binding, now)

    def read(
        self, subs_id: str, caller: str, now: float, *, fresh: bool, verified: bool, doubted: bool = False
    ) -> Route | None:
        """As the end of `Lookup.route`: count the dial, decide."""
        row = self.rows.get(subs_id)
        if row is None:
            return None
        self.planner.dial(subs_id, now, verified=verified)
        halted = self.brake.halted(row.binding.pool_key)
        route = decide(row, caller, self.policy, now, halted=halted, flags=self.flags(row, now))
        if doubted:
            return doubt(route)
        return route if fresh or route.action is Action.EXPIRED else replace(route, stale=True)

    def flags(self, row: Row, now: float) -> tuple[Flag, ...]:
        """As `Checker.flags`, as far as these flags exist here."""
        degraded = (Flag.DEGRADED,) if self.health.outage.degraded else ()
        return (*self.suspicion.flags(row, now), *degraded)

    def hint(self, subs_id: str, dial_at: float, now: float) -> None:
        """As `OnDemandChecks.hint`."""
        if subs_id in self.planner:
            self.planner.schedule(subs_id, now + max(0.0, dial_at - HINT_LEAD - now), kind=CheckKind.HINT)

    # -- how calls ended: engine.call_results ----------------------------------------------------------

    def report(self, subs_id: str, verdict: CallVerdict, dialled: str, now: float) -> None:
        """As `CallResults.file`: judge the call, and count it as a dial unless its route was read."""
        row = self.rows.get(subs_id)
        if row is not None and self.suspicion.record(row, verdict, dialled, now):
            self.planner.schedule(subs_id, now, kind=CheckKind.REPORT)
        self.planner.dial_of_call(subs_id, verdict.called_at, now)

    def number_report(self, number_x: str, *, abnormal: bool, since: float, now: float) -> None:
        """As `CallResults._apply_numbers`, for every binding on this X."""
        for subs_id in sorted(self._on_x.get(number_x, ())):
            self.suspicion.report(self.rows[subs_id], abnormal=abnormal, at=since, now=now)
            self.planner.schedule(subs_id, now, kind=CheckKind.REPORT)


def answered(result: CheckResult) -> bool:
    """Whether a live check counts as answered, as `engine.on_demand` has it."""
    return result in ANSWERED or result is CheckResult.CONTRADICTED


def known_row(wanted: Binding, reply: Reply, checked_at: float, policy: Policy) -> Row:
    """A row registered at `wanted.registered_at` and checked once, at `checked_at`, with this reply."""
    if isinstance(reply, NonAnswer):
        return Row(replace(wanted, generation=1), BindingState())
    binding = replace(wanted, generation=1)
    step = advance(
        binding, BindingState(), reply, generation=1, seq=1, policy=policy, now=checked_at, chance=0.5
    )
    return Row(binding, step.state)
