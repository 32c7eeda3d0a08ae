"""The two clocks of a daemon, and how they behave when the machine's clock is set.

*Ticks* are seconds of a monotonic clock. The planner, the budget of calls, the circuit, degraded mode, appointments and
jobs use them. They mean nothing to another process, or after a restart.

*Now* is in Unix seconds. What is stored, shown or expires uses it. It is the later of two: the wall clock, and what the
wall clock would show had it not been set since the start. So a clock that is set back revives nothing.

Never mix ticks and moments in one expression: `tick_of` turns a moment into a tick by its age.
"""

import time
from collections.abc import Callable
from math import inf

from precall.core.ages import SMALLEST_STEP, Tick

CLOSE = 0.001
"""Seconds within which both clocks must be read to count as read at the same moment."""
READINGS = 5
"""How often both clocks are read at most. The closest reading counts if none is close enough."""


def boottime() -> float:
    """Seconds since an arbitrary moment, including the time the machine slept where the system counts it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clocks:
    """`wall` returns Unix seconds and may be set at any moment. `monotonic` returns ticks."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall, self._monotonic = wall, monotonic
        tick, shown = self._both()
        self._undisturbed = self._noticed = shown - tick

    def tick(self) -> Tick:
        """Seconds of the monotonic clock."""
        return Tick(self._monotonic())

    def now(self) -> float:
        """Unix seconds, by which bindings and observations age."""
        return self._later(self.tick(), self._wall())

    @property
    def lead(self) -> float:
        """Seconds by which `now` is ahead of an undisturbed clock: it was set forward, or the machine slept.

        0.0 otherwise, also once the clock was set back.
        """
        tick, wall = self._both()
        lead = wall - (self._undisturbed + tick)
        return lead if lead >= SMALLEST_STEP else 0.0

    @property
    def behind(self) -> float:
        """Seconds by which the wall clock is behind `now`, because it was set back since the start, else 0.0."""
        tick, wall = self._both()
        behind = self._undisturbed + tick - wall
        return behind if behind >= SMALLEST_STEP else 0.0

    def tick_of(self, moment: float) -> float:
        """The tick of `moment` (Unix seconds). A moment in the future counts as now."""
        tick, wall = self._both()
        return Tick(tick - max(0.0, self._later(tick, wall) - moment))

    def moment_of(self, tick: float) -> float:
        """The moment of a past or future tick, in Unix seconds."""
        at, wall = self._both()
        return self._later(at, wall) + (tick - at)

    def step(self) -> float:
        """Seconds by which the wall clock was set since the last call: negative for back, 0.0 for not at all.

        A clock that drifts is seen as set by small steps.
        """
        tick, wall = self._both()
        offset = wall - tick
        moved = offset - self._noticed
        if abs(moved) < SMALLEST_STEP:
            return 0.0
        self._noticed = offset
        return moved

    def _later(self, tick: float, wall: float) -> float:
        """`now`, from what both clocks show."""
        return max(wall, self._undisturbed + tick)

    def _both(self) -> tuple[Tick, float]:
        """A tick, and what the wall clock shows at the same moment.

        A busy machine may suspend the process between two readings, for longer than a step of the clock that counts.
        """
        closest, tick, wall = inf, 0.0, 0.0
        for _ in range(READINGS):
            before, shown, after = self._monotonic(), self._wall(), self._monotonic()
            if after - before < closest:
                closest, tick, wall = after - before, before, shown
            if closest < CLOSE:
                break
        return Tick(tick), wall
