"""The planner's data structures: entries, the queues and lanes they wait in, and the pools they belong to.

The decisions are in `planner`. Everything is slotted and lazy. A binding that moves leaves its old queue entry behind,
which is recognised and dropped when it is reached, so a move costs a single push.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from heapq import heapify, heappop, heappush
from math import inf
from typing import Self

from precall.core.planning.calendar_queue import CalendarQueue, Page
from precall.core.planning.rates import CusumDetector, PoolRates, Ratio

Variant = str | int | tuple[Hashable, ...]
"""The published variant of a route: falsy for the normal one, else an opaque value that identifies the abnormal one."""
MAX_DROPS = 50
"""Unavailable entries dropped per look at the head of a queue."""
CROWD = 500
"""Absent entries kept before those that have come back are dropped."""
READ_BEFORE_CALL = 60.0
"""Seconds within which a read precedes the call that it was for."""
CONVERSION = 0.1
"""Seconds by which a call may seem to precede a read of the same second: each is converted to a tick by itself."""
MAX_SIBLINGS = 200
"""Siblings linked with each other on one X. Further bindings on it have no siblings."""


class CheckKind(StrEnum):
    """Why a binding is checked at a certain time."""

    FIRST = "first"
    CONFIRM = "confirm"
    RETRY = "retry"
    GONE = "gone"
    HINT = "hint"
    REPORT = "report"


class ValuePhase(IntEnum):
    """How the value of a check grows with age: with the failure rate, the abnormal end rate, or not at all."""

    NORMAL = 0
    ABNORMAL = 1
    DOUBTED = 2


class SuspicionCause(IntEnum):
    """What makes a route suspect: a change of a sibling on the same X, trouble of the whole pool, or a failed call."""

    SIBLING = 0
    POOL = 1
    REPORT = 2


class PlanSuspicion:
    """A suspicion shared by several routes, and how many of those checked so far turned out wrong."""

    __slots__ = ("_prior", "_queued_with", "_share", "cause", "since")

    def __init__(self, cause: SuspicionCause, since: float, prior: float) -> None:
        self.cause = cause
        self.since = since
        self._prior = self._queued_with = prior
        self._share = Ratio()

    def wrong(self) -> float:
        """P(a suspect route is wrong), as of the time of the suspicion."""
        return self._share.mean(self._prior)

    def record(self, wrong: bool) -> bool:
        """Count a checked route. True when the others must be queued again: their P(wrong) has doubled or halved."""
        self._share.record(wrong)
        moved = not self._queued_with / 2 < self.wrong() < self._queued_with * 2
        if moved:
            self._queued_with = self.wrong()
        return moved


class WeightQueue:
    """Bindings of about equal weight, the longest unconfirmed first."""

    __slots__ = ("_calendar", "phase", "weight")

    def __init__(self, phase: ValuePhase, weight: float) -> None:
        self.phase = phase
        self.weight = weight
        self._calendar: CalendarQueue[PlanEntry] = CalendarQueue(time="confirmed_at", page="page")

    def put(self, entry: "PlanEntry") -> None:
        """Queue an entry here, and in no other weight queue."""
        if entry.queue is not self:
            entry.queue = self
            self._calendar.put(entry)

    def clean(self) -> bool:
        """Drop a few stale entries: where others are always worth more, none is ever reached. False once all were."""
        return self._calendar.clean()

    def head(self) -> "PlanEntry | None":
        """The first available entry; drops unavailable ones. None also when finding it takes too long."""
        for _ in range(MAX_DROPS):
            entry = self._calendar.first()
            if entry is None or entry.available():
                return entry
            self.pop()
        return None

    def pop(self) -> "PlanEntry":
        """Remove and return the head."""
        entry = self._calendar.pop()
        entry.queue = None
        return entry


class TimerLane:
    """Appointments by time, with a guaranteed share of the calls under contention."""

    __slots__ = ("credit", "heap", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self.credit = 1.0
        self.heap: list[tuple[float, CheckKind, PlanEntry]] = []

    def earn(self) -> None:
        """Add the lane's share of one call to its credit."""
        self.credit = min(self.credit + self.share, 10.0)

    def push(self, at: float, kind: CheckKind, entry: "PlanEntry") -> None:
        """Add an appointment."""
        heappush(self.heap, (at, kind, entry))

    def pop(self, now: float) -> "tuple[float, CheckKind, PlanEntry] | None":
        """Remove and return the next appointment that is due; None when none is."""
        return heappop(self.heap) if self.heap and self.heap[0][0] <= now else None

    def waiting(self) -> "Iterable[tuple[float, CheckKind, PlanEntry]]":
        """All appointments, in no order."""
        return self.heap


