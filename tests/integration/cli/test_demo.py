"""The demonstration shows every action and what asking is worth, at whatever port is free."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator

import aiohttp
import pytest

from precall.cli import demo
from precall.cli.demo_story import DemoCaption
from precall.cli.demo_view import pages
from precall.core.errors import ListenError
from precall.core.model import Action
from precall.simulator import failed
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.slow(seconds=25)
ENOUGH = 50
"""Calls that must have been placed, so that a comparison means something."""


class Watched:
    """A stage that ends the play as soon as it has begun, or once it has shown what `enough` asks for."""

    def __init__(self, enough: Callable[[demo.DemoTally], bool] | None = None) -> None:
        self.url, self.captions, self.over = "", list[str](), asyncio.Event()
        self._enough = enough

    def opened(self, url: str, provider: str, bindings: int) -> None:
        self.url = url
        assert bindings
        if self._enough is None:
            self.over.set()

    def add_caption(self, caption: DemoCaption) -> None:
        self.captions.append(str(caption))

    def moved(self, change: demo.RouteMove) -> None: ...

    def glance(self, tally: demo.DemoTally) -> None:
        if self._enough is not None and self._enough(tally):
            self.over.set()


async def played(port: int | None) -> Watched:
    stage = Watched()
    await demo.play(demo.DemoSettings(None, None, port, time.time, time.monotonic, lambda: stage.over), stage)
    return stage


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The usual port, at which something else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(demo, "PORT", port)
        yield port


async def test_the_demo_skips_a_busy_port_and_prints_the_one_it_uses(busy: int) -> None:
    stage = await played(None)
    assert stage.captions[0] == f"t+0 s: port {busy} is taken, so another one is used"
    assert stage.url.startswith("http://127.0.0.1:")
    assert not stage.url.endswith(f":{busy}")


async def test_the_addresses_that_the_demo_prints_are_served() -> None:
    stage = Watched(lambda _: False)

    async def looked_at() -> dict[str, int]:
        async with asyncio.timeout(PATIENCE):
            while not stage.url:
                await asyncio.sleep(0.05)
        async with aiohttp.ClientSession() as session:
            found = {}
            for name, address in pages(stage.url).items():
                async with session.get(address) as answer:
                    found[name] = answer.status
        stage.over.set()
        return found

    settings = demo.DemoSettings(2 * PATIENCE, None, 0, time.time, time.monotonic, lambda: stage.over)
    _, found = await asyncio.gather(demo.play(settings, stage), looked_at())
    assert found == dict.fromkeys(("console", "routes", "metrics", "openapi"), 200)


async def test_the_demo_refuses_a_requested_port_that_is_busy(busy: int) -> None:
    with pytest.raises(ListenError, match=str(busy)):
        await played(busy)


async def test_the_demo_shows_all_five_actions_and_what_asking_is_worth() -> None:
    def enough(tally: demo.DemoTally) -> bool:
        return all(tally.calls.told[action] for action in Action) and all(worth(tally).values())

    stage = Watched(enough)
    settings = demo.DemoSettings(2 * PATIENCE, None, 0, time.time, time.monotonic, lambda: stage.over)
    tally = await demo.play(settings, stage)
    assert set(tally.calls.told) == set(Action)
    assert all(worth(tally).values()), worth(tally)
    endings = [caption.partition(" s: ")[2] for caption in stage.captions]
    assert "pool FC100003 runs out of temporary numbers" in endings
    assert "the brake stops FC100003: no more real numbers, calls are held" in endings
    assert tally.failures[-1].alone > tally.failures[-1].routed > 0
    seconds = [point.seconds for point in tally.failures]
    assert seconds == sorted(seconds)


def test_the_curves_keep_their_shape_in_a_bounded_number_of_points() -> None:
    tally = demo.DemoTally()
    for second in range(3 * demo.MOST_POINTS):
        tally.seconds = float(second)
        tally.note_failures()
    assert len(tally.failures) <= demo.MOST_POINTS
    assert tally.failures[0].seconds == 0
    assert tally.failures[-1].seconds == 3 * demo.MOST_POINTS - 1


def worth(tally: demo.DemoTally) -> dict[str, bool]:
    """What the end of the demonstration shows."""
    failed_routed, placed_routed = failed(tally.calls.routed)
    failed_alone, placed_alone = failed(tally.calls.alone)
    observed = [pool for pool in tally.report["observed"] if pool["pool_key"] == demo.OBSERVED]
    only_observed = sum(tally.calls.observed.values())
    reported = tally.report["total"]
    return {
        "precall has learned how calls of the dispatcher ended": (
            0 < reported["connected"] < reported["placed"] <= placed_routed + only_observed
        ),
        "enough calls are placed, and fewer by precall's routes": placed_alone >= placed_routed > ENOUGH,
        "fewer of them fail": failed_routed * placed_alone < failed_alone * placed_routed,
        "calls that were only observed are compared": any(
            pool["avoided"]["calls"] <= pool["avoided"]["of"]
            and pool["changed"]["calls"] <= pool["changed"]["of"]
            and 0 < pool["avoided"]["of"] + pool["changed"]["of"] <= only_observed
            for pool in observed
        ),
    }
