"""Where QueryCallStatus is not to be had: the substitute questions through the wire, and what becomes of routes."""

import asyncio
from pathlib import Path
from typing import Any

from precall.core.model import State
from tests.integration.engine.test_main_job import results, route, row_of, truth
from tests.support.api_daemon import A, B, Served, X, scripted, serving
from tests.support.patience import PATIENCE, until

SUBSTITUTE = {"status_source": "subscription_detail", "timeout": "30s"}
SUBSTITUTES = ("QuerySubscriptionDetail", "QuerySecretNoDetail")


async def test_a_normal_binding_is_confirmed_without_query_call_status(tmp_path: Path) -> None:
    scenario = scripted(1, delisted=["QueryCallStatus"])
    async with serving(tmp_path, scenario, provider=SUBSTITUTE, store_timeout=PATIENCE) as served:
        await served.register()
        shown = await served.checked("1")
        assert (shown["action"], shown["number"], shown["state"]) == ("dial_x", X, "normal")
        assert (shown["reason"], shown["status"], shown["flags"], shown["stale"]) == (
            "in_effect",
            0,
            [],
            False,
        )
        asked = served.simulator.calls_received
        assert asked["QueryCallStatus"] == 0
        assert all(asked[action] for action in SUBSTITUTES)
        _, history = await served.ask("GET", "/v1/bindings/1/history")
        assert history["results"][0]["result"] == "in_effect"
        assert history["results"][0]["request_id"]


async def test_expired_and_gone_bindings_end(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(4, 1), provider=SUBSTITUTE, store_timeout=PATIENCE) as served:
        for subs_id in ("1", "2"):
            await served.register(subs_id=subs_id)
        assert ((await served.checked("1"))["action"], results(served)["status_4"] >= 1) == ("expired", True)
        await served.checked("2")
        truth(served, "2", gone=True)
        await served.ask("POST", "/v1/bindings/2/check")
        await until(lambda: row_of(served, "2").state.state is State.EXPIRED, PATIENCE)
        assert (await route(served, "2"))["reason"] == "gone"


async def test_a_failing_x_is_suspect_and_its_route_unchanged(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(2, 3, 1), provider=SUBSTITUTE, store_timeout=PATIENCE) as served:
        for subs_id, number_x in (("1", X), ("2", "17000000002"), ("3", "17000000003")):
            served.simulator.service.world.change(subs_id, {"number_x": number_x}, {})
            await served.register(subs_id=subs_id, number_x=number_x)
        for subs_id in ("1", "2"):
            shown = await served.checked(subs_id)
            assert (shown["action"], shown["state"], shown["flags"]) == ("dial_x", "unverified", ["suspect"])
            assert shown["number"] not in ("", A, B)
            assert shown["checked_at"] == ""
        assert (await served.checked("3"))["flags"] == []
        for secret_status, flags in ((2, ["suspect"]), (1, []), (0, ["suspect"]), (None, [])):
            served.simulator.service.world.change("3", {}, {"secret_status": secret_status})
            shown = await served.checked("3")
            assert (shown["action"], shown["state"], shown["flags"]) == ("dial_x", "normal", flags)
        truth(served, "3", secret_status=3)
        assert (await served.checked("3"))["flags"] == ["suspect"]
        await served.ask("DELETE", "/v1/bindings/3")
        await served.register(subs_id="3", number_x="17000000003")
        assert "suspect" not in served.daemon.parts.checker.flags(row_of(served, "3"))


async def test_states_from_query_call_status_expire_after_a_change_of_source(tmp_path: Path) -> None:
    """A temporary number outlives the change as long as its ttl, then X is tried again; a real one likewise."""
    short = {"temporary_ttl": "3s", "real_ttl": "3s"}
    quick = {
        "min_interval": "50ms",
        "abnormal_min_interval": "50ms",
        "max_age": "200ms",
        "abnormal_max_age": "200ms",
    }
    scenario = scripted(2, 3)
    async with serving(tmp_path, scenario, store_timeout=PATIENCE) as served:
        for subs_id in ("1", "2"):
            await served.register(subs_id=subs_id)
        assert (await served.checked("1"))["action"] == "dial_temp_x"
        assert (await served.checked("2"))["action"] == "dial_real"
    scenario["binding"][0]["secret_status"] = scenario["binding"][1]["secret_status"] = 1
    async with serving(
        tmp_path, scenario, provider=SUBSTITUTE, policy=short, freshness=quick, store_timeout=PATIENCE
    ) as served:
        first, second = row_of(served, "1").state, row_of(served, "2").state
        await until(lambda: all(state_of(served, i) is State.NORMAL for i in ("1", "2")), PATIENCE)
        for subs_id, before in (("1", first), ("2", second)):
            shown = await route(served, subs_id)
            assert (shown["action"], shown["number"], shown["reason"]) == ("dial_x", X, "in_effect")
            after = row_of(served, subs_id).state
            assert after.checked_at - before.checked_at > 3.0
            assert (after.temp_number, after.exposed_at) == ("", 0.0)


def state_of(served: Served, subs_id: str) -> State:
    return row_of(served, subs_id).state.state


async def test_a_substitute_does_not_release_a_held_real_number(tmp_path: Path) -> None:
    """A Status 3 held back by the brake stays held back, however much room the brake has afterwards."""
    scenario = scripted(3)
    async with serving(
        tmp_path, scenario, brake={"floor": 0, "share": 0.0}, store_timeout=PATIENCE
    ) as served:
        await served.register()
        assert (await served.checked("1"))["reason"] == "exposure_brake"
    scenario["binding"][0]["secret_status"] = 1
    async with serving(tmp_path, scenario, provider=SUBSTITUTE, store_timeout=PATIENCE) as served:
        for _ in range(3):
            shown = await served.checked("1")
            assert (shown["action"], shown["reason"]) == ("hold", "exposure_brake")
        assert not row_of(served).state.exposed_at


async def test_a_check_fails_if_one_of_its_substitute_actions_is_refused(tmp_path: Path) -> None:
    async with serving(
        tmp_path, scripted(1, delisted=["QuerySecretNoDetail"]), provider=SUBSTITUTE, store_timeout=PATIENCE
    ) as served:
        await served.register()
        status, body = await served.ask("POST", "/v1/bindings/1/check")
        assert (status, body["outcome"], body["route"]["reason"]) == (200, "failed", "unverified")
        await until(lambda: results(served)["account"], PATIENCE)
        assert served.daemon.parts.checker.circuit.is_open
        assert not results(served)["in_effect"]


async def test_many_substitute_checks_stay_within_the_budget(tmp_path: Path) -> None:
    """Of each action no more calls than there may be checks."""
    fresh: dict[str, Any] = {"min_interval": "50ms", "max_age": "100ms"}
    async with serving(
        tmp_path, scripted(*[1] * 20), rate=20.0, provider=SUBSTITUTE, freshness=fresh, store_timeout=PATIENCE
    ) as served:
        begun = asyncio.get_running_loop().time()
        for place in range(1, 21):
            await served.register(subs_id=str(place))
        await until(lambda: served.simulator.calls_received[SUBSTITUTES[0]] >= 60, 2 * PATIENCE)
        seconds = asyncio.get_running_loop().time() - begun
        for action in SUBSTITUTES:
            assert served.simulator.calls_received[action] <= 20 * (seconds + 2) + 20
