"""The freshness promise end to end: chosen by the rate, kept for dials, and reported where it is not kept."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any

import pytest
import yaml

from precall.core.planning.stale_dials import LIMIT
from precall.simulator import Fault
from tests.acceptance.test_cli import PROJECT
from tests.integration.api.test_dials import logged
from tests.integration.runtime.test_reload import reloading
from tests.support.api_daemon import Served, a_binding, scripted, serving
from tests.support.patience import PATIENCE, until

MANY = 120
RATE = 10.0
MAX_AGE = 0.5
"""Six rounds take 72 s, far longer."""
WAITING = 1
"""The binding that waits longest for its first check: the newest comes first."""
FRESHNESS = {"max_age": "500ms", "abnormal_max_age": "500ms", "min_interval": "100ms"}
ALERTS = PROJECT / "deploy" / "prometheus" / "alerts.yml"


@asynccontextmanager
async def crowded(
    folder: Path, *, rate: float = RATE, count: int = MANY, **freshness: str
) -> AsyncIterator[Served]:
    """Run a daemon with more bindings than its rate can keep fresh, none of them just registered."""
    scenario = scripted(*[1] * count)
    async with serving(folder, scenario, rate=rate, freshness=FRESHNESS | freshness) as served:
        bindings = [a_binding(subs_id=str(n)) for n in range(1, count + 1)]
        status, body = await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        assert status == 200, body
        last = served.daemon.parts.table.get(str(count))
        assert last is not None
        await until(lambda: served.daemon.parts.clock() - last.binding.registered_at > MAX_AGE)
        yield served


async def promise(served: Served) -> str:
    status, body = await served.ask("GET", "/readyz")
    assert status == 200
    return str(body["promise"])


async def figures(served: Served) -> dict[str, float]:
    """All samples of the daemon, by name and labels."""
    _, text = await served.ask("GET", "/metrics")
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


async def stale_share(served: Served) -> float:
    """The share of the dials so far that got a stale route."""
    found = await figures(served)
    stale, young = (found[f'precall_dials_total{{stale="{value}"}}'] for value in ("true", "false"))
    return stale / (stale + young) if stale + young else 0.0


def threshold() -> float:
    """The share from which the alert fires, as its rule says."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    [rule] = [one for group in groups for one in group["rules"] if one["alert"] == "PrecallBudgetShort"]
    found = re.search(r"precall_dials_stale:ratio_rate5m > ([0-9.]+)", rule["expr"])
    assert found is not None
    return float(found[1])


async def dial(served: Served, subs_id: int, query: str = "") -> dict[str, Any]:
    status, body = await served.ask("GET", f"/v1/routes/{subs_id}{query}")
    assert status == 200, body
    return body  # type: ignore[no-any-return]


def calls(served: Served) -> int:
    return served.simulator.calls_received["QueryCallStatus"]


def _event(record: logging.LogRecord) -> dict[str, Any]:
    return record.msg if isinstance(record.msg, dict) else {}


async def test_with_too_many_bindings_routes_are_fresh_when_dialled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with crowded(tmp_path) as served:
        assert await promise(served) == "dial"
        chosen = [one for one in map(_event, caplog.records) if one.get("event") == "freshness.promise"]
        assert [line["promise"] for line in chosen] == ["all", "dial"]
        assert chosen[-1]["bindings"] > RATE * MAX_AGE / 6
        assert (chosen[-1]["rate"], chosen[-1]["max_age"]) == (RATE, MAX_AGE)
        assert "dial" in chosen[-1]["means"]
        # One dial at a time is well within the lane; `timeout` is how long it may wait for its turn.
        for subs_id in range(WAITING, WAITING + 8):
            found = await dial(served, subs_id, "?timeout=10")
            assert (found["stale"], found["status"]) == (False, 1)
            assert found["age_ms"] >= 0
        # The others are not dialled, so their age does not make them stale.
        _, listed = await served.ask("GET", "/v1/routes?limit=1000")
        assert len(listed["routes"]) == MANY
        assert not any(found["stale"] for found in listed["routes"])
        assert any(found["age_ms"] == -1 or found["age_ms"] > 1000 * MAX_AGE for found in listed["routes"])
        _, looked = await served.ask("POST", "/v1/routes/lookup", {"subs_ids": ["1", "2"]})
        assert not any(found["stale"] for found in looked["routes"])
        numbers = await figures(served)
        assert numbers["precall_budget_short"] == 0
        assert numbers['precall_freshness_promise{promise="dial"}'] == 1
        assert numbers['precall_freshness_promise{promise="all"}'] == 0
        assert numbers["precall_route_age_limit_seconds"] == pytest.approx(6 * MANY / RATE)
        assert await stale_share(served) == 0.0
        await served.shows()


