"""Where bindings wait for their next check: entries, the queues and lanes they stand in, the pools they share.

Structure only, and its cheap invariants; who goes first is decided in `planner`. Everything is slotted and lazy: a
binding that moves leaves its old place behind, which is recognised and dropped when it comes up, so that no move costs
more than one push.
"""

from collections.abc import Hashable, Iterator
from enum import IntEnum, StrEnum
from heapq import heappop, heappush
from math import inf
from typing import Self

from precall.core.planning.calendar_queue import CalendarQueue, Page
from precall.core.planning.rates import CusumDetector, PoolRates, Ratio

Face = str | int | tuple[Hashable, ...]
"""What is published of a binding: falsy for normal, else an opaque version of the abnormal route."""
STEPS = 50
"""Who cannot be taken is let go per look at a head, so many at most."""
KIN = 200
"""Siblings on one X, at most; further ones stand alone."""


class CheckKind(StrEnum):
    """Why a binding is checked at a certain time."""

    FIRST = "first"
    CONFIRM = "confirm"
    RETRY = "retry"
    BLOCKED = "blocked"
    GONE = "gone"
    SIBLING = "sibling"
    HINT = "hint"
    REPORT = "report"


class ValuePhase(IntEnum):
    """How the worth of a check grows: by hazard, by the end of an abnormal route, or not at all."""

    NORMAL = 0
    ABNORMAL = 1
    DOUBTED = 2


class SuspicionCause(IntEnum):
    """What makes a route suspect: a sibling on the same X, the whole pool, a failed call."""

    KIN = 0
    WAVE = 1
    REPORT = 2


class PlanSuspicion:
    """Why routes are suspect since when, and how many of them turned out wrong."""

    __slots__ = ("_filed", "_prior", "_share", "cause", "since")

    def __init__(self, cause: SuspicionCause, since: float, prior: float) -> None:
        self.cause = cause
        self.since = since
        self._prior = self._filed = prior
        self._share = Ratio()

    def wrong(self) -> float:
        """P(one of them is wrong), at first."""
        return self._share.mean(self._prior)

    def record(self, wrong: bool) -> bool:
        """One of them was checked; True when the others are twice or half as suspect as when they were filed."""
        self._share.record(wrong)
        moved = not self._filed / 2 < self.wrong() < self._filed * 2
        if moved:
            self._filed = self.wrong()
        return moved


class WeightQueue:
    """Bindings of about equal weight, the longest unconfirmed first."""

    __slots__ = ("_calendar", "phase", "weight")

    def __init__(self, phase: ValuePhase, weight: float) -> None:
        self.phase = phase
        self.weight = weight
        self._calendar: CalendarQueue[PlanEntry] = CalendarQueue(time="since", place="page")

    def put(self, entry: "PlanEntry") -> None:
        """Stand here, and in no other queue."""
        if entry.queue is not self:
            entry.queue = self
            self._calendar.put(entry)

    def head(self) -> "PlanEntry | None":
        """The first that can be taken; those that cannot leave. When finding it takes too long, nobody is ready yet."""
        for _ in range(STEPS):
            entry = self._calendar.first()
            if entry is None or entry.stands():
                return entry
            self.pop()
        return None

    def pop(self) -> "PlanEntry":
        """Take the head out."""
        entry = self._calendar.pop()
        entry.queue = None
        return entry