class Sweep(TimerLane):
    """All active bindings, the longest unchecked first.

    Entries in flight or on hold are moved from the calendar to `absent` when they are reached, so that `oldest` still
    counts them.
    """

    __slots__ = ("_calendar", "_crowd", "absent")

    def __init__(self, share: float) -> None:
        super().__init__(share)
        self._calendar: CalendarQueue[PlanEntry] = CalendarQueue(time="checked_at", page="sweep_page")
        self.absent: list[tuple[float, PlanEntry]] = []
        self._crowd = CROWD

    def put(self, entry: "PlanEntry") -> None:
        """Queue an entry, unless it is queued already."""
        if entry.sweep_page is None:
            self._calendar.put(entry)

    def head(self) -> "PlanEntry | None":
        """The longest unchecked of the available entries; None also when finding it takes too long."""
        self._calendar.clean()
        self._thin_out()
        for _ in range(10 * MAX_DROPS):
            entry = self._calendar.first()
            if entry is None or entry.available():
                return entry
            self._calendar.pop()
            self._prune(2)
            heappush(self.absent, (entry.checked_at, entry))
        return None

    def oldest(self) -> float:
        """Time of the oldest check among all active bindings; inf when there are none."""
        entry = self.head()
        self._prune(len(self.absent))
        return min(inf if entry is None else entry.checked_at, self.absent[0][0] if self.absent else inf)

    def _prune(self, most: int) -> None:
        """Drop entries from the top of `absent` that are queued again, were checked since, or rest."""
        for _ in range(most):
            if self.absent:
                if self._is_absent(*self.absent[0]):
                    return
                heappop(self.absent)

    def _thin_out(self) -> None:
        """Drop what no longer belongs in `absent` once that has doubled: a single entry that is held for long may keep
        the top."""
        if len(self.absent) > self._crowd:
            self.absent = [one for one in self.absent if self._is_absent(*one)]
            heapify(self.absent)
            self._crowd = max(CROWD, 2 * len(self.absent))

    @staticmethod
    def _is_absent(checked_at: float, entry: "PlanEntry") -> bool:
        return entry.sweep_page is None and not entry.resting and entry.checked_at == checked_at


