"""The two clocks of a daemon, and what becomes of them when somebody sets the machine's.

*Ticks* are seconds of a clock that nobody can set, from some moment on. Whatever waits, counts, is planned or limited
goes by them: the planner, the budget of calls, the circuit, degraded mode, appointments, jobs. They say nothing to
another process, or after a restart.

*Now* is in Unix seconds: what is stored and shown, and what expires. It is the later of the wall clock and of what that
would be by now had nobody set it since the start, so that a clock set back revives nothing.

A tick and a moment never meet in one expression: `tick_of` turns a moment into a tick, by its age.
"""

import time
from collections.abc import Callable

from precall.core.ages import SMALLEST_STEP, Tick


def boottime() -> float:
    """Seconds since some moment, those that the machine slept among them, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clocks:
    """`wall` gives Unix seconds and may be set to anything at any moment. `monotonic` gives ticks."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._undisturbed = self._noticed = wall() - monotonic()

    def tick(self) -> Tick:
        """Seconds of the clock that nobody can set."""
        return Tick(self._monotonic())

    def now(self) -> float:
        """Unix seconds, by which bindings and observations grow old."""
        tick = self.tick()
        return max(self._wall(), self._undisturbed + tick)

    @property
    def lead(self) -> float:
        """Seconds by which `now` is ahead of an undisturbed clock: the wall clock was set forward by so much, or the
        machine slept. 0.0 while it was not, and once it was set back."""
        tick = self.tick()
        lead = self._wall() - (self._undisturbed + tick)
        return lead if lead >= SMALLEST_STEP else 0.0

    @property
    def behind(self) -> float:
        """Seconds by which the wall clock is behind `now`: it was set back by so much since the start."""
        tick = self.tick()
        return max(0.0, self._undisturbed + tick - self._wall())

    def tick_of(self, moment: float) -> float:
        """The tick at which it was `moment` (Unix seconds): as long ago as that. One that is yet to come is now."""
        return self.tick() - max(0.0, self.now() - moment)

    def moment_of(self, tick: float) -> float:
        """When it was, or will be, that tick, in Unix seconds."""
        return self.now() + (tick - self.tick())

    def step(self) -> float:
        """Seconds by which the wall clock was set since this was last asked; below 0: back; 0.0: it was not. A clock
        that drifts away is one that is set, half a second at a time."""
        offset = self._wall() - self.tick()
        moved = offset - self._noticed
        if abs(moved) < SMALLEST_STEP:
            return 0.0
        self._noticed = offset
        return moved
