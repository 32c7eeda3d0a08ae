"""What another order of checks would have made of the dials that a log holds.

The log is taken for a world: bindings come and go, are in trouble at times, and are dialled. In it each policy spends
calls at the same rate, and a dial is wrong when what is published differs from what is true. The truth is known at the
logged answers only (it is interval-censored): a change is taken to lie in the middle between the two answers that
frame it, and trouble that began and ended between two answers is not there. A dial that was checked live costs every
policy one call and is never wrong.

Here belong the world, its score and what the planner's tables would learn from it; reading files is `cli`'s.
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
    START_LAM,
    START_MU,
    START_NU,
    START_RHO,
    PoolRates,
    Rate,
    RateModel,
)
from precall.core.planning.sample import DialRecord, LogEvent

WARM = 0.25
"""Share of the time that is not scored, so that no policy is judged by how it began."""
MOST_SLOTS = 20_000_000


@dataclass(slots=True)
class BindingLife:
    """One binding from its registration, or the first that is known of it, to its removal. `turns` are (when, what is
    published from then on if it is right), the first at `begin`; `born` is None when it is older than the log."""

    pool: str
    x: str
    begin: float
    born: float | None
    end: float = inf
    turns: list[tuple[float, str]] = field(default_factory=list)
    answers: list[tuple[float, str]] = field(default_factory=list)
    dials: list[tuple[float, bool]] = field(default_factory=list)

    def answer(self, at: float, face: str) -> None:
        """An answer: when it says something new, that began half way since the one before."""
        if not self.answers:
            self.turns = [(self.begin, face)]
        elif self.answers[-1][1] != face:
            self.turns.append(((self.answers[-1][0] + at) / 2, face))
        self.answers.append((at, face))


@dataclass(frozen=True, slots=True)
class ReplayLog:
    """All lives that were answered for, and when the log begins and ends."""

    lives: Sequence[BindingLife]
    begin: float
    end: float

    @property
    def rate(self) -> float:
        """Calls per second that the log itself spent."""
        asked = sum(len(life.answers) for life in self.lives)
        return asked / (self.end - self.begin) if self.end > self.begin else 0.0


@dataclass(frozen=True, slots=True)
class PolicyScore:
    """What a policy made of it. `wrong` is a share of `dials`; ages, in seconds, are of the route at a dial, and the
    longest between two checks."""

    policy: str
    dials: int
    wrong: float
    mean_age: float
    longest_age: float


class PlannerPolicy:
    """The daemon's planner, with nothing that holds its calls back."""

    def __init__(self, rate: float) -> None:
        self.planner = Planner(
            rate, max_age=inf, abnormal_max_age=inf, min_interval=0.0, abnormal_min_interval=0.0
        )

    def add(self, place: int, life: BindingLife, face: str, now: float) -> None:
        """A life begins; `face` is what is published."""
        born = life.begin if life.born is None else life.born
        self.planner.add(
            place, Tick(now), pool=life.pool, x=life.x, registered_at=born, checked_at=now, face=face
        )

    def remove(self, place: int) -> None:
        """It is over."""
        self.planner.remove(place)

    def next(self, now: float) -> int | None:
        """Who is to be checked."""
        taken = self.planner.take(Tick(now))
        return taken if isinstance(taken, int) else None

    def settle(self, place: int, face: str, now: float) -> None:
        """What the check found."""
        self.planner.demand(place, Tick(now))
        self.planner.settle(place, face, Tick(now))


