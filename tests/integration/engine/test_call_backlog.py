"""A hundred thousand calls that wait: memory stays as it is, the order is fair, the newest is not starved."""

import asyncio
import os
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.integration.engine.test_call_poller import PATIENT, call, metric, placed, report, result, tell
from tests.support.api_daemon import Served, scripted, serving
from tests.support.patience import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CALLS = 100_000
MOST_GROWTH = 40 * 2**20
"""Bytes: a call that waited in memory too would take some 700 of them."""


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def fill(served: Served, first: int, last: int) -> None:
    """Report calls that are all due, and of which the provider knows nothing."""
    at = time.time() - 80_000
    for start in range(first, last, 1000):
        await tell(served, *(report(f"old{n}", at + n // 10) for n in range(start, start + 1000)))


@pytest.mark.slow(seconds=15)
async def test_a_hundred_thousand_calls_wait_in_the_database(tmp_path: Path) -> None:
    # The provider's own figure: a hundred a minute.
    async with serving(tmp_path, scripted(1), store_timeout=PATIENT) as served:
        await served.register()
        await fill(served, 0, 10_000)
        before = resident()
        await fill(served, 10_000, CALLS)
        grown = resident() - before
        print(f"90,000 calls more: {grown / 2**20:.1f} MiB")  # noqa: T201
        assert grown < MOST_GROWTH
        await metric(served, f"precall_calls_waiting {CALLS}.0")
        _, page = await served.ask("GET", "/v1/calls?limit=1")
        assert page["backlog"]["waiting"] == CALLS
        assert page["backlog"]["due"] > 0.9 * CALLS
        assert page["backlog"]["age_seconds"] > 0
        await tell(served, placed(served, "new"))
        await result(served, "new", "failed")
        async with asyncio.timeout(PATIENCE):  # the oldest one is queried too, and postponed
            while datetime.fromisoformat((await call(served, "old0"))["next_at"]).timestamp() < time.time():
                await asyncio.sleep(0.2)
        assert served.simulator.calls_received["QueryCallDetailByCallId"] < 0.01 * CALLS
