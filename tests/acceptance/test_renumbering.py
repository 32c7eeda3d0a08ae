"""All X of a pool change within an hour: no route keeps a dead X for longer than a round, first checks stay within the
budget, every other binding is checked within a round, and no alarm is raised.

There are two forms. Either bindings keep their ids and get another X, or they are unbound and replaced by bindings with
other ids and other X. The customer registers the changes soon after, except every fifth, which precall can learn only
from the provider.

By virtual time. `PRECALL_TEST_RENUMBERED` sets the size of the pool (120), `PRECALL_TEST_SOAK_SEED` the chances (1).
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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

from precall.cli.demo import as_registered
from precall.core.planning.contagion import Contagion
from precall.runtime import account
from precall.runtime import daemon as app
from precall.runtime.daemon import Daemon
from precall.simulator import Scenario, Simulator
from precall.telemetry import logging as log

RENUMBERED = int(os.environ.get("PRECALL_TEST_RENUMBERED", "120"))
SEED = int(os.environ.get("PRECALL_TEST_SOAK_SEED", "1"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + RENUMBERED)]

HOUR, SPEED = 3600.0, 3600.0
OTHERS = RENUMBERED // 2
ROUND = 2000.0
"""Seconds that checking every binding once takes: a million at 500/s."""
RATE = (RENUMBERED + OTHERS) / ROUND
FULL_ROUND = ROUND + RENUMBERED * ROUND / HOUR / RATE
"""The same with the first checks that come up meanwhile: each takes a call. No order of checks could do better."""
BURST, MAX_AGE = 5.0, 300.0
LAG = 60.0
LOOK = 30.0
PACE = (
    *((app, "TICK", 2.0), (app, "YOUNG", 1800.0), (app, "CLOCK", 60.0)),
    *((account, "CALLS", 300.0), (account, "SWEEP", 300.0)),
)
SILENT = 5
"""Of so many changes one is never registered."""
QUIET = (
    *("precall_degraded", "precall_provider_circuit_open", "precall_paused", "precall_job_failures_total"),
    *("precall_provider_throttled_total", "precall_calls_api_disagrees"),
)
"""What alerts go by, and is 0 while all is well."""
SCENARIO = {
    "pool": [
        {"pool_key": name, "bindings": count, "onset": "0s", "lifetime": "0s"}
        for name, count in (("FC1", RENUMBERED), ("FC2", OTHERS))
    ]
}


@pytest.fixture(autouse=True)
def alarms(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The alarms of whole pools. Frequent jobs of the daemon run once a second here."""
    with_seldom_jobs(monkeypatch)
    for module, name, seconds in PACE:
        monkeypatch.setattr(module, name, seconds)
    raised: list[str] = []
    spread = Contagion.spread_to_pool

    def counted(self: Contagion, *about: Any) -> None:
        raised.append("a wave in a pool")
        spread(self, *about)

    monkeypatch.setattr(Contagion, "spread_to_pool", counted)
    return raised


