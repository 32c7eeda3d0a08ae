"""The history of the last hours: recorded by the leader, kept over restarts, of a fixed size, with gaps and no spikes.

Most tests move the clocks of a recorder by hand; one runs a whole daemon by a virtual clock.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from precall.clocks import Clocks
from precall.core.errors import StoreUnavailable
from precall.core.model import State
from precall.core.status.facts import PoolFacts
from precall.engine.recorder import POOL_STATES, Recorder, counted
from precall.engine.services import Services
from precall.runtime import account, membership
from precall.runtime import daemon as daemon_module
from precall.runtime.daemon import Daemon
from precall.simulator import Scenario, Simulator
from precall.telemetry.metrics import Metrics
from tests.support.api_daemon import a_binding, scripted, serving
from tests.support.patience import until as until_true
from tests.support.postgres import sql
from tests.support.virtual_time import VirtualLoop, one_daemon, run_virtual

HOUR = 3600
LAZY = {"min_interval": "1m", "abnormal_min_interval": "1m", "max_age": "10m", "abnormal_max_age": "10m"}
IDLE = {"rate": 1.0}


@pytest.fixture
def _few_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look less often than twenty times a second, where hours pass."""
    monkeypatch.setattr(daemon_module, "TICK", 5.0)
    monkeypatch.setattr(account, "LOOK", 5.0)
    monkeypatch.setattr(membership, "EVERY", 600.0)


@asynccontextmanager
async def recording(loop: VirtualLoop, folder: Path) -> AsyncIterator[Daemon]:
    simulator = Simulator(Scenario.model_validate(scripted(1, 1, 3)), loop.wall)
    async with (
        simulator.running() as provider,
        one_daemon(loop, folder, provider, IDLE, freshness=LAZY) as (daemon, url),
        aiohttp.ClientSession(url) as session,
    ):
        for number in ("1", "2", "3"):
            await session.put(f"/v1/bindings/{number}", json=a_binding(subs_id=number))
        yield daemon


def figures(daemon: Daemon, name: str) -> dict[float, float | None]:
    found = daemon.parts.recorder.daemon.recent(daemon.clocks.now())
    return {at: row.get(name) for at, row in found.items()}


class Hands:
    """Both clocks of a recorder, moved by the test."""

    def __init__(self, begun: float) -> None:
        self.wall, self.ticks = begun, 0.0

    def advance(self, seconds: float) -> None:
        self.wall, self.ticks = self.wall + seconds, self.ticks + seconds

    def recorder(self, metrics: Metrics) -> Recorder:
        return Recorder(metrics, Clocks(lambda: self.wall, lambda: self.ticks))


async def recorded(hands: Hands, recorder: Recorder, parts: Services, seconds: int) -> None:
    """Record for so long, as the jobs of the daemon do."""
    for second in range(1, seconds + 1):
        hands.advance(1.0)
        recorder.look(parts.status, parts.checker)
        if second % 60 == 0:
            await recorder.keep(parts.store)


def shown(recorder: Recorder, hands: Hands, name: str) -> dict[float, float | None]:
    return {at: row.get(name) for at, row in recorder.daemon.recent(hands.wall).items()}


@asynccontextmanager
async def at_rest(folder: Path, **sections: Any) -> AsyncIterator[Services]:
    """The parts of a daemon with three checked bindings, which records nothing by itself."""
    async with serving(folder, scripted(1, 1, 3), freshness=LAZY, **sections) as served:
        for number in ("1", "2", "3"):
            await served.register(subs_id=number)
            await served.checked(number)
        await until_true(lambda: served.daemon.parts.status.look().facts.states[State.NORMAL] == 2)
        yield served.daemon.parts


@pytest.mark.slow(seconds=6)
async def test_seven_hours_fill_a_ring_of_six_without_a_gap(tmp_path: Path, store_url: str) -> None:
    async with at_rest(tmp_path, store={"url": store_url, "auto_migrate": True}) as parts:
        hands = Hands(time.time())
        recorder = hands.recorder(parts.metrics)
        recorder.begin(parts.status, parts.checker)
        await recorded(hands, recorder, parts, 7 * HOUR)
        # The rings of the daemon itself have a row or two of the present, in slots that the others share.
        await recorder.keep(parts.store)
        restored = hands.recorder(parts.metrics)
        await restored.restore(parts.store)
        checks = shown(restored, hands, "checks")
        assert checks == shown(recorder, hands, "checks")
        assert len(checks) == 1440
        assert {later - at for at, later in pairwise(checks)} == {15.0}
        assert None not in checks.values()
        assert set(shown(restored, hands, "state_normal").values()) == {2.0}
        pools = restored.pools.recent(hands.wall)
        assert len(pools) == 60
        assert next(iter(pools.values()))["FC1"] == [2, 0, 1, 0, 0]
        [[size]] = await asyncio.to_thread(sql, store_url, "SELECT count(*) FROM rings")
        assert int(size) <= 1500


