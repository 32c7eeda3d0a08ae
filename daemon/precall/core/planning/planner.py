"""Which binding to check next: each call is spent where it prevents the most wrong dials.

Most calls go where a check is worth most. Beside worth there are lanes, each with a share of the calls while others
want them too: appointments (confirmations; first checks and retries; hints; reports) and the sweep of the longest
unchecked. What was taken is in no lane until it is settled, released, or lost for `LOST` seconds. Whatever touches
many bindings is done a slice at a time.

Here belongs the order of checks. What a check is worth is `worth`, who is worth most `ranks`, whose time has come
`appointments`, whom an answer makes suspect `waves`, what a reader's check must be worth `price`; whether a call may be
made at all is `quota`; what an answer means is `state`. All times are ticks of a monotonic clock, in seconds.
"""

from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Any

from precall.core.ages import Tick
from precall.core.planning.admission_price import SHARE, AdmissionPrice
from precall.core.planning.contagion import Contagion
from precall.core.planning.entries import CheckKind, Face, PlanEntry, PlanPool, SuspicionCause, Sweep
from precall.core.planning.ranking import Ranking
from precall.core.planning.rates import RateModel
from precall.core.planning.timers import AWAY, Timers
from precall.core.planning.value import CheckValue

__all__ = ["CheckKind", "Plan", "Planner"]

LOST = 30.0
"""A check neither settled nor released for so long (s) comes back."""
SLICE = 500
"""Bindings moved per call, at most."""
TREND = 1 / 200
"""What the newest call counts for in the share of calls that readers leave."""
NORMAL = ""
MOST = 16
"""Reads counted per binding: those with more are all alike."""
SWEEP, HURRY = 0.35, 0.7
"""Share of the calls for the longest unchecked, and when they are more than a round too old."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is intended with a binding. `wrong` is P(its route is wrong now), `worth` dials saved by a check now."""

    lane: str
    checked_at: float
    age: float
    weight: float
    worth: float
    wrong: float
    next_at: float | None
    kind: CheckKind | None
    why: str


