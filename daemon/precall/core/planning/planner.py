"""The order of checks: each call goes to the binding where it prevents the most wrong dials.

Most calls go where a check is worth most. The other lanes have a guaranteed share under contention: appointments
(confirmations; first checks and retries; hints; reports) and the sweep of the longest unchecked bindings. A binding
taken for a check is in no lane until it is settled, released, or lost after `LOST_AFTER` seconds. Work on many bindings
is done a slice at a time.

The planner decides only the order. `value` computes the value of a check, `ranking` ranks by it, `timers` keeps the
appointments, `contagion` spreads suspicion, and `admission_price` prices live checks. Whether a call may be made at all
is decided in `quota`, what an answer means in `state`. All times are ticks of a monotonic clock, in seconds.
"""

from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from itertools import islice
from math import inf
from typing import Any

from precall.core.ages import Tick
from precall.core.planning.admission_price import SHARE, AdmissionPrice
from precall.core.planning.contagion import Contagion
from precall.core.planning.entries import CheckKind, Plan, PlanEntry, PlanPool, SuspicionCause, Sweep, Variant
from precall.core.planning.promise import KAPPA
from precall.core.planning.ranking import Ranking
from precall.core.planning.rates import RateModel
from precall.core.planning.timers import HOLDING, Timers
from precall.core.planning.value import CheckValue

__all__ = ["CheckKind", "Plan", "Planner"]

LOST_AFTER = 30.0
"""Seconds after which a check neither settled nor released counts as lost, and its binding is planned again."""
SLICE = 500
"""Maximum number of bindings moved per call."""
SMOOTHING = 1 / 200
"""Weight of the newest call in the background's average share of all calls."""
NORMAL = ""
RESTING = "resting"
MAX_READS = 16
"""Reads counted per binding; beyond that they make no difference."""
SWEEP_SHARE, CATCH_UP_SHARE = 0.35, 0.7
"""Share of the calls for the longest unchecked; the second while these are more than a round overdue."""


