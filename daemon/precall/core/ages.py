"""How old an observation is, by the clock that expiry goes by.

Whoever stamped it may have had another clock: another machine, or this one before its clock was set.
"""

from dataclasses import replace
from math import inf

from precall.core.model import Row

AHEAD = 5.0
"""Seconds an observation may lie in the future: by so much the clocks of two machines may differ. What lies further
ahead was stamped by a clock that was wrong, and how old it is cannot be known."""


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