class Planner:
    """The order of checks of all bindings. Ids are opaque. Raises nothing for ids it does not know.

    `rate` is what may be spent per second on all checks; ages and intervals are in seconds. `learned` is what `export`
    gave before a restart.
    """

    def __init__(
        self,
        rate: float,
        *,
        max_age: float = 300.0,
        abnormal_max_age: float = 60.0,
        min_interval: float = 5.0,
        abnormal_min_interval: float = 30.0,
        kappa: float = 4.0,
        learned: Mapping[str, Any] | None = None,
    ) -> None:
        self.learned = RateModel(learned)
        self.worth = CheckValue(self.learned)
        self.max_age = max_age
        self.abnormal_max_age = abnormal_max_age
        self.min_interval = min_interval
        self.abnormal_min_interval = abnormal_min_interval
        self.kappa = kappa
        self.price = AdmissionPrice(rate)
        self._entries: dict[Hashable, PlanEntry] = {}
        self._pools: dict[str, PlanPool] = {}
        self._ranks = Ranking(self.worth, self._ready)
        self._appointments = Timers(self._entries, self._ready)
        self._sweep = Sweep(SWEEP)
        self._flights: deque[tuple[float, PlanEntry]] = deque()
        self._bulk: deque[Iterator[None]] = deque()
        self._waves = Contagion(self._file, self._bulk.append)
        self._resting = 0
        self._paused = False
        self._left = 1.0

    def retune(
        self,
        rate: float,
        *,
        max_age: float,
        abnormal_max_age: float,
        min_interval: float,
        abnormal_min_interval: float,
    ) -> None:
        """Another rate, other ages and intervals from now on."""
        self.price.rate = rate
        self.max_age, self.abnormal_max_age = max_age, abnormal_max_age
        self.min_interval, self.abnormal_min_interval = min_interval, abnormal_min_interval

    # -- who is to be checked -------------------------------------------------------------------------

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
        face: Face,
    ) -> None:
        """Take a binding on, or anew. `face` is what is published: falsy for normal, else an opaque version of the
        abnormal route. `checked_at` is its newest answer; None appoints a first check."""
        self.remove(subs_id)
        home = self._pools.get(pool)
        if home is None:
            home = self._pools[pool] = PlanPool(self.learned.habits(pool))
        entry = PlanEntry(subs_id, home, x, registered_at, now if checked_at is None else checked_at)
        entry.counted = now
        self._entries[subs_id] = entry
        home.join(entry)
        if checked_at is None:
            self._send_away(entry, now, CheckKind.FIRST)
        else:
            entry.face = face or NORMAL
            entry.scarred = bool(face)
        self._file(entry, now)

    def remove(self, subs_id: Hashable) -> None:
        """Forget a binding, also while in flight: its answer is then dropped."""
        entry = self._entries.pop(subs_id, None)
        if entry is not None:
            self._resting -= entry.rests
            entry.pool.leave(entry)
            entry.flight, entry.away, entry.kind = 0.0, inf, None

    def rest(self, subs_id: Hashable) -> None:
        """Settled as expired: in no lane until appointed, demanded or added again."""
        entry = self._entries.get(subs_id)
        if entry is not None:
            self._put_away(entry, inf, None)

    def appoint(self, subs_id: Hashable, at: float, *, kind: CheckKind) -> None:
        """Check at that time, or as soon after as a call is free; void when an answer comes after `at` but before.
        Only a confirmation and the first report come within `abnormal_min_interval`."""
        entry = self._entries.get(subs_id)
        if entry is None:
            return
        if kind in AWAY:
            self._send_away(entry, at, kind)
            return
        self._appointments.make(entry, at, kind)
        if kind is CheckKind.REPORT and entry.doubt is None and entry.face is not None:
            entry.doubt = self.worth.reported(entry, at)
            self._file(entry, at)

    def hasten(self, subs_id: Hashable, now: Tick) -> None:
        """Nothing that is published of it can be relied upon: check it as soon as a call is free, unless that is
        intended already."""
        entry = self._entries.get(subs_id)
        if entry is not None and not entry.flight and entry.away is None:
            self._send_away(entry, now, CheckKind.RETRY)

    def _send_away(self, entry: PlanEntry, at: float, kind: CheckKind) -> None:
        self._put_away(entry, at, kind)
        self._appointments.make(entry, at, kind)

    def _put_away(self, entry: PlanEntry, until: float, kind: CheckKind | None) -> None:
        self._resting -= entry.rests
        entry.away, entry.kind = until, kind
        self._resting += entry.rests

    # -- the next check -------------------------------------------------------------------------------

    def take(self, now: Tick) -> Hashable | None:
        """The next background check, from now on in flight; None when nothing is due."""
        self._tend(now)
        entry = self._choose(now)
        if entry is None:
            return None
        self._left += (1 - self._left) * TREND
        self._launch(entry, now)
        return entry.id

    def demand(self, subs_id: Hashable, now: Tick) -> bool:
        """A reader waits for a check: it is in flight from now on. False when it already is, or is unknown."""
        entry = self._entries.get(subs_id)
        if entry is None or entry.flight:
            return False
        self.price.spend(now)
        self._sweep.earn()
        self._left -= self._left * TREND
        if entry.away is None:
            entry.kind = None
        self._launch(entry, now)
        return True

    def _launch(self, entry: PlanEntry, now: float) -> None:
        entry.flight = now + LOST
        self._flights.append((entry.flight, entry))

    def _tend(self, now: Tick) -> None:
        """What is done a slice at a time: lost checks, bulk moves, forgetting."""
        self.learned.fade(now)
        self.worth.pace(self._lap())
        flights = self._flights
        while flights and (flights[0][0] <= now or flights[0][1].flight != flights[0][0]):
            deadline, entry = flights.popleft()
            if entry.flight == deadline:
                self.release(entry.id, now, now)
        if self._bulk and sum(1 for _ in islice(self._bulk[0], SLICE)) < SLICE:
            self._bulk.popleft()

    def _choose(self, now: float) -> PlanEntry | None:
        self._appointments.earn()
        self._sweep.earn()
        lanes, called = self._appointments.lanes(paused=self._paused), self._appointments.called
        for lane in lanes:
            if lane.credit >= 1 and (entry := called(lane, now)) is not None:
                lane.credit -= 1
                return entry
        if not self._paused:
            richest = self._ranks.richest(now)
            if self._sweep.credit >= 1 and (entry := self._late(now)) is not None:
                self._sweep.credit -= 1
                entry.kind = None
                return entry
            if richest is not None:
                entry = richest.pop()
                entry.kind = None
                return entry
        for lane in lanes:
            if (entry := called(lane, now)) is not None:
                return entry
        # The queues may still be dropping those who left: no call is wasted on that.
        entry = None if self._paused else self._sweep.head()
        if entry is None or now < self._ready(entry):
            return None
        entry.kind = None
        return entry

    def _ready(self, entry: PlanEntry) -> float:
        return entry.last + (self.abnormal_min_interval if entry.face else self.min_interval)

    def _late(self, now: float) -> PlanEntry | None:
        """The longest unchecked, if that is too long: of all, or of the abnormal ones."""
        lap = self._lap()
        # Where readers take most calls a round of the rest takes longer, and has to begin earlier.
        laps = min(self.kappa, self.kappa + 2 - 1 / max(self._left, 1 - SHARE))
        limit = max(min(laps * lap, self.max_age), self.min_interval)
        entry = self._sweep.head()
        if entry is not None and now >= max(entry.last + limit, self._ready(entry)):
            self._sweep.share = SWEEP if now - entry.last < limit + lap else HURRY
            return entry
        if self.abnormal_max_age < limit:
            patience = max(self.abnormal_max_age, self.abnormal_min_interval)
            return next((one for one in self._ranks.abnormal_heads() if now - one.last >= patience), None)
        return None

    def _lap(self) -> float:
        return (len(self._entries) - self._resting) / self.price.rate

    def oldest(self, now: Tick) -> float:
        """Age (s) of the oldest check among active bindings; one never checked counts from when it was added."""
        return max(0.0, now - self._sweep.oldest())

    # -- where a binding waits ------------------------------------------------------------------------

    def _file(self, entry: PlanEntry, now: float) -> None:
        """Stand in the queue of its weight and in the order of the sweep."""
        if entry.flight or entry.rests:
            return
        self._sweep.put(entry)
        if entry.away is None:
            self._ranks.put(entry, now)

    # -- what came of a check -------------------------------------------------------------------------

    def kind(self, subs_id: Hashable) -> CheckKind | None:
        """Which appointment led to the check in flight; None for a check that the queue chose by its worth."""
        entry = self._entries.get(subs_id)
        return entry.kind if entry is not None and entry.flight else None

    def settle(self, subs_id: Hashable, face: Face, now: Tick) -> None:
        """An answer came: `face` is what is published now. Dropped unless in flight."""
        entry = self._entries.get(subs_id)
        if entry is None or not entry.flight:
            return
        before, age, doubt = entry.face, now - entry.last, entry.doubt
        self._resting -= entry.rests
        entry.flight, entry.away, entry.face = 0.0, None, face or NORMAL
        self._count(entry, now)
        if before is None:
            entry.scarred = bool(face)
        elif self.worth.learn(entry, before, age):
            self._waves.open(entry.pool, bool(before), now)
        entry.last = entry.since = now
        entry.doubt = None
        if doubt is not None and doubt.record(entry.face != before):
            self._waves.correct(doubt, entry, bool(before))
        if before is not None and (doubt is None or doubt.cause is SuspicionCause.REPORT):
            self._waves.tell_kin(entry, before, now)
        self._file(entry, now)

    def release(self, subs_id: Hashable, not_before: float, now: Tick) -> None:
        """No answer came: nothing was observed. It is available again at `not_before`, with the same priority when
        that is not in the future. Dropped unless in flight."""
        entry = self._entries.get(subs_id)
        if entry is None or not entry.flight:
            return
        entry.flight = 0.0
        at = max(not_before, now)
        if entry.away == inf:
            if entry.kind is CheckKind.CONFIRM:
                self.appoint(subs_id, at, kind=CheckKind.CONFIRM)
            return
        if entry.away is not None and entry.kind is not None:
            self._send_away(entry, max(at, entry.away), entry.kind)
        elif not_before > now:
            self._send_away(entry, at, CheckKind.RETRY)
        elif entry.kind is not None:
            self.appoint(subs_id, at, kind=entry.kind)
        self._file(entry, now)

    # -- reads ----------------------------------------------------------------------------------------

    def dial(self, subs_id: Hashable, now: Tick, *, verified: bool) -> None:
        """It was read to be dialled, and a live check covered the read, or did not."""
        entry = self._entries.get(subs_id)
        if entry is not None:
            self.learned.read(bool(entry.face), verified)
            self._count(entry, now, dialled=True)
            entry.reads = min(entry.reads + 1, MOST)
            self._file(entry, now)

    def _count(self, entry: PlanEntry, now: float, *, dialled: bool = False) -> None:
        start, end = max(0.0, entry.counted - entry.born), max(0.0, now - entry.born)
        self.learned.watch(entry.pool.habits, entry.reads, start, end, dialled=dialled)
        entry.counted = now

    def wanted(self, subs_id: Hashable, now: Tick) -> bool:
        """Whether a reader who can wait should: what a live check saves is at least the going price."""
        entry = self._entries.get(subs_id)
        if entry is None or entry.flight:
            return False
        return self.price.accepts(self.worth.wrong(entry, now) + self.worth.of(entry, now), now)

    def wrong_now(self, subs_id: Hashable, now: Tick) -> float:
        """P(what is published of it is wrong now); 0 when unknown."""
        entry = self._entries.get(subs_id)
        return 0.0 if entry is None else self.worth.wrong(entry, now)

    # -- the operator ---------------------------------------------------------------------------------

    def pause(self, pool: str | None) -> None:
        """No background checks of a pool, or of any; confirmations, reports and demands still run."""
        if pool is None:
            self._paused = True
        else:
            self._home(pool).paused = True

    def resume(self, pool: str | None) -> None:
        """Undo `pause` of the same."""
        if pool is None:
            self._paused = False
        else:
            home = self._home(pool)
            home.paused = False
            self._bulk.append(self._unpark(home.parked))
            home.parked = []

    def _home(self, pool: str) -> PlanPool:
        if pool not in self._pools:
            self._pools[pool] = PlanPool(self.learned.habits(pool))
        return self._pools[pool]

    def _unpark(self, parked: list[PlanEntry]) -> Iterator[None]:
        for entry in parked:
            if self._entries.get(entry.id) is entry and not entry.flight:
                if entry.away is not None and entry.kind is not None:
                    self._send_away(entry, entry.away, entry.kind)
                self._file(entry, entry.counted)
            yield

    def explain(self, subs_id: Hashable, now: Tick) -> Plan | None:
        """What is intended with a binding and why; None when unknown. Reads every appointment: for people."""
        entry = self._entries.get(subs_id)
        if entry is None:
            return None
        at, kind = self._appointments.next_of(entry)
        phase, weight = self.worth.weigh(entry, now)
        if entry.flight:
            lane, why = "in flight", "its check is under way"
        elif entry.away is not None:
            lane = "resting" if at is None else "appointments"
            why = "expired" if at is None else f"{kind}: not before then"
        elif self._paused or entry.pool.paused:
            lane, why = "paused", "background checks are paused"
        else:
            lane = f"worth, {phase.name.lower()}"
            why = "when its check is worth most, or is the oldest of all"
        return Plan(
            lane=lane,
            checked_at=entry.last,
            age=now - entry.last,
            weight=weight,
            worth=self.worth.of(entry, now),
            wrong=self.worth.wrong(entry, now),
            next_at=at,
            kind=kind,
            why=why,
        )

    def export(self) -> dict[str, Any]:
        """What was learned, as plain JSON-able data for the constructor of the next life."""
        return self.learned.export()
