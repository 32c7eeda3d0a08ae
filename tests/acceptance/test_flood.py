"""A flood of reads that require a check: all are answered, the quota holds, and other bindings are checked as before.

The test runs on a virtual clock, which does not depend on the load of the machine.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import pytest
from tests.acceptance.test_provider_trouble import figure, virtually
from tests.support.api_daemon import Served
from tests.support.virtual_time import VirtualLoop, keeps_to_the_quota, run_virtual, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# A few are read, over and over; of the others only the background takes care.
BINDINGS, READ, RATE, BURST, KAPPA, SHARE = 48, 12, 8.0, 8.0, 4.0, 0.7
PACE, CONNECTIONS, TIMEOUT, MARGIN = 100.0, 40, 0.3, 0.2
LONG, SHORT = 45.0, 15.0
FRESHNESS = {"min_interval": "100ms", "max_age": "30s"}


@dataclass(slots=True)
class Flood:
    """Reads sent at a pace, each by whichever connection is free."""

    served: Served
    loop: VirtualLoop
    ids: tuple[str, ...]
    answered: int = 0
    slowest: float = 0.0
    refused: list[object] = field(default_factory=list)

    async def last(self, seconds: float) -> None:
        begun = self.loop.time()
        moments = (begun + n / PACE for n in range(int(PACE * seconds)))
        wanted = cycle(self.ids)
        async with asyncio.TaskGroup() as connections:
            for _ in range(CONNECTIONS):
                connections.create_task(self._connection(moments, wanted))

    async def _connection(self, moments: Iterator[float], wanted: Iterator[str]) -> None:
        for moment in moments:
            await asyncio.sleep(moment - self.loop.time())
            sent = self.loop.time()
            path = f"/v1/routes/{next(wanted)}?max_age=0&timeout={TIMEOUT}"
            status, body = await self.served.ask("GET", path)
            self.slowest = max(self.slowest, self.loop.time() - sent)
            self.answered += 1
            if status != 200 or body["action"] != "dial_x":
                self.refused.append((status, body))


async def oldest_during(flood: Flood, seconds: float) -> float:
    """The greatest age of a route while the flood lasts."""
    oldest = 0.0
    flooding = asyncio.create_task(flood.last(seconds))
    while not flooding.done():
        oldest = max(oldest, await figure(flood.served, "oldest_route_age_seconds"))
        await asyncio.wait({flooding}, timeout=0.5)
    await flooding
    return oldest


@pytest.mark.slow(seconds=55)
def test_a_flood_of_on_demand_checks_starves_no_reader(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_virtual(lambda loop: a_flood(loop, tmp_path))
    assert not [record for record in caplog.records if record.exc_info]


async def a_flood(loop: VirtualLoop, folder: Path) -> None:
    settings = {"rate": RATE, "burst": BURST}
    async with virtually(loop, folder, BINDINGS, 0, provider=settings, freshness=FRESHNESS) as served:
        received = served.simulator.received_at
        await until(lambda: all(row.state.status == 1 for row in served.daemon.parts.table.rows()))
        before = len(received)
        flood = Flood(served, loop, tuple(one.subs_id for one in served.simulator.bindings())[:READ])
        # Longer than the bound, so that a binding that is never checked is detected.
        oldest = await oldest_during(flood, LONG)
        of_both = len(received) - before
        status, _ = await served.ask("POST", "/v1/pause", {"reason": "all calls are the readers' now"})
        assert status == 200
        begun, before = loop.time(), len(received)
        await flood.last(SHORT)
        seconds, asked = loop.time() - begun, list(received)
    assert oldest < (KAPPA + 2) * BINDINGS / RATE
    assert flood.refused == []
    assert flood.slowest < TIMEOUT + MARGIN
    assert flood.answered == PACE * (LONG + SHORT)
    assert of_both > 0.5 * RATE * LONG
    assert 0 < len(asked) - before <= SHARE * (RATE * seconds + BURST)
    keeps_to_the_quota(asked, RATE, BURST)
