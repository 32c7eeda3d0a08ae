"""A daemon in the middle of an incident, for tests and pictures of the console.

One pool has run out of numbers and engaged its brake, another has temporary numbers, one is paused; the last hours are
recorded; people wrote reasons and labels that must be escaped; and every number that must not be shown is known.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precall.api.schemas.fields import moment
from precall.core.model import State
from precall.core.status.finding import FindingCode
from tests.support.api_daemon import FUTURE, Served, serving, token
from tests.support.patience import PATIENCE

MARKUP = "<script>alert(1)</script>&\"'"
CHINESE = "杭州 号码池 已联系运营商"
LONG_ID = "1000000768798832123456789012345"
POOLS = ("FC100001", "FC100002", "FC100003", "FC100004")
SIZE = 24
"""Bindings per pool."""

READER, READING = token("reader", "routes:read")
ADMIN, ADMINISTERING = token(
    "admin", "routes:read", "routes:real", "bindings:write", "calls:write", "metrics", "admin"
)
SCRAPER, SCRAPING = token("scraper", "metrics")
SECRETS = {"reader": READER, "admin": ADMIN, "scraper": SCRAPER}


@dataclass(frozen=True, slots=True)
class Incident:
    """The daemon, and the real numbers that no page may show."""

    served: Served
    numbers: tuple[str, ...]


def number_of(kind: str, place: int) -> str:
    """Return a number: X ("170"), temporary ("171"), A ("138") or B ("139")."""
    return f"{kind}{55_000_000 + 37 * place:08d}"


def status_of(pool: str, place: int) -> int:
    """Return the status at the provider."""
    if pool == "FC100003":
        return 3 if place % 2 else 2
    if pool == "FC100002":
        return 2 if place % 6 == 0 else 1
    return 1


def bindings() -> list[dict[str, Any]]:
    """Return the bindings of all pools, with their status at the provider."""
    found = []
    for nth, pool in enumerate(POOLS):
        for place in range(SIZE):
            count = nth * SIZE + place
            found.append(
                {
                    "subs_id": LONG_ID if count == 0 else f"10000007687{count:05d}",
                    "pool_key": pool,
                    "number_x": number_of("170", count),
                    "number_a": number_of("138", count),
                    "number_b": number_of("139", count),
                    "status": status_of(pool, place),
                }
            )
    return found


@asynccontextmanager
async def incident(folder: Path, **sections: Any) -> AsyncIterator[Incident]:
    """Run the daemon. It has tokens unless `sections` say otherwise."""
    facts = bindings()
    sections = {
        "tokens": [READING, ADMINISTERING, SCRAPING],
        "brake": {"share": 0.1, "floor": 5, "window": "1h"},
        "rate": 60.0,
        "policy": {"fallback": "dial_real"},
        "freshness": {
            "max_age": "2m",
            "abnormal_max_age": "20s",
            "min_interval": "10s",
            "abnormal_min_interval": "2s",
        },
    } | sections
    async with serving(folder, {"binding": facts}, **sections) as served:
        served.session.headers["Authorization"] = f"Bearer {ADMIN}"
        for one in facts:
            told = {name: value for name, value in one.items() if name != "status"} | {"expires_at": FUTURE}
            if one["subs_id"] == LONG_ID:
                told["labels"] = {"city": CHINESE, "note": MARKUP}
            status, body = await served.ask("PUT", f"/v1/bindings/{one['subs_id']}", told)
            assert status in (200, 201), body
        await settled(served)
        await ordered(served)
        record(served)
        yield Incident(served, tuple(one[name] for one in facts for name in ("number_a", "number_b")))


async def settled(served: Served) -> None:
    """Wait until every binding has been checked and the brake has engaged."""
    async with asyncio.timeout(PATIENCE):
        while True:
            parts = served.daemon.parts
            unverified = parts.table.count(State.UNVERIFIED)
            if not unverified and parts.status.has(FindingCode.BRAKE_ENGAGED):
                return
            await asyncio.sleep(0.1)


async def ordered(served: Served) -> None:
    """Give orders with reasons as people write them."""
    reason = f"{CHINESE} {MARKUP} call 13855000037 back"
    for method, path, body in (
        ("POST", "/v1/pause", {"pool_key": "FC100004", "reason": reason}),
        ("PUT", f"/v1/overrides/{LONG_ID}", {"action": "hold", "reason": "the customer asked for it"}),
    ):
        status, answer = await served.ask(method, path, body)
        assert status < 300, answer
    for place in range(40):
        status, answer = await served.ask(
            "POST",
            "/v1/calls",
            {
                "call_id": f"call-{place}",
                "subs_id": f"10000007687{24 + place % 24:05d}",
                "called_at": moment(served.daemon.clocks.now() - 60 * place),
                "outcome": "failed" if place % 9 == 0 else "connected",
            },
        )
        assert status < 300, answer


def record(served: Served) -> None:
    """Fill the last hours, as an incident leaves them: 40 minutes ago checks began to fail, then a pool went bad."""
    recorder, now = served.daemon.parts.recorder, served.daemon.clocks.now()
    newest = recorder.daemon.moment(now)
    for back in range(recorder.daemon.size):
        minutes = back / 4
        if 150 < minutes < 162:
            continue  # a restart
        wave = math.sin(back / 25)
        trouble = 30 < minutes < 42
        bad = max(0.0, min(1.0, (32 - minutes) / 6))
        recorder.daemon.put(
            newest - 15.0 * back,
            {
                "checks": round(42 + 6 * wave - 20 * trouble, 2),
                "checks_failed": 17.0 if trouble else 0.1,
                "budget": 60.0,
                "oldest": round(70 + 15 * wave + 220 * trouble, 1),
                "state_temporary": float(round(4 + 12 * bad)),
                "state_fallback": float(round(5 * bad)),
                "state_blocked": 0.0,
                "state_unverified": float(round(3 * trouble)),
                "held": float(round(7 * bad)),
                "calls": float(20 + round(6 * wave)),
                "calls_failed": float(round(1 + 3 * bad)),
                "reads": round(30 + 5 * wave, 2),
            },
        )
    minute = recorder.pools.moment(now)
    for back in range(recorder.pools.size):
        bad = max(0.0, min(1.0, (32 - back) / 6))
        recorder.pools.put(
            minute - 60.0 * back,
            {
                "FC100001": [SIZE, 0, 0, 0, 0],
                "FC100002": [SIZE - 4, 4, 0, 0, 0],
                "FC100003": [
                    round(SIZE * (1 - bad)),
                    round(12 * bad),
                    SIZE - round(SIZE * (1 - bad)) - round(12 * bad),
                    0,
                    0,
                ],
                "FC100004": [SIZE - 2 * (30 < back < 42), 0, 0, 2 * (30 < back < 42), 0],
            },
        )
