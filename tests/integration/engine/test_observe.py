"""Observe mode from end to end: routes, counters, and how a pool enters and leaves it."""

import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runtime.test_reload import Desk, reloading
from tests.support.api_daemon import A, B, Served, X, scripted, serving, token
from tests.support.patience import until
from tests.support.route_forms import route_forms

STATES = (1, 2, 3, 4)
WOULD = {
    "1": {"action": "dial_x", "reason": "status_1"},
    "2": {"action": "dial_temp_x", "reason": "status_2"},
    "3": {"action": "dial_real", "reason": "status_3"},
    "4": {"action": "expired", "reason": "status_4"},
}
LAZY = "[freshness]\nmin_interval = '1h'\nabnormal_min_interval = '1h'\nmax_age = '2h'\nabnormal_max_age = '2h'\n"
BRAKE = "[brake]\nshare = 0.0\nfloor = 3\nwindow = '1h'\n"


def observing(*pools: str) -> str:
    return f"{LAZY}{BRAKE}[policy]\nobserve = {json.dumps(pools)}\n"


@asynccontextmanager
async def observed(folder: Path, **more: Any) -> AsyncIterator[Served]:
    """Four observed bindings, one for each status."""
    policy = {"observe": ["FC1"]}
    async with serving(folder, scripted(*STATES), policy=policy, **more) as served:
        for subs_id in WOULD:
            await served.register(subs_id=subs_id)
            await served.checked(subs_id)
        yield served


def audited(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "precall.db")) as database:
        return int(database.execute("SELECT count(*) FROM exposures").fetchone()[0])


def shown_as_observed(route: dict[str, Any]) -> None:
    assert (route["action"], route["number"], route["reason"]) == ("dial_x", X, "observed"), route
    assert route["would"] == WOULD[route["subs_id"]]
    assert "number_withheld" not in route["flags"]


async def test_every_form_of_a_route_has_x_and_the_would_be_route(tmp_path: Path) -> None:
    async with observed(tmp_path) as served:
        forms = await route_forms(served, WOULD, A)
        for form, routes in forms.items():
            assert {route["subs_id"] for route in routes} == set(WOULD), form
            for route in routes:
                shown_as_observed(route)
        for subs_id in WOULD:
            assert (await served.ask("GET", f"/v1/routes/{subs_id}?format=text&caller={A}"))[
                1
            ] == f"dial_x,{X}"
        assert audited(tmp_path) == 0
        states = {route["subs_id"]: (route["state"], route["status"]) for route in forms["read"]}
        assert states == {
            "1": ("normal", 1),
            "2": ("temporary", 2),
            "3": ("fallback", 3),
            "4": ("expired", 4),
        }


async def test_published_changes_keep_the_would_be_route(tmp_path: Path) -> None:
    async with observed(tmp_path) as served:
        base = min(served.daemon.parts.feed.bases)
    async with serving(tmp_path, scripted(*STATES), policy={"observe": ["FC1"]}) as served:
        changes = (await served.ask("GET", f"/v1/routes/changes?since={base}&wait=0"))[1]["changes"]
        first, last = changes[0], {one["subs_id"]: one for one in changes}
        assert (first["state"], first["would"]) == (
            "unverified",
            {"action": "dial_x", "reason": "unverified"},
        )
        for route in last.values():
            shown_as_observed(route)
        history = (await served.ask("GET", "/v1/bindings/2/history"))[1]["changes"]
        assert (history[0]["action"], history[0]["would"]) == ("dial_x", WOULD["2"])


async def test_an_override_outranks_observe_mode(tmp_path: Path) -> None:
    async with observed(tmp_path) as served:
        await served.ask("PUT", "/v1/overrides/2", {"action": "hold", "reason": "because"})
        _, held = await served.ask("GET", "/v1/routes/2")
        assert (held["action"], held["reason"]) == ("hold", "override")
        assert held["would"] == {"action": "hold", "reason": "override"}


