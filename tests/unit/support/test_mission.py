"""The mission benchmark keeps what it promises: levels in order, no strangers, the quota."""

from collections import Counter
from itertools import pairwise
from math import inf

import pytest

from tests.bench.bench_mission import summarise
from tests.bench.mission.assumptions import Assumptions
from tests.bench.mission.dispatch import LEVELS, MissionRun, MissionTally
from tests.bench.mission.lending import Lending, WorldBinding
from tests.bench.mission.world import CallOutcome, MissionWorld

pytestmark = pytest.mark.slow(seconds=3)

SMALL = Assumptions(
    bindings=300,
    rate=0.3,
    burst=5.0,
    hours=1.0,
    warm_up=0.5,
    pools=6,
    calls=12.0,
    x_failures=2.0,
    outages=2.0,
    ends_early=0.2,
    temporaries=1.0,
)
"""Every failing X gets a temporary one: in pools this small, chance decides whom the exposure brake holds."""
SEED = 6
NOISE = 3
"""Calls by which chance may make a level worse than the one before."""


@pytest.fixture(scope="module")
def world() -> MissionWorld:
    return MissionWorld(SMALL, SEED)


@pytest.fixture(scope="module")
def tallies(world: MissionWorld) -> list[MissionTally]:
    return [MissionRun(world, level).run() for level in LEVELS]


def test_every_level_places_the_same_calls(tallies: list[MissionTally]) -> None:
    assert tallies[0].calls > 300
    assert len({tally.calls for tally in tallies}) == 1
    assert len({frozenset(tally.calls_of_pool.items()) for tally in tallies}) == 1


def test_no_level_is_worse_than_the_one_before(tallies: list[MissionTally]) -> None:
    failed = [tally.failed.total() for tally in tallies]
    # Routes without a live check hold back calls that cannot be known to work, and X alone places them.
    placed = failed[1] - sum(n for cause, n in tallies[1].failed.items() if cause.startswith("held back"))
    assert placed <= failed[0] + NOISE
    for before, after in pairwise(failed[1:]):
        assert after <= before + NOISE, failed
    assert 4 * failed[-1] <= failed[0], failed


def test_nobody_reaches_a_stranger_by_a_verified_route(tallies: list[MissionTally]) -> None:
    assert tallies[0].strangers.total() > 0
    assert not any(tally.strangers for tally in tallies[2:])


def test_the_quota_is_never_exceeded(tallies: list[MissionTally]) -> None:
    for tally in tallies[1:]:
        assert tally.ahead <= 1e-6
        assert tally.checks <= SMALL.rate * SMALL.end + SMALL.burst
        assert tally.checks > 0.5 * SMALL.rate * SMALL.end


def test_a_seed_is_repeatable(world: MissionWorld, tallies: list[MissionTally]) -> None:
    assert MissionRun(MissionWorld(SMALL, SEED), LEVELS[-1]).run() == tallies[-1]


def test_what_the_provider_says_and_who_answers_agree(world: MissionWorld) -> None:
    """A temporary number of the newest answer reaches the other party, and so does an X said to work."""
    seen: Counter[int] = Counter()
    for call in world.calls:
        status, number = world.answer(call.binding, call.at)
        seen[status] += 1
        if status in (0, 4):
            assert call.at >= call.binding.ended
        elif status != 3:
            reached = world.dial(call.binding, number, call.at) is CallOutcome.REACHED
            assert reached is not (status == 1 and world.unnoticed(call.binding, call.at))
    assert {1, 2, 4} <= seen.keys()


def test_a_number_taken_back_goes_to_the_binding_that_has_waited_longest() -> None:
    members = [WorldBinding(n, 0, n, 0.0, inf, inf, inf, gone=False, long_lived=True) for n in range(3)]
    lending = Lending(
        ["17100000000"], members, Assumptions(temporary_life=1e12), MissionWorld.chance(1, "lending")
    )
    for each, (begin, end) in zip(members, [(10.0, 50.0), (20.0, 90.0), (30.0, 95.0)], strict=True):
        lending.fails(each, begin, end)
    lending.run()
    assert lending.holders["17100000000"] == [
        (-inf, -1),
        (10.0, 0),
        (50.0, -1),
        (50.0, 1),
        (90.0, -1),
        (90.0, 2),
        (95.0, -1),
    ]
    assert [status for _, status, _ in members[1].says] == [1, 3, 2, 1]


def test_the_table_compares_with_the_first_level(tallies: list[MissionTally]) -> None:
    rows = summarise(LEVELS, [tallies])
    assert [row.name for row in rows] == [level.name for level in LEVELS]
    assert rows[0].fewer == 1.0
    for row, tally in zip(rows, tallies, strict=True):
        assert row.failed == pytest.approx(10_000 * tally.failed.total() / tally.calls)
        assert row.failed_between[0] <= row.failed <= row.failed_between[1]
        assert row.fewer_between[0] <= row.fewer_between[1]