class PlanEntry:
    """The plan of one binding.

    `checked_at` is the time of the newest answer, `confirmed_at` when the route was last known to be right, perhaps
    through a sibling. Reads are counted up to `counted_until`; the latest was at `read_at`. `called_at` is the time of
    the latest call that counted as a dial for want of a read. `page` is the entry's page in `queue`, `sweep_page` its
    page in the sweep (None: not queued). `variant` is None before the first answer and "" when normal.

    `in_flight_until` is 0, or when a check under way counts as lost. `held_until` is None, or until when the entry is
    in no lane (inf: it rests) for the reason `kind`. Without a hold, `kind` is what the latest check was for (None:
    value, sweep or on demand).
    """

    __slots__ = (
        "called_at",
        "checked_at",
        "confirmed_at",
        "counted_until",
        "held_until",
        "id",
        "in_flight_until",
        "kind",
        "page",
        "pool",
        "queue",
        "read_at",
        "reads",
        "registered_at",
        "siblings",
        "suspicion",
        "sweep_page",
        "variant",
        "was_abnormal",
        "x",
    )

    def __init__(
        self, subs_id: Hashable, pool: "PlanPool", x: Hashable, registered_at: float, now: float
    ) -> None:
        self.id = subs_id
        self.pool = pool
        self.x = x
        self.siblings: list[PlanEntry] | None = None
        self.registered_at = registered_at
        self.checked_at = self.confirmed_at = self.counted_until = now
        self.variant: Variant | None = None
        self.was_abnormal = False
        self.reads = 0
        self.read_at = self.called_at = -inf
        self.queue: WeightQueue | None = None
        self.page: Page[PlanEntry] | None = None
        self.sweep_page: Page[PlanEntry] | None = None
        self.suspicion: PlanSuspicion | None = None
        self.in_flight_until = 0.0
        self.held_until: float | None = None
        self.kind: CheckKind | None = None

    def __lt__(self, other: Self) -> bool:
        return self.checked_at < other.checked_at

    @property
    def resting(self) -> bool:
        """Whether it is expired, gone or removed, and so does not count as active."""
        return self.held_until == inf or (self.held_until is not None and self.kind is CheckKind.GONE)

    def count_call(self, called_at: float) -> int:
        """Count a reported call as a dial, unless a read that may have been for it was counted."""
        if self.read_at >= called_at - READ_BEFORE_CALL:
            return 0
        self.called_at = max(self.called_at, called_at)
        return 1

    def count_reads(self, reads: int, last_at: float) -> int:
        """Count reads of a cache as dials, without the one whose call was reported first and counted already."""
        self.read_at = max(self.read_at, last_at)
        if not -CONVERSION <= self.called_at - last_at <= READ_BEFORE_CALL:
            return reads
        self.called_at = -inf
        return reads - 1

    def retire(self) -> None:
        """Leave all queues and lanes for good. What they still hold of it is dropped as stale."""
        self.in_flight_until, self.held_until, self.kind = 0.0, inf, None
        self.queue = self.page = self.sweep_page = self.suspicion = None

    def available(self) -> bool:
        """Whether it can be checked for its value or age. If only a pause prevents that, the pool parks it."""
        return not self.in_flight_until and self.held_until is None and not self.pool.parks(self)


class PlanPool:
    """State shared by the bindings of one pool, `size` of them.

    `by_x` maps each X number to its only binding, or to the list of all. `detectors` and `alarmed_at` are indexed by
    whether the published route is abnormal.
    """

    __slots__ = ("alarmed_at", "by_x", "detectors", "parked", "paused", "rates", "size")

    def __init__(self, rates: PoolRates) -> None:
        self.rates = rates
        self.size = 0
        self.by_x: dict[Hashable, PlanEntry | list[PlanEntry]] = {}
        self.detectors = (CusumDetector(), CusumDetector())
        self.alarmed_at = [-inf, -inf]
        self.paused = False
        self.parked: list[PlanEntry] = []

    def join(self, entry: PlanEntry) -> None:
        """Add an entry, and link it with its siblings on the same X."""
        self.size += 1
        siblings = self.by_x.get(entry.x)
        if isinstance(siblings, PlanEntry):
            siblings.siblings = [siblings]
            siblings = self.by_x[entry.x] = siblings.siblings
        if siblings is None or len(siblings) >= MAX_SIBLINGS:
            if siblings is not None:
                entry.x = (entry.x, entry.id)
            self.by_x[entry.x] = entry
        else:
            entry.x = siblings[0].x if siblings else entry.x
            siblings.append(entry)
            entry.siblings = siblings

    def leave(self, entry: PlanEntry) -> None:
        """Undo `join`."""
        self.size -= 1
        if entry.siblings is not None:
            entry.siblings.remove(entry)
        if not entry.siblings:
            del self.by_x[entry.x]

    def parks(self, entry: PlanEntry) -> bool:
        """Park the entry if the pool is paused, and return whether it is."""
        if self.paused:
            self.parked.append(entry)
        return self.paused

    def members(self) -> Iterator[PlanEntry]:
        """All entries. Those added or removed during the iteration may be missed."""
        for x in list(self.by_x):
            siblings = self.by_x.get(x, ())
            yield from (siblings,) if isinstance(siblings, PlanEntry) else tuple(siblings)


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan for one binding, for display.

    `wrong` is P(its route is wrong now), `worth` the number of dials that a check now would save.
    """

    lane: str
    checked_at: float
    age: float
    weight: float
    worth: float
    wrong: float
    next_at: float | None
    kind: CheckKind | None
    why: str
