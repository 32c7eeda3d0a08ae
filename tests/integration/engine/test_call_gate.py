"""After a suspension, saved-up quota is not spent, and no call starts until the lead is confirmed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from precall.core.ages import Tick
from precall.core.limits.quota import Priority, Quota
from precall.core.routing.state import CheckResult
from precall.engine.call_gate import GAP, CallGate
from precall.engine.on_demand import OnDemandOutcome
from precall.store import LeaderLock
from tests.integration.engine.test_main_job import calls, row_of
from tests.integration.store.test_leader_lock import taken, until_known, way_to
from tests.support.api_daemon import scripted, serving
from tests.support.patience import PATIENCE, until
from tests.support.postgres import Databases


class Clock:
    """A clock that advances on command."""

    now = 1000.0

    def __call__(self) -> Tick:
        return Tick(self.now)


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    yield databases.new()
    databases.drop()


async def test_after_a_suspension_saved_quota_is_discarded_and_the_lead_confirmed(store_url: str) -> None:
    time, lead = Clock(), LeaderLock(store_url)
    await taken(lead)
    quota = Quota(10.0, 5.0, time())
    gate = CallGate(lead, [quota], time, time)
    for _ in range(3):
        time.now += GAP
        assert gate.is_open()
    assert quota.until(time(), Priority.DEMAND) == 0
    time.now += GAP + 0.1
    assert not gate.is_open()
    assert not gate.is_open()
    assert quota.until(time(), Priority.DEMAND) == pytest.approx(1 / 7)
    await until_known(lead)
    assert gate.is_open()
    await lead.leave()


async def test_the_gate_stays_closed_while_another_leads(url: str) -> None:
    time, lost = Clock(), asyncio.Event()
    with way_to(url) as wire:
        lead, other = LeaderLock(wire.of(url), when_lost=lost.set), LeaderLock(url)
        await taken(lead)
        gate = CallGate(lead, [], time, time)
        wire.cut()
        await taken(other)
        time.now += GAP + 0.1
        assert not gate.is_open()
        wire.heal()
        await asyncio.wait_for(lost.wait(), PATIENCE)
        assert not gate.is_open()
        await lead.leave()
        await other.leave()


async def test_the_gate_opens_while_the_database_is_unreachable(url: str) -> None:
    time = Clock()
    with way_to(url) as wire:
        lead = LeaderLock(wire.of(url), 0.2, limit=1.0)
        await taken(lead)
        gate = CallGate(lead, [], time, time)
        wire.cut()
        time.now += GAP + 0.1
        assert not gate.is_open()
        await until_known(lead)
        assert gate.is_open()
        await lead.leave()


async def test_a_resumed_daemon_makes_no_call_until_the_lead_is_confirmed(tmp_path: Path) -> None:
    """Neither for the background, nor for a reader, nor what was about to be sent."""
    time = Clock()
    async with serving(tmp_path, scripted(1), boottime=time) as served:
        checker, demand = served.daemon.parts.checker, served.daemon.parts.on_demand
        checker.plan.pause("")
        await served.register()
        await served.checked("1")
        row, before = row_of(served), calls(served)
        # About to be sent when the process stood still:
        time.now += GAP + 0.1
        assert await checker.start(row, Priority.BACKGROUND) is CheckResult.LATE
        await until(checker.queries.may_call)
        time.now += GAP + 0.1
        checker.plan.resume("")
        checker.plan.hasten("1")
        await checker.tick()
        assert not checker.in_flight
        time.now += GAP + 0.1  # the lead may have been confirmed in the meantime
        assert (await demand.check_now("1", timeout=0.0)).outcome is OnDemandOutcome.SPENT
        assert calls(served) == before
        # A reader that can wait gets its check once the lead is confirmed.
        assert (await demand.check_now("1", timeout=30.0)).outcome is OnDemandOutcome.ANSWERED