async def test_expiry_outranks_observe_mode(tmp_path: Path) -> None:
    ahead = 0.0
    async with observed(tmp_path, wall=lambda: time.time() + ahead) as served:
        end = datetime.fromtimestamp(time.time() + 3600.0, UTC).isoformat()
        await served.register(subs_id="3", expires_at=end)
        assert (await served.ask("GET", "/v1/routes/3"))[1]["action"] == "dial_x"
        ahead = 3601.0
        _, over = await served.ask("GET", "/v1/routes/3")
        assert (over["action"], over["number"]) == ("expired", "")
        assert over["would"] == {"action": "expired", "reason": "expired_locally"}


async def test_reads_are_counted_by_their_would_be_action(tmp_path: Path) -> None:
    async with observed(tmp_path) as served:
        for subs_id in ("1", "2", "2", "3"):
            await served.ask("GET", f"/v1/routes/{subs_id}")
        text = (await served.ask("GET", "/metrics"))[1]
        counted = {
            line.split('would="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith('precall_observed_reads_total{pool="FC1"')
        }
        assert counted == {"dial_x": 1.0, "dial_temp_x": 2.0, "dial_real": 1.0}
        exposures = [line for line in text.splitlines() if line.startswith("precall_exposures_total{")]
        assert all(line.endswith(" 0.0") for line in exposures)


async def test_a_check_before_the_read_updates_the_would_be_route(tmp_path: Path) -> None:
    async with observed(tmp_path) as served:
        served.simulator.service.world.change("1", {}, {"status": 2})
        _, route = await served.ask("GET", "/v1/routes/1?max_age=0&timeout=10")
        assert (route["action"], route["number"]) == ("dial_x", X)
        assert route["would"] == {"action": "dial_temp_x", "reason": "status_2"}


async def test_an_ended_binding_is_not_confused_with_its_successor(tmp_path: Path) -> None:
    async with observed(tmp_path) as served:
        await served.ask("DELETE", "/v1/bindings/1")
        await served.ask("DELETE", "/v1/bindings/2")
        await served.ask("DELETE", "/v1/bindings/3")
        await served.register(subs_id="5")
        status, route = await served.ask("GET", f"/v1/routes/by-number?x={X}&caller={A}")
        assert (status, route["subs_id"]) == (200, "5"), "4 is over by Status 4"


async def test_observed_reads_expose_and_audit_no_real_number(tmp_path: Path) -> None:
    secret, entry = token("all", "routes:read", "routes:real", "bindings:write", "admin", "metrics")
    async with serving(
        tmp_path, scripted(3), policy={"observe": ["*"]}, tokens=[entry], provider={}
    ) as served:
        served.session.headers["Authorization"] = f"Bearer {secret}"
        await served.register()
        await served.checked("1")
        for caller in (A, B, ""):
            _, route = await served.ask("GET", f"/v1/routes/1?caller={caller}")
            assert (route["action"], route["number"]) == ("dial_x", X)
        assert audited(tmp_path) == 0


@asynccontextmanager
async def failing(folder: Path, text: str, bindings: int = 8) -> AsyncIterator[Desk]:
    """Bindings that all say Status 3, checked once, in the order of their ids."""
    async with reloading(folder, *[3] * bindings, text=text) as desk:
        for subs_id in map(str, range(1, bindings + 1)):
            await desk.register(subs_id=subs_id)
            await desk.checked(subs_id)
        yield desk


async def reasons(desk: Desk) -> list[str]:
    routes = (await desk.ask("GET", "/v1/routes"))[1]["routes"]
    return sorted(route["reason"] for route in routes)


def exposed(desk: Desk) -> int:
    return sum(bool(row.state.exposed_at) for row in desk.daemon.parts.table.rows())


async def test_leaving_observe_mode_exposes_no_more_than_the_cap(tmp_path: Path) -> None:
    async with failing(tmp_path, observing("FC1")) as desk:
        assert (exposed(desk), await reasons(desk)) == (0, ["observed"] * 8)
        assert not desk.daemon.parts.checker.brake.engaged("FC1", 8, desk.daemon.parts.monotonic())
        tag = await etag(desk)
        desk.write(observing())
        assert (await desk.reloaded())["changed"] == ["policy.observe"]
        assert set(await reasons(desk)) <= {"exposure_brake", "status_3"}
        assert await etag(desk) != tag
        await until(lambda: exposed(desk) == 3)
        assert await reasons(desk) == ["exposure_brake"] * 5 + ["status_3"] * 3
        assert await view(tmp_path) == {"dial_real": 3, "hold": 5}


async def test_entering_observe_mode_withdraws_exposures(tmp_path: Path) -> None:
    async with failing(tmp_path, observing()) as desk:
        assert exposed(desk) == 3
        newest = desk.daemon.parts.feed.newest
        desk.write(observing("FC1"))
        await desk.reloaded()
        assert await reasons(desk) == ["observed"] * 8
        await until(lambda: exposed(desk) == 0)
        changes = (await desk.ask("GET", f"/v1/routes/changes?since={newest}&wait=0"))[1]["changes"]
        assert [(one["subs_id"], one["reason"]) for one in changes] == [
            (subs_id, "observed") for subs_id in ("1", "2", "3")
        ]
        assert await view(tmp_path) == {"dial_x": 8}
        desk.write(observing())
        await desk.reloaded()
        assert await reasons(desk) == ["exposure_brake"] * 8, "the cap is used up within its window"


async def test_a_start_in_observe_mode_withdraws_what_was_exposed(tmp_path: Path) -> None:
    async with failing(tmp_path, observing()) as desk:
        assert exposed(desk) == 3
    async with reloading(tmp_path, *[3] * 8, text=observing("*"), provider="rate = 0.01") as desk:
        await until(lambda: exposed(desk) == 0)
        assert await reasons(desk) == ["observed"] * 8
        assert await view(tmp_path) == {"dial_x": 8}


async def etag(desk: Desk) -> str:
    async with desk.session.get(f"{desk.url}/v1/routes/8") as response:
        return response.headers["ETag"]


async def view(folder: Path) -> dict[str, int]:
    with closing(sqlite3.connect(folder / "precall.db")) as database:
        return dict(database.execute("SELECT action, count(*) FROM routing_table GROUP BY 1").fetchall())


async def test_failed_calls_to_x_do_not_make_another_number_suspect(tmp_path: Path) -> None:
    async with observed(tmp_path) as served:
        now = "2026-01-01T00:00:00Z"
        placed = [
            {"call_id": f"{subs_id}-{at}", "called_at": now, "subs_id": subs_id, "outcome": "failed"}
            for subs_id in ("1", "2")
            for at in range(5)
        ]
        assert (await served.ask("POST", "/v1/calls", placed))[0] == 200
        suspects = served.daemon.parts.checker.suspicion
        assert len(suspects) == 1, "that of 1, whose X should work"


async def test_the_log_says_what_a_changed_route_would_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with observed(tmp_path):
        lines = [one.msg for one in caplog.records if isinstance(one.msg, dict)]
        changes = [
            line for line in lines if line.get("event") == "route.changed" and line["cause"] == "checked"
        ]
    found = {line["subs_id"]: {"action": line["would"], "reason": line["would_reason"]} for line in changes}
    assert {subs_id: found.get(subs_id) for subs_id in WOULD} == WOULD
    caplog.clear()
    (tmp_path / "enforced").mkdir()
    async with serving(tmp_path / "enforced", scripted(2)) as served:
        await served.register(subs_id="1")
        await served.checked("1")
        lines = [one.msg for one in caplog.records if isinstance(one.msg, dict)]
    [change] = [line for line in lines if line.get("event") == "route.changed" and line["cause"] == "checked"]
    assert change["action"] == "dial_temp_x"
    assert "would" not in change
