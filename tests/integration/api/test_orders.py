"""Operator orders are logged with author and reason, and refused without effect; lists refuse invalid cursors."""

from pathlib import Path
from urllib.parse import quote

import pytest

from precall.api.handlers.order_log import shown
from tests.support.api_daemon import scripted, serving, token

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
