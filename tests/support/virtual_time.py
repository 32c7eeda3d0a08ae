"""An event loop with a virtual clock that stops while there is work and otherwise runs faster than real time.

A busy machine causes no delay by this clock, so tests can assert exact rates and times, and hours pass in seconds.

The daemon, the simulator and the test share the loop in one process. SQLite works in a thread and in real time, so the
clock stands still meanwhile: otherwise 100 ms of a busy disk could be minutes.
"""

import asyncio
import selectors
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from precall.config.schema import Config
from precall.runtime import account, membership
from precall.runtime.daemon import Daemon

SPEED = 10.0
PAUSE = 0.05
"""Real seconds between two looks whether a call of SQLite has ended."""
STEP = 1.0
"""Seconds by which the clock advances at most before the loop polls again."""
WHOLE = 0.001
"""Real seconds: the shortest wait."""
START = 1000.0
SELDOM = ((account, "LOOK", 60.0), (membership, "EVERY", 60.0))
"""Jobs that keep the status and the list of members up to date, and their intervals in `with_seldom_jobs`."""


class _SqliteCalls:
    """The calls of aiosqlite under way in this process."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the calls in this block. aiosqlite passes each of them to its thread by `Connection._execute`."""
        execute = vars(aiosqlite.core.Connection)["_execute"]

        async def counted(*args: Any, **named: Any) -> Any:
            self.count += 1
            try:
                return await execute(*args, **named)
            finally:
                self.count -= 1

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aiosqlite.core.Connection, "_execute", counted)
            yield


class _VirtualSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """A selector that waits a fraction of the timeout and advances the virtual clock by all of it."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.now, self._speed, self._owed = START, speed, 0.0
        self.sqlite = _SqliteCalls()

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or super().select(timeout)
        if self.sqlite.count:
            return super().select(PAUSE)
        step, begun = min(timeout, STEP), time.monotonic()
        # The operating system waits for whole milliseconds, so shorter waits are made up for later.
        owed = self._owed + step / self._speed
        if owed < WHOLE:
            self.now, self._owed = self.now + step, owed
            return []
        if ready := super().select(owed):
            step = min(step, self._speed * (time.monotonic() - begun))
        self.now, self._owed = self.now + step, 0.0
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop with a virtual clock; `wall` is the time of day by that clock."""

    def __init__(self, speed: float = SPEED) -> None:
        self._selector_clock, self._begun = _VirtualSelector(speed), time.time()
        super().__init__(self._selector_clock)

    def time(self) -> float:
        return self._selector_clock.now

    def stand_still(self, seconds: float) -> None:
        """Advance the clock as if the process had been suspended for so many seconds."""
        self._selector_clock.now += seconds

    def sqlite_counted(self) -> AbstractContextManager[None]:
        """Within this context, the clock stands still while SQLite works."""
        return self._selector_clock.sqlite.counted()

    def wall(self) -> float:
        return self._begun + self._selector_clock.now - START


def run_virtual(work: Callable[[VirtualLoop], Coroutine[Any, Any, None]], speed: float = SPEED) -> None:
    """Run `work` to its end in a virtual loop."""
    loops: list[VirtualLoop] = []

    def make() -> VirtualLoop:
        loops.append(VirtualLoop(speed))
        return loops[0]

    with asyncio.Runner(loop_factory=make) as runner:
        runner.get_loop()
        with loops[0].sqlite_counted():
            runner.run(work(loops[0]))


def with_seldom_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run those jobs less often, where hours pass: they were most of the work of a simulated day."""
    for module, name, seconds in SELDOM:
        monkeypatch.setattr(module, name, seconds)


async def until(true: Callable[[], object | Awaitable[object]], patience: float = 600.0) -> None:
    """Wait until `true()` is truthy. Raises TimeoutError after `patience` seconds of the loop's clock."""
    async with asyncio.timeout(patience):
        while True:
            result = true()
            if await result if isinstance(result, Awaitable) else result:
                return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def one_daemon(
    loop: VirtualLoop,
    folder: Path,
    provider: str,
    asking: Mapping[str, Any],
    *,
    wall: Callable[[], float] | None = None,
    **sections: Any,
) -> AsyncIterator[tuple[Daemon, str]]:
    """Run a daemon by the loop's clock, with its database in `folder`, and yield it with its URL.

    `asking` are settings of the section provider. `wall` replaces the loop's time of day. The database runs in real
    time, so its timeout is long.
    """
    config = Config.model_validate(
        {
            "provider": {
                "endpoint": provider,
                "call_detail_endpoint": provider,
                "access_key_id": "demo",
                "access_key_secret": "demo-secret",
                **asking,
            },
            "store": {"url": f"sqlite:///{folder}/precall.db", "timeout": "1h"},
            "api": {"listen": "127.0.0.1:0"},
        }
        | sections
    )
    daemon = Daemon(config, wall=wall or loop.wall, monotonic=loop.time)
    async with daemon.running() as [url]:
        yield daemon, url


def keeps_to_the_quota(arrivals: Sequence[float], rate: float, burst: float) -> None:
    """Assert that no window of `w` seconds has more than `rate * w + burst` calls.

    `arrivals` are in seconds, by a clock that a busy machine does not delay.
    """
    moments, lead = sorted(arrivals), 0.0
    for count, moment in enumerate(moments):
        # How far the calls up to this one are ahead of the rate, at most over all earlier starts.
        lead = max(0.0, lead - rate * (moment - moments[max(0, count - 1)])) + 1
        assert lead <= burst + 1e-6, (
            f"call {count} at {moment - moments[0]:.3f} s is {lead - burst:.3f} too many"
        )
