"""The main job against a provider on loopback: checks, routes, limits and outages."""

import asyncio
import sqlite3
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from precall.core.limits.quota import Priority
from precall.core.model import Row
from precall.simulator import Fault
from precall.simulator.gateway import Envelope
from precall.simulator.replies import Style, error_reply
from precall.simulator.service import Delivery, Silence
from precall.table.feed import FeedFilter
from tests.support.api_daemon import A, B, Served, X, a_binding, scripted, serving
from tests.support.locked import locked
from tests.support.patience import BRIEF, PATIENCE, until

RARELY = {"min_interval": "30m", "max_age": "1h"}


async def route(served: Served, subs_id: str = "1", query: str = "") -> dict[str, Any]:
    status, body = await served.ask("GET", f"/v1/routes/{subs_id}{query}")
    assert status == 200, body
    return body  # type: ignore[no-any-return]


def truth(served: Served, subs_id: str, **script: Any) -> None:
    """What the provider answers of a binding from now on."""
    served.simulator.service.world.change(subs_id, {}, {"called_no": None, "gone": False} | script)


def fault(served: Served, kind: str, **more: Any) -> None:
    served.simulator.service.faults.add(Fault.model_validate({"kind": kind, "for": "0s"} | more), 0.0)


def results(served: Served) -> Counter[str]:
    """How checks have ended so far."""
    family = next(iter(served.daemon.metrics.checks.collect()))
    samples = family.samples
    return Counter(
        {s.labels["result"]: int(s.value) for s in samples if s.name.endswith("_total") and s.value}
    )


def calls(served: Served) -> int:
    return served.simulator.calls_received["QueryCallStatus"]


def row_of(served: Served, subs_id: str = "1") -> Row:
    row = served.daemon.parts.table.get(subs_id)
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("status", "action"), [(1, "dial_x"), (2, "dial_temp_x"), (3, "dial_real"), (4, "expired")]
)
async def test_every_status_reaches_the_route(tmp_path: Path, status: int, action: str) -> None:
    async with serving(tmp_path, scripted(status)) as served:
        await served.register()
        await until(lambda: row_of(served).state.status == status)
        shown = await route(served)
        assert (shown["action"], shown["status"], shown["reason"]) == (action, status, f"status_{status}")
        assert bool(shown["number"]) is (action != "expired")


async def test_a_change_at_the_provider_reaches_the_route(tmp_path: Path) -> None:
    quick = {"min_interval": "50ms", "abnormal_min_interval": "50ms", "max_age": "100ms"}
    async with serving(tmp_path, scripted(1), freshness=quick) as served:
        await served.register()
        for status in (2, 3, 1, 2, 4):
            truth(served, "1", status=status)
            await until(lambda status=status: row_of(served).state.status == status)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("throttle", "throttled"),
        ("error", "transient"),
        ("hang", "transient"),
        ("reset", "transient"),
        ("html", "transient"),
        ("empty", "transient"),
        ("truncated", "malformed"),
        ("garbage", "malformed"),
        ("gone", "gone_unconfirmed"),
    ],
)
async def test_a_failed_check_is_counted_and_keeps_the_route(tmp_path: Path, kind: str, result: str) -> None:
    async with serving(tmp_path, scripted(2), provider={"timeout": "200ms"}) as served:
        await served.register()
        before = await served.checked("1")
        fault(served, kind, **({"code": "isp.SYSTEM_ERROR", "http_status": 500} if kind == "error" else {}))
        _, body = await served.ask("POST", "/v1/bindings/1/check")
        after = await route(served)
        assert results(served)[result] >= 1, (results(served), body)
        for key in ("action", "number", "state", "status", "version", "index"):
            assert after[key] == before[key]


async def test_a_verified_route_of_no_such_binding_holds_until_that_is_confirmed(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1), freshness={"min_interval": "1h", "max_age": "2h"}) as served:
        await served.register()
        await until(lambda: row_of(served).state.status == 1)
        truth(served, "1", gone=True)
        verified = await route(served, "1", "?max_age=0&timeout=5")
        assert (verified["action"], verified["number"], verified["reason"]) == ("hold", "", "unconfirmed")
        assert verified["stale"]
        assert (await route(served))["action"] == "dial_x"
        await until(lambda: row_of(served).state.state == "expired")
        assert (await route(served, "1", "?max_age=0&timeout=5"))["action"] == "expired"


