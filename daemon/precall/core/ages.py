"""Moments, ticks and ages.

A *moment* is in Unix seconds: what is stored, shown, and what expires. A *tick* is in seconds of a clock that nobody
can set, from some moment on: what waits, counts, is planned or limited. An age is the distance of two of a kind.

An observation may have been stamped by another clock: of another machine, or of this one before its clock was set.
"""

from dataclasses import replace
from math import inf
from typing import NewType

from precall.core.model import Row

Tick = NewType("Tick", float)
"""A reading of the monotonic clock. A type of its own, so that no moment is taken for one."""

AHEAD = 5.0
"""Seconds an observation may lie in the future: by so much the clocks of two machines may differ. What lies further
ahead was stamped by a clock that was wrong, and how old it is cannot be known."""

SMALLEST_STEP = 0.5
"""Seconds by which the wall clock must move to count as set. A smaller difference comes from reading two clocks in
turn."""


def age_of(at: float, now: float) -> float:
    """Seconds since `at`, never below 0; inf where `at` lies in the future: that is older than anything allows."""
    return max(0.0, now - at) if at - now <= AHEAD else inf


def backdate(row: Row, seconds: float) -> Row:
    """The row as it would be if the clock that stamped it had not been ahead by so many seconds."""
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
