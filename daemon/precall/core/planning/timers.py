"""Checks with a set time: first checks, retries, confirmations, hints and reports.

Appointments wait in lanes by kind. Under contention each lane has a guaranteed share of the calls. Appointments are
never cancelled: whether one still holds is decided when it is due.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from math import inf

from precall.core.planning.entries import CheckKind, PlanEntry, TimerLane
from precall.core.planning.first_checks import FirstChecks

HOLDING = frozenset({CheckKind.FIRST, CheckKind.RETRY, CheckKind.GONE})
"""Kinds of appointment that keep a binding out of every other lane until they are due."""
REPORT_INTERVAL = 1.0
"""Minimum seconds between two report checks of a normal binding. Each failed call is a new reason to check it."""
MAX_GIVEN_UP = 50
"""First checks that leave their lane per call."""
MAX_LOOKS = 500
"""Appointments examined per call of `due`."""


class Timers:
    """The appointments of `entries`. `ready` returns the time (s) from which an entry may be checked again."""

    def __init__(self, entries: Mapping[Hashable, PlanEntry], ready: Callable[[PlanEntry], float]) -> None:
        self._entries, self._ready = entries, ready
        self._first = FirstChecks(0.35)
        confirm, reports, retries, self._hints = (
            TimerLane(0.1),
            TimerLane(0.05),
            TimerLane(0.05),
            TimerLane(0.1),
        )
        self._lanes: tuple[TimerLane, ...] = (confirm, reports, retries, self._first, self._hints)
        self._lane_of = {CheckKind.CONFIRM: confirm, CheckKind.REPORT: reports}
        self._lane_of |= dict.fromkeys(HOLDING, retries)

    def schedule(self, entry: PlanEntry, at: float, kind: CheckKind) -> None:
        """Make an appointment at `at`, or as soon after it as a call is free. A first check that failed is a retry."""
        lane = self._lane_of.get(kind, self._hints)
        if kind is CheckKind.FIRST and at <= entry.checked_at:
            lane = self._first
        lane.push(at, kind, entry)

    def waited_too_long(self, now: float) -> Iterator[PlanEntry]:
        """Remove some first checks that have waited too long in their lane, and return their entries."""
        return self._first.give_up(now, MAX_GIVEN_UP)

    def earn(self) -> None:
        """Give every lane its share of the next call."""
        for lane in self._lanes:
            lane.earn()

    def lanes(self, *, paused: bool) -> tuple[TimerLane, ...]:
        """The lanes by precedence; during a pause only confirmations and reports."""
        return self._lanes[:2] if paused else self._lanes

    def due(self, lane: TimerLane, now: float) -> PlanEntry | None:
        """Remove the next due appointment of a lane that still holds, and return its entry."""
        for _ in range(MAX_LOOKS):
            if (appointment := lane.pop(now)) is None:
                break
            at, kind, entry = appointment
            if entry.in_flight_until or self._entries.get(entry.id) is not entry:
                continue
            if kind in HOLDING:
                if entry.held_until == at and entry.kind is kind and not entry.pool.parks(entry):
                    return entry
            elif entry.checked_at < at and self._still_holds(entry, kind, now):
                if entry.held_until in (None, inf):
                    entry.kind = kind
                return entry
        return None

    def _still_holds(self, entry: PlanEntry, kind: CheckKind, now: float) -> bool:
        if kind is CheckKind.CONFIRM:
            return True
        if entry.resting or (kind is not CheckKind.REPORT and entry.pool.parks(entry)):
            return False
        ready = self._ready(entry)
        if kind is CheckKind.REPORT and not entry.variant:
            ready = min(ready, entry.checked_at + REPORT_INTERVAL)
        if now >= ready or (kind is CheckKind.REPORT and entry.kind is not kind):
            return True
        self.schedule(entry, ready, kind)
        return False

    def next_of(self, entry: PlanEntry) -> tuple[float | None, CheckKind | None]:
        """The next appointment of an entry, or (None, None). Scans all appointments; not for the hot path."""
        dates = [
            (at, kind)
            for lane in self._lanes
            for at, kind, other in lane.waiting()
            if other is entry and (entry.held_until == at or kind not in HOLDING)
        ]
        return min(dates) if dates else (None, None)
