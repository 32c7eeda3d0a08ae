"""Random faults: clock steps, suspensions, an unreachable provider, restarts and kills.

After each fault checks continue, the quota holds, no expired number is served, and no published change is lost.
`PRECALL_TEST_SOAK_DAYS` sets the duration in virtual days (0.02). `PRECALL_TEST_SOAK_KILLS` sets how often real
processes are killed, suspended and disconnected (2). `PRECALL_TEST_SOAK_SEED` (1), which is printed, makes a run
reproducible.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from tests.acceptance.test_cli import Server, config_file, serving, until
from tests.acceptance.test_standby import ask
from tests.support.virtual_time import (
    VirtualLoop,
    keeps_to_the_quota,
    one_daemon,
    run_virtual,
    with_seldom_jobs,
)
from tests.support.virtual_time import until as come_true
from tests.support.wire import Wire

from precall.cli.demo import as_registered
from precall.runtime import daemon as app
from precall.simulator import Fault, Scenario, Simulator

DAYS = float(os.environ.get("PRECALL_TEST_SOAK_DAYS", "0.02"))
KILLS = int(os.environ.get("PRECALL_TEST_SOAK_KILLS", "2"))
SEED = int(os.environ.get("PRECALL_TEST_SOAK_SEED", "1"))
DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 3000 * DAYS + 120 * KILLS)]

SPEED = 600.0
BINDINGS, RATE, BURST = 24, 1.0, 12.0
SCENARIO = {
    "pool": [
        {
            "pool_key": "FC1",
            "bindings": BINDINGS,
            "onset": "30m",
            "recovery": "10m",
            "lifetime": "0s",
            "temporary_numbers": 40,
        }
    ]
}
QUICK = {"min_interval": "5s", "max_age": "1m"}
BELIEVED = 14 * MINUTE
"""Seconds by which the clock may be off before the provider rejects every call."""
RECOVERY = HOUR
"""By virtual time: within it everything is checked again. An open circuit is probed twice a minute."""


@dataclass(slots=True)
class Seen:
    """What readers received, across all restarts of the daemon."""

    highest: dict[str, int] = field(default_factory=dict)
    told: dict[tuple[str, int], tuple[Any, ...]] = field(default_factory=dict)
    checked: dict[str, str] = field(default_factory=dict)

    def take(self, routes: list[dict[str, Any]]) -> None:
        for route in routes:
            subs_id, index = route["subs_id"], route["index"]
            assert index >= self.highest.get(subs_id, 0), f"{subs_id} went back to {index}"
            self.highest[subs_id] = index
            row = (route["version"], route["status"])  # the rest changes with time alone where a binding ends
            assert self.told.setdefault((subs_id, index), row) == row, f"two routes of {subs_id} at {index}"
            self.checked[subs_id] = route["checked_at"]


class Life:
    """A daemon by virtual time, and the clock on its wall, which may be set."""

    def __init__(self, loop: VirtualLoop, folder: Path, simulator: Simulator, chance: random.Random) -> None:
        self.loop, self.folder, self.simulator, self.chance = loop, folder, simulator, chance
        self.seen, self.off = Seen(), 0.0
        self.ends: dict[str, float] = {}
        self.happened: Counter[str] = Counter()

    def wall(self) -> float:
        return self.loop.wall() + self.off

    async def through_all(self, provider: str, until_: float) -> None:
        """Life after life, until that time (s of the loop)."""
        while self.loop.time() < until_:
            asking = {"rate": RATE, "burst": BURST}
            patience = aiohttp.ClientTimeout(total=None)
            async with (
                one_daemon(self.loop, self.folder, provider, asking, wall=self.wall, freshness=QUICK) as (
                    _,
                    self.url,
                ),
                aiohttp.ClientSession(timeout=patience) as self.session,
            ):
                if not self.ends:
                    await self.register()
                await self.checks_go_on()
                while self.loop.time() < until_ and await self.disturbed():
                    await self.checks_go_on()
                    await self.look_on(self.chance.uniform(0.0, 10 * MINUTE))

    async def register(self) -> None:
        """Every other binding ends while it is watched."""
        bodies = [as_registered(one) for one in self.simulator.bindings()]
        for place, body in enumerate(bodies):
            end = int(self.loop.wall() + self.chance.uniform(HOUR / 8, DAYS * DAY))
            self.ends[body["subs_id"]] = end if place % 2 else float("inf")
            if place % 2:
                body["expires_at"] = datetime.fromtimestamp(end, UTC).isoformat()
        async with self.session.post(f"{self.url}/v1/bindings/batch", json={"bindings": bodies}) as reply:
            assert reply.status == 200, await reply.text()

    async def look(self) -> None:
        async with self.session.get(f"{self.url}/v1/routes?limit=1000") as reply:
            page = await reply.json()
        assert reply.status == 200, page
        now = self.loop.wall()
        late = [
            one["subs_id"] for one in page["routes"] if one["number"] and now >= self.ends[one["subs_id"]]
        ]
        assert not late, f"numbers told past their time: {late}"
        self.seen.take(page["routes"])

    async def look_on(self, seconds: float) -> None:
        over = self.loop.time() + seconds
        while (left := over - self.loop.time()) > 0:
            await asyncio.sleep(min(10.0, left))
            await self.look()

    async def checks_go_on(self) -> None:
        """Everything that does not end is checked once more."""
        await self.look()
        before = dict(self.seen.checked)
        endless = [subs_id for subs_id, end in self.ends.items() if end == float("inf")]

        async def all_again() -> bool:
            await asyncio.sleep(5.0)
            await self.look()
            return all(self.seen.checked[subs_id] != before[subs_id] for subs_id in endless)

        await come_true(all_again, RECOVERY)

    async def disturbed(self) -> bool:
        """One disturbance, to its end; False where the daemon is to be started again."""
        what = self.chance.choice(["set", "far", "stand", "cut", "restart"])
        seconds = self.chance.uniform(MINUTE, 5 * MINUTE)
        self.happened[what] += 1
        match what:
            case "set":
                self.off = self.chance.choice([-1, 1]) * self.chance.uniform(2.0, 10 * MINUTE)
                await self.checks_go_on()
                self.off = 0.0
            case "far":
                self.off = self.chance.choice([-1, 1]) * self.chance.uniform(HOUR, DAY)
                assert abs(self.off) > BELIEVED
                await self.look_on(seconds)
                self.off = 0.0
            case "stand":
                self.loop.stand_still(seconds)
            case "cut":
                kind = self.chance.choice(["reset", "hang"])
                fault = Fault.model_validate({"kind": kind, "for": f"{int(seconds)}s"})
                self.simulator.service.faults.add(fault, self.loop.wall())
                await self.look_on(seconds)
        return what != "restart"


@pytest.fixture
def _a_coarser_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the daemon does many times a second it does once here."""
    with_seldom_jobs(monkeypatch)
    monkeypatch.setattr(app, "TICK", 1.0)


