import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
import yarl

from precall.simulator import (
    DEMO_SPEED,
    Account,
    Binding,
    Fault,
    FaultKind,
    Pool,
    Scenario,
    Simulator,
    demo_scenario,
)
from precall.simulator.gateway import Envelope
from tests.support.patience import until
from tests.support.signed_requests import acs3_envelope, rpc_envelope

BINDING = Binding(subs_id="1", pool_key="P", number_x="17000000001")


class Provider:
    """A running simulator and a client of it."""

    def __init__(self, simulator: Simulator, url: str, session: aiohttp.ClientSession) -> None:
        self.simulator, self.url, self.session = simulator, url, session

    async def send(self, envelope: Envelope) -> tuple[int, bytes, dict[str, str]]:
        headers = {name: value[0] for name, value in envelope.headers.items() if name != "host"}
        url = yarl.URL(f"{self.url}/?{envelope.query}", encoded=True)
        async with self.session.request(
            envelope.method, url, data=envelope.body or None, headers=headers
        ) as reply:
            return (
                reply.status,
                await reply.read(),
                {name.lower(): value for name, value in reply.headers.items()},
            )

    async def ask(self, subs_id: str = "1", pool_key: str = "P", now: float | None = None) -> dict[str, Any]:
        host = self.url.removeprefix("http://")
        parameters = {"SubsId": subs_id, "PoolKey": pool_key}
        _, body, _ = await self.send(
            acs3_envelope(parameters, time.time() if now is None else now, host=host)
        )
        answer = json.loads(body)
        assert isinstance(answer, dict)
        return answer

    async def standing(self, subs_id: str = "1") -> tuple[object, object]:
        answer = (await self.ask(subs_id))["SecretCallStatusDTO"]
        return answer["Status"], answer["CalledNo"]

    async def admin(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        async with self.session.request(method, f"{self.url}/_admin/{path}", json=body) as reply:
            return reply.status, await reply.json()


@asynccontextmanager
async def provider(scenario: Scenario | None = None, **more: Any) -> AsyncIterator[Provider]:
    simulator = Simulator(scenario or Scenario(bindings=(BINDING,)), **more)
    async with simulator.running() as url, aiohttp.ClientSession() as session:
        yield Provider(simulator, url, session)


def faulty(kind: FaultKind, **more: Any) -> Scenario:
    return Scenario(bindings=(BINDING,), faults=(Fault(kind=kind, **more),))


async def test_both_schemes_and_both_methods_reach_both_actions() -> None:
    async with provider() as there:
        host = there.url.removeprefix("http://")
        call = {"CallId": "1^2", "ProdId": "11000000300006", "QueryDate": "0"}
        status = {"SubsId": "1", "PoolKey": "P"}
        for action, parameters in (("QueryCallStatus", status), ("QueryCallDetailByCallId", call)):
            for method in ("GET", "POST"):
                now = time.time()
                for envelope in (
                    rpc_envelope(parameters, now, action=action, method=method),
                    acs3_envelope(parameters, now, action=action, method=method, host=host),
                ):
                    http_status, body, _ = await there.send(envelope)
                    assert (http_status, json.loads(body)["Code"]) == (200, "OK")
        in_body = rpc_envelope(status, time.time(), form=("SubsId", "PoolKey"))
        assert json.loads((await there.send(in_body))[1])["Code"] == "OK"
        assert there.simulator.calls_received == {"QueryCallStatus": 5, "QueryCallDetailByCallId": 4}
        assert len(there.simulator.received_at) == 5


async def test_a_skewed_provider_says_so_and_shows_its_clock() -> None:
    async with provider(clock=lambda: time.time() + 1200) as there:
        _, body, headers = await there.send(rpc_envelope({"SubsId": "1", "PoolKey": "P"}, time.time()))
        assert json.loads(body)["Code"] == "InvalidTimeStamp.Expired"
        shown = parsedate_to_datetime(headers["date"]).timestamp() - time.time()
        assert 1190 < shown < 1210
        assert (await there.ask(now=time.time() + shown))["Code"] == "OK"


async def test_throttling_carries_the_wait_in_milliseconds() -> None:
    async with provider(Scenario(bindings=(BINDING,), account=Account(rate=1, retry_after=700))) as there:
        await there.ask()
        status, body, headers = await there.send(rpc_envelope({"SubsId": "1", "PoolKey": "P"}, time.time()))
        assert (status, json.loads(body)["Code"], headers["x-acs-retry-after"]) == (
            400,
            "Throttling.User",
            "700",
        )


async def test_a_reset_is_a_reset() -> None:
    async with provider(faulty(FaultKind.RESET)) as there:
        address = yarl.URL(there.url)
        envelope = rpc_envelope({"SubsId": "1", "PoolKey": "P"}, time.time())
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(f"POST /?{envelope.query} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with pytest.raises(aiohttp.ClientConnectionError):
            await there.ask()
        assert there.simulator.calls_received["QueryCallStatus"] == 2


async def test_html_empty_and_slow_over_http() -> None:
    request = {"SubsId": "1", "PoolKey": "P"}
    async with provider(faulty(FaultKind.HTML)) as there:
        status, body, headers = await there.send(rpc_envelope(request, time.time()))
        assert (status, headers["content-type"], body[:6]) == (502, "text/html;charset=utf-8", b"<html>")
        await there.admin("DELETE", "faults")
        await there.admin("POST", "faults", {"kind": "empty"})
        assert (await there.send(rpc_envelope(request, time.time())))[:2] == (200, b"")
        await there.admin("DELETE", "faults")
        await there.admin("POST", "faults", {"kind": "slow", "delay": "200ms"})
        started = time.monotonic()
        assert (await there.ask())["Code"] == "OK"
        assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.SLOW])