class IntervalPolicy:
    """An interval for each state, the most overdue first. Without any that is the longest unchecked first."""

    def __init__(self, new: float = 0.0, normal: float = 0.0, abnormal: float = 0.0) -> None:
        self.intervals = new, normal, abnormal
        self.begun: dict[int, float] = {}
        self.due: dict[int, float] = {}
        self.heap: list[tuple[float, int]] = []

    def add(self, place: int, life: BindingLife, face: str, now: float) -> None:
        """As `PlannerPolicy.add`."""
        self.begun[place] = life.begin
        self.settle(place, face, now)

    def remove(self, place: int) -> None:
        """As `PlannerPolicy.remove`."""
        self.due.pop(place, None)

    def next(self, _now: float) -> int | None:
        """As `PlannerPolicy.next`."""
        while self.heap and self.due.get(self.heap[0][1]) != self.heap[0][0]:
            heappop(self.heap)
        return self.heap[0][1] if self.heap else None

    def settle(self, place: int, face: str, now: float) -> None:
        """As `PlannerPolicy.settle`."""
        new, normal, abnormal = self.intervals
        calm = new if now - self.begun[place] < HOUR else normal
        self.due[place] = now + (abnormal if face else calm)
        heappush(self.heap, (self.due[place], place))


Policy = PlannerPolicy | IntervalPolicy
HOUR = 3600.0
BASE = "round robin"
POLICIES: dict[str, Callable[[float], Policy]] = {
    BASE: lambda _rate: IntervalPolicy(),
    "intervals": lambda _rate: IntervalPolicy(300.0, 1800.0, 60.0),
    "precall": PlannerPolicy,
}
"""By name; `intervals` asks 5 min after the last answer in a binding's first hour, then 30 min, in trouble 1 min."""


def world(log: Iterable[DialRecord]) -> ReplayLog:
    """What the log tells. Lines may be in any order, and there twice."""
    lines = sorted(dict.fromkeys(log), key=attrgetter("at"))
    lives: list[BindingLife] = []
    here: dict[str, BindingLife] = {}
    for line in lines:
        life = here.get(line.binding)
        if life is None or line.kind is LogEvent.ADD:
            if line.kind is LogEvent.REMOVE:
                continue
            if life is not None:
                life.end = line.at
            born = line.at if line.kind is LogEvent.ADD else None
            life = here[line.binding] = BindingLife(line.pool, line.x, line.at, born)
            lives.append(life)
        match line.kind:
            case LogEvent.ANSWER:
                life.answer(line.at, line.face)
            case LogEvent.DIAL:
                life.dials.append((line.at, line.verified))
            case LogEvent.REMOVE:
                life.end = line.at
                del here[line.binding]
            case LogEvent.ADD:
                pass
    begin, end = (lines[0].at, lines[-1].at) if lines else (0.0, 0.0)
    return ReplayLog([life for life in lives if life.answers], begin, end)


class _Run:
    """One policy in the world."""

    def __init__(self, world: ReplayLog, policy: Policy, rate: float) -> None:
        self.world, self.policy, self.rate = world, policy, rate
        self.step = 1.0 / rate
        self.slot = world.begin
        self.scored_from = world.begin + WARM * (world.end - world.begin)
        self.published = [""] * len(world.lives)
        self.checked = [0.0] * len(world.lives)
        self.turned = [0] * len(world.lives)
        self.dials = self.wrong = 0
        self.ages = self.longest = 0.0

    def truth(self, place: int, now: float) -> str:
        turns, at = self.world.lives[place].turns, self.turned[place]
        while at + 1 < len(turns) and turns[at + 1][0] <= now:
            at += 1
        self.turned[place] = at
        return turns[at][1]

    def check(self, place: int, now: float) -> None:
        self.look(place, now)
        self.published[place], self.checked[place] = self.truth(place, now), now
        self.policy.settle(place, self.published[place], now)

    def look(self, place: int, now: float) -> None:
        if now > self.scored_from:
            self.longest = max(self.longest, now - self.checked[place])

    def background(self, until: float) -> None:
        while self.slot <= until:
            place = self.policy.next(self.slot)
            if place is not None:
                self.check(place, self.slot)
            self.slot += self.step

    def dial(self, place: int, now: float, *, verified: bool) -> None:
        if isinstance(self.policy, PlannerPolicy):
            self.policy.planner.dial(place, Tick(now), verified=verified)
        if verified:
            self.slot = max(self.slot, now) + self.step
            self.check(place, now)
        if now > self.scored_from:
            self.dials += 1
            self.wrong += self.published[place] != self.truth(place, now)
            self.ages += now - self.checked[place]

    def events(self) -> Iterable[tuple[float, int, int, bool]]:
        """(when, remove or add or dial, who, verified): what happens whatever is checked."""
        found = []
        for place, life in enumerate(self.world.lives):
            found.append((life.begin, 1, place, False))
            found += [(at, 2, place, verified) for at, verified in life.dials]
            if life.end <= self.world.end:
                found.append((life.end, 3, place, False))
        return sorted(found)

    def go(self) -> None:
        for at, kind, place, verified in self.events():
            self.background(at)
            life = self.world.lives[place]
            if kind == 1:
                face = self.published[place] = life.turns[0][1]
                self.checked[place] = at
                self.policy.add(place, life, face, at)
            elif kind == 2:
                self.dial(place, at, verified=verified)
            else:
                self.look(place, at)
                self.policy.remove(place)
        self.background(self.world.end)
        for place, life in enumerate(self.world.lives):
            if life.end > self.world.end:
                self.look(place, self.world.end)


