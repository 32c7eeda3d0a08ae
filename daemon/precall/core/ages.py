"""Moments, ticks and ages.

A *moment* is in Unix seconds, for what is stored, shown or expires. A *tick* is in seconds of the monotonic clock, for
waiting, planning and limits. An age is the difference of two moments or of two ticks.

An observation may have been stamped by another clock: that of another machine, or this one's before it was set.
"""

from dataclasses import replace
from math import inf
from typing import NewType

from precall.core.model import Row

Tick = NewType("Tick", float)
"""A reading of the monotonic clock. A separate type, so that it is not confused with a moment."""

AHEAD = 5.0
"""Seconds an observation may lie in the future, since the clocks of two machines may differ.

Anything further ahead was stamped by a wrong clock, and its age is unknown.
"""

SMALLEST_STEP = 0.5
"""Seconds by which the wall clock must move to count as set. Smaller differences are a clock being corrected."""


def age_of(at: float, now: float) -> float:
    """Seconds since `at`, at least 0; inf if `at` lies too far in the future, so that it exceeds any limit."""
    return max(0.0, now - at) if at - now <= AHEAD else inf


class Horizon:
    """A moment, and how far ahead the conditions on time that were judged at it hold.

    `until` is the earliest later moment at which one of them may turn out differently; inf if none ever does. What was
    decided by these conditions alone is the same at every moment before.
    """

    __slots__ = ("now", "until")

    def __init__(self, now: float) -> None:
        self.now, self.until = now, inf

    def reached(self, at: float) -> bool:
        """Whether `at` has come."""
        if self.now >= at:
            return True
        self.until = min(self.until, at)
        return False

    def recent(self, at: float, limit: float) -> bool:
        """Whether the age of `at` is known and at most `limit` seconds."""
        age = age_of(at, self.now)
        if age <= limit:
            self.until = min(self.until, at + limit)
            return True
        if age == inf:
            # Once the clock gets near it, its age is known.
            self.until = min(self.until, at - AHEAD)
        return False


def backdate(row: Row, seconds: float) -> Row:
    """The row with its times corrected for a clock that was `seconds` ahead."""
    state = row.state
    back = {
        name: at - seconds
        for name in ("checked_at", "temp_at", "exposed_at", "gone_at")
        if (at := getattr(state, name))
    }
    return replace(
        row,
        binding=replace(row.binding, registered_at=row.binding.registered_at - seconds),
        state=replace(state, moves=tuple(at - seconds for at in state.moves), **back),
    )
