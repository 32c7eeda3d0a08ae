"""A daemon whose wall clock is set forward and back, by minutes and days: it keeps working with correct routes.

The wall clock belongs to the test, the monotonic clock to the event loop. No test waits for either.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from precall.core.calls.call import Call, CallResult
from precall.core.model import Check, Exposure, Row
from precall.simulator import Fault
from precall.telemetry.logging import get_logger
from tests.support.api_daemon import Served, scripted, serving
from tests.support.patience import PATIENCE

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
QUICK = {
    "min_interval": "20ms",
    "abnormal_min_interval": "20ms",
    "max_age": "100ms",
    "abnormal_max_age": "100ms",
}
LAZY = {"min_interval": "1h", "abnormal_min_interval": "1h", "max_age": "2h", "abnormal_max_age": "2h"}
STEPS = {
    "a day and back": [DAY, 0.0],
    "a day back and again": [-DAY, 0.0],
    "ten minutes back and again": [-10 * MINUTE, 0.0],
    "five minutes back": [-5 * MINUTE],
    "an hour ahead": [HOUR],
    "a few seconds": [3.0, -3.0, 0.0],
    "a drift": [0.4 * n for n in range(1, 11)],
    "to and fro": [DAY, -DAY, HOUR, -HOUR, 0.0],
}


class Wall:
    """The clock on the wall, set to some seconds off the truth."""

    off = 0.0

    def __call__(self) -> float:
        return time.time() + self.off


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


async def route(served: Served, subs_id: str = "1") -> dict[str, Any]:
    status, body = await served.ask("GET", f"/v1/routes/{subs_id}?dial=false")
    assert status == 200, body
    return body  # type: ignore[no-any-return]


def checks(served: Served) -> int:
    return served.simulator.calls_received["QueryCallStatus"]


def row_of(served: Served, subs_id: str = "1") -> Row:
    row = served.daemon.parts.table.get(subs_id)
    assert row is not None
    return row


def metric(served: Served, name: str, **labels: str) -> float:
    return served.daemon.metrics.registry.get_sample_value(f"precall_{name}", labels) or 0.0


def steps_noticed(served: Served) -> float:
    return sum(metric(served, "clock_steps_total", direction=one) for one in ("forward", "back"))


def cut_off(served: Served) -> None:
    served.simulator.service.faults.add(Fault.model_validate({"kind": "reset", "for": "0s"}), 0.0)


@asynccontextmanager
async def watched(folder: Path, *statuses: int, wall: Wall, **sections: Any):  # type: ignore[no-untyped-def]
    """A daemon with bindings of these statuses that end in ten hours, each checked once."""
    async with serving(folder, scripted(*statuses), wall=wall, **({"freshness": LAZY} | sections)) as served:
        ends = datetime.fromtimestamp(wall() + 10 * HOUR, UTC).isoformat()
        for place in range(1, len(statuses) + 1):
            await served.register(subs_id=str(place), expires_at=ends)
            await served.checked(str(place))
        yield served


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
@pytest.mark.slow(seconds=15)
async def test_checks_continue_after_each_clock_step(tmp_path: Path, steps: list[float]) -> None:
    wall = Wall()
    async with watched(tmp_path, 1, 2, 3, wall=wall, freshness=QUICK) as served:
        for off in steps:
            wall.off = off
            over = off >= 10 * HOUR
            for subs_id, action in (("1", "dial_x"), ("2", "dial_temp_x"), ("3", "dial_real")):
                shown = await route(served, subs_id)
                # What was seen before a step forward may be too old by the new clock: until it is checked.
                allowed = {"expired"} if over else {action, "hold"}
                assert shown["action"] in allowed, (off, shown)
                assert shown["age_ms"] >= -1
                if not over:
                    await until(lambda: served.daemon.parts.checker.leads)
                    seq = row_of(served, subs_id).state.seq
                    await until(lambda s=subs_id, seq=seq: row_of(served, s).state.seq > seq)  # type: ignore[misc]
                    shown = await route(served, subs_id)
                    assert (shown["action"], shown["stale"]) == (action, shown["age_ms"] > 100), (off, shown)
            _, health = await served.ask("GET", "/healthz")
            assert health["alive"]
        if wall.off == 0.0:
            for subs_id in "123":
                made = row_of(served, subs_id).state.seq
                await until(lambda s=subs_id, made=made: row_of(served, s).state.seq > made)  # type: ignore[misc]


async def test_each_clock_step_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wall = Wall()
    async with watched(tmp_path, 1, wall=wall) as served:
        for place, off in enumerate((DAY, 0.0, -300.0), 1):
            wall.off = off
            await until(lambda place=place: steps_noticed(served) == place)  # type: ignore[misc]
        assert metric(served, "clock_behind_seconds") == pytest.approx(300.0, abs=0.5)
    lines = [record.msg for record in caplog.records if "clock.stepped" in str(record.msg)]
    told = [(one["direction"], one["seconds"], one.get("behind")) for one in lines]  # type: ignore[index]
    assert told == [("forward", DAY, None), ("back", DAY, None), ("back", 300.0, 300.0)]


async def test_a_route_made_too_old_by_a_clock_step_is_checked_at_once(tmp_path: Path) -> None:
    """Between two checks lies an hour: only the step brings the next one."""
    wall = Wall()
    async with watched(tmp_path, 1, 2, 3, wall=wall) as served:
        before = {subs_id: row_of(served, subs_id).state.seq for subs_id in "123"}
        services = served.daemon.parts
        assert services is not None
        wall.off = HOUR
        assert [services.lookup.shown(row_of(served, one)).reason for one in "23"] == ["too_old", "too_old"]
        for subs_id in "23":
            await until(lambda s=subs_id: row_of(served, s).state.seq > before[s])  # type: ignore[misc]
        assert (await route(served, "2"))["action"] == "dial_temp_x"
        assert (await route(served, "3"))["action"] == "dial_real"
        assert row_of(served, "1").state.seq == before["1"], "whose time has not come"


async def test_observations_by_a_clock_ahead_keep_their_true_age(tmp_path: Path) -> None:
    """The provider is out of reach: nothing but the ages themselves can be right."""
    wall = Wall()
    async with watched(tmp_path, 2, wall=wall, freshness=LAZY) as served:
        wall.off = HOUR
        await until(lambda: steps_noticed(served) == 1)
        await served.checked("1")
        cut_off(served)
        stored = row_of(served).state.temp_at
        wall.off = 0.0
        shown = await route(served)
        assert (shown["action"], shown["stale"]) == ("dial_temp_x", False)
        assert 0 <= shown["age_ms"] < PATIENCE * 1000
        await until(lambda: steps_noticed(served) == 2)

        async def set_right() -> bool:
            [packed] = [packed async for rows in served.daemon.parts.store.load() for packed in rows]
            return packed.row.state.temp_at < stored - HOUR + PATIENCE

        async with asyncio.timeout(PATIENCE):
            while not await set_right():  # for readers of the database, and the next start
                await asyncio.sleep(0.02)


@pytest.mark.slow(seconds=15)
async def test_bindings_that_expired_by_a_clock_ahead_are_checked_again(tmp_path: Path) -> None:
    wall = Wall()
    async with watched(tmp_path, 1, wall=wall, freshness=QUICK) as served:
        wall.off = DAY
        await until(lambda: len(served.daemon.parts.checker.planner) == 0)
        assert (await route(served))["reason"] == "expired_locally"
        assert metric(served, "routes", state="expired") == 1
        wall.off = 0.0
        assert (await route(served))["action"] == "dial_x"
        await until(lambda: len(served.daemon.parts.checker.planner) == 1)
        assert metric(served, "routes", state="expired") == 0
        made = row_of(served).state.seq
        await until(lambda: row_of(served).state.seq > made)


async def test_a_start_corrects_times_stored_by_a_clock_ahead(tmp_path: Path) -> None:
    wall = Wall()
    wall.off = HOUR
    async with watched(tmp_path, 2, wall=wall) as served:
        made = row_of(served).state.seq
    wall.off = 0.0
    async with serving(tmp_path, scripted(2), wall=wall, freshness=LAZY) as served:
        if row_of(served).state.seq == made:
            shown = await route(served)
            assert (shown["action"], shown["reason"], shown["age_ms"]) in (
                ("hold", "too_old", -1),
                ("dial_temp_x", "status_2", shown["age_ms"]),
            )
        await until(lambda: row_of(served).state.seq > made)
        shown = await route(served)
        assert (shown["action"], shown["stale"]) == ("dial_temp_x", False)


async def test_hints_and_quota_use_the_monotonic_clock(tmp_path: Path) -> None:
    wall = Wall()
    async with watched(tmp_path, 1, wall=wall) as served:
        at = datetime.fromtimestamp(wall() + 600, UTC).isoformat()
        assert (await served.ask("POST", "/v1/hints", [{"subs_id": "1", "dial_at": at}]))[0] == 200
        for off in (DAY, 0.0, -DAY):
            wall.off = off
            plan = served.daemon.parts.checker.plan.explain("1")
            assert plan is not None
            left = float(str(plan["next_at"])) - served.daemon.clocks.now()
            assert 598 - PATIENCE < left <= 598.1, "ten minutes from when it was given"
        checker = served.daemon.parts.checker
        assert checker.quota.until(served.daemon.clocks.tick(), "background") < 1.0  # type: ignore[arg-type]


async def test_calls_stored_by_a_clock_ahead_are_queried(tmp_path: Path) -> None:
    wall = Wall()
    async with watched(tmp_path, 1, wall=wall) as served:
        wall.off = DAY
        book = served.daemon.parts.store.calls
        await book.file([Call("1~1", wall(), wall(), "1", 1, next_at=wall() + 180.0)])
        await until(lambda: steps_noticed(served) == 1)
        wall.off = 0.0
        async with asyncio.timeout(PATIENCE):
            while (call := await book.get("1~1")) is None or (
                call.result is CallResult.PENDING
                and (call.next_at is None or call.next_at > wall() + DAY - HOUR)
            ):
                await asyncio.sleep(0.02)


async def test_a_day_ahead_gives_up_no_call(tmp_path: Path) -> None:
    wall = Wall()
    async with watched(tmp_path, 1, wall=wall) as served:
        book, placed = served.daemon.parts.store.calls, wall()
        wall.off = DAY + HOUR
        await until(lambda: steps_noticed(served) == 1)
        await book.file([Call("1~1", placed, placed, "1", 1, next_at=placed)])
        await until(lambda: metric(served, "call_details_total", result="nothing_yet") >= 1)

        async def postponed() -> bool:
            call = await book.get("1~1")
            return call is not None and call.next_at is not None and call.next_at > placed

        async with asyncio.timeout(PATIENCE):
            while not await postponed():
                await asyncio.sleep(0.02)
        call = await book.get("1~1")
        assert call is not None
        assert call.result is CallResult.PENDING


async def test_a_clock_a_year_ahead_deletes_only_a_share_of_the_history(tmp_path: Path) -> None:
    wall = Wall()
    async with watched(tmp_path, 1, wall=wall, store={"retention": "90d"}) as served:
        daemon, now = served.daemon, wall()
        old = [Check("1", 1, 1000 + day, now - day * DAY, 0.1, "status_1") for day in range(80, 0, -10)]
        # Each with another answer, so that none extends the run before it.
        await daemon.parts.store.commit(
            [], [replace(one, seq=1000 + place, code=str(place)) for place, one in enumerate(old)]
        )

        async def kept() -> int:
            runs, _ = await daemon.parts.store.history("1", limit=100)
            return sum(run["last_at"] < now - DAY / 2 for run in runs)

        await daemon.account.retire()
        assert await kept() == 8
        wall.off = 365 * DAY
        await daemon.account.retire()
        assert await kept() == 8, "at most two days more than before"
        assert daemon.parts.table.get("1") is not None
        wall.off = 0.0
        for _ in range(3):
            await daemon.account.retire()
        assert await kept() == 8
        wall.off = 25 * DAY
        for _ in range(30):
            await daemon.account.retire()
        assert await kept() == 6, "those of 70 and 80 days ago are over by then"


async def test_the_audit_outlives_the_history_and_a_shorter_period_is_in_force_at_once(
    tmp_path: Path,
) -> None:
    wall = Wall()
    async with serving(tmp_path, wall=wall) as served:
        store, now = served.daemon.parts.store, wall()
        handed_out = [
            Exposure("1", 1, "FC1", f"reader {age}", "a", "binding_read", "", now - age * DAY)
            for age in (740, 400, 100)
        ]
        await store.expose(*handed_out)
        await store.commit([], [Check("1", 1, 1000, now - 100 * DAY, 0.1, "status_1")])

        async def kept() -> list[str]:
            return [row["reader"] for row in await store.exposures(limit=9)]

        await served.daemon.account.retire()
        assert (await store.history("1", limit=9))[0] == []
        assert await kept() == ["reader 100", "reader 400"]
        settings = served.daemon.parts.settings
        shorter = settings.config.store.model_copy(update={"audit_retention": 365 * DAY})
        settings.take(settings.config.model_copy(update={"store": shorter}))
        await served.daemon.account.retire()
        assert await kept() == ["reader 100"]


async def test_a_step_while_it_starts_and_while_it_stops_is_harmless(tmp_path: Path) -> None:
    wall = Wall()
    async with serving(tmp_path, scripted(1), wall=wall) as served:
        wall.off = -DAY
        await served.register()
        await served.checked("1")
        wall.off = DAY
    get_logger(__name__).info("test.stopped")
    async with serving(tmp_path, scripted(1), wall=wall) as served:
        assert (await route(served))["action"] == "dial_x"