class Renumbering:
    """The customer, the provider's bindings, and the published routes."""

    def __init__(self, loop: VirtualLoop, simulator: Simulator, daemon: Daemon, url: str) -> None:
        self.loop, self.world, self.daemon, self.url = loop, simulator.service.world, daemon, url
        self.chance = random.Random(SEED)
        self.dead: dict[str, tuple[str, float, bool]] = {}
        self.told: dict[bool, float] = {True: 0.0, False: 0.0}
        self.unverified: dict[str, float] = {}
        self.waited = self.oldest = 0.0
        self.told_of: set[str] = set()

    async def send(self, method: str, path: str, body: Any = None) -> None:
        async with self.session.request(method, f"{self.url}{path}", json=body) as reply:
            assert reply.status in (200, 201, 204, 404), await reply.text()

    async def change(self, place: int, form: str) -> None:
        """Give one binding another X. `dead` has the old X, the time, and whether the customer stays silent."""
        await asyncio.sleep(self.chance.uniform(0.0, HOUR))
        before = self.before[place]
        silent = place % SILENT == 0
        self.dead[before.subs_id] = before.number_x, self.loop.time(), silent
        fresh = f"7003{place:011}"
        if form == "other X":
            self.world.change(before.subs_id, {"number_x": fresh}, {})
            after = self.world.find(before.subs_id)
        else:
            ended = {"gone": True} if place % 2 else {"status": 4}
            self.world.change(before.subs_id, {}, ended)
            after = self.world.add(self.successor(place, fresh))
        await asyncio.sleep(self.chance.uniform(0.0, LAG))
        assert after is not None
        if form == "other id" or not silent:
            await self.send("PUT", f"/v1/bindings/{after.subs_id}", body_of(after))
            self.told_of.add(after.subs_id)
        if form == "other id" and not silent:
            await asyncio.sleep(self.chance.uniform(0.0, LAG))
            await self.send("DELETE", f"/v1/bindings/{before.subs_id}")

    def successor(self, place: int, number_x: str) -> Any:
        before = self.before[place]
        return Scenario.model_validate(
            {
                "binding": [
                    {
                        "subs_id": f"9{before.subs_id}",
                        "pool_key": before.pool_key,
                        "number_x": number_x,
                        "number_a": before.number_a,
                        "number_b": before.number_b,
                    }
                ]
            }
        ).bindings[0]

    async def look(self) -> None:
        """Compare all published routes with the truth."""
        cursor, now = "", self.loop.time()
        while True:
            async with self.session.get(f"{self.url}/v1/routes?limit=1000&cursor={cursor}") as reply:
                page = await reply.json()
            for route in page["routes"]:
                self.judge(route, now)
            cursor = page.get("next_cursor") or ""
            if not cursor:
                break
        self.oldest = max(self.oldest, self.daemon.parts.checker.planner.oldest(now))
        value = self.daemon.metrics.registry.get_sample_value
        assert not {name: found for name in QUIET if (found := value(name))}

    def judge(self, route: dict[str, Any], now: float) -> None:
        subs_id = route["subs_id"]
        if route["reason"] == "unverified":
            since = self.unverified.setdefault(subs_id, now)
            if subs_id in self.told_of:
                self.waited = max(self.waited, now - since)
        else:
            self.unverified.pop(subs_id, None)
        number, since, silent = self.dead.get(subs_id, ("", now, False))
        if number and route["number"] == number:
            self.told[silent] = max(self.told[silent], now - since)

    @asynccontextmanager
    async def begun(self, simulator: Simulator) -> AsyncIterator[None]:
        """All bindings registered and checked once."""
        self.before = list(simulator.bindings())[:RENUMBERED]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as self.session:
            bodies = [as_registered(one) for one in simulator.bindings()]
            await self.send("POST", "/v1/bindings/batch", {"bindings": bodies})
            await asyncio.sleep(1.2 * ROUND)
            yield


def body_of(binding: Any) -> dict[str, Any]:
    body = as_registered(binding)
    del body["subs_id"]
    return body


@pytest.mark.parametrize("form", ["other X", "other id"])
@pytest.mark.slow(seconds=35)
def test_a_pool_gets_other_numbers(tmp_path: Path, form: str, alarms: list[str], capsys: Any) -> None:
    log.configure("warning")
    try:
        run_virtual(lambda loop: renumbered(loop, tmp_path, form), SPEED)
    finally:
        log.configure("info")
    said = capsys.readouterr()
    assert not alarms
    for event in ("provider.pool_vanished", "degraded.entered", "provider.refuses_us"):
        assert event not in said.out + said.err


async def renumbered(loop: VirtualLoop, folder: Path, form: str) -> None:
    print(f"PRECALL_TEST_SOAK_SEED={SEED}", flush=True)  # noqa: T201
    simulator = Simulator(Scenario.model_validate(SCENARIO), loop.wall)
    asking = {"rate": RATE, "burst": BURST, "timeout": "30m"}
    # The background alone: a dialled read would be checked live where the promise is for dials.
    freshness = {"max_age": f"{MAX_AGE:g}s", "promise": "all"}
    async with (
        simulator.running() as provider,
        one_daemon(loop, folder, provider, asking, freshness=freshness) as (daemon, url),
    ):
        pool = Renumbering(loop, simulator, daemon, url)
        async with pool.begun(simulator), asyncio.TaskGroup() as group:
            for place in range(RENUMBERED):
                group.create_task(pool.change(place, form))
            until = loop.time() + HOUR + ROUND + MAX_AGE
            while loop.time() < until:
                await pool.look()
                await asyncio.sleep(LOOK)
    print(  # noqa: T201
        f"{form}: a dead X told for {pool.told[False]:.0f} s, {pool.told[True]:.0f} s where the customer is silent;"
        f" first check after {pool.waited:.0f} s, oldest check {pool.oldest:.0f} s old, a round {ROUND:.0f} s"
    )
    keeps_to_the_quota(list(simulator.received_at), RATE, BURST)
    assert pool.told[False] <= 2 * LAG + 2 * LOOK, "until the customer says so"
    # A second of a busy machine is an hour here, so a tick comes late.
    assert pool.told[True] <= FULL_ROUND + MAX_AGE
    assert pool.waited <= FULL_ROUND + MAX_AGE
    assert pool.oldest <= FULL_ROUND + MAX_AGE
