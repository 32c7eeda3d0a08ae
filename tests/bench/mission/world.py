"""The true state of a provider over time: bindings, failures, temporary numbers, and the calls people want to make.

All of it is drawn before the first check and does not depend on how calls are routed, so every way of routing meets the
same world (common random numbers). Times are in seconds from the start of the run; negative ones lie before it.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from random import Random

from tests.bench.mission.assumptions import DAY, HOUR, Assumptions
from tests.bench.mission.lending import Lending, WorldBinding

BEFORE = 4 * HOUR
"""Trouble is drawn from this long before the start, so that the start finds the usual amount of it."""


class CallOutcome(IntEnum):
    """Who answers a dialled number."""

    REACHED = 0
    DEAD = 1
    STRANGER = 2


@dataclass(frozen=True, slots=True)
class Trouble:
    """An X that does not work from `begin` to `end`; the provider knows from `noticed` on."""

    begin: float
    noticed: float
    end: float


@dataclass(frozen=True, slots=True)
class WantedCall:
    """A call from A to B. `chances`, each in [0, 1), decide what is random about it, whatever its route."""

    at: float
    binding: WorldBinding
    chances: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FalseHint:
    """An announcement of a call that is not placed: heard at `at`, for `dial_at`."""

    at: float
    binding: WorldBinding
    dial_at: float


@dataclass(frozen=True, slots=True)
class NumberNews:
    """The provider's push that an X is abnormal since `since`, or normal again; arrives at `at`."""

    at: float
    x: int
    abnormal: bool
    since: float


