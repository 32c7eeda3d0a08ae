"""Flow 2 against a provider on loopback.

Reported calls are queried. Failed ones make their binding suspect and schedule a check, without changing its route.
"""

import asyncio
import io
import json
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from precall.api.schemas.calls import CallAnswer, CallPage, ReportAnswer, ReportedAnswer
from precall.api.schemas.fields import moment
from precall.core.calls.products import PRODUCTS
from precall.simulator import Call
from tests.integration.engine.test_main_job import calls, fault, route, row_of, truth
from tests.support import api_daemon
from tests.support.api_daemon import A, B, Served, X, a_binding, scripted, token
from tests.support.locked import locked
from tests.support.patience import BRIEF, PATIENCE, until

PATIENT = 20.0
"""Transaction timeout in seconds, so large that a slow disk does not look like an outage."""
serving = partial(api_daemon.serving, store_timeout=PATIENT)

PROD = 11000000300006
SHANGHAI = 8 * 3600
QUICK = {"call_detail_rate_per_minute": 60_000}
ACCOUNT = {"account": {"call_detail_rate_per_minute": 0}}


def placed(
    served: Served, call_id: str, state: str = "200005", ago: float = 200.0, **more: Any
) -> dict[str, Any]:
    """A call the provider knows all about, and the dispatcher's report of it."""
    at = time.time() - ago
    known = {"call_id": call_id, "called_at": at, "state": state, "after": 0.0, "ends": 1.0}
    served.simulator.service.calls.add(Call.model_validate(known | more), at)
    return report(call_id, at)


def report(call_id: str, at: float, subs_id: str = "1", **more: Any) -> dict[str, Any]:
    return {"call_id": call_id, "prod_id": PROD, "called_at": moment(at), "subs_id": subs_id} | more


async def tell(served: Served, *told: dict[str, Any]) -> list[dict[str, Any]]:
    status, body = await served.ask("POST", "/v1/calls", list(told))
    assert status == 200, body
    ReportedAnswer.model_validate(body)
    return body["results"]  # type: ignore[no-any-return]


async def call(served: Served, call_id: str) -> dict[str, Any]:
    status, body = await served.ask("GET", f"/v1/calls/{call_id}")
    assert status == 200, body
    CallAnswer.model_validate(body)
    return body  # type: ignore[no-any-return]


async def result(served: Served, call_id: str, wanted: str) -> dict[str, Any]:
    """The call, once it has this result."""
    async with asyncio.timeout(PATIENCE):
        while (call_body := await call(served, call_id))["result"] != wanted:
            await asyncio.sleep(0.05)
    return call_body


async def flagged(served: Served, *flags: str, subs_id: str = "1") -> dict[str, Any]:
    """The route, once it carries these flags."""
    async with asyncio.timeout(PATIENCE):
        while (shown := await route(served, subs_id, "?dial=0"))["flags"] != list(flags):
            await asyncio.sleep(0.02)
    return shown


def details(served: Served, result_: str) -> float:
    """How many questions about a call ended with this result."""
    registry = served.daemon.metrics.registry
    return registry.get_sample_value("precall_call_details_total", {"result": result_}) or 0.0


async def metric(served: Served, line: str) -> None:
    """Wait for this line of the metrics."""
    async with asyncio.timeout(PATIENCE):
        while f"\n{line}\n" not in (await served.ask("GET", "/metrics"))[1]:
            await asyncio.sleep(0.1)


async def test_a_reported_call_is_queried_and_its_result_returned(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1) | ACCOUNT, provider=QUICK) as served:
        await served.register()
        good = placed(served, "116012854210^102314050", "200000", duration=31)
        bad = placed(served, "c2", "200002")
        assert await tell(served, good, bad) == [
            {"call_id": good["call_id"], "result": "stored", "error": ""},
            {"call_id": "c2", "result": "stored", "error": ""},
        ]
        assert [one["result"] for one in await tell(served, good, bad)] == ["known", "known"]
        call_body = await result(served, "116012854210%5E102314050", "connected")
        assert (call_body["source"], call_body["state"], call_body["duration"]) == ("detail", "200000", 31)
        assert (call_body["pool_key"], call_body["next_at"], call_body["prod_id"]) == ("FC1", "", PROD)
        assert call_body["product"] == "voice-notification"
        assert call_body["detail"]["request_id"]
        busy = await result(served, "c2", "not_connected")
        assert busy["meaning"] == "the callee was busy"
        status, page = await served.ask("GET", "/v1/calls?limit=1")
        assert status == 200
        CallPage.model_validate(page)
        rest = (await served.ask("GET", f"/v1/calls?cursor={page['cursor']}"))[1]
        assert {one["call_id"] for one in page["calls"] + rest["calls"]} == {good["call_id"], "c2"}
        assert page["backlog"] == {"waiting": 0, "due": 0, "age_seconds": 0}
        assert "13800000000" not in str(page) + str(rest)
        await metric(served, 'precall_call_details_total{result="connected"} 1.0')
        assert (await served.ask("GET", "/v1/calls/none"))[0] == 404


