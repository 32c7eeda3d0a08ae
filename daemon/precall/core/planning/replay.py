"""Replays the dials of a log under other orders of checks.

The log is reconstructed as a set of lifetimes: bindings come and go, are in trouble at times, and are dialled. Each
policy then spends calls at the same rate. A dial is wrong when what is published differs from the truth.

The truth is known only at the logged answers (it is interval-censored). A change is assumed to lie half way between the
two answers around it; trouble that began and ended between two answers does not appear. A dial with a live check costs
every policy one call and is never wrong.

This module has the reconstruction, the score, and the rates that the planner would learn. `cli` reads the files.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from math import inf
from operator import attrgetter

from precall.core.ages import Tick
from precall.core.planning.planner import Planner
from precall.core.planning.rates import (
    BANDS,
    START_ABNORMAL_END_RATE,
    START_DIAL_RATE,
    START_FAILURE_RATE,
    START_RECOVERY_RATE,
    PoolRates,
    Rate,
    RateModel,
)
from precall.core.planning.sample import DialRecord, LogEvent

WARM_UP = 0.25
"""Share of the time that is not scored, so that no policy is judged by its start."""
MAX_CALLS = 20_000_000


@dataclass(slots=True)
class BindingLife:
    """One binding from its registration, or its first line in the log, to its removal.

    `changes` are pairs of a time and the variant that is right from then on, the first at `begin`. `registered_at` is
    None when the binding is older than the log.
    """

    pool: str
    x: str
    begin: float
    registered_at: float | None
    end: float = inf
    changes: list[tuple[float, str]] = field(default_factory=list)
    answers: list[tuple[float, str]] = field(default_factory=list)
    dials: list[tuple[float, bool]] = field(default_factory=list)

    def answer(self, at: float, variant: str) -> None:
        """Add an answer. If it differs from the previous one, the change is placed half way between them."""
        if not self.answers:
            self.changes = [(self.begin, variant)]
        elif self.answers[-1][1] != variant:
            self.changes.append(((self.answers[-1][0] + at) / 2, variant))
        self.answers.append((at, variant))


@dataclass(frozen=True, slots=True)
class ReplayLog:
    """The lifetimes with at least one answer, and when the log begins and ends."""

    lives: Sequence[BindingLife]
    begin: float
    end: float

    @property
    def rate(self) -> float:
        """Calls per second that the log itself spent."""
        calls = sum(len(life.answers) for life in self.lives)
        return calls / (self.end - self.begin) if self.end > self.begin else 0.0


@dataclass(frozen=True, slots=True)
class PolicyScore:
    """The result of a policy.

    `wrong` is a share of `dials`. Ages are in seconds: `mean_age` is that of the route at a dial, `longest_age` the
    longest time between two checks.
    """

    policy: str
    dials: int
    wrong: float
    mean_age: float
    longest_age: float


class PlannerPolicy:
    """The daemon's planner without minimum intervals. Bindings are known by their index in the log."""

    def __init__(self, rate: float) -> None:
        self.planner = Planner(
            rate, max_age=inf, abnormal_max_age=inf, min_interval=0.0, abnormal_min_interval=0.0
        )

    def add(self, index: int, life: BindingLife, variant: str, now: float) -> None:
        """Add a binding; `variant` is what is published."""
        self.planner.add(
            index,
            Tick(now),
            pool=life.pool,
            x=life.x,
            registered_at=life.begin if life.registered_at is None else life.registered_at,
            checked_at=now,
            variant=variant,
        )

    def remove(self, index: int) -> None:
        """Remove a binding."""
        self.planner.remove(index)

    def next(self, now: float) -> int | None:
        """The binding to check now."""
        taken = self.planner.take(Tick(now))
        return taken if isinstance(taken, int) else None

    def settle(self, index: int, variant: str, now: float) -> None:
        """Record the result of a check."""
        self.planner.take_on_demand(index, Tick(now))
        self.planner.settle(index, variant, Tick(now))


