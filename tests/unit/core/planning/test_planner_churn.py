"""The planner while bindings come and go: ended bindings are freed, and first checks keep to their share."""

import gc
import random
from collections import deque
from collections.abc import Hashable

import pytest

from precall.core.planning.entries import PlanEntry
from precall.core.planning.first_checks import PATIENCE
from precall.core.planning.planner import CheckKind, Planner

BINDINGS = 300


def held() -> int:
    """Plan entries in memory, of bindings that are there and of others."""
    gc.collect()
    return sum(isinstance(one, PlanEntry) for one in gc.get_objects())


def queued() -> int:
    """Pairs in memory that end in a plan entry, as the queues of all planners hold them."""
    gc.collect()
    pairs = [one for one in gc.get_objects() if isinstance(one, tuple) and len(one) == 2]
    return sum(isinstance(pair[1], PlanEntry) for pair in pairs)


class Turnover:
    """A planner with `BINDINGS` bindings of which `ends` a second end at random, each replaced by a new one.

    `waits` are the seconds from each registration to its first check, `unchecked` counts those that ended without any.
    """

    def __init__(self, rate: float, ends: float, **settings: float) -> None:
        self.chance, self.now, self.rate, self.ends = random.Random(1), 1000.0, rate, ends
        self.planner = Planner(rate, **settings)
        self.there: list[str] = []
        self.since: dict[str, float] = {}
        self.checked: dict[str, float] = {}
        self.waits: list[float] = []
        self.unchecked = self.names = 0
        self.owed = 0.0
        for _ in range(BINDINGS):
            self.register(self.now - self.chance.uniform(0.0, BINDINGS / rate))

    def register(self, checked_at: float | None = None) -> None:
        self.names += 1
        name = str(self.names)
        self.since[name] = self.now
        if checked_at is not None:
            self.checked[name] = checked_at
        self.there.append(name)
        self.planner.add(
            name,
            self.now,
            pool=f"P{self.names % 3}",
            x=name,
            registered_at=self.now,
            checked_at=checked_at,
            variant="",
        )

    def end(self) -> None:
        place = self.chance.randrange(len(self.there))
        self.there[place], self.there[-1] = self.there[-1], self.there[place]
        name = self.there.pop()
        self.planner.remove(name)
        del self.since[name]
        self.unchecked += self.checked.pop(name, None) is None

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 1 / self.rate
            self.owed += self.ends / self.rate
            while self.owed >= 1:
                self.owed -= 1
                self.end()
                self.register()
            if self.chance.random() < 0.2:
                self.planner.dial(self.chance.choice(self.there), self.now, verified=False)
            if (name := self.planner.take(self.now)) is not None:
                if name not in self.checked:
                    self.waits.append(self.now - self.since[str(name)])
                self.checked[str(name)] = self.now
                self.planner.settle(name, "t" if self.chance.random() < 0.02 else "", self.now)


@pytest.mark.parametrize("ends", [0.3, 1.5])
@pytest.mark.slow(seconds=3)
def test_ended_bindings_leave_the_planner(ends: float) -> None:
    world, before = Turnover(rate=1.0, ends=ends), held()
    world.run(8 * BINDINGS / ends)
    assert len(world.planner) == BINDINGS
    # Whatever was in a queue is looked at within some rounds.
    assert held() - before < 1.5 * BINDINGS


@pytest.mark.slow(seconds=3)
def test_an_unanswered_binding_does_not_make_the_sweep_grow() -> None:
    before, world = queued(), Turnover(rate=1.0, ends=0.0)
    planner, refused = world.planner, world.there[0]
    blocked, under_way = 0, deque[Hashable]()
    for second in range(20 * BINDINGS):
        now = world.now + second
        if (name := planner.take(now)) == refused:
            blocked += 1
            planner.release(refused, now + 300.0, now)
        elif name is not None:
            under_way.append(name)
        if len(under_way) > 3:
            planner.settle(under_way.popleft(), "", now)
    assert blocked > 3
    assert planner.oldest(world.now + 20 * BINDINGS) >= 20 * BINDINGS, "its age still counts"
    assert queued() - before < 5 * BINDINGS


def test_with_more_registrations_than_checks_the_newest_is_checked_at_once() -> None:
    world = Turnover(rate=1.0, ends=1.5)
    world.run(6 * BINDINGS)
    soon = [wait for wait in world.waits if wait <= PATIENCE]
    assert len(soon) >= 0.3 * 6 * BINDINGS, "more than a third of the calls"
    assert sorted(soon)[len(soon) // 2] <= 2.0


def test_a_first_check_that_waited_too_long_is_made_by_the_sweep() -> None:
    world = Turnover(rate=1.0, ends=0.0)
    for _ in range(2 * BINDINGS):
        world.register()
    world.run(4 * BINDINGS)
    assert not set(world.there) - set(world.checked), "each is checked within a little more than a round"


@pytest.mark.parametrize("ends", [0.3, 1.5])
def test_registrations_do_not_starve_other_bindings(ends: float) -> None:
    world = Turnover(rate=1.0, ends=ends)
    for _ in range(20):
        world.run(BINDINGS / 5)
        ages = [world.now - at for name, at in world.checked.items() if name in world.since]
        assert max(ages) < 2.5 * BINDINGS / world.rate, "no worse than the sweep's guaranteed share allows"


def test_retries_do_not_wait_behind_first_checks() -> None:
    world = Turnover(rate=1.0, ends=0.0)
    planner, now = world.planner, world.now
    failed = planner.take(now)
    assert failed is not None
    planner.release(failed, now + 10.0, now)
    for _ in range(BINDINGS):
        world.register()
    for second in range(11, 60):
        if (name := planner.take(now + second)) == failed:
            assert planner.kind(failed) is CheckKind.RETRY
            return
        if name is not None:
            planner.settle(name, "", now + second)
    raise AssertionError("not retried within a minute")
