"""The state of the system, as the API tells it: by whom orders were given, since when, and to whom that is told."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from precall.api.schemas.status import StatusAnswer
from precall.core.ages import Tick
from precall.engine.process_state import LoopDelay
from tests.integration.api.test_tls import Authority
from tests.integration.runtime.test_reload import reloading
from tests.support.api_daemon import Served, scripted, serving, token
from tests.support.patience import PATIENCE, until

TYPED = "asked by 13800000001"


async def status(served: Served, secret: str = "") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    code, found = await served.ask("GET", "/v1/status", headers=headers)
    assert code == 200, found
    StatusAnswer.model_validate(found)
    return found  # type: ignore[no-any-return]


async def test_a_healthy_daemon_is_fine(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        await served.checked("1")
        await served.shows()
        found = await status(served)
        assert (found["verdict"], found["findings"], found["orders"]) == ("fine", [], [])
        assert found["daemon"]["role"] == "leading"
        await until(served.daemon.parts.members)
        assert [member["role"] for member in (await status(served))["members"]] == ["leading"]
        async with asyncio.timeout(PATIENCE):  # what was looked at a moment ago may be shown
            while (found := await status(served))["table"]["states"]["normal"] != 1:
                await asyncio.sleep(0.05)
        assert [one["pool_key"] for one in found["pools"]] == ["FC1"]
        assert not found["source"]["configured"]
        assert found["provider"]["last_answer"]


async def test_a_pool_tells_the_age_of_its_oldest_route(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1, 1)) as served:
        await served.register()
        await served.register(subs_id="2")
        plan = served.daemon.parts.checker.plan
        await plan.sweep()
        assert 0 <= plan.oldest["FC1"] < PATIENCE
        async with asyncio.timeout(PATIENCE):
            while not any("oldest_age" in pool for pool in (await status(served))["pools"]):
                await asyncio.sleep(0.05)


async def test_who_gave_an_order_and_why_is_told_to_administrators_alone(tmp_path: Path) -> None:
    reader, may_read = token("reader", "routes:read")
    boss, may_order = token("night-shift", "routes:read", "admin", "bindings:write")
    async with serving(tmp_path, scripted(1), tokens=[may_read, may_order]) as served:
        headers = {"Authorization": f"Bearer {boss}"}
        served.session.headers.update(headers)
        await served.register()
        for path, pool_key in (("pause", ""), ("brake/engage", "FC1")):
            body = {"pool_key": pool_key, "reason": TYPED}
            assert (await served.ask("POST", f"/v1/{path}", body))[0] == 200
        assert len(await served.shows("paused", "brake_ordered")) == 2
        told = await status(served, boss)
        orders = {one["kind"]: one for one in told["orders"]}
        assert (orders["pause"]["by"], orders["pause"]["reason"]) == ("night-shift", "asked by ***")
        assert (orders["brake"]["pool_key"], orders["brake"]["action"]) == ("FC1", "engage")
        assert told["verdict"] == "degraded"
        since = {one["code"]: one["since"] for one in told["findings"]}
        assert since == {"paused": orders["pause"]["at"], "brake_ordered": orders["brake"]["at"]}
        withheld = await status(served, reader)
        assert all((one["by"], one["reason"]) == ("", "") for one in withheld["orders"])
        ready = str((await served.ask("GET", "/readyz"))[1])
        assert "night-shift" not in ready
        assert "asked" not in ready
    async with serving(tmp_path, scripted(1), tokens=[may_read, may_order]) as served:
        again = await status(served, boss)
        assert again["orders"] == told["orders"], "they survive a restart"
        served.session.headers.update(headers)
        for path in ("resume", "brake/release"):
            assert (await served.ask("POST", f"/v1/{path}", {}))[0] == 200
        await served.shows()


async def test_a_refused_reload_is_a_finding_until_one_succeeds(tmp_path: Path) -> None:
    async with reloading(tmp_path) as desk:
        await desk.shows()
        desk.write("[policy]\nskew = 13800000001.5.1")
        assert (await desk.reload())[0] == 422
        [line] = await desk.shows("reload_failed")
        assert line.startswith("reload_failed: The latest reload of the configuration was refused")
        [found] = (await status(desk))["findings"]
        assert found["cause"].startswith("It has mistakes (1), the first of them: ")
        assert "13800000001" not in str(found)
        desk.write()
        assert (await desk.reload())[0] == 200
        await desk.shows()


@pytest.mark.parametrize("left", [1, 20])
async def test_a_certificate_that_ends_soon_is_a_finding(tmp_path: Path, left: int) -> None:
    cert, key = Authority("authority").issue(tmp_path, "localhost", left=left)
    listens = {"tls_cert_file": str(cert), "tls_key_file": str(key)}
    async with serving(tmp_path, api=listens) as served:
        codes = [one.code for one in served.daemon.parts.status.look().findings]
        assert codes == (["certificate_ending"] if left == 1 else [])


def test_one_late_tick_is_a_pause_and_several_are_a_late_loop() -> None:
    delay = LoopDelay()
    for at in (0.0, 5.0):
        delay.record(Tick(at), 2.0)
        assert delay.worst(Tick(at)) is None
    delay.record(Tick(7.0), 0.5)
    delay.record(Tick(8.0), 3.0)
    assert delay.worst(Tick(9.0)) == 3.0
    assert delay.worst(Tick(18.5)) is None, "on time for ten seconds"
    delay.record(Tick(40.0), 2.0)
    assert delay.worst(Tick(40.0)) is None, "the others are long ago"
