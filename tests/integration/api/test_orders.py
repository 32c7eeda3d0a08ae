"""Operator orders are logged, listed and in force after a restart; those of nobody are refused without effect."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from precall.api.handlers.order_log import shown
from precall.core.errors import OutcomeUnknown
from precall.core.orders import Order
from tests.support.api_daemon import Served, scripted, serving, token
from tests.support.patience import PATIENCE

TYPED = "asked by 138 0000 0001, ticket 13800000001"
ORDERS = [
    ("POST", "/v1/pause", {"pool_key": "FC1", "reason": TYPED}, "pause"),
    ("POST", "/v1/resume", {"pool_key": "FC1", "reason": TYPED}, "resume"),
    ("POST", "/v1/brake/engage", {"pool_key": "FC1", "reason": TYPED}, "brake engage"),
    ("POST", "/v1/brake/release", {"pool_key": "FC1", "reason": TYPED}, "brake release"),
    ("PUT", "/v1/overrides/1", {"action": "hold", "reason": TYPED}, "override hold"),
    ("DELETE", "/v1/overrides/1", None, "override lifted"),
    ("POST", "/-/reload", None, "reload"),
]


@pytest.mark.parametrize("named", [True, False])
async def test_every_order_is_logged_with_author_and_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, named: bool
) -> None:
    secret, entry = token("night-shift", "admin", "bindings:write")
    headers = {"Authorization": f"Bearer {secret}"} if named else {}
    async with serving(tmp_path, scripted(1), tokens=[entry] if named else []) as served:
        served.session.headers.update(headers)
        await served.register()
        for method, path, body, order in ORDERS:
            caplog.clear()
            status, answer = await served.ask(method, path, body)
            assert status in (200, 204), answer
            facts = next(r.msg for r in caplog.records if "order.given" in r.getMessage())
            assert isinstance(facts, dict)
            assert (facts["order"], facts["by"]) == (order, "night-shift" if named else "local")
            assert facts["peer"] == "127.0.0.1"
            assert facts["reason"] == ("asked by ***, ticket ***" if body else "")
            assert facts.get("pool", facts.get("subs_id", "")) == (
                "" if order == "reload" else facts_of(path)
            )


def facts_of(path: str) -> str:
    return "1" if "overrides" in path else "FC1"


def test_possible_numbers_in_reasons_are_masked() -> None:
    for number in ("13800000001", "1234567", "x13800000001y", "138-0000-0001"):
        assert not any(run in shown(f"for {number}.") for run in ("138", "1234567"))
    assert shown("ticket 123456 of 2026-01-02") == "ticket 123456 of 2026-01-02"


async def test_an_order_for_an_unknown_pool_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        for path in ("/v1/brake/release", "/v1/resume", "/v1/brake/engage", "/v1/pause"):
            status, body = await served.ask("POST", path, {"pool_key": "FC2"})
            assert (status, body["code"], body["field"]) == (404, "unknown_pool", "pool_key")
            assert (await served.ask("POST", path, {}))[0] == 200
        # What was ordered while the pool had bindings can be lifted after it has none.
        assert (await served.ask("POST", "/v1/resume", {}))[0] == 200
        for path in ("/v1/brake/engage", "/v1/pause"):
            assert (await served.ask("POST", path, {"pool_key": "FC1"}))[0] == 200
        assert (await served.ask("DELETE", "/v1/bindings/1"))[0] == 204
        for path in ("/v1/brake/release", "/v1/resume"):
            assert (await served.ask("POST", path, {"pool_key": "FC1"}))[0] == 200


GARBAGE = ["x", "-1", "1.5", "9" * 33, "\x00", "1\x00", "1\n", " 1", "１", "0x1", "1~1", "%", "1;drop"]


async def test_every_list_refuses_an_invalid_cursor(tmp_path: Path) -> None:
    """Values that are not a cursor of any list. `1.5` and `1~1` are cursors of other lists."""
    lists = {
        "/v1/routes": set(),
        "/v1/bindings": set(),
        "/v1/exposures": set(),
        "/v1/orders": set(),
        "/v1/bindings/1/history": {"1.5"},
        "/v1/calls": {"1~1"},
    }
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        for path, good in lists.items():
            for cursor in GARBAGE:
                status, body = await served.ask("GET", f"{path}?cursor={quote(cursor, safe='')}")
                if cursor in good:
                    assert status == 200, (path, cursor)
                else:
                    assert (status, body["code"], body["field"]) == (400, "invalid_cursor", "cursor"), path
            assert (await served.ask("GET", f"{path}?cursor={'9' * 200}"))[0] == 400
            assert (await served.ask("GET", f"{path}?cursor="))[0] == 200


async def give(served: Served, path: str, body: Any = None, method: str = "POST") -> None:
    status, answer = await served.ask(method, path, body)
    assert status in (200, 204), answer


async def listed(served: Served, query: str = "") -> list[dict[str, Any]]:
    status, body = await served.ask("GET", f"/v1/orders?{query}")
    assert status == 200, body
    return body["orders"]  # type: ignore[no-any-return]


async def test_orders_are_listed_with_author_reason_and_whether_they_are_in_force(tmp_path: Path) -> None:
    secret, entry = token("night-shift", "admin", "bindings:write", "routes:read")
    async with serving(tmp_path, scripted(1), tokens=[entry]) as served:
        served.session.headers.update({"Authorization": f"Bearer {secret}"})
        await served.register()
        await give(served, "/v1/pause", {"pool_key": "FC1", "reason": TYPED})
        await give(served, "/v1/brake/engage", {"reason": "drill"})
        until = {"action": "hold", "until": "2090-01-01T00:00:00Z", "reason": "asked"}
        await give(served, "/v1/overrides/1", until, "PUT")
        found = await listed(served)
        assert all(row.pop("at").endswith("Z") for row in found)
        assert found == [
            {
                "kind": "override",
                "subs_id": "1",
                "action": "hold",
                "by": "night-shift",
                "reason": "asked",
                "until": "2090-01-01T00:00:00Z",
                "in_force": True,
            },
            {
                "kind": "brake",
                "pool_key": "",
                "action": "engage",
                "by": "night-shift",
                "reason": "drill",
                "until": "",
                "in_force": True,
            },
            {
                "kind": "pause",
                "pool_key": "FC1",
                "action": "pause",
                "by": "night-shift",
                "reason": "asked by ***, ticket ***",
                "until": "",
                "in_force": True,
            },
        ]
        await give(served, "/v1/resume", {})
        await give(served, "/v1/overrides/1", method="DELETE")
        assert [(row["action"], row["in_force"]) for row in await listed(served)] == [
            ("lift", False),
            ("resume", False),
            ("hold", False),
            ("engage", True),
            ("pause", False),
        ]
        assert [row["action"] for row in await listed(served, "in_force=1")] == ["engage"]
        assert [row["action"] for row in await listed(served, "kind=pause&pool_key=FC1")] == ["pause"]
        assert [row["action"] for row in await listed(served, "subs_id=1")] == ["lift", "hold"]
        _, first = await served.ask("GET", "/v1/orders?limit=3")
        assert len(first["orders"]) == 3
        assert [row["action"] for row in await listed(served, f"cursor={first['cursor']}")] == [
            "engage",
            "pause",
        ]
        assert (await served.ask("GET", "/v1/orders?kind=reload"))[0] == 400


async def test_a_history_has_the_orders_of_the_binding_and_its_pool(tmp_path: Path) -> None:
    """Who gave them, and why, is told to scope admin alone."""
    tokens = [token("boss", "admin", "bindings:write", "routes:read"), token("reader", "routes:read")]
    (boss, _), (reader, _) = tokens
    async with serving(tmp_path, scripted(1), tokens=[entry for _, entry in tokens]) as served:
        served.session.headers.update({"Authorization": f"Bearer {boss}"})
        await served.register()
        await served.register(subs_id="2", pool_key="FC2", number_x="17000000002")
        for path, body in (
            ("pause", {"pool_key": "FC1"}),
            ("pause", {"pool_key": "FC2"}),
            ("brake/engage", {}),
        ):
            await give(served, f"/v1/{path}", body | {"reason": "drill"})
        await give(served, "/v1/overrides/1", {"action": "hold", "reason": "drill"}, "PUT")
        await give(served, "/v1/overrides/2", {"action": "hold", "reason": "drill"}, "PUT")
        path = "/v1/bindings/1/history"
        _, whole = await served.ask("GET", path)
        told = [(row["kind"], row.get("pool_key"), row["by"], row["reason"]) for row in whole["orders"]]
        assert told == [
            ("override", None, "boss", "drill"),
            ("brake", "", "boss", "drill"),
            ("pause", "FC1", "boss", "drill"),
        ]
        served.session.headers.update({"Authorization": f"Bearer {reader}"})
        _, masked = await served.ask("GET", path)
        assert masked["orders"] == [row | {"by": "", "reason": ""} for row in whole["orders"]]
        found, cursor = list[dict[str, Any]](), ""
        while True:
            _, page = await served.ask("GET", f"{path}?limit=1&cursor={cursor}")
            found += page["orders"]
            if not (cursor := page["cursor"]):
                break
        assert found == masked["orders"]
        assert (await served.ask("GET", f"{path}?cursor=1.5"))[1]["orders"] == []
        assert (await served.ask("GET", "/v1/orders"))[0] == 403


async def test_explain_names_who_gave_an_override_to_admins_alone(tmp_path: Path) -> None:
    tokens = [token("boss", "admin", "bindings:write", "routes:read"), token("reader", "routes:read")]
    (boss, _), (reader, _) = tokens
    async with serving(tmp_path, scripted(1), tokens=[entry for _, entry in tokens]) as served:
        served.session.headers.update({"Authorization": f"Bearer {boss}"})
        await served.register()
        reason = "asked by 13800000001"
        await give(served, "/v1/overrides/1", {"action": "hold", "reason": reason}, "PUT")
        _, whole = await served.ask("GET", "/v1/bindings/1/explain")
        assert (whole["override"]["created_by"], whole["override"]["reason"]) == ("boss", "asked by ***")
        served.session.headers.update({"Authorization": f"Bearer {reader}"})
        _, part = await served.ask("GET", "/v1/bindings/1/explain")
        assert part["override"] == whole["override"] | {"created_by": "", "reason": ""}


async def test_resuming_all_pools_resumes_each(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        await give(served, "/v1/pause", {"pool_key": "FC1"})
        await give(served, "/v1/resume", {})
        # Its background checks run again.
        async with asyncio.timeout(PATIENCE):
            while (await served.ask("GET", "/v1/routes/1?dial=0"))[1]["status"] == 0:
                await asyncio.sleep(0.02)


async def test_orders_are_in_force_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(3)) as served:
        await served.register()
        await give(served, "/v1/pause", {"pool_key": "FC1", "reason": "drill"})
        await give(served, "/v1/brake/engage", {"pool_key": "FC1"})
        before = await listed(served)
    async with serving(tmp_path, scripted(3)) as served:
        assert await listed(served) == before
        assert (await served.ask("GET", "/readyz"))[1]["paused"] == ["FC1"]
        assert (await served.checked("1"))["reason"] == "exposure_brake"
        await give(served, "/v1/brake/release", {})
        assert (await served.ask("GET", "/v1/routes/1?dial=0"))[1]["action"] == "dial_real"


async def test_an_order_whose_commit_is_unknown_is_in_force_once_that_is_known(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        await served.register()
        parts = served.daemon.parts
        book, give_order = parts.store.orders, parts.store.orders.give

        async def lose(order: Order) -> None:
            await give_order(order)
            raise OutcomeUnknown("the connection was lost")

        await give(served, "/v1/pause", {"pool_key": "FC1"})
        await give(served, "/v1/brake/engage", {})
        book.give = lose  # type: ignore[method-assign]
        for path in ("pause", "brake/release"):
            assert (await served.ask("POST", f"/v1/{path}", {}))[0] == 503
        assert (await served.ask("POST", "/v1/resume", {"pool_key": "FC1"}))[0] == 503
        assert parts.checker.plan.paused == {"FC1"}
        assert parts.checker.brake.halted_pools == {""}
        await parts.orders.settle()
        assert parts.checker.plan.paused == {""}
        assert parts.checker.brake.halted_pools == set()
        assert [one.order.action for one in await parts.orders.in_force()] == ["pause"]
