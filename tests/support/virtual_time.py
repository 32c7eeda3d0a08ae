"""A loop whose clock runs faster than the machine's, and stands still while there is work: what a busy machine delays
is no later by this clock, so that rates and moments can be asserted exactly, and hours take seconds.

The daemon, the simulated provider and the test share it in one process. Threads (the database's) run in real time:
give what waits for them generous limits.
"""

import asyncio
import selectors
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from precall.config.schema import Config
from precall.runtime.daemon import Daemon

SPEED = 10.0
STEP = 1.0
"""Seconds by which the clock goes on at most before the loop looks around again."""
START = 1000.0


class _Patient(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Waits for a share of the time asked for, and counts it as all of it."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.now, self._speed = START, speed

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or super().select(timeout)
        step, begun = min(timeout, STEP), time.monotonic()
        if ready := super().select(step / self._speed):
            step = min(step, self._speed * (time.monotonic() - begun))
        self.now += step
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop with such a clock; `wall` is the time of day by it."""

    def __init__(self, speed: float = SPEED) -> None:
        self._patient, self._begun = _Patient(speed), time.time()
        super().__init__(self._patient)

    def time(self) -> float:
        return self._patient.now

    def stand_still(self, seconds: float) -> None:
        """As if the process had been stopped for so long: time goes on, and nothing else."""
        self._patient.now += seconds

    def wall(self) -> float:
        return self._begun + self._patient.now - START


def run_virtual(work: Callable[[VirtualLoop], Coroutine[Any, Any, None]], speed: float = SPEED) -> None:
    """Run `work` to its end in such a loop."""
    loops: list[VirtualLoop] = []

    def make() -> VirtualLoop:
        loops.append(VirtualLoop(speed))
        return loops[0]

    with asyncio.Runner(loop_factory=make) as runner:
        runner.get_loop()
        runner.run(work(loops[0]))


async def until(true: Callable[[], object | Awaitable[object]], patience: float = 600.0) -> None:
    """Wait for something that must come true, by the loop's clock."""
    async with asyncio.timeout(patience):
        while True:
            found = true()
            if await found if isinstance(found, Awaitable) else found:
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
    """A daemon by this loop's clock, on the database in `folder`, and its URL; `asking` is of the section provider,
    `wall` the time of day where it is not the loop's.
    What waits for the database, which keeps to the machine's clock, has all the time it needs."""
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
    """In no window of `w` seconds there are more than `rate * w + burst` calls. `arrivals` (s) are by a clock that
    calls are not delayed by."""
    moments, lead = sorted(arrivals), 0.0
    for count, moment in enumerate(moments):
        # By how much the calls from some earlier one up to this are ahead of the rate, at most.
        lead = max(0.0, lead - rate * (moment - moments[max(0, count - 1)])) + 1
        assert lead <= burst + 1e-6, (
            f"call {count} at {moment - moments[0]:.3f} s is {lead - burst:.3f} too many"
        )
