"""Dials whose routes were kept elsewhere: told by reported calls and by caches, persisted as reads are."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from precall.api.schemas.dials import MAX_DIALS, DialsAnswer
from tests.support.api_daemon import Served, serving
from tests.support.patience import PATIENCE

IDLE: dict[str, Any] = {"rate": 0.001, "store": {"dial_log": 1.0}}


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def learned(served: Served) -> float:
    """The dials that the planner has learned from."""
    plan = served.daemon.parts.checker.planner.export()
    return float(sum(events for events, _ in plan["everywhere"]["mu"]))


def told(served: Served, source: str) -> float:
    registry = served.daemon.metrics.registry
    return registry.get_sample_value("precall_unread_dials_total", {"source": source}) or 0.0


async def report(served: Served, call_id: str, *, seconds: float = 0.0, **facts: Any) -> None:
    call = {"call_id": call_id, "called_at": ago(seconds), "subs_id": "1", "outcome": "connected"} | facts
    status, body = await served.ask("POST", "/v1/calls", call)
    assert status == 200, body


async def logged(served: Served, wanted: int) -> list[dict[str, Any]]:
    """The dials in the log, once there are so many."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with served.session.get(f"{served.url}/v1/dials") as response:
                lines = [json.loads(line) async for line in response.content]
            dials = [line for line in lines if line["kind"] == "dial"]
            if len(dials) >= wanted:
                return dials
            await asyncio.sleep(0.05)


async def test_a_reported_call_is_a_dial_unless_its_route_was_read(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        for subs_id in "12":
            await served.register(subs_id=subs_id)
        await report(served, "a")
        await report(served, "b")
        assert (learned(served), told(served, "call")) == (2, 2)
        await report(served, "a")
        await report(served, "a", outcome="busy")
        assert learned(served) == 2, "the same call again"
        await served.ask("GET", "/v1/routes/1")
        assert learned(served) == 3
        await report(served, "c")
        assert learned(served) == 3, "its route was read"
        await report(served, "d", subs_id="2")
        await report(served, "e", subs_id="404")
        assert (learned(served), told(served, "call")) == (4, 3)
        await report(served, "f", seconds=7200.0, subs_id="2")
        await report(served, "g", seconds=86_400.0, subs_id="2")
        assert learned(served) == 4, "calls of the past say nothing about dials now"
        assert [line["verified"] for line in await logged(served, 4)] == [False] * 4


async def test_receipts_are_no_dials(tmp_path: Path) -> None:
    """A handset dials X without a route; the call is known, and no dispatcher asked."""
    receipt = {
        "call_id": "h1",
        "subs_id": "1",
        "call_time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "release_time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
    }
    async with serving(tmp_path, **IDLE) as served:
        await served.register()
        assert (await served.ask("POST", "/v1/receipts", [receipt]))[0] == 200
        assert (learned(served), told(served, "call")) == (0, 0)


async def test_a_cache_tells_its_dials_in_batches(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        for subs_id in "12":
            await served.register(subs_id=subs_id)
        batch = [
            {"subs_id": "1", "count": 3, "last_at": ago(2.0)},
            {"subs_id": "2", "last_at": ago(-3600.0)},
            {"subs_id": "404", "count": 2, "last_at": ago(2.0)},
        ]
        status, answer = await served.ask("POST", "/v1/dials", batch)
        assert status == 200
        assert DialsAnswer.model_validate(answer) == DialsAnswer(taken=2, unknown=["404"])
        assert (learned(served), told(served, "cache")) == (4, 4)
        await report(served, "a")
        assert learned(served) == 4, "its read was told"
        assert len(await logged(served, 4)) == 4
        assert (await served.ask("POST", "/v1/dials", []))[1] == {"taken": 0, "unknown": []}


async def test_a_call_reported_before_its_read_is_told_counts_once(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        await served.register()
        read_at = ago(0.5)
        await report(served, "a")
        assert learned(served) == 1
        await served.ask("POST", "/v1/dials", [{"subs_id": "1", "count": 2, "last_at": read_at}])
        assert (learned(served), told(served, "call"), told(served, "cache")) == (2, 1, 1)


async def test_a_batch_with_a_mistake_counts_nothing(tmp_path: Path) -> None:
    mistakes: list[tuple[str, dict[str, Any]]] = [
        ("count", {"subs_id": "1", "count": 0, "last_at": ago(1.0)}),
        ("count", {"subs_id": "1", "count": MAX_DIALS + 1, "last_at": ago(1.0)}),
        ("last_at", {"subs_id": "1", "count": 1}),
        ("last_at", {"subs_id": "1", "last_at": "yesterday"}),
        ("caller", {"subs_id": "1", "last_at": ago(1.0), "caller": "1"}),
    ]
    async with serving(tmp_path, **IDLE) as served:
        await served.register()
        for field, entry in mistakes:
            batch = [{"subs_id": "1", "last_at": ago(1.0)}, entry]
            status, body = await served.ask("POST", "/v1/dials", batch)
            assert (status, body["field"]) == (422, f"[1].{field}"), body
        assert learned(served) == 0


async def test_what_was_told_survives_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        await served.register()
        await served.ask("POST", "/v1/dials", [{"subs_id": "1", "count": 5, "last_at": ago(1.0)}])
    async with serving(tmp_path, **IDLE) as served:
        assert learned(served) == 5
        await report(served, "a", seconds=600.0)
        assert learned(served) == 5, "whether its route was read, the daemon before this one knew"
