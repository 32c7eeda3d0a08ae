"""A day in two minutes: with retention at work, neither the database nor memory nor the number of open files grows.

The loop's clock runs 720 times as fast, and so do the daemon's and the provider's, and the jobs of both. What it does
each second or oftener it does at its usual pace, by the machine's clock, for which there would be no time.
"""

import asyncio
import os
import selectors
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from precall import app, log
from precall.account import provider_settings
from precall.app import Daemon
from precall.config import Config
from precall.simulator import Scenario, Simulator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SPEED = 720.0
HOUR = 3600.0
WARM, HOURS = 8, 24
"""Until the eighth hour everything fills: the retention is four hours."""
FILLS = 5
"""MiB at most for what has a bound and has not come to it: 2,000 of the feed's 20,000 changes and the simulator's
times of arrival are some 2 of them. A statement kept of each batch that was written was another 4."""
BINDINGS, RATE, SOCKETS = 60, 0.5, 8


class FastSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Waits as long as the fast clock takes."""

    def select(self, timeout: float | None = None) -> Any:
        return super().select(None if timeout is None else timeout / SPEED)


class FastLoop(asyncio.SelectorEventLoop):
    """A loop whose second is a 720th of one."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        super().__init__(FastSelector())

    def time(self) -> float:
        return self._begun + SPEED * (time.monotonic() - self._begun)


def run_fast(work: Callable[[Callable[[], float]], Coroutine[Any, Any, None]]) -> None:
    begun, started = time.time(), time.monotonic()
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(work(lambda: begun + SPEED * (time.monotonic() - started)))


def resident() -> int:
    """MiB of this process: daemon, provider and test."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") >> 20


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def stored(folder: Path) -> int:
    """Pages the database holds: its log is rewound at 100 MB, whenever that is."""
    with closing(sqlite3.connect(folder / "precall.db")) as database:
        [[pages]], [[free]] = (
            database.execute(f"PRAGMA {name}").fetchall() for name in ("page_count", "freelist_count")
        )
    assert (folder / "precall.db-wal").stat().st_size < 160e6
    return pages - free


def configuration(folder: Path, provider: str) -> Config:
    return Config.model_validate(
        {
            "provider": {
                "endpoint": provider,
                "call_detail_endpoint": provider,
                "access_key_id": "demo",
                "access_key_secret": "demo-secret",
                "rate": RATE,
                "burst": 60,
                "timeout": "30m",
                "max_in_flight": SOCKETS,
            },
            "store": {
                "url": f"sqlite:///{folder}/precall.db",
                "timeout": "1h",
                "retention": "4h",
                "dial_log": 1.0,
                "history": "every",
            },
            "api": {"listen": "127.0.0.1:0"},
            "log": {"level": "error"},
        }
    )


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
    log.configure("debug")


@pytest.fixture
def _at_the_usual_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TICK", "CALLS", "LEAD", "YOUNG", "CLOCK"):
        monkeypatch.setattr(app, name, SPEED * getattr(app, name))


@pytest.mark.usefixtures("_lines_are_not_kept", "_at_the_usual_pace")
def test_a_day_leaves_everything_as_large_as_it_was(tmp_path: Path) -> None:
    run_fast(lambda clock: a_day(tmp_path, clock))


async def a_day(folder: Path, clock: Callable[[], float]) -> None:
    simulator = Simulator(Scenario.model_validate(SCENARIO), clock)
    async with simulator.running() as provider:
        loop = asyncio.get_running_loop()
        daemon = Daemon(configuration(folder, provider), wall=clock, monotonic=loop.time)
        patience = aiohttp.ClientTimeout(total=2 * HOUR)
        async with daemon.running() as [url], aiohttp.ClientSession(timeout=patience) as session:
            # A half a second to connect in is less than a thousandth of one here.
            client = daemon._provider
            slow = replace(provider_settings(daemon.config.provider), connect_timeout=HOUR / 2)
            client.retune(slow, client.credentials)
            await client.part()
            facts = [
                {
                    name: getattr(binding, name)
                    for name in ("subs_id", "pool_key", "number_x", "number_a", "number_b")
                }
                for binding in simulator.bindings()
            ]
            async with session.post(f"{url}/v1/bindings/batch", json={"bindings": facts}) as response:
                assert response.status == 200, await response.text()
            begun, sizes = clock(), []
            for hour in range(1, HOURS + 1):
                reads = 0
                while clock() < begun + hour * HOUR:
                    subs_id = facts[reads % BINDINGS]["subs_id"]
                    # What the daemon takes for a slow reader is a busy machine's blink.
                    with suppress(aiohttp.ClientError):
                        async with session.get(f"{url}/v1/routes/{subs_id}") as response:
                            assert response.status == 200
                        reads += 1
                    await asyncio.sleep(20.0)
                assert reads
                await daemon._retain()
                await daemon._each_minute()
                sizes.append((stored(folder), resident(), open_files()))
            checks = sum(simulator.calls_received.values())
            changes = daemon.feed.newest
        print(f"{checks} checks", sizes, changes, flush=True)  # noqa: T201
    assert checks > 0.3 * RATE * HOURS * HOUR
    warm, last = sizes[WARM - 1], sizes[-1]
    peak = [max(one[place] for one in sizes[WARM:]) for place in range(3)]
    assert peak[0] <= 1.25 * warm[0], sizes
    assert last[1] <= warm[1] + FILLS, sizes
    assert last[2] <= warm[2] + SOCKETS, sizes
