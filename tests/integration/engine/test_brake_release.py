"""A released brake releases held bindings at once, without a provider call, and up to the cap."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from precall.core.model import Policy, Row
from precall.simulator import Fault
from tests.support.api_daemon import A, Served, a_binding, scripted, serving
from tests.support.patience import PATIENCE

LAZY = {"min_interval": "1h", "abnormal_min_interval": "1h", "max_age": "2h", "abnormal_max_age": "2h"}
BINDINGS = 12


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


def exposed(served: Served) -> list[str]:
    """The ids of those that have turned, in order."""
    return sorted(
        (row.binding.subs_id for row in served.daemon.parts.table.rows() if row.state.exposed_at), key=int
    )


def row_of(served: Served, subs_id: str) -> Row:
    row = served.daemon.parts.table.get(subs_id)
    assert row is not None
    return row


async def reason(served: Served, subs_id: str) -> str:
    _, body = await served.ask("GET", f"/v1/routes/{subs_id}")
    return body["reason"]  # type: ignore[no-any-return]


async def order(served: Served, what: str, pool_key: str = "FC1") -> None:
    body = {"pool_key": pool_key, "reason": "a test"}
    assert (await served.ask("POST", f"/v1/brake/{what}", body))[0] == 200


@asynccontextmanager
async def braked(folder: Path, **brake: Any) -> AsyncIterator[Served]:
    """Twelve bindings with Status 3, checked in the order of their ids, after which the provider is unreachable."""
    settings = {"share": 0.0, "floor": 3, "window": "1h"} | brake
    async with serving(folder, scripted(*[3] * BINDINGS), brake=settings, freshness=LAZY) as served:
        for place in range(1, BINDINGS + 1):
            await served.register(subs_id=str(place))
            await served.checked(str(place))
        served.simulator.service.faults.add(Fault.model_validate({"kind": "reset", "for": "0s"}), 0.0)
        yield served


async def test_a_release_admits_the_longest_held_up_to_a_new_cap(tmp_path: Path) -> None:
    async with braked(tmp_path) as served:
        assert exposed(served) == ["1", "2", "3"]
        assert await reason(served, "4") == "exposure_brake"
        made = served.simulator.calls_received.total()
        await order(served, "release")
        assert exposed(served) == ["1", "2", "3", "4", "5", "6"], "when the order is acknowledged"
        _, body = await served.ask("GET", f"/v1/routes/4?caller={A}")
        assert (body["action"], body["reason"]) == ("dial_real", "status_3")
        assert await reason(served, "7") == "exposure_brake"
        assert served.simulator.calls_received.total() == made, "without a call"
        [audited] = await served.daemon.parts.store.exposures(limit=10)
        assert audited["subs_id"] == "4", "written down when it is read, not before"
        _, changes = await served.daemon.parts.store.history("4", limit=10)
        assert (changes[0]["action"], changes[0]["cause"], changes[0]["number"]) == (
            "dial_real",
            "checked",
            "",
        )
        stored = {one.subs_id: one.row async for rows in served.daemon.parts.store.load() for one in rows}
        assert sorted((key for key, row in stored.items() if row.state.exposed_at), key=int) == exposed(
            served
        )


async def test_releasing_a_halt_restores_exposed_bindings_and_releases_held_ones(
    tmp_path: Path,
) -> None:
    async with braked(tmp_path) as served:
        await order(served, "engage", "")
        assert {await reason(served, subs_id) for subs_id in ("1", "4")} == {"exposure_brake"}
        await order(served, "release", "")
        assert exposed(served) == ["1", "2", "3", "4", "5", "6"]
        assert await reason(served, "1") == "status_3"


async def test_the_brake_releases_after_its_window(tmp_path: Path) -> None:
    async with braked(tmp_path, window="500ms") as served:
        await until(lambda: len(exposed(served)) == BINDINGS)


async def test_the_brake_releases_when_the_cap_is_raised(tmp_path: Path) -> None:
    async with braked(tmp_path) as served:
        served.daemon.parts.checker.brake.retune(0.0, 5, 3600.0)
        await until(lambda: len(exposed(served)) == 5)
        served.daemon.parts.checker.brake.retune(0.0, 20, 3600.0)
        await until(lambda: len(exposed(served)) == BINDINGS)


async def test_only_bindings_held_by_the_brake_alone_are_released(tmp_path: Path) -> None:
    async with braked(tmp_path) as served:
        await served.ask("PUT", "/v1/overrides/4", {"action": "hold", "reason": "because"})
        await served.ask("DELETE", "/v1/bindings/5")
        ended = row_of(served, "6")
        assert ended.state.status == 3
        await served.register(subs_id="6", number_x="17000000009")
        await order(served, "release")
        assert exposed(served) == ["1", "2", "3", "7", "8", "9"]


async def test_an_answer_that_is_too_old_is_not_released(tmp_path: Path) -> None:
    async with braked(tmp_path) as served:
        served.daemon.parts.settings.policy = Policy(real_ttl=0.0)
        await order(served, "release")
        assert exposed(served) == ["1", "2", "3"]
        assert await reason(served, "4") == "too_old"


async def test_bindings_held_before_a_restart_are_released(tmp_path: Path) -> None:
    async with braked(tmp_path):
        pass
    settings = {"share": 0.0, "floor": 3, "window": "1h"}
    async with serving(tmp_path, brake=settings, freshness=LAZY, rate=0.01) as served:
        assert exposed(served) == ["1", "2", "3"]
        await order(served, "release")
        assert exposed(served) == ["1", "2", "3", "10", "11", "12"], "in the order of the table"


async def test_many_bindings_are_released_in_slices_and_each_once(tmp_path: Path) -> None:
    many = 700
    brake = {"share": 0.0, "floor": 1, "window": "1h"}
    async with serving(tmp_path, scripted(*[3] * many), brake=brake, freshness=LAZY) as served:
        bindings = [a_binding(subs_id=str(place)) for place in range(1, many + 1)]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        await until(lambda: all(row.state.status == 3 for row in served.daemon.parts.table.rows()))
        assert len(exposed(served)) == 1
        served.daemon.parts.checker.brake.retune(0.0, 600, 3600.0)
        await until(lambda: len(exposed(served)) == 600)
        await until(lambda: not served.daemon.parts.checker.braking.under_way)
        assert len(exposed(served)) == 600
        versions = {row.version for row in served.daemon.parts.table.rows() if row.state.exposed_at}
        assert versions <= {2, 3}, "one change by its check, one by its release"
