"""Checks that have a time: everything that says "not before" or "again at" stands here, and only here.

Lanes by what the appointment is for, each with a share of the calls while other checks wait too. An appointment is not
taken back: whether it still holds is found out when its time has come.
"""

from collections.abc import Callable, Hashable, Mapping
from heapq import heappop, heappush
from math import inf

from precall.core.planning.entries import CheckKind, PlanEntry, TimerLane

AWAY = frozenset({CheckKind.FIRST, CheckKind.RETRY, CheckKind.BLOCKED, CheckKind.GONE})
"""Until such an appointment the binding is in no other lane."""
REPORT_EVERY = 1.0
"""Seconds between two checks of a normal binding that reports ask for: each failed call is a new reason."""
MOST = 500
"""Appointments looked at per call, at most."""


class Timers:
    """The appointments of `entries`. `ready` says from when on (s) an entry may be checked again."""

    def __init__(self, entries: Mapping[Hashable, PlanEntry], ready: Callable[[PlanEntry], float]) -> None:
        self._entries, self._ready = entries, ready
        confirm, reports, due, self._hints = self._lanes = (
            TimerLane(0.1),
            TimerLane(0.05),
            TimerLane(0.35),
            TimerLane(0.1),
        )
        self._lane_of = {CheckKind.CONFIRM: confirm, CheckKind.REPORT: reports} | dict.fromkeys(AWAY, due)

    def make(self, entry: PlanEntry, at: float, kind: CheckKind) -> None:
        """One at `at`, or as soon after as a call is free."""
        heappush(self._lane_of.get(kind, self._hints).heap, (at, kind, entry))

    def earn(self) -> None:
        """One call is about to be given away."""
        for lane in self._lanes:
            lane.earn()

    def lanes(self, *, paused: bool) -> tuple[TimerLane, ...]:
        """In the order in which they go first; those alone that a pause lets through."""
        return self._lanes[:2] if paused else self._lanes

    def called(self, lane: TimerLane, now: float) -> PlanEntry | None:
        """Whose appointment in that lane has come, and still holds."""
        for _ in range(MOST):
            if not lane.heap or lane.heap[0][0] > now:
                break
            at, kind, entry = heappop(lane.heap)
            if entry.flight or self._entries.get(entry.id) is not entry:
                continue
            if kind in AWAY:
                if entry.away == at and entry.kind is kind and not entry.pool.keeps(entry):
                    return entry
            elif entry.last < at and self._holds(entry, kind, now):
                if entry.away in (None, inf):
                    entry.kind = kind
                return entry
        return None

    def _holds(self, entry: PlanEntry, kind: CheckKind, now: float) -> bool:
        if kind is CheckKind.CONFIRM:
            return True
        if entry.rests or (kind is not CheckKind.REPORT and entry.pool.keeps(entry)):
            return False
        ready = self._ready(entry)
        if kind is CheckKind.REPORT and not entry.face:
            ready = min(ready, entry.last + REPORT_EVERY)
        if now >= ready or (kind is CheckKind.REPORT and entry.kind is not kind):
            return True
        self.make(entry, ready, kind)
        return False

    def next_of(self, entry: PlanEntry) -> tuple[float | None, CheckKind | None]:
        """Its next one, if there is one. Reads all of them: for people."""
        dates = [
            (at, kind)
            for lane in self._lanes
            for at, kind, who in lane.heap
            if who is entry and (entry.away == at or kind not in AWAY)
        ]
        return min(dates) if dates else (None, None)