async def test_a_restart_is_a_gap_and_no_spike(tmp_path: Path) -> None:
    async with at_rest(tmp_path) as parts:
        hands = Hands(time.time())
        first = hands.recorder(parts.metrics)
        first.begin(parts.status, parts.checker)
        await recorded(hands, first, parts, 90)
        parts.metrics.reads.labels("json", "false").inc(1500)
        await recorded(hands, first, parts, 90)
        before = shown(first, hands, "reads")
        assert max(value or 0.0 for value in before.values()) == 100.0
        await first.keep(parts.store)
        hands.advance(600.0)
        parts.metrics.reads.labels("json", "false").inc(90_000)
        second = hands.recorder(parts.metrics)
        await second.restore(parts.store)
        second.begin(parts.status, parts.checker)
        await recorded(hands, second, parts, 120)
        after = shown(second, hands, "reads")
        assert before.items() <= after.items()
        assert max(later - at for at, later in pairwise(after)) >= 600.0
        assert max(value or 0.0 for value in after.values()) == 100.0
        unknown = [at for at, value in after.items() if value is None]
        assert 2 <= len(unknown) <= 4, "the first samples of each life have nothing to compare with"


STEPS = [[86_400.0, 0.0], [-86_400.0, 0.0], [600.0], [-600.0], [7.0, -7.0, 0.0], [HOUR, -HOUR, 0.0]]


@pytest.mark.parametrize("steps", STEPS, ids=str)
async def test_a_clock_that_is_set_makes_neither_duplicates_nor_spikes(
    tmp_path: Path, steps: list[float]
) -> None:
    async with at_rest(tmp_path) as parts:
        hands, off = Hands(time.time()), 0.0
        clocks = Clocks(lambda: hands.wall, lambda: hands.ticks)
        recorder = Recorder(parts.metrics, clocks)
        recorder.begin(parts.status, parts.checker)
        for step in [0.0, *steps]:
            hands.wall, off = hands.wall + step - off, step
            parts.metrics.reads.labels("json", "false").inc(150)
            await recorded(hands, recorder, parts, 180)
            now = clocks.now()
            reads = {at: row.get("reads") for at, row in recorder.daemon.recent(now).items()}
            assert list(reads) == sorted(set(reads))
            assert 0.0 <= now - max(reads) < 15.0
            assert len([at for at in reads if at > now - 150]) == 10
            assert all(value is None or value <= 21.5 for value in reads.values())
            await recorder.keep(parts.store)
            stored = await parts.store.rings.read({"daemon": 0.0}, 1e10)
            assert len({row.slot for row in stored}) == len(stored)
            assert max(row.at for row in stored) <= now


async def test_a_suspended_process_is_a_gap(tmp_path: Path) -> None:
    async with at_rest(tmp_path) as parts:
        hands = Hands(time.time())
        recorder = hands.recorder(parts.metrics)
        recorder.begin(parts.status, parts.checker)
        await recorded(hands, recorder, parts, 60)
        hands.advance(900.0)
        parts.metrics.reads.labels("json", "false").inc(9000)
        await recorded(hands, recorder, parts, 60)
        values = list(shown(recorder, hands, "reads").values())
        assert max(value or 0.0 for value in values) <= 0.1
        assert 2 <= values.count(None) <= 4, "after the start, and after the pause"


@pytest.mark.slow(seconds=6)
@pytest.mark.usefixtures("_few_ticks")
def test_a_daemon_records_and_shows_it_after_a_restart(tmp_path: Path) -> None:
    async def work(loop: VirtualLoop) -> None:
        async with recording(loop, tmp_path) as daemon:
            await asyncio.sleep(150)
            before = figures(daemon, "checks")
        assert len(before) >= 9
        async with recording(loop, tmp_path) as daemon:
            await asyncio.sleep(60)
            after = figures(daemon, "checks")
        assert [at for at in before if at not in after] == []
        assert len(after) >= len(before) + 3
        assert 0.0 < max(value or 0.0 for value in after.values()) <= 1.5

    run_virtual(work, speed=200.0)


