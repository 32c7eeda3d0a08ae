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
"""Seconds by which the wall clock must move to count as set. Smaller differences come from reading two clocks."""


def age_of(at: float, now: float) -> float:
    """Seconds since `at`, at least 0; inf if `at` lies too far in the future, so that it exceeds any limit."""
    return max(0.0, now - at) if at - now <= AHEAD else inf


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