async def test_a_hung_provider_blocks_neither_ticks_nor_readers(tmp_path: Path) -> None:
    async with serving(
        tmp_path, scripted(*[1] * 40), provider={"max_in_flight": 8, "timeout": "2s"}
    ) as served:
        fault(served, "hang")
        bindings = [a_binding(subs_id=str(place)) for place in range(1, 41)]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        await until(lambda: served.daemon.parts.checker.in_flight == 8)
        ticked = served.daemon.parts.checker.ticked_at
        await asyncio.sleep(0.3)
        assert served.daemon.parts.checker.ticked_at > ticked
        assert served.daemon.parts.checker.in_flight == 8
        shown = await route(served, "40")
        assert shown["action"] == "dial_x"


async def test_a_delisted_action_stops_the_checks_with_one_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, scripted(*[1] * 30)) as served:
        served.simulator.service.gateway.delisted["QueryCallStatus"] = "InvalidApi.NotFound"
        bindings = [a_binding(subs_id=str(place)) for place in range(1, 31)]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        await until(lambda: served.daemon.parts.checker.circuit.is_open)
        await asyncio.sleep(0.2)
        made = calls(served)
        await asyncio.sleep(0.5)
        assert calls(served) == made
        alarms = [record for record in caplog.records if "provider.refuses_us" in record.getMessage()]
        assert len(alarms) == 1
        assert "QueryCallStatus" in alarms[0].getMessage()
        assert (await route(served))["action"] == "dial_x"
        del served.simulator.service.gateway.delisted["QueryCallStatus"]
        served.daemon.parts.checker.circuit.probe_soon()
        await until(lambda: not served.daemon.parts.checker.circuit.is_open)
        await until(lambda: row_of(served, "30").state.status == 1)


async def test_an_answer_about_an_earlier_generation_is_dropped(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(2), provider={"timeout": "30s"}) as served:
        # Longer than a busy machine takes to register.
        fault(served, "slow", delay="3s")
        await served.register()
        # Once the slow answer is under way, and not before.
        await until(lambda: calls(served) == 1)
        served.simulator.service.faults.clear()
        await served.register(number_x="17000000009")
        await until(lambda: results(served)["late"] == 1)
        await until(lambda: row_of(served).state.status == 2)
        assert row_of(served).binding.number_x == "17000000009"
        assert results(served)["late"] == 1


async def test_one_vanished_binding_expires_and_a_vanished_pool_does_not(tmp_path: Path) -> None:
    quick = {"min_interval": "50ms", "max_age": "100ms"}
    async with serving(tmp_path, scripted(*[1] * 20), freshness=quick) as served:
        bindings = [a_binding(subs_id=str(place)) for place in range(1, 21)]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        await until(lambda: all(row_of(served, str(i)).state.status == 1 for i in range(1, 21)))
        truth(served, "1", gone=True)
        await until(lambda: row_of(served, "1").state.state == "expired")
        assert (await route(served, "1"))["reason"] == "gone"
        for place in range(2, 21):
            truth(served, str(place), gone=True)
        await until(lambda: results(served)["gone_doubted"] >= 10)
        assert Counter(row_of(served, str(i)).state.state for i in range(2, 21))["normal"] >= 15


async def test_the_stored_table_is_served_before_the_first_check(tmp_path: Path) -> None:
    scenario = scripted(1, 2, 3, 4)
    bindings = [a_binding(subs_id=str(place)) for place in range(1, 5)]
    async with serving(tmp_path, scenario) as served:
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        await until(lambda: all(row_of(served, str(i)).state.status == i for i in range(1, 5)))
        await served.ask("PUT", "/v1/overrides/1", {"action": "hold", "reason": "because"})
        before = {row.binding.subs_id: row for row in served.daemon.parts.table.rows()}
    async with serving(tmp_path, scenario, rate=0.01) as served:
        after = {row.binding.subs_id: row for row in served.daemon.parts.table.rows()}
        assert calls(served) == 0
        assert after == before
        assert (await route(served, "2"))["action"] == "dial_temp_x"
        assert (await route(served, "1"))["reason"] == "override"