async def test_a_call_query_with_a_stale_nonce_is_repeated_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1) | ACCOUNT, provider=QUICK) as served:
        await served.register()
        stale = {"code": "SignatureNonceUsed", "http_status": 400, "action": "QueryCallDetailByCallId"}
        fault(served, "error", **stale)
        assert await tell(served, placed(served, "c1", "200000", duration=31))
        await until(lambda: details(served, "stale") >= 1)
        assert not served.daemon.parts.calls.circuit.is_open
        served.simulator.service.faults.clear()
        # By its schedule it would be queried in minutes.
        assert (await result(served, "c1", "connected"))["duration"] == 31


async def test_failing_calls_make_a_binding_suspect(tmp_path: Path) -> None:
    """While the provider still answers Status 1, flags are shown and the route is kept.

    After the status changes, the next failed call leads to a check that notices.
    """
    slow = {"max_age": "1h", "min_interval": "30m"}
    async with serving(tmp_path, scripted(1, 1) | ACCOUNT, provider=QUICK, freshness=slow) as served:
        await served.register()
        await until(lambda: row_of(served).state.status == 1)
        before = await route(served)
        await tell(served, *(placed(served, f"c{n}", ago=200 - n) for n in range(2)))
        for n in range(2):
            await result(served, f"c{n}", "failed")
        assert (await route(served))["flags"] == []
        await tell(served, placed(served, "c2"))
        suspect = await flagged(served, "suspect", "api_disagrees")
        for name in ("action", "number", "state", "version", "index"):
            assert suspect[name] == before[name]
        await metric(served, "precall_calls_suspect 1.0")
        await metric(served, "precall_calls_api_disagrees 1.0")
        truth(served, "1", status=2)
        asked = calls(served)
        await tell(served, placed(served, "c3"))
        await until(lambda: row_of(served).state.status == 2)
        assert calls(served) <= asked + 2
        shown = await route(served)
        assert (shown["action"], shown["flags"]) == ("dial_temp_x", [])
        await metric(served, 'precall_wrong_at_dial_measured{pool="FC1"} 1.0')


async def test_a_reclaimed_number_is_suspect_at_once_other_causes_never(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1, 1) | ACCOUNT, provider=QUICK) as served:
        for subs_id in ("1", "2"):
            await served.register(subs_id=subs_id)
        await tell(served, placed(served, "c1", "476"))
        await flagged(served, "suspect", "api_disagrees")
        for n in range(5):
            told = placed(served, f"busy{n}", "200002") | {"subs_id": "2"}
            await tell(served, told)
            await result(served, f"busy{n}", "not_connected")
        assert (await route(served, "2"))["flags"] == []


async def test_dispatchers_can_report_results(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1) | ACCOUNT, provider=QUICK) as served:
        await served.register()
        now = time.time()
        outcomes = ["failed", "connected", "busy", "no_answer"]
        told = [
            {name: value for name, value in report(word, now, outcome=word).items() if name != "prod_id"}
            for word in outcomes
        ]
        await tell(served, *told)
        found = [(await call(served, word))["result"] for word in outcomes]
        assert found == ["failed", "connected", "not_connected", "not_connected"]
        assert (await call(served, "failed"))["source"] == "dispatcher"
        await tell(served, *(report(f"f{n}", now, outcome="failed", prod_id="0") for n in range(3)))
        await flagged(served, "suspect", "api_disagrees")


async def test_the_provider_supplies_the_cause_of_a_reported_failure(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1) | ACCOUNT, provider=QUICK) as served:
        await served.register()
        await tell(served, placed(served, "c1", "200003") | {"outcome": "failed"})
        call_body = await result(served, "c1", "not_connected")
        assert (call_body["source"], call_body["state"]) == ("detail", "200003")


