"""The scripted dispatcher and the pushed receipts, over HTTP: against a daemon, and against one that misbehaves."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from precall.config.schema import ProviderConfig
from precall.core.calls.call import query_date
from precall.core.model import State
from precall.provider import Credential, Credentials, Provider
from precall.simulator import Scenario, Simulator, failed
from precall.simulator.dispatcher import CallTally
from tests.integration.engine.test_main_job import row_of, truth
from tests.support.api_daemon import A, B, X, scripted, serving, token
from tests.support.patience import PATIENCE, until

EASY = {"busy": 0, "no_answer": 0, "powered_off": 0}


class Listener:
    """A server in place of precall that records requests."""

    def __init__(self, status: int = 200, **answer: Any) -> None:
        self.status, self.answer = status, answer
        self.heard: list[Any] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._hear)
        async with TestServer(app) as server:
            yield str(server.make_url("")).rstrip("/")

    async def _hear(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response({"action": "dial_x", "number": X})
        self.heard.append(await request.json())
        return web.json_response(self.answer, status=self.status)


async def called(simulator: Simulator, url: str, times: int, secret: str = "") -> CallTally:
    async with simulator.dispatcher(url, token=secret) as dispatcher:
        for _ in range(times):
            await dispatcher.place_call()
            await dispatcher.report()
        return dispatcher.tally


async def test_routes_save_calls_that_the_bound_x_loses(tmp_path: Path) -> None:
    scenario = scripted(1, 2, 3, habits=EASY)
    async with serving(tmp_path, scenario, store_timeout=PATIENCE) as served:
        for subs_id in ("1", "2", "3"):
            await served.register(subs_id=subs_id)
            await served.checked(subs_id)
        tally = await called(served.simulator, served.url, 60)
        assert (tally.asked, tally.unanswered, tally.not_placed) == (60, 0, 0)
        assert set(tally.told) == {"dial_x", "dial_temp_x", "dial_real"}
        assert failed(tally.routed) == (0, 60)
        lost, placed = failed(tally.alone)
        assert (lost, placed) == (tally.told["dial_temp_x"] + tally.told["dial_real"], 60)


async def test_a_call_by_an_outdated_route_fails(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1, habits=EASY), store_timeout=PATIENCE) as served:
        await served.register()
        await served.checked("1")
        served.daemon.parts.checker.plan.pause("")
        truth(served, "1", status=3)
        tally = await called(served.simulator, served.url, 5)
        assert failed(tally.routed) == failed(tally.alone) == (5, 5)


async def test_a_held_call_is_not_placed_but_compared(tmp_path: Path) -> None:
    async with serving(
        tmp_path, scripted(3, habits=EASY), policy={"fallback": "hold"}, store_timeout=PATIENCE
    ) as served:
        await served.register()
        await served.checked("1")
        tally = await called(served.simulator, served.url, 5)
        assert (tally.not_placed, failed(tally.routed), failed(tally.alone)) == (5, (0, 0), (5, 5))


async def test_an_expired_binding_is_not_dialled_at_all(tmp_path: Path) -> None:
    ends = time.time() + 0.2
    scenario = scripted(1, habits=EASY)
    scenario["binding"][0]["expires_at"] = ends
    async with serving(tmp_path, scenario, store_timeout=PATIENCE) as served:
        await served.register()
        await until(lambda: time.time() > ends, PATIENCE)
        tally = await called(served.simulator, served.url, 5)
        assert tally.asked == 5
        assert not tally.routed
        assert not tally.alone


async def test_only_calls_reveal_a_silently_failing_x(tmp_path: Path) -> None:
    """The provider answers Status 1 while the fault lasts, and the true status afterwards."""
    scenario = scripted(2, habits=EASY, fault=[{"kind": "silent", "subs_id": "1"}])
    async with serving(tmp_path, scenario, store_timeout=PATIENCE) as served:
        await served.register()
        route = await served.checked("1")
        assert (route["action"], route["status"]) == ("dial_x", 1)
        tally = await called(served.simulator, served.url, 3)
        assert failed(tally.routed) == (3, 3)
        assert row_of(served).state.state is State.NORMAL
        served.simulator.service.faults.clear()
        assert (await served.checked("1"))["action"] == "dial_temp_x"
        assert failed((await called(served.simulator, served.url, 3)).routed) == (3, 6)


async def test_a_dispatcher_with_a_token_and_one_without(tmp_path: Path) -> None:
    secret, entry = token("dispatcher", "routes:read")
    async with serving(tmp_path, scripted(1), tokens=[entry], store_timeout=PATIENCE) as served:
        refused = await called(served.simulator, served.url, 2)
        assert (refused.asked, refused.unanswered) == (2, 2)
        unknown = await called(served.simulator, served.url, 2, secret)
        assert unknown.unanswered == 4, "404: nobody registered it"


async def test_calls_are_reported_when_placed_or_with_their_end() -> None:
    scenario = scripted(1, habits=EASY | {"handset": 0}, dispatcher={"outcomes": 0})
    listener = Listener()
    async with listener.listening() as url:
        tally = await called(Simulator(Scenario.model_validate(scenario)), url, 4)
    assert tally.reported == 4
    reports = [report for batch in listener.heard for report in batch]
    assert [set(report) for report in reports] == [{"call_id", "prod_id", "called_at", "subs_id"}] * 4
    assert all(report["subs_id"] == "1" for report in reports)
    listener = Listener()
    simulator = Simulator(Scenario.model_validate(scenario | {"dispatcher": {"outcomes": 1}}), speed=1000)
    async with listener.listening() as url, simulator.dispatcher(url) as dispatcher:
        await dispatcher.place_call()
        async with asyncio.timeout(PATIENCE):
            while not dispatcher.tally.reported:
                await dispatcher.report()
                await asyncio.sleep(0.01)
    assert [report["outcome"] for report in listener.heard[0]] == ["connected"]


async def test_a_missing_endpoint_is_logged_once() -> None:
    scenario = Scenario.model_validate(scripted(1, habits=EASY | {"handset": 0}, dispatcher={"outcomes": 0}))
    listener = Listener(404)
    async with listener.listening() as url:
        tally = await called(Simulator(scenario), url, 5)
    assert (len(listener.heard), tally.reported, tally.asked) == (1, 0, 5)


async def test_a_dispatcher_survives_an_unreachable_daemon() -> None:
    tally = await called(Simulator(Scenario.model_validate(scripted(1))), "http://127.0.0.1:9", 2)
    assert (tally.asked, tally.unanswered) == (2, 2)
    assert not (await called(Simulator(Scenario()), "http://127.0.0.1:9", 2)).asked, "nobody to call"


async def test_a_scenario_runs_dispatcher_and_receipts_by_itself(tmp_path: Path) -> None:
    listener = Listener(code=0, msg="OK")
    async with listener.listening() as url:
        scenario = scripted(
            1,
            habits=EASY | {"handset": 1},
            receipts={"url": f"{url}/v1/receipts", "every": 0.05, "duplicates": 0.5},
            dispatcher={"url": url, "rate": 200},
        )
        simulator = Simulator(Scenario.model_validate(scenario), speed=1000)
        async with simulator.running() as provider, aiohttp.ClientSession() as session:
            heard = Counter[str]()

            def some_twice() -> bool:
                heard.clear()
                heard.update(report["call_id"] for batch in listener.heard for report in batch)
                return len(heard) >= 20 and max(heard.values()) == 2

            await until(some_twice, PATIENCE)
            async with session.get(f"{provider}/_admin/stats") as answer:
                stats = await answer.json()
    assert stats["dispatcher"]["asked"] >= 20
    assert stats["dispatcher"]["routed"]["connected"] >= 20
    assert all(isinstance(batch, list) for batch in listener.heard)
    report = listener.heard[0][0]
    assert (report["sub_id"], report["phone_no"], report["secret_no"], report["peer_no"]) == (1, A, X, B)


async def test_unacknowledged_receipts_are_pushed_again() -> None:
    scenario = scripted(1, habits=EASY | {"handset": 1}, receipts={"every": 0.05, "duplicates": 0})
    simulator = Simulator(Scenario.model_validate(scenario), speed=1000)
    listener = Listener(503)
    async with listener.listening() as url, simulator.running():
        pusher = simulator.push_receipts(f"{url}/v1/receipts")
        binding = simulator.bindings()[0]
        simulator.service.exchange.place(binding, A, X, time.time())
        await until(lambda: pusher.results["pushed_again"] >= 1, PATIENCE)
        listener.status, listener.answer = 200, {"code": 1}
        before = len(listener.heard)
        await until(lambda: len(listener.heard) > before, PATIENCE)
        assert not pusher.results["acknowledged"]
        listener.answer = {"code": 0}
        await until(lambda: pusher.results["acknowledged"] == 1, PATIENCE)
    assert len({json.dumps(batch) for batch in listener.heard}) == 1


async def test_the_detail_of_a_call_placed_by_hand_reaches_the_client() -> None:
    simulator = Simulator(
        Scenario.model_validate(scripted(3, habits=EASY | {"detail_after": "5s"})), speed=10
    )
    key = Credentials(Credential("demo", "demo-secret"))
    async with simulator.running() as url, aiohttp.ClientSession() as session:
        async with session.post(f"{url}/_admin/dials", json={"subs_id": "1"}) as answer:
            placed = await answer.json()
            assert (answer.status, placed["ending"], placed["duration"]) == (201, "failed", 0)
        async with session.post(f"{url}/_admin/dials", json={"subs_id": "1", "number": B}) as answer:
            assert (await answer.json())["ending"] == "connected"
        for wrong, status in (({"subs_id": "2"}, 404), ({"subs": "1"}, 422)):
            async with session.post(f"{url}/_admin/dials", json=wrong) as answer:
                assert answer.status == status
        nonces = iter(range(10_000))
        provider = Provider(
            ProviderConfig(endpoint=url, call_detail_endpoint=url),
            key,
            wall=time.time,
            monotonic=time.monotonic,
            nonce=lambda: f"nonce-{next(nonces)}",
        )
        await provider.start()
        try:
            async with asyncio.timeout(PATIENCE):
                day = query_date(datetime.fromisoformat(placed["called_at"]).timestamp())[0]
                while True:
                    asked = await provider.query_call_detail(
                        placed["call_id"], placed["prod_id"], day, again=lambda: False
                    )
                    if getattr(asked.reply, "state", "") == placed["state"]:
                        break
                    await asyncio.sleep(0.05)
        finally:
            await provider.close()