class MissionWorld:
    """One world, drawn from a seed."""

    def __init__(self, given: Assumptions, seed: int) -> None:
        self.given, self.seed = given, seed
        self._sizes = self._draw_sizes()
        draw = self._chance("pools")
        self._shared = [draw.random() < given.shared_pools for _ in range(given.pools)]
        self._hazards = [given.x_failures / DAY * draw.lognormvariate(0, 1.2) for _ in range(given.pools)]
        self.bindings = self._draw_bindings()
        self.trouble = self._draw_trouble()
        self._holders: dict[str, list[tuple[float, int]]] = {}
        by_pool: list[list[WorldBinding]] = [[] for _ in range(given.pools)]
        for binding in self.bindings:
            by_pool[binding.pool].append(binding)
        for pool, members in enumerate(by_pool):
            self._lend(pool, members)
        self.calls = sorted(self._draw_calls(), key=lambda call: call.at)
        self.false_hints = list(self._draw_false_hints())
        self.news = sorted(self._draw_news(), key=lambda news: news.at)
        self.api_outages = self._periods("api", given.api_outages, given.api_outage_length)
        self.throttles = self._periods("throttles", given.throttles, given.throttle_length)

    # -- what is asked about it -----------------------------------------------------------------------

    def answer(self, binding: WorldBinding, now: float) -> tuple[int, str]:
        """The provider's status and number; status 0 when it knows no such binding."""
        if now >= binding.ended:
            return (0, "") if binding.gone and now < binding.expires else (4, binding.number_x)
        _, status, number = binding.says[bisect_right(binding.says, (now, 9, "")) - 1]
        return status, number

    def dial(self, binding: WorldBinding, number: str, now: float) -> CallOutcome:
        """What becomes of a call from A to `number`."""
        if number == binding.number_b:
            return CallOutcome.REACHED
        if number != binding.number_x:
            history = self._holders[number]
            holder = history[bisect_right(history, (now, 1 << 60)) - 1][1]
            if holder == binding.index:
                return CallOutcome.REACHED
            return CallOutcome.DEAD if holder < 0 else CallOutcome.STRANGER
        if now >= binding.ended:
            return CallOutcome.STRANGER if now >= binding.rebound else CallOutcome.DEAD
        spells = self.trouble.get(binding.x, ())
        failing = any(spell.begin <= now < spell.end for spell in spells)
        return CallOutcome.DEAD if failing else CallOutcome.REACHED

    def unnoticed(self, binding: WorldBinding, now: float) -> bool:
        """Whether X fails and the provider does not know it yet."""
        return any(s.begin <= now < min(s.noticed, s.end) for s in self.trouble.get(binding.x, ()))

    # -- how it is drawn ------------------------------------------------------------------------------

    def _chance(self, topic: str) -> Random:
        return self.chance(self.seed, topic)

    @staticmethod
    def chance(seed: int, topic: str) -> Random:
        """Chance for one topic, so that a change in one leaves the others as they are."""
        return Random(f"{seed} {topic}")

    def _draw_sizes(self) -> list[float]:
        sizes = [1 / (n + 1) ** 0.7 for n in range(self.given.pools)]
        self._chance("sizes").shuffle(sizes)
        return [size / sum(sizes) for size in sizes]

    def _draw_bindings(self) -> list[WorldBinding]:
        given, draw = self.given, self._chance("bindings")
        kinds = (
            (False, given.short_share, given.short_life, 2 * DAY),
            (True, 1 - given.short_share, given.long_life, 7 * DAY),
        )
        lives = []
        for long_lived, share, mean, longest in kinds:
            at, rate = -longest, given.bindings * share / mean
            while rate and (at := at + draw.expovariate(rate)) < given.end:
                if long_lived:
                    life = draw.uniform(DAY, 2 * mean - DAY)
                else:
                    life = min(max(mean * draw.lognormvariate(-0.18, 0.6), 2 * HOUR), longest)
                if at + life > 0:
                    lives.append((at, at + life, long_lived))
        lives.sort()
        numbers = iter(range(10**8))
        live = [max(1, round(given.bindings * size / given.per_x)) for size in self._sizes]
        lines = [
            [next(numbers) for _ in range(n)] if s else [] for n, s in zip(live, self._shared, strict=True)
        ]
        pools = draw.choices(range(given.pools), self._sizes, k=len(lives))
        bindings = []
        for index, ((created, expires, long_lived), pool) in enumerate(zip(lives, pools, strict=True)):
            shared = self._shared[pool]
            x = draw.choice(lines[pool]) if shared else next(numbers)
            early = draw.random() < given.ends_early
            ended = draw.uniform(created, expires) if early else expires
            rebound = inf if shared or not early else ended + draw.expovariate(1 / given.rebound_after)
            gone = draw.random() < given.gone
            bindings.append(
                WorldBinding(index, pool, x, created, expires, ended, rebound, early and gone, long_lived)
            )
        return bindings

    def _draw_trouble(self) -> dict[int, list[Trouble]]:
        """The spells of each X: its own failures, and the outages of its pool."""
        given, draw = self.given, self._chance("trouble")
        life: dict[int, tuple[int, float, float]] = {}
        for each in self.bindings:
            _, begin, end = life.get(each.x, (each.pool, inf, -inf))
            life[each.x] = each.pool, min(begin, each.created), max(end, each.ended)
        of_pool: list[list[int]] = [[] for _ in range(given.pools)]
        found: dict[int, list[Trouble]] = {}

        def strike(x: int, begin: float, end: float) -> None:
            found.setdefault(x, []).append(Trouble(begin, begin + draw.expovariate(1 / given.notice), end))

        for x, (pool, begin, end) in life.items():
            of_pool[pool].append(x)
            hazard = self._hazards[pool] * draw.gammavariate(0.5, 2.0)
            at = max(begin, -BEFORE)
            while hazard > 1e-12 and (at := at + draw.expovariate(hazard)) < min(end, given.end):
                mean = given.short_trouble if draw.random() < 0.7 else given.long_trouble
                length = draw.expovariate(1 / mean)
                strike(x, at, at + length)
                at += length
        for lines in of_pool:
            at = -BEFORE
            while given.outages and (at := at + draw.expovariate(given.outages / DAY)) < given.end:
                share, length = draw.uniform(0.5, 1.0), draw.expovariate(1 / given.outage_length)
                for x in lines:
                    if draw.random() < share and life[x][1] <= at < life[x][2]:
                        strike(x, at, at + length + draw.expovariate(1 / 120))
        return {x: _merged(spells) for x, spells in found.items()}

    def _lend(self, pool: int, members: list[WorldBinding]) -> None:
        """Lend the pool's temporary numbers in order of time, and write down what the provider says of each binding."""
        given = self.given
        count = max(1, round(given.temporaries * given.bindings * self._sizes[pool]))
        numbers = [f"171{pool:03d}{n:05d}" for n in range(count)]
        lending = Lending(numbers, members, given, self._chance(f"temporary {pool}"))
        for each in members:
            for spell in self.trouble.get(each.x, ()):
                lending.fails(each, max(spell.noticed, each.created), min(spell.end, each.ended))
        lending.run()
        self._holders |= lending.holders

    def _draw_calls(self) -> Iterator[WantedCall]:
        given, draw = self.given, self._chance("calls")
        for each in self.bindings:
            times, mean = [], given.calls * draw.gammavariate(1.5, 1 / 1.5)
            soon, at = given.calls_within * (4 if each.long_lived else 1), 0.0
            while mean and (at := at + draw.expovariate(mean)) < 1:
                times.append(each.created + draw.expovariate(1 / soon))
            if each.long_lived and draw.random() < 0.5:
                rate = min(given.later_calls * draw.lognormvariate(0, 1.6), 60) / DAY
                at = max(each.created, 0.0)
                while rate and (at := at + draw.expovariate(rate)) < min(each.expires, given.end):
                    times.append(at)
            for at in sorted(times):
                if 0 < at < min(each.expires, given.end):
                    yield WantedCall(at, each, tuple(draw.random() for _ in range(8)))

    def _draw_false_hints(self) -> Iterator[FalseHint]:
        given, draw = self.given, self._chance("false hints")
        for call in self.calls:
            if draw.random() < given.hinted * given.false_hints:
                at = max(call.binding.created, 0.0) + draw.random() * (
                    call.at - max(call.binding.created, 0.0)
                )
                yield FalseHint(at, call.binding, at + draw.uniform(5, 30))

    def _draw_news(self) -> Iterator[NumberNews]:
        given, draw = self.given, self._chance("news")
        for x, spells in self.trouble.items():
            for spell in spells:
                if draw.random() >= given.announced or spell.noticed >= spell.end:
                    continue
                for since, abnormal in ((spell.noticed, True), (spell.end, False)):
                    at = since + draw.expovariate(1 / given.announced_after)
                    if 0 < at < given.end and (not abnormal or at < spell.end):
                        yield NumberNews(at, x, abnormal, since)

    def _periods(self, topic: str, per_day: float, length: float) -> list[tuple[float, float]]:
        draw, at, periods = self._chance(topic), 0.0, []
        while per_day and (at := at + draw.expovariate(per_day / DAY)) < self.given.end:
            begin, at = at, at + draw.expovariate(1 / length)
            periods.append((begin, at))
        return periods


def _merged(spells: list[Trouble]) -> list[Trouble]:
    """Overlapping spells as one: noticed when the first of them is."""
    merged: list[Trouble] = []
    for spell in sorted(spells, key=lambda spell: spell.begin):
        if merged and spell.begin <= merged[-1].end:
            last = merged[-1]
            merged[-1] = Trouble(last.begin, min(last.noticed, spell.noticed), max(last.end, spell.end))
        else:
            merged.append(spell)
    return merged