async def test_an_unknown_call_is_retried_and_finally_given_up(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1) | ACCOUNT, provider=QUICK) as served:
        now = time.time()
        await tell(served, report("young", now - 200), report("old", now - 90_000), report("fresh", now))
        old = await result(served, "old", "unverified")
        assert old["next_at"] == ""
        assert old["meaning"].startswith("the provider has no detail of this call: another product placed it")
        assert "voice robot" in old["meaning"]
        async with asyncio.timeout(PATIENCE):
            while (await call(served, "young"))["next_at"] != moment(int(now - 200) + 300):
                await asyncio.sleep(0.05)
        assert (await call(served, "fresh"))["next_at"] == moment(int(now) + 180)
        await metric(served, 'precall_call_details_total{result="nothing_yet"} 2.0')
        await metric(served, "precall_calls_waiting 2.0")


async def test_a_call_near_midnight_is_queried_under_both_dates(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1) | ACCOUNT, provider=QUICK) as served:
        now = time.time()
        midnight = now - (now + SHANGHAI) % 86_400
        if now - midnight < 300:
            midnight -= 86_400
        placed(served, "c1", ago=now - midnight + 30)
        await tell(served, report("c1", midnight + 30))
        await result(served, "c1", "failed")
        assert served.simulator.calls_received["QueryCallDetailByCallId"] == 2


async def test_a_call_in_progress_is_queried_again(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1) | ACCOUNT, provider=QUICK) as served:
        told = placed(served, "c1", "200000", duration=3600, ends=3600.0)
        await tell(served, told)
        await metric(served, 'precall_call_details_total{result="in_progress"} 1.0')
        assert (await call(served, "c1"))["result"] == "pending"


@pytest.mark.parametrize(
    ("kind", "result_"), [("throttle", "throttled"), ("html", "transient"), ("garbage", "malformed")]
)
async def test_a_failed_query_leaves_the_call_pending(tmp_path: Path, kind: str, result_: str) -> None:
    fault = {"kind": kind, "action": "QueryCallDetailByCallId"}
    async with serving(tmp_path, scripted(1, fault=[fault]) | ACCOUNT, provider=QUICK) as served:
        await tell(served, placed(served, "c1"))
        await until(lambda: details(served, result_) >= 1)
        call_body = await call(served, "c1")
        assert call_body["result"] == "pending"
        assert call_body["next_at"]


async def test_a_refused_action_opens_its_own_circuit(tmp_path: Path) -> None:
    delisted = scripted(1, delisted=["QueryCallDetailByCallId"])
    async with serving(tmp_path, delisted | ACCOUNT, provider=QUICK) as served:
        await served.register()
        await tell(served, *(placed(served, f"c{n}") for n in range(9)))
        await until(lambda: served.daemon.parts.calls.circuit.is_open)
        assert (await served.checked("1"))["status"] == 1
        assert not served.daemon.parts.checker.circuit.is_open
        assert (await call(served, "c1"))["result"] == "pending"


async def test_a_backlog_does_not_starve_new_calls(tmp_path: Path) -> None:
    budget = {"call_detail_rate_per_minute": 600}
    async with serving(tmp_path, scripted(1) | ACCOUNT, provider=budget) as served:
        old = [placed(served, f"old{n}", ago=9000 - n) for n in range(1000)]
        await tell(served, *old)
        await until(lambda: details(served, "failed") >= 5)
        await tell(served, placed(served, "new"))
        await result(served, "new", "failed")
        status, report_ = await served.ask("GET", "/v1/report")
        assert status == 200
        assert report_["total"]["failed"] < 700
        await result(served, "old0", "failed")
        await metric(served, "precall_calls_suspect 0.0")
        _, page = await served.ask("GET", "/v1/calls?limit=1")
        assert page["backlog"]["due"] > 0
        assert page["backlog"]["age_seconds"] >= 0


async def test_suspicion_survives_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1) | ACCOUNT, provider=QUICK) as served:
        await served.register()
        now = time.time()
        await tell(served, *(report(f"c{n}", now, outcome="failed", prod_id=0) for n in range(3)))
        await flagged(served, "suspect", "api_disagrees")
    async with serving(tmp_path, scripted(1) | ACCOUNT, provider=QUICK) as served:
        await flagged(served, "suspect", "api_disagrees")
        assert (await call(served, "c1"))["result"] == "failed"


