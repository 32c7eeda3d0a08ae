"""The demonstration finds a port beside whatever else listens at the usual one, another demonstration included."""

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from precall.cli import demo
from precall.core.errors import ListenError

pytestmark = pytest.mark.slow


class Watched:
    """A stage that ends the play as soon as it has begun."""

    def __init__(self) -> None:
        self.url, self.remark, self.over = "", "", asyncio.Event()

    def opened(self, url: str, provider: str, bindings: int, remark: str) -> None:
        self.url, self.remark = url, remark
        assert bindings
        self.over.set()

    def moved(self, change: demo.RouteMove) -> None: ...
    def glance(self, tally: demo.DemoTally) -> None: ...


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
    assert stage.remark == f"port {busy} is taken, so another one is used"
    assert stage.url.startswith("http://127.0.0.1:")
    assert not stage.url.endswith(f":{busy}")


async def test_the_demo_refuses_a_requested_port_that_is_busy(busy: int) -> None:
    with pytest.raises(ListenError, match=str(busy)):
        await played(busy)