class TimerLane:
    """Appointments by time, with a share of the calls while others want them too."""

    __slots__ = ("credit", "heap", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self.credit = 1.0
        self.heap: list[tuple[float, CheckKind, PlanEntry]] = []

    def earn(self) -> None:
        """One call is about to be given away."""
        self.credit = min(self.credit + self.share, 10.0)


class Sweep(TimerLane):
    """All active bindings by their newest answer: those that stand in the calendar, and in `absent` those in flight or
    away, which were found on the way."""

    __slots__ = ("_calendar", "absent")

    def __init__(self, share: float) -> None:
        super().__init__(share)
        self._calendar: CalendarQueue[PlanEntry] = CalendarQueue(time="last", place="turn")
        self.absent: list[tuple[float, PlanEntry]] = []

    def put(self, entry: "PlanEntry") -> None:
        """Stand in the order."""
        if entry.turn is None:
            self._calendar.put(entry)

    def head(self) -> "PlanEntry | None":
        """The longest unchecked of those that can be taken; None also when finding it takes too long."""
        for _ in range(10 * STEPS):
            entry = self._calendar.first()
            if entry is None or entry.stands():
                return entry
            self._calendar.pop()
            self._prune(2)
            heappush(self.absent, (entry.last, entry))
        return None

    def oldest(self) -> float:
        """When the longest unchecked of all was checked; inf when there is none."""
        entry = self.head()
        self._prune(len(self.absent))
        return min(inf if entry is None else entry.last, self.absent[0][0] if self.absent else inf)

    def _prune(self, most: int) -> None:
        """Drop those who are back, checked since, or gone from the top of `absent`."""
        for _ in range(most):
            if self.absent:
                last, entry = self.absent[0]
                if entry.turn is None and not entry.rests and entry.last == last:
                    return
                heappop(self.absent)


class PlanEntry:
    """One binding.

    `last` is its newest answer, `since` when its route was last known right (a sibling may have vouched), `counted`
    until when its reads are counted, `page` its place in `queue`, `turn` its place in the sweep (None: it stands not).
    `face` is None before the first answer, "" when normal. `flight` is 0, or when a check under way counts as lost.
    `away` is None, or until when it is in no lane (inf: it rests), with `kind` saying why; else `kind` is what the
    latest check was for (None: worth, sweep or demand).
    """

    __slots__ = (
        "away",
        "born",
        "counted",
        "doubt",
        "face",
        "flight",
        "id",
        "kin",
        "kind",
        "last",
        "page",
        "pool",
        "queue",
        "reads",
        "scarred",
        "since",
        "turn",
        "x",
    )

    def __init__(self, subs_id: Hashable, pool: "PlanPool", x: Hashable, born: float, now: float) -> None:
        self.id = subs_id
        self.pool = pool
        self.x = x
        self.kin: list[PlanEntry] | None = None
        self.born = born
        self.last = self.since = self.counted = now
        self.face: Face | None = None
        self.scarred = False
        self.reads = 0
        self.queue: WeightQueue | None = None
        self.page: Page[PlanEntry] | None = None
        self.turn: Page[PlanEntry] | None = None
        self.doubt: PlanSuspicion | None = None
        self.flight = 0.0
        self.away: float | None = None
        self.kind: CheckKind | None = None

    def __lt__(self, other: Self) -> bool:
        return self.last < other.last

    @property
    def rests(self) -> bool:
        """Expired, gone or removed: not among the active ones."""
        return self.away == inf or (self.away is not None and self.kind is CheckKind.GONE)

    def stands(self) -> bool:
        """Whether it can be taken for its worth or age. If only a pause forbids it, its pool keeps it till the end."""
        return not self.flight and self.away is None and not self.pool.keeps(self)


class PlanPool:
    """What the bindings of one pool have in common. `rings` has, per X number, its only binding or all of them."""

    __slots__ = ("habits", "parked", "paused", "rings", "surprises", "waves")

    def __init__(self, habits: PoolRates) -> None:
        self.habits = habits
        self.rings: dict[Hashable, PlanEntry | list[PlanEntry]] = {}
        self.surprises = (CusumDetector(), CusumDetector())
        self.waves = [-inf, -inf]
        self.paused = False
        self.parked: list[PlanEntry] = []

    def join(self, entry: PlanEntry) -> None:
        """Stand among the siblings on the same X."""
        ring = self.rings.get(entry.x)
        if isinstance(ring, PlanEntry):
            ring.kin = [ring]
            ring = self.rings[entry.x] = ring.kin
        if ring is None or len(ring) >= KIN:
            if ring is not None:
                entry.x = (entry.x, entry.id)
            self.rings[entry.x] = entry
        else:
            entry.x = ring[0].x if ring else entry.x
            ring.append(entry)
            entry.kin = ring

    def leave(self, entry: PlanEntry) -> None:
        """Undo `join`."""
        if entry.kin is not None:
            entry.kin.remove(entry)
        if not entry.kin:
            del self.rings[entry.x]

    def keeps(self, entry: PlanEntry) -> bool:
        """Whether the pool is paused; the binding then waits for its end here."""
        if self.paused:
            self.parked.append(entry)
        return self.paused

    def members(self) -> Iterator[PlanEntry]:
        """All bindings; those that come or go while this is read may be missed."""
        for x in list(self.rings):
            ring = self.rings.get(x, ())
            yield from (ring,) if isinstance(ring, PlanEntry) else tuple(ring)