class IntervalPolicy:
    """A fixed interval for each state, the most overdue first. All-zero intervals check the longest unchecked first."""

    def __init__(self, new: float = 0.0, normal: float = 0.0, abnormal: float = 0.0) -> None:
        self.intervals = new, normal, abnormal
        self.begun: dict[int, float] = {}
        self.due: dict[int, float] = {}
        self.heap: list[tuple[float, int]] = []

    def add(self, index: int, life: BindingLife, variant: str, now: float) -> None:
        """As `PlannerPolicy.add`."""
        self.begun[index] = life.begin
        self.settle(index, variant, now)

    def remove(self, index: int) -> None:
        """As `PlannerPolicy.remove`."""
        self.due.pop(index, None)

    def next(self, _now: float) -> int | None:
        """As `PlannerPolicy.next`."""
        while self.heap and self.due.get(self.heap[0][1]) != self.heap[0][0]:
            heappop(self.heap)
        return self.heap[0][1] if self.heap else None

    def settle(self, index: int, variant: str, now: float) -> None:
        """As `PlannerPolicy.settle`."""
        new, normal, abnormal = self.intervals
        usual = new if now - self.begun[index] < HOUR else normal
        self.due[index] = now + (abnormal if variant else usual)
        heappush(self.heap, (self.due[index], index))


ReplayPolicy = PlannerPolicy | IntervalPolicy
HOUR = 3600.0
BASELINE = "round robin"
POLICIES: dict[str, Callable[[float], ReplayPolicy]] = {
    BASELINE: lambda _rate: IntervalPolicy(),
    "intervals": lambda _rate: IntervalPolicy(300.0, 1800.0, 60.0),
    "precall": PlannerPolicy,
}
"""Policies by name. `intervals` checks every 5 min in a binding's first hour, then every 30 min, in trouble every
minute."""


def reconstruct(log: Iterable[DialRecord]) -> ReplayLog:
    """The lifetimes that a log describes. Its lines may be out of order and repeated."""
    lines = sorted(dict.fromkeys(log), key=attrgetter("at"))
    lives: list[BindingLife] = []
    present: dict[str, BindingLife] = {}
    for line in lines:
        life = present.get(line.binding)
        if life is None or line.kind is LogEvent.ADD:
            if line.kind is LogEvent.REMOVE:
                continue
            if life is not None:
                life.end = line.at
            registered_at = line.at if line.kind is LogEvent.ADD else None
            life = present[line.binding] = BindingLife(line.pool, line.x, line.at, registered_at)
            lives.append(life)
        match line.kind:
            case LogEvent.ANSWER:
                life.answer(line.at, line.face)
            case LogEvent.DIAL:
                life.dials.append((line.at, line.verified))
            case LogEvent.REMOVE:
                life.end = line.at
                del present[line.binding]
            case LogEvent.ADD:
                pass
    begin, end = (lines[0].at, lines[-1].at) if lines else (0.0, 0.0)
    return ReplayLog([life for life in lives if life.answers], begin, end)


class _Run:
    """One run of a policy over a log."""

    def __init__(self, log: ReplayLog, policy: ReplayPolicy, rate: float) -> None:
        self.log, self.policy, self.rate = log, policy, rate
        self.step = 1.0 / rate
        self.next_call = log.begin
        self.scored_from = log.begin + WARM_UP * (log.end - log.begin)
        self.published = [""] * len(log.lives)
        self.checked_at = [0.0] * len(log.lives)
        self.change = [0] * len(log.lives)
        self.dials = self.wrong = 0
        self.ages = self.longest = 0.0

    def truth(self, index: int, now: float) -> str:
        changes, change = self.log.lives[index].changes, self.change[index]
        while change + 1 < len(changes) and changes[change + 1][0] <= now:
            change += 1
        self.change[index] = change
        return changes[change][1]

    def check(self, index: int, now: float) -> None:
        self.record_age(index, now)
        self.published[index], self.checked_at[index] = self.truth(index, now), now
        self.policy.settle(index, self.published[index], now)

    def record_age(self, index: int, now: float) -> None:
        if now > self.scored_from:
            self.longest = max(self.longest, now - self.checked_at[index])

    def background(self, until: float) -> None:
        while self.next_call <= until:
            index = self.policy.next(self.next_call)
            if index is not None:
                self.check(index, self.next_call)
            self.next_call += self.step

    def dial(self, index: int, now: float, *, verified: bool) -> None:
        if isinstance(self.policy, PlannerPolicy):
            self.policy.planner.dial(index, Tick(now), verified=verified)
        if verified:
            self.next_call = max(self.next_call, now) + self.step
            self.check(index, now)
        if now > self.scored_from:
            self.dials += 1
            self.wrong += self.published[index] != self.truth(index, now)
            self.ages += now - self.checked_at[index]

    def events(self) -> Iterable[tuple[float, int, int, bool]]:
        """(time, kind, index, verified) of all additions (1), dials (2) and removals (3), in order."""
        events = []
        for index, life in enumerate(self.log.lives):
            events.append((life.begin, 1, index, False))
            events += [(at, 2, index, verified) for at, verified in life.dials]
            if life.end <= self.log.end:
                events.append((life.end, 3, index, False))
        return sorted(events)

    def go(self) -> None:
        for at, kind, index, verified in self.events():
            self.background(at)
            life = self.log.lives[index]
            if kind == 1:
                variant = self.published[index] = life.changes[0][1]
                self.checked_at[index] = at
                self.policy.add(index, life, variant, at)
            elif kind == 2:
                self.dial(index, at, verified=verified)
            else:
                self.record_age(index, at)
                self.policy.remove(index)
        self.background(self.log.end)
        for index, life in enumerate(self.log.lives):
            if life.end > self.log.end:
                self.record_age(index, self.log.end)


