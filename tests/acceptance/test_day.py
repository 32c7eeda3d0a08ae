"""Hours of operation in half a minute: with retention, neither the database, memory nor open files grow.

Event loop, daemon and provider share a clock that runs an hour per second. Frequent jobs of the daemon run less often.
`PRECALL_TEST_SOAK_HOURS` sets the duration (4).
"""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.virtual_time import VirtualLoop, one_daemon, run_virtual, with_seldom_jobs

from precall.cli.demo import as_registered
from precall.runtime import account
from precall.runtime import daemon as app
from precall.simulator import Scenario, Simulator
from precall.telemetry import logging as log

HOURS = int(os.environ.get("PRECALL_TEST_SOAK_HOURS", "4"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 60 * HOURS)]

SPEED = 3600.0
HOUR = 3600.0
WARM = 2
"""Until the second hour everything fills: the retention is half of one."""
FILLS = 2 + HOURS // 8
"""Maximum growth in MiB, for bounded structures that are not full yet and for rounding of the allocator.

In a day, the feed and the simulator's arrival times grow by about 2. A leak of one statement per batch was 4.
"""
BINDINGS, RATE, SOCKETS = 60, 0.3, 8
PACE = {"TICK": 10.0, "CALLS": 60.0, "CLOCK": 60.0, "YOUNG": 1800.0}
"""The daemon's intervals of a second and less, in seconds here. A young collection counts the test runner's
objects too."""


def resident() -> int:
    """MiB of this process: daemon, provider and test."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") >> 20


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def stored(folder: Path) -> int:
    """Return the number of pages in use. The size of the WAL varies, as it is reset at 100 MB."""
    with closing(sqlite3.connect(folder / "precall.db")) as database:
        [[pages]], [[free]] = (
            database.execute(f"PRAGMA {name}").fetchall() for name in ("page_count", "freelist_count")
        )
    assert (folder / "precall.db-wal").stat().st_size < 160e6
    return pages - free


def sections(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        "store": {
            "url": f"sqlite:///{folder}/precall.db",
            "timeout": "1h",
            "retention": "30m",
            "dial_log": 1.0,
            "history": "every",
        },
        "log": {"level": "error"},
    }


SCENARIO = {
    "pool": [
        {
            "pool_key": "FC1",
            "bindings": BINDINGS,
            "onset": "1h",
            "recovery": "15m",
            "lifetime": "0s",
            "temporary_numbers": 40,
        }
    ]
}


@pytest.fixture
def _lines_are_not_kept() -> Iterator[None]:
    """The test runner keeps every line that is logged, and a daemon does not."""
    log.configure("error")
    yield
    log.configure("info")


@pytest.fixture
def _a_coarser_life(monkeypatch: pytest.MonkeyPatch) -> None:
    with_seldom_jobs(monkeypatch)
    for name, seconds in PACE.items():
        monkeypatch.setattr(account if name == "CALLS" else app, name, seconds)


@pytest.mark.usefixtures("_lines_are_not_kept", "_a_coarser_life")
@pytest.mark.slow(seconds=65)
def test_nothing_grows_in_a_simulated_day(tmp_path: Path) -> None:
    run_virtual(lambda loop: a_day(loop, tmp_path), SPEED)


async def a_day(loop: VirtualLoop, folder: Path) -> None:
    simulator = Simulator(Scenario.model_validate(SCENARIO), loop.wall)
    asking = {"rate": RATE, "burst": 60, "timeout": "30m", "max_in_flight": SOCKETS}
    patience = aiohttp.ClientTimeout(total=2 * HOUR)
    async with (
        simulator.running() as provider,
        one_daemon(loop, folder, provider, asking, **sections(folder)) as (daemon, url),
        aiohttp.ClientSession(timeout=patience) as session,
    ):
        facts = [as_registered(one) for one in simulator.bindings()]
        async with session.post(f"{url}/v1/bindings/batch", json={"bindings": facts}) as response:
            assert response.status == 200, await response.text()
        begun, sizes = loop.time(), []
        for hour in range(1, HOURS + 1):
            reads = 0
            while loop.time() < begun + hour * HOUR:
                subs_id = facts[reads % BINDINGS]["subs_id"]
                # A connection that is kept may be at its end just then.
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/v1/routes/{subs_id}") as response:
                        assert response.status == 200
                    reads += 1
                await asyncio.sleep(20.0)
            assert reads
            await daemon.account.retire()
            await daemon.each_minute()
            sizes.append((stored(folder), resident(), open_files()))
        checks = sum(simulator.calls_received.values())
        changes = daemon.parts.feed.newest
    print(f"{checks} checks", sizes, changes, flush=True)  # noqa: T201
    assert checks > 0.3 * RATE * HOURS * HOUR
    warm, last = sizes[WARM - 1], sizes[-1]
    peak = [max(one[place] for one in sizes[WARM:]) for place in range(3)]
    # Pages are freed by each retention round, which may have run just now or an hour ago.
    assert peak[0] <= 1.25 * max(pages for pages, _, _ in sizes[:WARM]), sizes
    assert last[1] <= warm[1] + FILLS, sizes
    # Both ends of every connection to the provider are in this process; how many are open just then varies.
    assert last[2] <= warm[2] + 2 * SOCKETS, sizes