async def test_reports_are_refused_while_the_database_is_down(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1) | ACCOUNT, store_timeout=BRIEF) as served:
        await served.register()
        async with locked(tmp_path / "precall.db"):
            told = report("c1", time.time(), outcome="failed")
            assert (await served.ask("POST", "/v1/calls", told))[0] == 503
            assert (await served.ask("POST", "/v1/receipts", [a_receipt("r1")]))[0] == 503
        async with asyncio.timeout(PATIENCE):
            while (await served.ask("POST", "/v1/calls", told))[0] == 503:
                await asyncio.sleep(0.1)
        assert (await served.ask("GET", "/v1/calls/r1"))[0] == 404


async def test_the_report_aggregates_by_pool_and_state(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(2) | ACCOUNT, provider=QUICK) as served:
        await served.register()
        await until(lambda: row_of(served).state.status == 2)
        now = time.time() + 1
        words = ["failed", "connected", "connected", "busy"]
        await tell(served, *(report(f"c{n}", now, outcome=word, prod_id=0) for n, word in enumerate(words)))
        await tell(served, report("unknown", now, "404", outcome="failed", prod_id=0))
        status, body = await served.ask("GET", "/v1/report?within=3600")
        assert status == 200
        ReportAnswer.model_validate(body)
        assert body["total"]["placed"] == 5
        assert body["total"]["wrong"] == pytest.approx(0.4)
        by_route = {(row["pool_key"], row["route_state"]): row for row in body["by_route"]}
        assert by_route["FC1", "temporary"]["connected"] == 2
        assert by_route["", ""]["failed"] == 1
        assert body["causes"][0] == {
            "state": "failed",
            "meaning": "reported as failed by the dispatcher",
            "at_fault": True,
            "calls": 2,
        }
        status, earlier = await served.ask("GET", "/v1/report?since=3600")
        assert (status, earlier["total"]) == (200, body["total"])
        assert (await served.ask("GET", "/v1/report?within=0"))[0] == 400
        assert (await served.ask("GET", "/v1/report?since=0"))[0] == 400
        status, earlier = await served.ask("GET", "/v1/report?within=0.001&since=3600")
        assert (status, earlier["total"]) == (200, body["total"])


BAD_CALLS: list[tuple[Any, str]] = [
    ({}, "call_id"),
    (report("a b", 1.0), "call_id"),
    (report("c", 1.0, "x"), "subs_id"),
    (report("c", 1.0) | {"called_at": 1767294245}, "called_at"),
    (report("c", 1.0) | {"called_at": ""}, "called_at"),
    (report("c", 1.0) | {"called_at": "2026-01-02T03:04:05"}, "called_at"),
    (report("c", 4e9), "called_at"),
    (report("c", 1.0) | {"prod_id": -1}, "prod_id"),
    (report("c", 1.0) | {"prod_id": "IVR"}, "prod_id"),
    (report("c", 1.0) | {"prod_id": 2**63}, "prod_id"),
    (report("c", 1.0) | {"prod_id": True}, "prod_id"),
    (report("c", 1.0) | {"prod_id": 0}, ""),
    (report("c", 1.0) | {"outcome": "lovely"}, "outcome"),
    (report("c", 1.0) | {"state": "1"}, "state"),
    ("x", ""),
]


