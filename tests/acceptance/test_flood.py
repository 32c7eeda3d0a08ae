"""A thousand reads a second that each want a check now: they get an answer, the provider no more calls than it was to
get, and the bindings nobody reads are checked as before."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, takewhile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.acceptance.test_provider_trouble import metric, site
from tests.acceptance.test_standby import ask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

# A few are read, over and over; of the others only the background takes care.
BINDINGS, READ, RATE, BURST, KAPPA, SHARE = 120, 30, 20.0, 20.0, 4.0, 0.7
PACE, CONNECTIONS, TIMEOUT, MARGIN = 1000.0, 100, 0.3, 5.0
LONG, SHORT = 45.0, 15.0
SETTINGS = f'rate = {RATE}\nburst = {BURST}\n[freshness]\nmin_interval = "100ms"\nmax_age = "30s"\n'


@dataclass(slots=True)
class Flood:
    """Reads sent at a pace over connections that are kept; fewer when the machine is too busy to send them."""

    url: str
    ids: tuple[str, ...]
    answered: int = 0
    slowest: float = 0.0
    refused: list[bytes] = field(default_factory=list)

    async def last(self, seconds: float) -> None:
        begun = time.monotonic()
        due = (begun + n / PACE for n in range(int(PACE * seconds)))
        moments = takewhile(lambda _: time.monotonic() < begun + seconds, due)
        wanted = cycle(self.ids)
        async with asyncio.TaskGroup() as connections:
            for _ in range(CONNECTIONS):
                connections.create_task(self._connection(moments, wanted))

    async def _connection(self, moments: Iterator[float], wanted: Iterator[str]) -> None:
        place = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        for moment in moments:
            await asyncio.sleep(moment - time.monotonic())
            sent = time.monotonic()
            path = f"/v1/routes/{next(wanted)}?max_age=0&timeout={TIMEOUT}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))
            self.slowest = max(self.slowest, time.monotonic() - sent)
            self.answered += 1
            if not (head.startswith(b"http/1.1 200 ") and b'"action":"dial_x"' in body):
                self.refused.append(head + body)
        writer.close()
        await writer.wait_closed()


async def oldest_during(flood: Flood, seconds: float) -> float:
    """The greatest age of a route while the flood lasts."""
    oldest = 0.0
    flooding = asyncio.create_task(flood.last(seconds))
    while not flooding.done():
        oldest = max(oldest, await asyncio.to_thread(metric, flood.url, "oldest_route_age_seconds"))
        await asyncio.wait({flooding}, timeout=0.5)
    await flooding
    return oldest


def arrivals(provider: str) -> list[float]:
    return sorted(ask(f"{provider}/_admin/stats?arrivals=1000000")[1]["arrivals"])


def test_a_flood_of_checks_on_demand_starves_nobody(tmp_path: Path) -> None:
    with site(tmp_path, SETTINGS, bindings=BINDINGS) as here, here.daemon() as (daemon, url):
        here.load(url)
        before = len(arrivals(here.provider))
        flood = Flood(url, here.ids[:READ])
        # Longer than the bound: who is not checked at all is found out.
        oldest = asyncio.run(oldest_during(flood, LONG))
        of_both = len(arrivals(here.provider)) - before
        assert ask(f"{url}/v1/pause", "POST", {"reason": "all calls are the readers' now"})[0] == 200
        begun, before = time.monotonic(), len(arrivals(here.provider))
        asyncio.run(flood.last(SHORT))
        asked = arrivals(here.provider)
        seconds = time.monotonic() - begun
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.said
    assert oldest < (KAPPA + 2) * BINDINGS / RATE
    assert flood.refused == []
    assert flood.slowest < TIMEOUT + MARGIN
    assert flood.answered > 10 * RATE * (LONG + SHORT)
    assert of_both > 0.5 * RATE * LONG
    assert 0 < len(asked) - before <= SHARE * (RATE * seconds + BURST)
    for window in (20, 100, 500):
        for first in range(len(asked) - window):
            # They leave in time; on a busy machine they arrive with its jitter.
            assert window + 1 <= RATE * (asked[first + window] - asked[first] + 0.5) + BURST
