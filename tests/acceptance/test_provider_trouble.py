"""A provider that throttles, is unreachable, or reports that a whole pool has no number left."""

import asyncio
import json
import signal
import tomllib
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import Server, config_file, precall, serving, until
from tests.acceptance.test_standby import ask
from tests.support.api_daemon import Served
from tests.support.api_daemon import serving as serving_here
from tests.support.virtual_time import VirtualLoop, run_virtual
from tests.support.virtual_time import until as come_true

from precall.cli.demo import as_registered
from precall.simulator import Fault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RATE, QUOTA = 40.0, 8
SCENARIO = """
[account]
access_key_id = "demo"
access_key_secret = "demo-secret"
rate = {quota}
[[pool]]
pool_key = "FC1"
bindings = {bindings}
onset = "0s"
lifetime = "0s"
temporary_numbers = 0
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A simulated provider and what a daemon over it needs."""

    folder: Path
    provider: str
    config: Path
    bindings: Path
    ids: tuple[str, ...]

    @contextmanager
    def daemon(self) -> Iterator[tuple[Server, str]]:
        with serving(self.folder, "run", "--config", self.config) as server:
            yield server, server.url("precall serves")

    def load(self, url: str) -> None:
        """Register all, and wait until each was checked."""
        assert precall("bindings", "import", self.bindings, url=url).returncode == 0
        until(lambda: not ask(f"{url}/v1/routes?state=unverified&limit=1")[1]["routes"])


@contextmanager
def site(folder: Path, settings: str, *, bindings: int, quota: int = 0) -> Iterator[Site]:
    scenario, exported = folder / "scenario.toml", folder / "bindings.jsonl"
    scenario.write_text(SCENARIO.format(bindings=bindings, quota=quota))
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", exported)
    with serving(folder, *simulate) as simulator:
        provider = simulator.url("simulator")
        ids = tuple(json.loads(line)["subs_id"] for line in exported.read_text().splitlines())
        yield Site(folder, provider, config_file(folder, provider, settings), exported, ids)


def metric(url: str, name: str, **labels: str) -> float:
    """The sum of all samples of that name with those labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=240) as reply:
        text = reply.read().decode()
    return in_metrics(text, name, labels)


def in_metrics(text: str, name: str, labels: Mapping[str, str]) -> float:
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.partition(" ")[0].partition("{")[0] == f"precall_{name}" and all(w in line for w in wanted)
    )


def routes(url: str) -> dict[str, tuple[Any, ...]]:
    told: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = ask(f"{url}/v1/routes?limit=1000&cursor={cursor}")[1]
        told += page["routes"]
        if not (cursor := page["cursor"]):
            return {one["subs_id"]: (one["action"], one["reason"], one["version"]) for one in told}


@asynccontextmanager
async def virtually(
    loop: VirtualLoop, folder: Path, bindings: int, quota: int, **more: Any
) -> AsyncIterator[Served]:
    """A daemon and its provider in this process, by the loop's clock, with everything registered. What waits for the
    database, which keeps to the machine's clock, has all the time it needs."""
    scenario = tomllib.loads(SCENARIO.format(bindings=bindings, quota=quota))
    clocks = {"wall": loop.wall, "monotonic": loop.time}
    async with serving_here(folder, scenario, rate=RATE, store_timeout=3600.0, **clocks, **more) as served:
        facts = [as_registered(one) for one in served.simulator.bindings()]
        status, body = await served.ask("POST", "/v1/bindings/batch", {"bindings": facts})
        assert status == 200, body
        yield served


async def figure(served: Served, name: str, **labels: str) -> float:
    """As `metric`."""
    return in_metrics((await served.ask("GET", "/metrics"))[1], name, labels)


async def made_so_far(served: Served) -> dict[str, float]:
    return {name: await figure(served, "checks_total", result=name) for name in ("status_1", "throttled")}


@asynccontextmanager
async def reading_here(served: Served, subs_id: str) -> AsyncIterator[Counter[bool]]:
    """A route is read all the while; counts by whether the answer was good."""
    counts: Counter[bool] = Counter()

    async def read() -> None:
        while True:
            status, body = await served.ask("GET", f"/v1/routes/{subs_id}")
            counts[status == 200 and body["action"] == "dial_x"] += 1
            await asyncio.sleep(0.1)

    task = asyncio.create_task(read())
    try:
        yield counts
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled(), task.exception()


@pytest.mark.slow(seconds=20)
def test_the_rate_adapts_to_a_provider_that_allows_a_fifth_of_it(tmp_path: Path) -> None:
    run_virtual(lambda loop: a_fifth(loop, tmp_path))


