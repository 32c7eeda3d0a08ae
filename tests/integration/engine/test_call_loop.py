"""The feedback loop.

A scripted dispatcher dials by precall's routes, receipts and reports return the results, and failing bindings are
checked again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from precall.simulator import Dispatcher, failed
from tests.integration.engine.test_main_job import route, row_of
from tests.support.api_daemon import Served, scripted, serving
from tests.support.patience import PATIENCE

EASY = {"busy": 0, "no_answer": 0, "powered_off": 0}
SPEED = 1000.0
RARELY = {"max_age": "1h", "min_interval": "30m"}


@asynccontextmanager
async def dispatching(folder: Path, *statuses: int, **more: Any) -> AsyncIterator[tuple[Served, Dispatcher]]:
    """A daemon whose bindings were checked once and will hardly be checked again, with a dispatcher."""
    scenario = scripted(*statuses, receipts={"every": 0.05}, **more)
    async with serving(folder, scenario, speed=SPEED, freshness=RARELY, store_timeout=PATIENCE) as served:
        for subs_id in map(str, range(1, len(statuses) + 1)):
            await served.register(subs_id=subs_id)
            await served.checked(subs_id)
        served.simulator.push_receipts(f"{served.url}/v1/receipts")
        async with served.simulator.dispatcher(served.url) as dispatcher:
            yield served, dispatcher


async def call_until(dispatcher: Dispatcher, true: Callable[[], object]) -> None:
    """Place one call after another until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await dispatcher.place_call()
            await dispatcher.report()
            await asyncio.sleep(0.05)


async def test_receipts_mark_a_failing_x_suspect_without_changing_its_route(tmp_path: Path) -> None:
    silent = [{"kind": "silent", "subs_id": "1"}]
    async with dispatching(tmp_path, 2, fault=silent, habits=EASY | {"handset": 1}) as (served, dispatcher):
        before = await route(served)
        assert (before["action"], before["status"]) == ("dial_x", 1)
        await call_until(dispatcher, lambda: len(served.daemon.parts.checker.flags(row_of(served))) == 2)
        during = await route(served)
        assert during["flags"] == ["suspect", "api_disagrees"]
        for name in ("action", "number", "state", "version", "index"):
            assert during[name] == before[name]
        lost, placed = failed(dispatcher.tally.routed)
        assert lost == placed >= 3
        served.simulator.service.faults.clear()
        await call_until(dispatcher, lambda: row_of(served).state.status == 2)
        after = await route(served)
        assert (after["action"], after["flags"]) == ("dial_temp_x", [])


async def test_dispatcher_reports_reveal_a_failing_x(tmp_path: Path) -> None:
    told = {"habits": EASY | {"handset": 0}, "dispatcher": {"outcomes": 1}}
    async with dispatching(tmp_path, 1, **told) as (served, dispatcher):
        served.simulator.service.world.change("1", {}, {"status": 3})
        await call_until(dispatcher, lambda: row_of(served).state.status == 3)
        assert (await route(served, query="?caller=13800000001"))["action"] == "dial_real"


async def test_the_report_agrees_with_the_results_of_the_calls(tmp_path: Path) -> None:
    """What precall learned of its own calls equals what they came to, less those that are still under way."""
    told = {"habits": EASY | {"handset": 0.5}, "dispatcher": {"outcomes": 1}}
    async with dispatching(tmp_path, 1, 2, 3, 1, **told) as (served, dispatcher):
        served.daemon.parts.checker.plan.pause("")
        served.simulator.service.world.change("4", {}, {"status": 2})
        for _ in range(60):
            await dispatcher.place_call()
        tally = dispatcher.tally

        async def total() -> dict[str, Any]:
            await dispatcher.report()
            return dict((await served.ask("GET", "/v1/report"))[1]["total"])

        async with asyncio.timeout(PATIENCE):
            while (found := await total())["connected"] + found["failed"] < 60:
                await asyncio.sleep(0.05)
        assert (found["connected"], found["failed"]) == (tally.routed["connected"], tally.routed["failed"])
        lost, placed = failed(tally.routed)
        lost_alone, placed_alone = failed(tally.alone)
        assert placed == placed_alone == 60
        assert found["wrong"] == round(lost / placed, 6)
        assert lost < lost_alone