async def test_stop_does_not_wait_for_hung_callers(kind: FaultKind) -> None:
    more = {"delay": 60.0} if kind is FaultKind.SLOW else {}
    simulator = Simulator(faulty(kind, **more))
    url = await simulator.start()
    async with aiohttp.ClientSession() as session:
        there = Provider(simulator, url, session)
        hung = [asyncio.create_task(there.ask()) for _ in range(20)]
        await until(lambda: simulator.calls_received.total() == len(hung))
        await simulator.stop()
        outcomes = await asyncio.gather(*hung, return_exceptions=True)
        assert all(isinstance(outcome, aiohttp.ClientConnectionError) for outcome in outcomes)


async def test_hung_callers_that_leave_are_forgotten() -> None:
    async with provider(faulty(FaultKind.HANG)) as there:
        tasks = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(there.ask(), 0.1)
        await until(lambda: asyncio.all_tasks() <= tasks)


async def test_it_can_start_again_after_stopping() -> None:
    simulator = Simulator(Scenario(bindings=(BINDING,)))
    for _ in range(2):
        async with simulator.running() as url, aiohttp.ClientSession() as session:
            assert (await Provider(simulator, url, session).ask())["Code"] == "OK"


async def test_a_port_in_use_is_an_os_error() -> None:
    async with provider() as there:
        with pytest.raises(OSError, match="in use"):
            await Simulator().start("127.0.0.1", int(there.url.rpartition(":")[2]))


async def test_admin_changes_bindings_live() -> None:
    async with provider() as there:
        path = "bindings/1"
        assert await there.standing() == (1, "17000000001")
        await there.admin("PATCH", path, {"status": 2, "called_no": "17100000009", "extension": "12"})
        answer = (await there.ask())["SecretCallStatusDTO"]
        assert answer == {"Status": 2, "CalledNo": "17100000009", "Extension": "12"}
        await there.admin("PATCH", path, {"status": 1})
        assert await there.standing() == (1, "17000000001")
        await there.admin("PATCH", path, {"status": 3})
        assert await there.standing() == (3, None)
        for raw in (0, 5, "x", "2", None):
            await there.admin("PUT", path, {"status": raw})
            assert (await there.standing())[0] == raw
        await there.admin("PATCH", path, {"gone": True})
        assert (await there.ask())["Code"] == "isv.SUBS_NOT_EXIST"
        _, row = await there.admin("PATCH", path, {"natural": True, "expires_at": "2020-01-01T00:00:00Z"})
        assert (row["expires_at"], row["truth"]["status"]) == ("2020-01-01T00:00:00Z", 4)
        assert (await there.standing())[0] == 4


async def test_admin_adds_and_lists_bindings() -> None:
    async with provider(Scenario(pools=(Pool(pool_key="P", bindings=2500, onset=0, lifetime=0),))) as there:
        status, added = await there.admin(
            "POST", "bindings", [{"subs_id": "a", "pool_key": "P", "status": 3}]
        )
        assert (status, [row["subs_id"] for row in added["bindings"]]) == (201, ["a"])
        async with there.session.get(f"{there.url}/_admin/bindings") as reply:
            rows = [json.loads(line) for line in (await reply.text()).splitlines()]
        assert [row["subs_id"] for row in rows] == [binding.subs_id for binding in there.simulator.bindings()]
        assert (len(rows), rows[-1]["truth"]) == (2501, {"status": 3, "called_no": "", "code": "OK"})
        assert (await there.admin("GET", "bindings/a"))[1] == rows[-1]


