"""Bindings that come and go for some lifetimes: neither memory nor the database grows with ended bindings.

Each lives for a while and is then replaced by another. Every other one expires, and the rest are removed. Loop, daemon
and provider share a virtual clock. `PRECALL_TEST_SOAK_LIVES` sets the number of lifetimes (2), `PRECALL_TEST_SOAK_SEED`
the random seed (1).
"""

import asyncio
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.virtual_time import (
    VirtualLoop,
    keeps_to_the_quota,
    one_daemon,
    run_virtual,
    with_seldom_jobs,
)

from precall.core.planning.entries import PlanEntry
from precall.engine import ended_bindings
from precall.runtime import account
from precall.runtime import daemon as app
from precall.simulator import Scenario, Simulator
from precall.telemetry import logging as log

LIVES = int(os.environ.get("PRECALL_TEST_SOAK_LIVES", "2"))
SEED = int(os.environ.get("PRECALL_TEST_SOAK_SEED", "1"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 120 * LIVES)]

SPEED, HOUR = 3600.0, 3600.0
BINDINGS, LIFE = 60, HOUR
RATE, BURST = 0.03, 5.0
"""A round takes half an hour and a bit."""
FLOOR = 10
"""Ended bindings that are kept in any case."""
PACE = (
    *((app, "TICK", 10.0), (app, "YOUNG", 1800.0), (app, "CLOCK", 60.0)),
    *((account, "CALLS", 300.0), (account, "SWEEP", 60.0), (ended_bindings, "FLOOR", FLOOR)),
)


@pytest.fixture(autouse=True)
def entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many plan entries are in memory now. Frequent jobs of the daemon run once a second here."""
    with_seldom_jobs(monkeypatch)
    for module, name, seconds in PACE:
        monkeypatch.setattr(module, name, seconds)
    counted = [0]

    class CountedEntry(PlanEntry):
        __slots__ = ()

        def __init__(self, *facts: Any) -> None:
            super().__init__(*facts)
            counted[0] += 1

        def __del__(self) -> None:
            counted[0] -= 1

    monkeypatch.setattr("precall.core.planning.planner.PlanEntry", CountedEntry)
    log.configure("error")
    yield counted
    log.configure("info")


def stored(folder: Path) -> tuple[int, int]:
    """Rows of the table in the database, and pages of the database in use."""
    with closing(sqlite3.connect(folder / "precall.db")) as database:
        [[rows]], [[pages]], [[free]] = (
            database.execute(query).fetchall()
            for query in ("SELECT count(*) FROM bindings", "PRAGMA page_count", "PRAGMA freelist_count")
        )
    return rows, pages - free


@pytest.mark.slow(seconds=35)
def test_ended_bindings_leave_nothing_behind(tmp_path: Path, entries: list[int]) -> None:
    run_virtual(lambda loop: lives(loop, tmp_path, entries), SPEED)


async def lives(loop: VirtualLoop, folder: Path, entries: list[int]) -> None:
    print(f"PRECALL_TEST_SOAK_SEED={SEED}", flush=True)  # noqa: T201
    simulator, chance = Simulator(Scenario.model_validate({}), loop.wall), random.Random(SEED)
    asking = {"rate": RATE, "burst": BURST, "timeout": "30m"}
    store = {"url": f"sqlite:///{folder}/precall.db", "timeout": "1h", "retention": "30m"}
    sizes: list[dict[str, int]] = []
    async with (
        simulator.running() as provider,
        one_daemon(loop, folder, provider, asking, store=store) as (daemon, url),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
    ):

        async def live(serial: int, seconds: float) -> None:
            """Keep one binding for its lifetime."""
            facts: dict[str, Any] = {
                "pool_key": "FC1",
                "number_x": f"700{serial:012}",
                "number_a": f"138{serial:08}",
                "number_b": f"139{serial:08}",
            }
            subs_id = str(10**15 + serial)
            simulator.service.world.add(scripted(subs_id, facts))
            if serial % 2:
                facts["expires_at"] = datetime.fromtimestamp(loop.wall() + seconds, UTC).isoformat()
            async with session.put(f"{url}/v1/bindings/{subs_id}", json=facts) as reply:
                assert reply.status == 201, await reply.text()
            await asyncio.sleep(seconds)
            if not serial % 2:
                async with session.delete(f"{url}/v1/bindings/{subs_id}") as reply:
                    assert reply.status == 204, await reply.text()

        async def place(number: int) -> None:
            """Keep one binding after another in this place."""
            await asyncio.sleep(chance.uniform(0.0, LIFE))
            for turn in range(10**6):
                await live(number + turn * BINDINGS, chance.uniform(0.5, 1.5) * LIFE)

        places = [asyncio.create_task(place(number)) for number in range(BINDINGS)]
        for _ in range(1 + LIVES):
            await asyncio.sleep(LIFE)
            await daemon.account.retire()
            parts = daemon.parts
            rows, pages = stored(folder)
            sizes.append(
                {
                    "rows": len(parts.table),
                    "stored": rows,
                    "planned": len(parts.checker.planner),
                    "entries": entries[0],
                    "pages": pages,
                }
            )
        for one in places:
            one.cancel()
        await asyncio.gather(*places, return_exceptions=True)
    print(sizes)  # noqa: T201
    keeps_to_the_quota(list(simulator.received_at), RATE, BURST)
    for size in sizes:
        # Between two sweeps a few more end.
        assert size["planned"] <= BINDINGS + 5, sizes
        assert size["entries"] <= 1.5 * BINDINGS, sizes
        assert size["rows"] == size["stored"] <= BINDINGS + max(FLOOR, BINDINGS // 4) + 5, sizes
    warm = sizes[1]
    assert max(size["pages"] for size in sizes[2:]) <= 1.5 * warm["pages"], sizes


def scripted(subs_id: str, facts: dict[str, Any]) -> Any:
    """The provider's side of a binding."""
    return Scenario.model_validate({"binding": [{"subs_id": subs_id, **facts}]}).bindings[0]