async def test_a_database_that_is_away_costs_at_most_a_gap(
    tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, scripted(1), store={"url": store_url, "auto_migrate": True}) as served:
        await served.register()
        recorder, store = served.daemon.parts.recorder, served.daemon.parts.store
        await recorder.keep(store)
        [known] = sql(store_url, "SELECT count(*) FROM rings")

        async def refuse(*_: Any, **__: Any) -> None:
            raise StoreUnavailable("away")

        with monkeypatch.context() as patch:
            await until_true(lambda: served.daemon.parts.status.look().facts.bindings == 1)
            patch.setattr(store.rings, "keep", refuse)
            patch.setattr(store.rings, "read", refuse)
            recorder.begin(served.daemon.parts.status, served.daemon.parts.checker)
            await recorder.keep(store)
            await recorder.restore(store)
        await asyncio.to_thread(sql, store_url, "DELETE FROM rings")
        await recorder.keep(store)
        stored = await asyncio.to_thread(sql, store_url, "SELECT ring, content FROM rings ORDER BY ring")
        assert int(known[0]) >= 2
        assert [ring for ring, _ in stored][:1] == ["daemon"]
        assert json.loads(stored[0][1])["bindings"] == 1.0


async def test_a_standby_shows_what_the_leader_has_stored(tmp_path: Path, store_url: str) -> None:
    async with serving(tmp_path, scripted(1), store={"url": store_url, "auto_migrate": True}) as served:
        await served.register()
        await served.checked("1")
        leading = served.daemon.parts
        leading.recorder.begin(leading.status, leading.checker)
        await leading.recorder.keep(leading.store)
        other = Daemon(served.daemon.config)
        standing_by = asyncio.create_task(other.start())
        try:
            await until_true(lambda: other.server.services is not None)
            shown = other.parts.recorder
            assert not other.parts.role.leads
            now = other.clocks.now()
            assert shown.daemon.recent(now) == leading.recorder.daemon.recent(now)
            assert shown.pools.recent(now) == leading.recorder.pools.recent(now)
            assert shown.daemon.recent(now)
        finally:
            standing_by.cancel()
            await asyncio.wait({standing_by})


async def test_what_another_program_wrote_is_a_gap(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        recorder, store = served.daemon.parts.recorder, served.daemon.parts.store
        fresh = Recorder(Metrics(), Clocks(served.daemon.clocks.now, served.daemon.clocks.tick))
        now = recorder.daemon.moment(served.daemon.clocks.now())
        for at, content in ((now - 15, "[1]"), (now - 30, '{"checks": "many"}'), (now - 45, '{"checks": 2}')):
            statement = f"INSERT INTO rings VALUES ('daemon', {recorder.daemon.slot(at)}, {at}, '{content}')"  # noqa: S608
            await asyncio.to_thread(sql, f"sqlite:///{tmp_path}/precall.db", statement)
        minute = fresh.pools.moment(now) - 60
        statement = f"INSERT INTO rings VALUES ('pools', 0, {minute}, '{{\"FC1\": [1]}}')"  # noqa: S608
        await asyncio.to_thread(sql, f"sqlite:///{tmp_path}/precall.db", statement)
        await fresh.restore(store)
        assert fresh.daemon.get(now - 45) == {"checks": 2.0}
        assert fresh.daemon.get(now - 15) is fresh.daemon.get(now - 30) is None
        assert fresh.pools.get(minute) is None


def test_of_many_pools_the_worst_and_the_largest_are_kept() -> None:
    pools = [PoolFacts(f"FC{number}", 100 + number, {State.NORMAL: 100 + number}) for number in range(300)]
    pools[7] = PoolFacts("FC7", 50, {State.NORMAL: 10, State.FALLBACK: 40})
    kept = counted(pools)
    assert len(kept) == 200
    assert list(kept)[:2] == ["FC7", "FC299"]
    assert list(kept["FC7"]) == [10, 0, 40, 0, 0]
    assert "FC8" not in kept
    assert len(POOL_STATES) == 5