class Planner:
    """The order in which all bindings are checked. Ids are opaque; unknown ids are ignored.

    `rate` is the budget for all checks in calls per second; ages and intervals are in seconds. `learned` is the result
    of `export` from before a restart. `max_age` may be inf: then only the rounds bound how long a binding waits.
    """

    def __init__(
        self,
        rate: float,
        *,
        max_age: float = 300.0,
        abnormal_max_age: float = 60.0,
        min_interval: float = 5.0,
        abnormal_min_interval: float = 30.0,
        kappa: float = KAPPA,
        learned: Mapping[str, Any] | None = None,
    ) -> None:
        self.learned = RateModel(learned)
        self.value = CheckValue(self.learned)
        self.max_age = max_age
        self.abnormal_max_age = abnormal_max_age
        self.min_interval = min_interval
        self.abnormal_min_interval = abnormal_min_interval
        self.kappa = kappa
        self.price = AdmissionPrice(rate)
        self._entries: dict[Hashable, PlanEntry] = {}
        self._pools: dict[str, PlanPool] = {}
        self._ranking = Ranking(self.value, self._ready)
        self._timers = Timers(self._entries, self._ready)
        self._sweep = Sweep(SWEEP_SHARE)
        self._in_flight: deque[tuple[float, PlanEntry]] = deque()
        self._bulk_moves: deque[Iterator[None]] = deque()
        self._contagion = Contagion(self._enqueue, self._bulk_moves.append)
        self._resting = 0
        self._paused = False
        self._background_share = 1.0

    def retune(
        self,
        rate: float,
        *,
        max_age: float,
        abnormal_max_age: float,
        min_interval: float,
        abnormal_min_interval: float,
    ) -> None:
        """Change the rate, ages and intervals."""
        self.price.rate = rate
        self.max_age, self.abnormal_max_age = max_age, abnormal_max_age
        self.min_interval, self.abnormal_min_interval = min_interval, abnormal_min_interval

    # -- the bindings ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, subs_id: Hashable) -> bool:
        return subs_id in self._entries

    def add(
        self,
        subs_id: Hashable,
        now: Tick,
        *,
        pool: str,
        x: Hashable,
        registered_at: float,
        checked_at: float | None,
        variant: Variant,
    ) -> None:
        """Plan checks of a binding, replacing any earlier plan for it.

        `variant` is what is published: falsy for the normal route, else an opaque identifier of the abnormal one.
        `checked_at` is the time of the newest answer; with None a first check is scheduled at once.
        """
        self.remove(subs_id)
        plan_pool = self._pool(pool)
        entry = PlanEntry(subs_id, plan_pool, x, registered_at, now if checked_at is None else checked_at)
        entry.counted_until = now
        self._entries[subs_id] = entry
        plan_pool.join(entry)
        if checked_at is None:
            self._hold_for(entry, now, CheckKind.FIRST)
        else:
            entry.variant = variant or NORMAL
            entry.was_abnormal = bool(variant)
        self._enqueue(entry, now)

    def remove(self, subs_id: Hashable) -> None:
        """Forget a binding. If a check of it is in flight, its answer will be ignored."""
        entry = self._entries.pop(subs_id, None)
        if entry is not None:
            self._resting -= entry.resting
            entry.pool.leave(entry)
            entry.retire()

    def rest(self, subs_id: Hashable) -> None:
        """Keep an expired binding out of all lanes until it is scheduled, checked on demand or added again."""
        entry = self._entries.get(subs_id)
        if entry is not None:
            self._hold(entry, inf, None)

    def schedule(self, subs_id: Hashable, at: float, *, kind: CheckKind) -> None:
        """Check a binding at `at`, or as soon after it as a call is free.

        An answer later than `at` but before the check makes the appointment void. Only a confirmation and the first
        report check ignore `abnormal_min_interval`.
        """
        entry = self._entries.get(subs_id)
        if entry is None:
            return
        if kind in HOLDING:
            self._hold_for(entry, at, kind)
            return
        self._timers.schedule(entry, at, kind)
        if kind is CheckKind.REPORT and entry.suspicion is None and entry.variant is not None:
            entry.suspicion = self.value.reported(entry, at)
            self._enqueue(entry, at)

    def check_soon(self, subs_id: Hashable, now: Tick) -> None:
        """Check a binding as soon as a call is free, since nothing published of it can be relied upon.

        Does nothing while its check is in flight or already scheduled with a hold.
        """
        entry = self._entries.get(subs_id)
        if entry is not None and not entry.in_flight_until and entry.held_until is None:
            self._hold_for(entry, now, CheckKind.RETRY)

    def _hold_for(self, entry: PlanEntry, at: float, kind: CheckKind) -> None:
        """Schedule a check, and keep the entry out of all other lanes until then."""
        self._hold(entry, at, kind)
        self._timers.schedule(entry, at, kind)

    def _hold(self, entry: PlanEntry, until: float, kind: CheckKind | None) -> None:
        self._resting -= entry.resting
        entry.held_until, entry.kind = until, kind
        self._resting += entry.resting

    # -- the next check -------------------------------------------------------------------------------

    def take(self, now: Tick) -> Hashable | None:
        """Take the next background check, which is then in flight; None when nothing is due."""
        self._maintain(now)
        if (entry := self._choose(now)) is None:
            return None
        self._background_share += (1 - self._background_share) * SMOOTHING
        self._launch(entry, now)
        return entry.id

    def take_on_demand(self, subs_id: Hashable, now: Tick) -> bool:
        """Take a check that a reader waits for. False when one is in flight already, or the id is unknown."""
        if (entry := self._entries.get(subs_id)) is None or entry.in_flight_until:
            return False
        self.price.spend(now)
        self._sweep.earn()
        self._background_share -= self._background_share * SMOOTHING
        if entry.held_until is None:
            entry.kind = None
        self._launch(entry, now)
        return True

    def _launch(self, entry: PlanEntry, now: float) -> None:
        entry.in_flight_until = now + LOST_AFTER
        self._in_flight.append((entry.in_flight_until, entry))

    def _maintain(self, now: Tick) -> None:
        """Do a slice of the housekeeping: halve counters, release lost checks, make bulk moves."""
        self.learned.halve_daily(now)
        self.value.set_round_time(self._round_time())
        queue = self._in_flight
        while queue and (queue[0][0] <= now or queue[0][1].in_flight_until != queue[0][0]):
            deadline, entry = queue.popleft()
            if entry.in_flight_until == deadline:
                self.release(entry.id, now, now)
        for entry in self._timers.waited_too_long(now):
            entry.held_until = entry.kind = None
            self._enqueue(entry, now)
        if self._bulk_moves and sum(1 for _ in islice(self._bulk_moves[0], SLICE)) < SLICE:
            self._bulk_moves.popleft()

    def _choose(self, now: float) -> PlanEntry | None:
        self._timers.earn()
        self._sweep.earn()
        lanes, due = self._timers.lanes(paused=self._paused), self._timers.due
        for lane in lanes:
            if lane.credit >= 1 and (entry := due(lane, now)) is not None:
                lane.credit -= 1
                return entry
        if not self._paused:
            best = self._ranking.best(now)
            if self._sweep.credit >= 1 and (entry := self._overdue(now)) is not None:
                self._sweep.credit -= 1
                entry.kind = None
                return entry
            if best is not None:
                entry = best.pop()
                entry.kind = None
                return entry
        for lane in lanes:
            if (entry := due(lane, now)) is not None:
                return entry
        # The ranking may have found nothing only because it was dropping stale entries: do not waste the call.
        entry = None if self._paused else self._sweep.head()
        if entry is None or now < self._ready(entry):
            return None
        entry.kind = None
        return entry

    def _ready(self, entry: PlanEntry) -> float:
        """The time from which an entry may be checked again."""
        return entry.checked_at + (self.abnormal_min_interval if entry.variant else self.min_interval)

    def _overdue(self, now: float) -> PlanEntry | None:
        """The longest unchecked entry, if it is overdue: of all, or else of the abnormal ones."""
        round_time = self._round_time()
        # Where readers take most of the calls, a round of the rest takes longer and must begin earlier.
        rounds = min(self.kappa, self.kappa + 2 - 1 / max(self._background_share, 1 - SHARE))
        limit = max(min(rounds * round_time, self.max_age), self.min_interval)
        entry = self._sweep.head()
        if entry is not None and now >= max(entry.checked_at + limit, self._ready(entry)):
            late = now - entry.checked_at >= limit + round_time
            self._sweep.share = CATCH_UP_SHARE if late else SWEEP_SHARE
            return entry
        if self.abnormal_max_age < limit:
            patience = max(self.abnormal_max_age, self.abnormal_min_interval)
            heads = self._ranking.abnormal_heads()
            return next((entry for entry in heads if now - entry.checked_at >= patience), None)
        return None

    def _round_time(self) -> float:
        """Seconds that checking every active binding once takes."""
        return (len(self._entries) - self._resting) / self.price.rate

    def oldest(self, now: Tick) -> float:
        """Age (s) of the oldest check among active bindings. Before its first check, a binding's age is since `add`."""
        return max(0.0, now - self._sweep.oldest())

    def _enqueue(self, entry: PlanEntry, now: float) -> None:
        """Put an entry into the sweep and into the queue of its weight."""
        if entry.in_flight_until or entry.resting:
            return
        self._sweep.put(entry)
        if entry.held_until is None:
            self._ranking.put(entry, now)

    # -- the results of checks ------------------------------------------------------------------------

    def kind(self, subs_id: Hashable) -> CheckKind | None:
        """Which appointment led to the check in flight; None for a check that the queue chose by its value."""
        entry = self._entries.get(subs_id)
        return entry.kind if entry is not None and entry.in_flight_until else None

    def settle(self, subs_id: Hashable, variant: Variant, now: Tick) -> None:
        """Record an answer; `variant` is what is published now. Ignored unless the check is in flight."""
        entry = self._entries.get(subs_id)
        if entry is None or not entry.in_flight_until:
            return
        before, age, suspicion = entry.variant, now - entry.checked_at, entry.suspicion
        self._resting -= entry.resting
        entry.in_flight_until, entry.held_until, entry.variant = 0.0, None, variant or NORMAL
        self._observe(entry, now)
        if before is None:
            entry.was_abnormal = bool(variant)
        elif self.value.learn(entry, before, age):
            self._contagion.spread_to_pool(entry.pool, bool(before), now)
        entry.checked_at = entry.confirmed_at = now
        entry.suspicion = None
        if suspicion is not None and suspicion.record(entry.variant != before):
            self._contagion.correct(suspicion, entry, bool(before))
        if before is not None and (suspicion is None or suspicion.cause is SuspicionCause.REPORT):
            self._contagion.spread_to_siblings(entry, before, now)
        self._enqueue(entry, now)

    def release(self, subs_id: Hashable, not_before: float, now: Tick) -> None:
        """Give back a check that ended without an answer. Ignored unless the check is in flight.

        The binding is available again at `not_before`. If that is not in the future, it keeps its priority.
        """
        entry = self._entries.get(subs_id)
        if entry is None or not entry.in_flight_until:
            return
        entry.in_flight_until = 0.0
        at = max(not_before, now)
        if entry.held_until == inf:
            if entry.kind is CheckKind.CONFIRM:
                self.schedule(subs_id, at, kind=CheckKind.CONFIRM)
            return
        if entry.held_until is not None and entry.kind is not None:
            self._hold_for(entry, max(at, entry.held_until), entry.kind)
        elif not_before > now:
            self._hold_for(entry, at, CheckKind.RETRY)
        elif entry.kind is not None:
            self.schedule(subs_id, at, kind=entry.kind)
        self._enqueue(entry, now)

    # -- dials ----------------------------------------------------------------------------------------

    def dial(self, subs_id: Hashable, now: Tick, *, verified: bool) -> None:
        """Record a read that precedes a dial; `verified` when a live check covered it."""
        entry = self._entries.get(subs_id)
        if entry is not None:
            entry.read_at = now
            self._count(entry, 1, now, now, verified=verified)

    def dial_of_call(self, subs_id: Hashable, called_at: float, now: Tick) -> int:
        """Record a call that was placed at `called_at`. Return the dials counted: none if its read was."""
        entry = self._entries.get(subs_id)
        return 0 if entry is None else self._count(entry, entry.count_call(called_at), called_at, now)

    def dials_of_cache(self, subs_id: Hashable, count: int, last_at: float, now: Tick) -> int:
        """Record `count` reads answered by a cache, the last at `last_at`. Return the dials counted."""
        entry = self._entries.get(subs_id)
        return 0 if entry is None else self._count(entry, entry.count_reads(count, last_at), last_at, now)

    def _count(self, entry: PlanEntry, dials: int, at: float, now: float, *, verified: bool = False) -> int:
        """Learn from `dials` dials at `at`, and queue the entry by its new rate."""
        for _ in range(dials):
            self.learned.record_read(bool(entry.variant), verified)
            self._observe(entry, at, dialled=True)
            entry.reads = min(entry.reads + 1, MAX_READS)
        self._enqueue(entry, now)
        return dials

    def _observe(self, entry: PlanEntry, at: float, *, dialled: bool = False) -> None:
        """Count the observation up to `at`. A dial that is told late adds none, but counts at its age."""
        end = max(0.0, at - entry.registered_at)
        start = min(max(0.0, entry.counted_until - entry.registered_at), end)
        self.learned.observe(entry.pool.rates, entry.reads, start, end, dialled=dialled)
        entry.counted_until = max(entry.counted_until, at)

    def worth_waiting(self, subs_id: Hashable, now: Tick) -> bool:
        """Whether a reader should wait for a live check: it saves at least as much as the current price."""
        if (entry := self._entries.get(subs_id)) is None or entry.in_flight_until:
            return False
        return self.price.accepts(self.value.wrong(entry, now) + self.value.of(entry, now), now)

    def wrong_now(self, subs_id: Hashable, now: Tick) -> float:
        """P(the published route is wrong now); 0 for an unknown id."""
        entry = self._entries.get(subs_id)
        return 0.0 if entry is None else self.value.wrong(entry, now)

    # -- the operator ---------------------------------------------------------------------------------

    def pause(self, pool: str | None) -> None:
        """Stop background checks of a pool (None: of all). Confirmations, reports and on-demand checks continue."""
        if pool is None:
            self._paused = True
        else:
            self._pool(pool).paused = True

    def resume(self, pool: str | None) -> None:
        """Undo `pause` with the same argument."""
        if pool is None:
            self._paused = False
        else:
            plan_pool = self._pool(pool)
            plan_pool.paused = False
            self._bulk_moves.append(self._unpark(plan_pool.parked))
            plan_pool.parked = []

    def _pool(self, pool: str) -> PlanPool:
        if pool not in self._pools:
            self._pools[pool] = PlanPool(self.learned.of_pool(pool))
        return self._pools[pool]

    def _unpark(self, parked: list[PlanEntry]) -> Iterator[None]:
        for entry in parked:
            if self._entries.get(entry.id) is entry and not entry.in_flight_until:
                if entry.held_until is not None and entry.kind is not None:
                    self._hold_for(entry, entry.held_until, entry.kind)
                self._enqueue(entry, entry.counted_until)
            yield

    def explain(self, subs_id: Hashable, now: Tick) -> Plan | None:
        """The plan for a binding and its reason; None when unknown. Scans all appointments; not for the hot path."""
        entry = self._entries.get(subs_id)
        if entry is None:
            return None
        at, kind = self._timers.next_of(entry)
        phase, weight = self.value.weigh(entry, now)
        if entry.in_flight_until:
            lane, why = "in flight", "its check is under way"
        elif entry.held_until is not None:
            lane = RESTING if at is None else "appointments"
            why = "expired" if at is None else f"{kind}: not before then"
        elif self._paused or entry.pool.paused:
            lane, why = "paused", "background checks are paused"
        else:
            lane = f"worth, {phase.name.lower()}"
            why = "when its check is worth most, or is the oldest of all"
        return Plan(
            lane=lane,
            checked_at=entry.checked_at,
            age=now - entry.checked_at,
            weight=weight,
            worth=self.value.of(entry, now),
            wrong=self.value.wrong(entry, now),
            next_at=at,
            kind=kind,
            why=why,
        )

    def export(self) -> dict[str, Any]:
        """Everything learned, as JSON-able data for `learned` of the next instance."""
        return self.learned.export()
