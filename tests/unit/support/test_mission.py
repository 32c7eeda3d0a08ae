"""The mission benchmark keeps what it promises: levels in order, no strangers, the quota."""

import pytest

from tests.bench.bench_mission import summarise
from tests.bench.mission.assumptions import Assumptions
from tests.bench.mission.dispatch import EPOCH, LEVELS, TWICE, MissionRun, MissionTally
from tests.bench.mission.world import CallOutcome, MissionWorld

SMALL = Assumptions(
    bindings=300, rate=0.1, burst=5.0, hours=3.0, warm_up=0.5, pools=6, calls=4.0, x_failures=2.0, outages=2.0
)
NOISE = 3
"""Calls by which chance may make a level worse than the one before."""
SEED = 5


@pytest.fixture(scope="module")
def world() -> MissionWorld:
    return MissionWorld(SMALL, SEED)


@pytest.fixture(scope="module")
def tallies(world: MissionWorld) -> list[MissionTally]:
    return [MissionRun(world, level).run() for level in LEVELS]