@pytest.mark.usefixtures("_a_coarser_life")
@pytest.mark.slow(seconds=35)
def test_invariants_hold_through_simulated_days_of_faults(tmp_path: Path) -> None:
    run_virtual(lambda loop: days(loop, tmp_path), SPEED)


async def days(loop: VirtualLoop, folder: Path) -> None:
    print(f"PRECALL_TEST_SOAK_SEED={SEED}", flush=True)  # noqa: T201
    simulator = Simulator(Scenario.model_validate(SCENARIO), loop.wall)
    life = Life(loop, folder, simulator, random.Random(SEED))
    async with simulator.running() as provider:
        await life.through_all(provider, loop.time() + DAYS * DAY)
    checks = list(simulator.received_at)
    print(dict(life.happened), len(life.seen.told), "routes seen")  # noqa: T201
    keeps_to_the_quota(checks, RATE, BURST)
    assert life.happened
    assert len(checks) > BINDINGS


# -- real processes ---------------------------------------------------------------------------------

REAL_RATE, REAL_BURST = 20.0, 10.0
REAL_QUICK = '\n[freshness]\nmin_interval = "100ms"\nmax_age = "1s"\n'


@contextmanager
def stopped(server: Server, seconds: float) -> Iterator[None]:
    """The process stands still for so long."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@pytest.mark.slow(seconds=35)
def test_invariants_hold_through_kills_suspensions_and_disconnections(tmp_path: Path) -> None:
    print(f"PRECALL_TEST_SOAK_SEED={SEED}", flush=True)  # noqa: T201
    chance, seen, happened = random.Random(SEED), Seen(), Counter[str]()
    scenario, bindings = tmp_path / "scenario.toml", tmp_path / "bindings.jsonl"
    scenario.write_text(
        f'[[pool]]\npool_key = "FC1"\nbindings = {BINDINGS}\nonset = "3s"\nrecovery = "2s"\nlifetime = "0s"\n'
        "temporary_numbers = 40\n"
    )
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with serving(tmp_path, *simulate) as simulator:
        provider = simulator.url("simulator")
        with Wire(urlsplit(provider).port or 0).running() as wire:
            settings = f"rate = {REAL_RATE}\nburst = {REAL_BURST}"
            config = config_file(tmp_path, f"http://127.0.0.1:{wire.port}", settings, store_timeout="1s")
            config.write_text(config.read_text() + REAL_QUICK)
            bodies = [json.loads(line) for line in bindings.read_text().splitlines()]
            begun, lives, left = time.monotonic(), 0, KILLS
            while left:
                lives += 1
                with serving(tmp_path, "run", "--config", config) as server:
                    url = server.url("precall serves")
                    if not seen.told:
                        sent = {"bindings": bodies}
                        assert ask(f"{url}/v1/bindings/batch", "POST", sent)[0] == 200
                    goes_on(url, seen)
                    while left:
                        left -= 1
                        what = chance.choice(["kill", "kill", "stop", "cut"])
                        happened[what] += 1
                        if what == "kill":
                            server.stop(signal.SIGKILL)
                            break
                        if what == "stop":
                            with stopped(server, chance.uniform(0.2, 3.0)):
                                pass
                        else:
                            wire.cut()
                            look(url, seen)
                            time.sleep(chance.uniform(0.2, 3.0))
                            look(url, seen)
                            wire.heal()
                        goes_on(url, seen)
            with serving(tmp_path, "run", "--config", config) as server:
                goes_on(server.url("precall serves"), seen)
                arrivals = ask(f"{provider}/_admin/stats?arrivals=1000000")[1]["arrivals"]
                assert server.stop() == 0
            # Each start begins with an empty bucket, so that restarts cannot exceed the rate.
            assert len(arrivals) <= REAL_RATE * (time.monotonic() - begun) + REAL_BURST
    print(dict(happened), lives, "lives,", len(seen.told), "routes seen")  # noqa: T201


def look(url: str, seen: Seen) -> None:
    status, page = ask(f"{url}/v1/routes?limit=1000")
    assert status == 200, page
    seen.take(page["routes"])


def goes_on(url: str, seen: Seen) -> None:
    """Everything is checked once more."""
    look(url, seen)
    before = dict(seen.checked)

    def all_again() -> bool:
        look(url, seen)
        return all(seen.checked[subs_id] != before[subs_id] for subs_id in before)

    until(all_again, patience=180.0)