async def test_the_quota_holds_in_every_window(tmp_path: Path) -> None:
    rate, burst = 100.0, 20.0
    bindings = [a_binding(subs_id=str(place)) for place in range(1, 1001)]
    async with serving(tmp_path, scripted(*[1] * 1000), rate=rate, provider={"burst": burst}) as served:
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        await asyncio.gather(*(route(served, str(i), "?max_age=0&timeout=1") for i in range(1, 200)))
        await asyncio.sleep(2.0)
        arrivals = sorted(served.simulator.received_at)
    assert len(arrivals) > rate
    for first, at in enumerate(arrivals):
        for more in (5, 20, 50, len(arrivals)):
            last = min(first + more, len(arrivals)) - 1
            # The calls leave in time; they arrive with the jitter of two event loops on a busy machine.
            assert last - first + 1 <= rate * (arrivals[last] - at + 0.5) + burst


async def test_readers_of_one_stale_route_share_one_call(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        await until(lambda: row_of(served).state.status == 1)
        fault(served, "slow", delay="100ms")
        made = calls(served)
        begun = time.monotonic()
        told = await asyncio.gather(*(route(served, "1", "?max_age=0&timeout=10") for _ in range(100)))
        assert calls(served) == made + 1
        elapsed = 1e3 * (time.monotonic() - begun)
        assert all(body["age_ms"] <= elapsed for body in told)


def note_callers(
    served: Served, monkeypatch: pytest.MonkeyPatch, refusal: Delivery | None = None
) -> list[str]:
    """The CallNo of each call from now on, "" for none. Calls with one get the `refusal`, if there is any."""
    sent: list[str] = []
    answered = served.simulator.service.handle

    def handle(envelope: Envelope, now: float) -> Delivery | Silence:
        sent.append(dict(parse_qsl(f"{envelope.query}&{envelope.body.decode()}")).get("CallNo", ""))
        return refusal if refusal and sent[-1] else answered(envelope, now)

    monkeypatch.setattr(served.simulator.service, "handle", handle)
    return sent


@pytest.mark.parametrize("signature", ["acs3", "rpc"])
async def test_a_live_check_sends_its_caller_and_the_background_sends_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signature: str
) -> None:
    settings = {"send_call_no": "caller", "signature": signature}
    async with serving(tmp_path, scripted(1), provider=settings, freshness=RARELY) as served:
        sent = note_callers(served, monkeypatch)
        await served.register()
        await until(lambda: row_of(served).state.status == 1)
        assert set(sent) == {""}
        for caller, call_no in (("86-138 0000 0001", "8613800000001"), ("anonymous", ""), ("", "")):
            sent.clear()
            await route(served, "1", f"?max_age=0&timeout=2&caller={caller}")
            assert sent == [call_no]
        sent.clear()
        await served.checked("1")
        assert sent == [""]


async def test_readers_with_different_callers_share_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"send_call_no": "caller"}
    async with serving(tmp_path, scripted(1), provider=settings, freshness=RARELY) as served:
        await served.register()
        await until(lambda: row_of(served).state.status == 1)
        sent = note_callers(served, monkeypatch)
        fault(served, "slow", delay="200ms")
        queries = [f"?max_age=0&timeout=5&caller={caller}" for caller in (A, B, "anonymous") * 10]
        bodies = await asyncio.gather(*(route(served, "1", query) for query in queries))
        assert len(sent) == 1
        assert sent[0] in (A, B, "")
        assert not any(body["stale"] for body in bodies)


async def test_a_caller_that_the_provider_refuses_does_not_block_the_binding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"send_call_no": "caller"}
    async with serving(tmp_path, scripted(1), provider=settings, freshness=RARELY) as served:
        await served.register()
        await until(lambda: row_of(served).state.status == 1)
        style = Style("json", "E7F99446-8191-43C0-99B5-F58A6AEAD7D5", "QueryCallStatus")
        sent = note_callers(served, monkeypatch, Delivery(error_reply(style, "isv.MOBILE_NUMBER_ILLEGAL")))
        body = await route(served, "1", f"?max_age=0&timeout=5&caller={A}")
        assert sent == [A, ""]
        assert (body["reason"], body["stale"]) == ("status_1", False)
        assert not row_of(served).state.blocked
        assert not results(served)["refused"]