async def a_fifth(loop: VirtualLoop, folder: Path) -> None:
    quick = {"min_interval": "100ms", "max_age": "1s"}
    async with (
        virtually(loop, folder, 200, QUOTA, freshness=quick) as served,
        reading_here(served, served.simulator.bindings()[0].subs_id) as counts,
    ):
        await asyncio.sleep(60.0)
        begun, at_first = loop.time(), await made_so_far(served)
        limits = []
        while loop.time() < begun + 60.0:
            limits.append(await figure(served, "provider_rate_limit"))
            await asyncio.sleep(1.0)
        seconds, at_last = loop.time() - begun, await made_so_far(served)
    made = {name: at_last[name] - at_first[name] for name in at_first}
    # Read once a second of a rate that grows in between: half a percent is the reading's.
    assert 0.75 * QUOTA <= sum(limits) / len(limits) <= 1.005 * QUOTA
    # The provider lets a second's worth pass at once.
    assert 0.75 * QUOTA <= made["status_1"] / seconds <= QUOTA * (1 + 1 / seconds)
    assert made["throttled"] < 0.1 * sum(made.values())
    assert counts[True] > 500
    assert not counts[False]


@pytest.mark.slow(seconds=15)
def test_two_minutes_without_the_provider(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def said(event: str) -> int:
        return sum(event in record.getMessage() for record in caplog.records)

    run_virtual(lambda loop: two_minutes(loop, tmp_path, said))
    assert said("degraded.entered") == said("degraded.left") == 1


async def two_minutes(loop: VirtualLoop, folder: Path, said: Callable[[str], int]) -> None:
    quick = {"min_interval": "100ms", "max_age": "3s"}
    async with virtually(loop, folder, 100, 0, freshness=quick) as served:
        # One of them expires while the provider is unreachable.
        simulated = served.simulator.bindings()[0]
        ending = simulated.subs_id
        # On a whole second: of an end fractions are dropped.
        end = int(loop.wall()) + 60.0
        facts = as_registered(simulated) | {"expires_at": datetime.fromtimestamp(end + 5.0, UTC).isoformat()}
        assert (await served.ask("PUT", f"/v1/bindings/{ending}", facts))[0] == 200
        rows = served.daemon.parts.table.rows
        await come_true(lambda: all(row.state.status == 1 for row in rows()))
        assert loop.wall() < end - 30.0
        before = await routes_of(served)
        assert {action for action, _, _ in before.values()} == {"dial_x"}
        served.simulator.service.faults.add(
            Fault.model_validate({"kind": "reset", "for": "120s"}), loop.wall()
        )
        back = loop.time() + 120.0
        await come_true(lambda: said("degraded.entered"))
        while (left := end - loop.wall()) > 0.5:
            assert (await served.ask("GET", f"/v1/routes/{ending}?dial=0"))[1]["action"] == "dial_x"
            await asyncio.sleep(min(1.0, left - 0.25))
        await come_true(lambda: loop.wall() >= end)
        body = (await served.ask("GET", f"/v1/routes/{ending}?dial=0"))[1]
        assert (body["action"], body["reason"], body["number"]) == ("expired", "expired_locally", "")
        while loop.time() < back - 5.0:
            now = await routes_of(served)
            assert {i: now[i] for i in now if i != ending} == {i: before[i] for i in before if i != ending}
            await asyncio.sleep(2.0)
        await come_true(lambda: said("degraded.left"))
        assert loop.time() > back


async def routes_of(served: Served) -> dict[str, tuple[Any, ...]]:
    page = (await served.ask("GET", "/v1/routes?limit=1000"))[1]
    return {one["subs_id"]: (one["action"], one["reason"], one["version"]) for one in page["routes"]}


@pytest.mark.slow(seconds=15)
def test_a_pool_that_runs_out_of_numbers_exposes_exactly_the_cap(tmp_path: Path) -> None:
    settings = (
        'rate = 200\n[freshness]\nmin_interval = "1s"\nabnormal_min_interval = "1s"\nmax_age = "5s"\n'
        "[brake]\nshare = 0.1\nfloor = 20\n"
    )
    bindings = 400
    cap = bindings // 10

    def exposed(url: str) -> int:
        """Return how many real numbers dispatchers receive, reading each route once."""
        body = ask(f"{url}/v1/routes/lookup", "POST", {"subs_ids": here.ids})[1]["routes"]
        numbers = sum(one["action"] == "dial_real" and one["number"] != "" for one in body)
        assert numbers <= most, numbers
        return numbers

    with site(tmp_path, settings, bindings=bindings) as here:
        most = cap
        with here.daemon() as (daemon, url):
            here.load(url)
            ask(f"{here.provider}/_admin/pools/FC1/outage", "POST", {"for": "1h", "status": 3})
            until(lambda: exposed(url) >= cap // 2)
            daemon.stop(signal.SIGKILL)
        with here.daemon() as (daemon, url):
            until(lambda: not ask(f"{url}/v1/routes?state=normal&limit=1")[1]["routes"])
            assert exposed(url) == cap
            reasons = [reason for _, reason, _ in routes(url).values()]
            assert reasons.count("exposure_brake") == bindings - cap
            until(lambda: daemon.said.count("exposure_brake.engaged") == 1)
            assert metric(url, "exposure_brake") == 1.0
            most = 2 * cap
            release = {"pool_key": "FC1", "reason": "looked at it"}
            assert ask(f"{url}/v1/brake/release", "POST", release)[0] == 200
            until(lambda: exposed(url) == most)
            assert ask(f"{url}/v1/brake/engage", "POST", {"pool_key": "FC1", "reason": "stop"})[0] == 200
            most = 0
            assert exposed(url) == 0
            assert daemon.stop() == 0