def score(log: ReplayLog, name: str, rate: float) -> PolicyScore:
    """Replay a log under the policy of that name at `rate` calls per second.

    Raises ValueError when that makes no call at all, or more than a replay can handle.
    """
    if not 0 < rate * (log.end - log.begin) <= MAX_CALLS:
        raise ValueError(
            f"{rate:g} calls/s over {log.end - log.begin:.0f} s cannot be replayed:"
            f" between 1 and {MAX_CALLS:,} calls can"
        )
    run = _Run(log, POLICIES[name](rate), rate)
    run.go()
    count = max(1, run.dials)
    return PolicyScore(name, run.dials, run.wrong / count, run.ages / count, run.longest)


@dataclass(frozen=True, slots=True)
class RateFit:
    """A rate per second: the planner's prior, the value fitted to a log, and the number of events behind it."""

    name: str
    start: float
    fitted: float
    events: float


def refit(log: ReplayLog) -> list[RateFit]:
    """The rates the planner learns from a log: failures by pool, the end of trouble, dials by age."""
    learned = RateModel()
    for life in log.lives:
        rates = learned.of_pool(life.pool)
        _learn_answers(learned, rates, life)
        if life.registered_at is not None:
            _learn_dials(learned, rates, life, min(life.end, log.end))
    fits = [
        RateFit(
            f"lam, pool {pool}",
            START_FAILURE_RATE[0],
            learned.failure_rate(rates, was_abnormal=False),
            rates.failure_rates[0].events,
        )
        for pool, rates in sorted(learned.pools.items())
    ]
    changes = [pair for life in log.lives for pair in pairwise(variant for _, variant in life.changes)]
    recovered = sum(1 for before, after in changes if before and not after)
    ended = sum(1 for before, _ in changes if before)
    fits.append(RateFit("rho, trouble ends", START_RECOVERY_RATE, learned.recovery_rate, recovered))
    fits.append(
        RateFit("nu, an abnormal route ends", START_ABNORMAL_END_RATE, learned.abnormal_end_rate, ended)
    )
    for band, start in enumerate(START_DIAL_RATE):
        classes = len(learned.overall.dial_rates) // len(START_DIAL_RATE)
        cells = learned.overall.dial_rates[classes * band : classes * (band + 1)]
        observed = Rate(sum(cell.events for cell in cells), sum(cell.seconds for cell in cells))
        older = f"{BANDS[band - 1] / 60:g} min" if band else "0"
        until = f"{BANDS[band] / 60:g} min" if band < len(BANDS) else "the end"
        fits.append(RateFit(f"mu, age {older} to {until}", start, observed.mean(start), observed.events))
    return fits


def _learn_answers(learned: RateModel, rates: PoolRates, life: BindingLife) -> None:
    was_abnormal = False
    for (since, before), (at, variant) in pairwise(life.answers):
        if before:
            was_abnormal = True
            learned.observe_abnormal(at - since, before != variant, not variant)
        else:
            learned.observe_normal(rates, was_abnormal, at - since, before != variant, pool_wide=False)


def _learn_dials(learned: RateModel, rates: PoolRates, life: BindingLife, end: float) -> None:
    reads, since = 0, 0.0
    for at, _ in life.dials:
        learned.observe(rates, reads, since, at - life.begin, dialled=True)
        reads, since = reads + 1, at - life.begin
    learned.observe(rates, reads, since, max(since, end - life.begin))