async def test_a_hint_schedules_a_check_just_before_the_dial(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1), freshness={"min_interval": "1m"}) as served:
        await served.register()
        await served.checked("1")
        at = served.daemon.clocks.now() + 600
        hints = [{"subs_id": name, "dial_at": datetime.fromtimestamp(at, UTC).isoformat()} for name in "19"]
        for _ in range(2):
            assert await served.ask("POST", "/v1/hints", hints) == (200, {"taken": 1, "unknown": ["9"]})
        plan = served.daemon.parts.checker.plan.explain("1")
        assert plan is not None
        assert plan["kind"] == "hint"
        assert plan["next_at"] == pytest.approx(at - 2, abs=1.1)
        status, body = await served.ask("POST", "/v1/hints", [{"subs_id": "1", "dial_at": "tomorrow"}])
        assert (status, body["field"]) == (422, "[0].dial_at")


async def test_a_hung_check_delays_no_reader_past_its_timeout(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1), provider={"timeout": "5s"}) as served:
        await served.register()
        await until(lambda: row_of(served).state.status == 1)
        fault(served, "hang")
        shown = await route(served, "1", "?max_age=0&timeout=0.2")
        assert shown["stale"]
        assert shown["action"] == "dial_x"


async def test_a_locked_database_refuses_writes_but_serves_new_answers(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1, 1), store_timeout=BRIEF) as served:
        await served.register()
        await served.checked("1")
        async with locked(tmp_path / "precall.db"):
            truth(served, "1", status=2)
            status, body = await served.ask("PUT", "/v1/bindings/2", a_binding(subs_id="2"))
            assert (status, body["code"]) == (503, "store_unavailable")
            await served.ask("POST", "/v1/bindings/1/check", params={"timeout": "5"})
            await until(lambda: row_of(served).state.status == 2)
            shown = await route(served)
            assert (shown["action"], "unsaved" in shown["flags"]) == ("dial_temp_x", True)
            assert (await served.ask("GET", "/readyz"))[0] == 200
            assert (await served.ask("GET", "/readyz?for=writes"))[0] == 503
        await until(lambda: served.daemon.parts.writer.saving)
        await until(lambda: served.daemon.parts.writer.pending == 0)
        assert "unsaved" not in (await route(served))["flags"]
        assert (await served.ask("PUT", "/v1/bindings/2", a_binding(subs_id="2")))[0] == 201
        (_, history) = await served.ask("GET", "/v1/bindings/1/history")
        assert history["changes"][0]["action"] == "dial_temp_x"


async def test_an_answer_that_overtakes_one_being_stored_gets_an_index_of_its_own(tmp_path: Path) -> None:
    """It agrees with the published route, but not with the one that is published next."""
    async with serving(tmp_path, scripted(1), freshness=RARELY, store_timeout=PATIENCE) as served:
        await served.register()
        await served.checked("1")
        parts = served.daemon.parts
        async with locked(tmp_path / "precall.db"):
            truth(served, "1", status=3)
            first = parts.checker.start(row_of(served), Priority.DEMAND)
            await until(lambda: "1" in parts.writer.pending_answers)
            truth(served, "1", status=1)
            second = parts.checker.start(row_of(served), Priority.DEMAND)
            await until(lambda: parts.writer.pending > 1)
        await asyncio.gather(first, second)
        row = row_of(served)
        assert row.state.status == 1
        told, _ = parts.feed.after(parts.feed.floor, FeedFilter(), 100)
        assert [entry.route.status for entry in told][-2:] == [3, 1]
        assert told[-1].index == row.index
        with closing(sqlite3.connect(tmp_path / "precall.db")) as other:
            stored = other.execute('SELECT "index", status FROM routes').fetchall()
        assert stored == [(row.index, 1)]