async def test_admin_changes_account_actions_faults_calls_and_pools() -> None:
    async with provider() as there:
        await there.admin("PUT", "account", {"access_key_secret": "other"})
        assert (await there.ask())["Code"] == "SignatureDoesNotMatch"
        await there.admin("PUT", "account", {"access_key_secret": "demo-secret"})
        await there.admin("POST", "actions/QueryCallStatus", {"enabled": False})
        assert (await there.ask())["Code"] == "InvalidApi.NotFound"
        await there.admin(
            "POST", "actions/QueryCallStatus", {"enabled": False, "code": "InvalidAction.NotFound"}
        )
        assert (await there.ask())["Code"] == "InvalidAction.NotFound"
        await there.admin("POST", "actions/QueryCallStatus", {"enabled": True})
        assert (await there.ask())["Code"] == "OK"
        await there.admin("POST", "faults", {"kind": "error", "code": "isp.DAO_EXCEPTION", "for": "1h"})
        assert (await there.ask())["Code"] == "isp.DAO_EXCEPTION"
        assert (await there.admin("GET", "faults"))[1]["faults"] == [
            {"kind": "error", "code": "isp.DAO_EXCEPTION", "for": 3600.0, "active": True}
        ]
        await there.admin("DELETE", "faults")
        await there.admin("POST", "bindings", {"subs_id": "n", "pool_key": "P", "status": "natural"})
        assert (await there.standing("n"))[0] == 1
        await there.admin("POST", "pools/P/outage", {"for": "60s", "status": 3})
        assert (await there.standing("n"))[0] == 3
        await there.admin("POST", "calls", {"call_id": "c", "after": 0, "ends": 0, "state": "200002"})
        parameters = {"CallId": "c", "ProdId": "11000000300006", "QueryDate": str(int(time.time() * 1000))}
        _, body, _ = await there.send(rpc_envelope(parameters, time.time(), action="QueryCallDetailByCallId"))
        assert json.loads(json.loads(body)["Data"])["state"] == "200002"


async def test_admin_reports_traffic() -> None:
    async with provider() as there:
        await asyncio.gather(*(there.ask() for _ in range(10)))
        await there.ask("unknown")
        _, stats = await there.admin("GET", "stats?arrivals=3")
        assert stats["calls"] == {"QueryCallStatus": 11}
        assert stats["codes"] == {"OK": 10, "isv.SUBS_NOT_EXIST": 1}
        assert stats["arrivals"] == list(there.simulator.received_at)[-3:]
        assert stats["peak_per_second"] == 11


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "mistake"),
    [
        ("PATCH", "bindings/1", {"statsu": 1}, 422, "statsu: unknown key, did you mean status?"),
        ("PATCH", "bindings/2", {"status": 1}, 404, "no such binding"),
        ("GET", "bindings/2", None, 404, "no such binding"),
        ("POST", "faults", {"kind": "hang", "fro": "1s"}, 422, "fro: unknown key, did you mean for?"),
        ("POST", "faults", "hang", 422, ""),
        ("PUT", "account", {"rate": -1}, 422, "rate: "),
        ("PUT", "account", [], 422, "body is not a JSON object"),
        ("POST", "pools/Q/outage", {}, 404, "no such pool"),
        ("POST", "actions/QueryNothing", {"enabled": False}, 404, "no such action"),
        ("GET", "stats?arrivals=x", None, 422, "arrivals: not a number"),
    ],
)
async def test_admin_errors_are_explained(
    method: str, path: str, body: object, status: int, mistake: str
) -> None:
    async with provider() as there:
        answered, told = await there.admin(method, path, body)
        assert answered == status
        assert told["mistakes"][0].startswith(mistake)


async def test_the_demo_shows_every_status_within_twenty_seconds() -> None:
    started = time.time()
    simulator = Simulator(demo_scenario(), clock=lambda: started, speed=DEMO_SPEED)
    seen: set[object] = set()
    fallbacks = 0
    for second in range(0, 20, 2):
        answers = [
            simulator.service.world.answer(binding.subs_id, binding.pool_key, started + second)
            for binding in simulator.bindings()
        ]
        now = [getattr(answer, "status", None) for answer in answers]
        seen |= set(now)
        fallbacks = max(fallbacks, now.count(3))
    assert seen == {1, 2, 3, 4}
    assert fallbacks > 25  # more than may be exposed at once: some bindings are held back


async def test_a_simulated_hour_passes_in_a_second_of_speed_3600() -> None:
    scenario = Scenario(pools=(Pool(pool_key="P", bindings=50, onset=0, lifetime=600),))
    now = [1_767_000_000.0]
    simulator = Simulator(scenario, clock=lambda: now[0], speed=3600)
    ends = [binding.expires_at for binding in simulator.bindings()]
    assert all(end is not None and end < now[0] + 3 for end in ends)