async def test_dials_beyond_the_live_checks_are_stale_and_raise_the_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with crowded(tmp_path) as served:
        reads = [dial(served, subs_id, "?timeout=0.05") for subs_id in range(1, MANY + 1)]
        found = await asyncio.gather(*reads)
        stale = [one for one in found if one["stale"]]
        assert len(stale) > MANY / 2, "no lane has so many calls at once"
        assert all(one["age_ms"] == -1 or one["age_ms"] > 1000 * MAX_AGE for one in stale)
        assert await stale_share(served) == pytest.approx(len(stale) / MANY)
        assert await stale_share(served) > threshold()
        numbers = await figures(served)
        assert numbers['precall_freshness_promise{promise="dial"}'] == 1
        assert numbers["precall_degraded"] == numbers["precall_provider_circuit_open"] == 0
        await until(lambda: served.daemon.parts.promise.stale_share is not None)
        [line] = await served.shows("dials_stale")
        assert re.match(r"dials_stale: Of the dials of the last 5 min, \d+% got a route older", line)
        [begun] = [one for one in map(_event, caplog.records) if one.get("event") == "freshness.not_kept"]
        assert (begun["promise"], begun["seconds"]) == ("dial", 300.0)
        assert begun["dials"] >= 20
        assert begun["stale_share"] > LIMIT


def test_the_daemon_and_the_alert_have_one_limit() -> None:
    assert threshold() == LIMIT


async def test_stale_dials_of_an_outage_are_not_blamed_on_the_budget(tmp_path: Path) -> None:
    async with crowded(tmp_path) as served:
        served.simulator.service.faults.add(Fault.model_validate({"kind": "reset", "for": "0s"}), 0.0)
        outage = served.daemon.parts.checker.outage
        await until(lambda: outage.degraded)
        reads = [dial(served, subs_id, "?timeout=0.05") for subs_id in range(1, MANY + 1)]
        found = await asyncio.gather(*reads)
        assert sum(one["stale"] for one in found) > MANY / 2
        served.daemon.parts.promise.look()
        assert served.daemon.parts.promise.stale_share is None


async def test_a_read_without_a_dial_does_not_wait_for_a_check(tmp_path: Path) -> None:
    """Nor does a dial whose own `max_age` is met."""
    async with crowded(tmp_path) as served:
        served.simulator.service.faults.add(Fault.model_validate({"kind": "hang", "for": "0s"}), 0.0)
        assert not (await dial(served, WAITING, "?dial=0&timeout=0.01"))["stale"]
        assert not (await dial(served, WAITING, "?dial=0"))["stale"]
        assert (await dial(served, WAITING, "?timeout=0.01"))["stale"]
        assert (await figures(served))['precall_dials_total{stale="true"}'] == 1
        assert (await served.ask("HEAD", f"/v1/routes/{WAITING}"))[0] == 200
        assert await stale_share(served) == 1.0


async def test_the_max_age_of_the_reader_takes_precedence(tmp_path: Path) -> None:
    async with crowded(tmp_path) as served:
        await served.checked(str(MANY))
        row = served.daemon.parts.table.get(str(MANY))
        assert row is not None
        await until(lambda: served.daemon.parts.clock() - row.state.checked_at > MAX_AGE)
        found = await dial(served, MANY, "?max_age=3600&timeout=0.01")
        assert not found["stale"]
        assert found["age_ms"] > 1000 * MAX_AGE or found["checked_at"] != row.state.checked_at


@pytest.mark.parametrize(("max_age", "verified"), [("1h", False), ("1ms", True)])
async def test_only_a_dial_that_was_checked_counts_as_verified(
    tmp_path: Path, max_age: str, verified: bool
) -> None:
    """A fresh route may still be wrong, so a dial on it is not verified: it counts for the background checks."""
    limits = {"promise": "dial", "max_age": max_age, "min_interval": "1h"}
    async with serving(tmp_path, scripted(1), store={"dial_log": 1.0}, freshness=limits) as served:
        await served.register()
        await served.checked("1")
        assert not (await dial(served, 1, "?timeout=10"))["stale"]
        async with asyncio.timeout(PATIENCE):
            while not (dials := [line for line in await logged(served, 1) if line["kind"] == "dial"]):
                await asyncio.sleep(0.05)
    assert [line["verified"] for line in dials] == [verified]


async def test_an_unaffordable_promise_for_all_is_reported(tmp_path: Path) -> None:
    async with crowded(tmp_path, promise="all") as served:
        assert await promise(served) == "all"
        assert served.daemon.parts.checker.planner.max_age == MAX_AGE
        assert (await dial(served, WAITING))["stale"]
        numbers = await figures(served)
        assert numbers["precall_budget_short"] == 1
        assert numbers["precall_route_age_limit_seconds"] == MAX_AGE
        [line] = await served.shows("budget_short")
        assert f"checking {MANY} bindings" in line


async def test_a_reload_changes_the_promise(tmp_path: Path) -> None:
    """The planner follows: under the promise for all routes it checks by age."""
    async with reloading(tmp_path, 1) as desk:
        await desk.register()
        planner = desk.daemon.parts.checker.planner
        assert (await promise(desk), planner.max_age) == ("all", 300.0)
        desk.write('[freshness]\npromise = "dial"\nmax_age = "9m"\n')
        assert (await desk.reloaded())["changed"] == ["freshness.promise", "freshness.max_age"]
        assert (await promise(desk), planner.max_age) == ("dial", inf)
        desk.write('[freshness]\npromise = "all"\nmax_age = "1ms"\nmin_interval = "1h"\n')
        await desk.reloaded()
        assert (await promise(desk), planner.max_age) == ("all", 0.001)
        desk.write('[freshness]\nmax_age = "1ms"\nmin_interval = "1h"\n')
        await desk.reloaded()
        assert (await promise(desk), planner.max_age) == ("dial", inf)
