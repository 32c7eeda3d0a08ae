"""The daemon under load while bindings change at the provider.

The quota holds, no change is missed, and a restart serves the same table at once. The test runs on a virtual clock,
which does not depend on the load of the machine.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.api_daemon import Served
from tests.support.virtual_time import VirtualLoop, keeps_to_the_quota, one_daemon, run_virtual, until

from precall.cli.demo import as_registered
from precall.simulator import Scenario, Simulator

pytestmark = pytest.mark.slow

BINDINGS, RATE, BURST, SECONDS = 400, 40.0, 10.0, 15.0
SCENARIO = {
    "pool": [
        {
            "pool_key": "FC1",
            "bindings": BINDINGS,
            "onset": "0s",
            "lifetime": "0s",
            "temporary_numbers": BINDINGS,
        }
    ]
}


async def table(served: Served) -> dict[str, dict[str, Any]]:
    """Every route, less what only time changes."""
    found: dict[str, dict[str, Any]] = {}
    cursor = ""
    while True:
        status, page = await served.ask("GET", f"/v1/routes?limit=1000&cursor={cursor}")
        assert status == 200, page
        for route in page["routes"]:
            changing = ("age_ms", "stale", "checked_at")
            found[route["subs_id"]] = {name: route[name] for name in route.keys() - changing}
        cursor = page["cursor"]
        if not cursor:
            return found


@asynccontextmanager
async def life(loop: VirtualLoop, folder: Path, provider: str, simulator: Simulator) -> AsyncIterator[Served]:
    """One daemon, from its start to its end."""
    asking = {"rate": RATE, "burst": BURST}
    async with (
        one_daemon(loop, folder, provider, asking) as (daemon, url),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
    ):
        yield Served(daemon, simulator, session, url)


@pytest.mark.slow(seconds=15)
def test_the_main_job_under_load(tmp_path: Path) -> None:
    run_virtual(lambda loop: the_main_job(loop, tmp_path))


async def the_main_job(loop: VirtualLoop, folder: Path) -> None:
    simulator = Simulator(Scenario.model_validate(SCENARIO), loop.wall)
    wanted: dict[str, int] = {}
    async with simulator.running() as provider:
        async with life(loop, folder, provider, simulator) as served:
            facts = [as_registered(one) for one in simulator.bindings()]
            assert (await served.ask("POST", "/v1/bindings/batch", {"bindings": facts}))[0] == 200
            ids, chance, end = [one["subs_id"] for one in facts], random.Random(1), loop.time() + SECONDS
            while loop.time() < end:
                subs_id, status = chance.choice(ids), chance.choice([1, 2, 3])
                if wanted.get(subs_id) != status:
                    simulator.service.world.change(subs_id, {}, {"called_no": None, "status": status})
                    wanted[subs_id] = status
                await asyncio.sleep(0.1)
            rows = served.daemon.parts.table

            def all_seen() -> bool:
                seen = ((rows.get(subs_id), status) for subs_id, status in wanted.items())
                return all(row is not None and row.state.status == status for row, status in seen)

            await until(all_seen, patience=8 * BINDINGS / RATE)
            assert len(simulator.received_at) > 0.5 * RATE * SECONDS
            before = await table(served)
        # Across both lives: a restart saves up no calls.
        async with life(loop, folder, provider, simulator) as served:
            after = await table(served)
            assert len(after) == BINDINGS
            assert {subs_id: after[subs_id]["status"] for subs_id in wanted} == wanted
            assert {i: route for i, route in after.items() if route["status"]}.keys() >= {
                i for i, route in before.items() if route["status"]
            }
            called = len(simulator.received_at)
            await until(lambda: len(simulator.received_at) > called + 3 * BURST)
        keeps_to_the_quota(list(simulator.received_at), RATE, BURST)