async def test_a_real_number_leaves_only_after_its_audit_row(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(3), store_timeout=BRIEF) as served:
        await served.register()
        await until(lambda: row_of(served).state.status == 3)
        async with locked(tmp_path / "precall.db"):
            shown = await route(served, "1", f"?caller={A}")
            assert (shown["action"], shown["number"], shown["reason"]) == ("hold", "", "audit_unavailable")
        await until(lambda: served.daemon.parts.writer.saving)
        shown = await route(served, "1", f"?caller={B}")
        assert (shown["action"], shown["number"]) == ("dial_real", A)
        await route(served, "1", f"?caller={B}")
        (audited,) = await served.daemon.parts.store.exposures(limit=10)
        assert (audited["side"], audited["count"], audited["reader"]) == ("a", 2, "local")
        assert audited["request_id"]
        _, listed = await served.ask("GET", "/v1/routes")
        assert listed["routes"][0]["number"] == ""
        assert listed["routes"][0]["flags"] == ["number_withheld"]


async def test_exactly_the_cap_is_exposed_even_across_a_restart(tmp_path: Path) -> None:
    scenario = scripted(*[3] * 60)
    brake = {"share": 0.0, "floor": 7, "window": "10m"}
    bindings = [a_binding(subs_id=str(place)) for place in range(1, 61)]

    def exposed(served: Served) -> int:
        return sum(row.state.exposed_at > 0 for row in served.daemon.parts.table.rows())

    async with serving(tmp_path, scenario, brake=brake) as served:
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        await until(lambda: all(row.state.status == 3 for row in served.daemon.parts.table.rows()))
        assert exposed(served) == 7
    async with serving(tmp_path, scenario, brake=brake) as served:
        for place in range(1, 61):
            await served.checked(str(place))
        assert exposed(served) == 7
        held = [row for row in served.daemon.parts.table.rows() if not row.state.exposed_at]
        assert (await route(served, held[0].binding.subs_id))["reason"] == "exposure_brake"
        assert (await served.ask("POST", "/v1/brake/release", {"pool_key": "FC1", "reason": "seen"}))[
            0
        ] == 200
        for place in range(1, 61):
            await served.checked(str(place))
        assert exposed(served) == 14
        assert (await served.ask("POST", "/v1/brake/engage", {"pool_key": "", "reason": "stop"}))[0] == 200
        real = next(row for row in served.daemon.parts.table.rows() if row.state.exposed_at)
        assert (await route(served, real.binding.subs_id))["reason"] == "exposure_brake"
    async with serving(tmp_path, scenario, brake=brake, rate=0.01) as served:
        assert (await route(served, real.binding.subs_id))["reason"] == "exposure_brake"


async def test_a_binding_expires_on_time_without_the_provider(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1), policy={"skew": "0s"}) as served:
        fault(served, "reset")
        end = served.daemon.clocks.now() + 1.5
        stamp = datetime.fromtimestamp(end, UTC).isoformat()
        await served.register(expires_at=stamp)
        shown = await route(served)
        assert (shown["action"], shown["number"]) == ("dial_x", X)
        await asyncio.sleep(max(0.0, end - served.daemon.clocks.now()) + 0.01)
        shown = await route(served)
        assert (shown["action"], shown["reason"], shown["number"]) == ("expired", "expired_locally", "")


async def test_degraded_is_entered_and_left_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    quick = {"min_interval": "50ms", "max_age": "100ms"}
    async with serving(tmp_path, scripted(*[1] * 30), freshness=quick) as served:
        bindings = [a_binding(subs_id=str(place)) for place in range(1, 31)]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        await until(lambda: all(row.state.status == 1 for row in served.daemon.parts.table.rows()))
        before = {row.binding.subs_id: row.version for row in served.daemon.parts.table.rows()}
        fault(served, "reset")
        await until(lambda: served.daemon.parts.checker.outage.degraded)
        assert "degraded" in (await route(served))["flags"]
        assert {row.binding.subs_id: row.version for row in served.daemon.parts.table.rows()} == before
        served.simulator.service.faults.clear()
        await until(lambda: not served.daemon.parts.checker.outage.degraded, PATIENCE)
        said = [r.getMessage() for r in caplog.records]
        assert sum("degraded.entered" in line for line in said) == 1
        assert sum("degraded.left" in line for line in said) == 1