async def test_a_product_can_be_given_by_name(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        at = time.time()
        products = {"n": "ivr", "d": "11000000300005", "i": 11000000300005, "s": "smart-outbound", "u": 42}
        await tell(served, *(report(call_id, at, prod_id=product) for call_id, product in products.items()))
        bodies = {call_id: await call(served, call_id) for call_id in products}
        assert {call_id: (body["prod_id"], body["product"]) for call_id, body in bodies.items()} == {
            "n": (11000000300005, "ivr"),
            "d": (11000000300005, "ivr"),
            "i": (11000000300005, "ivr"),
            "s": (11030000180001, "smart-outbound"),
            "u": (42, ""),
        }
        status, answer = await served.ask("POST", "/v1/calls", report("r", at, prod_id="voice-robot"))
        assert (status, answer["field"]) == (422, "prod_id")
        assert all(name in answer["detail"] for name in PRODUCTS)


async def test_invalid_reports_are_refused_naming_their_fields(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for body, field in BAD_CALLS:
            status, answer = await served.ask("POST", "/v1/calls", body)
            assert (status, answer.get("field", "")) == (422, field), (body, answer)
        many = [body for body, _ in BAD_CALLS] + [report("good", time.time())]
        results = await tell(served, *many)
        assert [one["result"] for one in results] == ["refused"] * len(BAD_CALLS) + ["stored"]
        assert results[1]["error"].startswith("[1].call_id: ")
        status, answer = await served.ask("POST", "/v1/calls", [report(str(n), 1.0) for n in range(1001)])
        assert status == 422
        assert await tell(served) == []


# -- receipts -----------------------------------------------------------------------------------------


def a_receipt(
    call_id: str, sub_id: Any = 1, cause: int | None = 16, at: float | None = None, **more: Any
) -> dict[str, Any]:
    placed_at = time.gmtime((time.time() if at is None else at) + SHANGHAI)
    moment_ = time.strftime("%Y-%m-%d %H:%M:%S", placed_at)
    return {
        "call_id": call_id,
        "sub_id": sub_id,
        "pool_key": "FC1",
        "phone_no": A,
        "peer_no": B,
        "secret_no": X,
        "call_type": 0,
        "call_time": moment_,
        "start_time": "",
        "release_time": moment_,
        "release_cause": cause,
    } | more


def an_alarm(status: int = 0, at: float | None = None, **more: Any) -> dict[str, Any]:
    moment_ = int((time.time() if at is None else at) * 1000)
    return {"secretNo": X, "partnerKey": "FC1", "noStatus": status, "timestamp": moment_} | more


async def test_receipts_are_acknowledged_as_the_provider_expects_and_make_a_binding_suspect(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        told = [a_receipt(f"r{n}", cause=1) for n in range(3)]
        assert await served.ask("POST", "/v1/receipts", told) == (200, {"code": 0, "msg": "OK"})
        await flagged(served, "suspect", "api_disagrees")
        call_body = await call(served, "r1")
        assert (call_body["source"], call_body["meaning"]) == ("receipt", "the number is not allocated")
        assert (await served.ask("POST", "/v1/receipts", a_receipt("one")))[0] == 200
        assert (await served.ask("POST", "/v1/receipts", []))[0] == 200


async def test_repeated_and_reordered_receipts_give_one_state(tmp_path: Path) -> None:
    now, causes = time.time(), [1, 16, 17, 38, 3, 31]
    told = [a_receipt(f"r{n}", str(n % 3 + 1), causes[n % 6], now - n) for n in range(300)]
    told += [an_alarm(0, now - 20), an_alarm(1, now - 10)]
    found = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        shuffled = told * 3
        random.Random(seed).shuffle(shuffled)
        async with serving(folder, scripted(1, 1, 1)) as served:
            for subs_id in "123":
                await served.register(subs_id=subs_id)
                await served.checked(subs_id)
            for start in range(0, len(shuffled), 100):
                status, _ = await served.ask("POST", "/v1/receipts", shuffled[start : start + 100])
                assert status == 200
            _, page = await served.ask("GET", "/v1/calls?limit=1000")
            for one in page["calls"]:
                del one["reported_at"], one["route_state"]
            flags = [(await route(served, subs_id))["flags"][:1] for subs_id in "123"]
            found.append((page["calls"], flags))
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) == 300


ACKNOWLEDGED = (200, {"code": 0, "msg": "OK"})


async def pushed(served: Served, raw: bytes) -> tuple[int, Any]:
    return await served.ask("POST", "/v1/receipts", data=raw, headers={"Content-Type": "text/plain"})


async def test_invalid_receipts_are_logged_by_position_and_acknowledged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        stopped = a_receipt("r6", None, cause=None, unconnected_cause=2)
        told = [
            a_receipt("r0"),
            None,
            a_receipt("r2", "x13800000001"),
            {"call_id": 7},
            a_receipt("r4"),
            an_alarm(9),
        ]
        assert await served.ask("POST", "/v1/receipts", [*told, stopped]) == ACKNOWLEDGED
        line = next(
            record.getMessage() for record in caplog.records if "receipts.not_" in record.getMessage()
        )
        assert "['[1]', '[2].sub_id', '[5].noStatus']" in line
        assert "138" not in line
        for call_id in ("r0", "r4"):
            await call(served, call_id)
        for result, count in {"refused": 3, "stored": 2, "under_way": 1, "unbound": 1}.items():
            await metric(served, f'precall_receipts_total{{result="{result}"}} {count}.0')
        for reason in ("element", "sub_id", "noStatus"):
            await metric(served, f'precall_receipts_refused_total{{reason="{reason}"}} 1.0')


async def test_any_parsable_array_of_receipts_is_acknowledged(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        one, other = json.dumps(a_receipt("d1")), json.dumps(a_receipt("d2"))
        twice = json.dumps(a_receipt("d3")).replace("{", '{"release_cause": 16, ', 1)
        assert await pushed(served, f"[{one}, {twice}, {other}]".encode()) == ACKNOWLEDGED
        marked = json.dumps([a_receipt("d4")]).encode()
        assert await pushed(served, b"\xef\xbb\xbf" + marked) == ACKNOWLEDGED
        for call_id, known in (("d1", True), ("d2", True), ("d3", False), ("d4", True)):
            assert (await served.daemon.parts.store.calls.get(call_id) is not None) is known
        assert [(await pushed(served, raw))[0] for raw in (b"[{", b"", b"7", b'"x"')] == [400, 400, 422, 422]


async def test_only_receipts_of_ended_calls_end_a_call(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        begun = a_receipt("b1", control_type="CONTINUE", unconnected_cause=0)
        for name in ("release_time", "release_cause", "start_time"):
            del begun[name]
        assert await served.ask("POST", "/v1/receipts", [begun, a_receipt("s1", call_type=5)]) == ACKNOWLEDGED
        assert (await served.ask("GET", "/v1/calls"))[1]["calls"] == []
        stopped = [a_receipt(f"u{n}", cause=None, unconnected_cause=1, call_type=4) for n in range(3)]
        assert await served.ask("POST", "/v1/receipts", stopped) == ACKNOWLEDGED
        call_body = await call(served, "u1")
        assert (call_body["result"], call_body["state"]) == ("not_connected", "unconnected_1")
        assert "blacklist" in call_body["meaning"]
        assert (await route(served))["flags"] == []


async def test_five_thousand_receipts_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        now = time.time()
        told = [a_receipt(f"r{n}", cause=17, at=now - n % 1000) for n in range(5000)]
        body = io.BytesIO(json.dumps(told).encode())
        assert (await served.ask("POST", "/v1/receipts", data=body))[0] == 200
        assert (await served.ask("GET", "/v1/report"))[1]["total"]["not_connected"] == 5000


async def test_a_report_about_x_checks_all_its_bindings(tmp_path: Path) -> None:
    slow = {"max_age": "1h", "min_interval": "30m"}
    async with serving(tmp_path, scripted(*[1] * 6), freshness=slow) as served:
        for n in range(1, 6):
            await served.register(subs_id=str(n))
        await served.register(subs_id="6", number_x="17000000009")
        await until(lambda: all(row_of(served, str(n)).state.status == 1 for n in range(1, 7)))
        for n in range(1, 7):
            truth(served, str(n), status=2)
        status, _ = await served.ask("POST", "/v1/receipts", [an_alarm(), an_alarm()])
        assert status == 200
        await until(lambda: all(row_of(served, str(n)).state.status == 2 for n in range(1, 6)))
        assert row_of(served, "6").state.status == 1
        other = an_alarm(partnerKey="FC9", secretNo="17000000009")
        assert (await served.ask("POST", "/v1/receipts", [other, an_alarm(secretNo="17099999999")]))[0] == 200
        for n in range(1, 7):
            assert (await route(served, str(n)))["flags"] in ([], ["x_mismatch"])


async def test_an_acknowledged_number_report_survives_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        await served.checked("1")
        assert (await served.ask("POST", "/v1/receipts", an_alarm()))[0] == 200
        await flagged(served, "suspect", "api_disagrees")
    async with serving(tmp_path, scripted(1)) as served:
        await flagged(served, "suspect", "api_disagrees")
        assert (await served.ask("POST", "/v1/receipts", an_alarm(1)))[0] == 200
        await flagged(served)


async def test_receipts_are_accepted_on_a_secret_path_without_a_token(tmp_path: Path) -> None:
    secret, entry = token("provider", "calls:write")
    guarded = {"receipts_secret_sha256": entry["sha256"]}
    async with serving(tmp_path, tokens=[token("me", "routes:read")[1]], api=guarded) as served:
        assert (await served.ask("POST", f"/v1/receipts/{secret}", [a_receipt("r1")]))[0] == 200
        assert (await served.ask("POST", "/v1/receipts/wrong", [a_receipt("r2")]))[0] == 404
        assert (await served.ask("POST", "/v1/receipts", [a_receipt("r2")]))[0] == 401
        assert await served.daemon.parts.store.calls.get("r1") is not None
        assert await served.daemon.parts.store.calls.get("r2") is None
    async with serving(tmp_path) as served:
        assert (await served.ask("POST", f"/v1/receipts/{secret}", []))[0] == 404
        assert (await served.ask("PUT", "/v1/bindings/1", a_binding()))[0] == 201