def score(world: ReplayLog, name: str, rate: float) -> PolicyScore:
    """What the policy of that name makes of the world at so many calls per second. ValueError: too many for a replay,
    or none at all."""
    if not 0 < rate * (world.end - world.begin) <= MOST_SLOTS:
        raise ValueError(
            f"{rate:g} calls/s over {world.end - world.begin:.0f} s cannot be replayed:"
            f" between 1 and {MOST_SLOTS:,} calls can"
        )
    run = _Run(world, POLICIES[name](rate), rate)
    run.go()
    count = max(1, run.dials)
    return PolicyScore(name, run.dials, run.wrong / count, run.ages / count, run.longest)


@dataclass(frozen=True, slots=True)
class RateFit:
    """A rate per second as the planner starts with it, as the log has it, and upon how many events."""

    name: str
    start: float
    fitted: float
    events: float


def refit(world: ReplayLog) -> list[RateFit]:
    """What the planner's tables learn from the log: hazards by pool, how trouble ends, dial rates by age."""
    learned = RateModel()
    for life in world.lives:
        habits = learned.habits(life.pool)
        _learn_answers(learned, habits, life)
        if life.born is not None:
            _learn_dials(learned, habits, life, min(life.end, world.end))
    fits = [
        RateFit(f"lam, pool {pool}", START_LAM[0], learned.lam(habits, scarred=False), habits.lam[0].events)
        for pool, habits in sorted(learned.pools.items())
    ]
    turns = [pair for life in world.lives for pair in pairwise(face for _, face in life.turns)]
    ended = sum(1 for before, after in turns if before and not after)
    changed = sum(1 for before, _ in turns if before)
    fits.append(RateFit("rho, trouble ends", START_RHO, learned.rho, ended))
    fits.append(RateFit("nu, an abnormal route ends", START_NU, learned.nu, changed))
    for band, start in enumerate(START_MU):
        classes = len(learned.everywhere.mu) // len(START_MU)
        cells = learned.everywhere.mu[classes * band : classes * (band + 1)]
        seen = Rate(sum(cell.events for cell in cells), sum(cell.seconds for cell in cells))
        older = f"{BANDS[band - 1] / 60:g} min" if band else "0"
        until = f"{BANDS[band] / 60:g} min" if band < len(BANDS) else "the end"
        fits.append(RateFit(f"mu, age {older} to {until}", start, seen.mean(start), seen.events))
    return fits


def _learn_answers(learned: RateModel, habits: PoolRates, life: BindingLife) -> None:
    scarred = False
    for (since, before), (at, face) in pairwise(life.answers):
        if before:
            scarred = True
            learned.answer_of_abnormal(at - since, before != face, not face)
        else:
            learned.answer_of_normal(habits, scarred, at - since, before != face, common=False)


def _learn_dials(learned: RateModel, habits: PoolRates, life: BindingLife, end: float) -> None:
    reads, since = 0, 0.0
    for at, _ in life.dials:
        learned.watch(habits, reads, since, at - life.begin, dialled=True)
        reads, since = reads + 1, at - life.begin
    learned.watch(habits, reads, since, max(since, end - life.begin))
