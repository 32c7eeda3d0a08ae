"""Where bindings wait for their next check: entries, the queues and lanes they stand in, the pools they share.

Structure only, and its cheap invariants; who goes first is decided in `planner`. Everything is slotted and lazy: a
binding that moves leaves its old pair behind, which is recognised and dropped when it surfaces, so that no move costs
more than one push.
"""

from collections.abc import Hashable, Iterator
from enum import IntEnum, StrEnum
from heapq import heappop, heappush, heapreplace
from math import inf
from typing import Self

from precall.core.learning import Habits, Share, Surprise

Face = str | int | tuple[Hashable, ...]
"""What is published of a binding: falsy for normal, else an opaque version of the abnormal route."""
STEPS = 50
"""Pairs a queue drops or moves per look at its head, at most."""
KIN = 200
"""Siblings on one X, at most; further ones stand alone."""


class Kind(StrEnum):
    """Why a binding is checked at a certain time."""

    FIRST = "first"
    CONFIRM = "confirm"
    RETRY = "retry"
    BLOCKED = "blocked"
    GONE = "gone"
    SIBLING = "sibling"
    HINT = "hint"
    REPORT = "report"


class Phase(IntEnum):
    """How the worth of a check grows: by hazard, by the end of an abnormal route, or not at all."""

    NORMAL = 0
    ABNORMAL = 1
    DOUBTED = 2


class Cause(IntEnum):
    """What makes a route suspect: a sibling on the same X, the whole pool, a failed call."""

    KIN = 0
    WAVE = 1
    REPORT = 2


class Doubt:
    """Why routes are suspect since when, and how many of them turned out wrong."""

    __slots__ = ("_filed", "_prior", "_share", "cause", "since")

    def __init__(self, cause: Cause, since: float, prior: float) -> None:
        self.cause = cause
        self.since = since
        self._prior = self._filed = prior
        self._share = Share()

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


class Queue:
    """Bindings of about equal weight, the longest unconfirmed first. A pair counts while it holds its entry's key."""

    __slots__ = ("heap", "phase", "weight")

    def __init__(self, phase: Phase, weight: float) -> None:
        self.phase = phase
        self.weight = weight
        self.heap: list[tuple[float, Entry]] = []

    def put(self, entry: "Entry") -> None:
        """Stand here, and in no other queue."""
        if entry.queue is not self:
            entry.queue, entry.key = self, entry.since
            heappush(self.heap, (entry.since, entry))

    def head(self) -> "Entry | None":
        """The first that can be taken. On the way there those that cannot leave, those vouched for step back; when
        that takes too long, nobody is ready yet."""
        heap = self.heap
        for _ in range(STEPS):
            if not heap:
                break
            key, entry = heap[0]
            if entry.queue is not self or entry.key is not key:
                heappop(heap)
            elif not entry.stands():
                self.pop()
            elif entry.since > key:
                entry.key = entry.since
                heapreplace(heap, (entry.since, entry))
            else:
                return entry
        return None

    def pop(self) -> "Entry":
        """Take the head out."""
        entry = heappop(self.heap)[1]
        entry.queue = None
        return entry


class Lane:
    """Appointments by time, with a share of the calls while others want them too."""

    __slots__ = ("credit", "heap", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self.credit = 1.0
        self.heap: list[tuple[float, Kind, Entry]] = []

    def earn(self) -> None:
        """One call is about to be given away."""
        self.credit = min(self.credit + self.share, 10.0)


class Sweep(Lane):
    """All active bindings by their newest answer: those that stand in `order`, those in flight or away, found on the
    way, in `absent`. The order holds bare entries, compared by `swept`: pairs would take 64 bytes more a binding."""

    __slots__ = ("absent", "order")

    def __init__(self, share: float) -> None:
        super().__init__(share)
        self.order: list[Entry] = []
        self.absent: list[tuple[float, Entry]] = []

    def put(self, entry: "Entry") -> None:
        """Stand in the order."""
        if entry.swept == -inf:
            entry.swept = entry.last
            heappush(self.order, entry)

    def head(self) -> "Entry | None":
        """The longest unchecked of those that can be taken; None also when finding it takes too long."""
        order = self.order
        for _ in range(10 * STEPS):
            if not order:
                break
            entry = order[0]
            if entry.last > entry.swept:
                entry.swept = entry.last
                heapreplace(order, entry)
            elif entry.stands():
                return entry
            else:
                heappop(order)
                entry.swept = -inf
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
                if not (entry.swept > -inf or entry.rests or entry.last > last):
                    return
                heappop(self.absent)


class Entry:
    """One binding.

    `last` is its newest answer, `since` when its route was last known right (a sibling may have vouched), `counted`
    until when its reads are counted, `key` its place in `queue`, `swept` its place in the order of the sweep
    (-inf: it stands there not).
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
        "key",
        "kin",
        "kind",
        "last",
        "pool",
        "queue",
        "reads",
        "scarred",
        "since",
        "swept",
        "x",
    )

    def __init__(self, subs_id: Hashable, pool: "Pool", x: Hashable, born: float, now: float) -> None:
        self.id = subs_id
        self.pool = pool
        self.x = x
        self.kin: list[Entry] | None = None
        self.born = born
        self.last = self.since = self.counted = self.key = now
        self.face: Face | None = None
        self.scarred = False
        self.reads = 0
        self.queue: Queue | None = None
        self.swept = -inf
        self.doubt: Doubt | None = None
        self.flight = 0.0
        self.away: float | None = None
        self.kind: Kind | None = None

    def __lt__(self, other: Self) -> bool:
        return self.swept < other.swept

    @property
    def rests(self) -> bool:
        """Expired, gone or removed: not among the active ones."""
        return self.away == inf or (self.away is not None and self.kind is Kind.GONE)

    def stands(self) -> bool:
        """Whether it can be taken for its worth or age. If only a pause forbids it, its pool keeps it till the end."""
        return not self.flight and self.away is None and not self.pool.keeps(self)


class Pool:
    """What the bindings of one pool have in common. `rings` has, per X number, its only binding or all of them."""

    __slots__ = ("habits", "parked", "paused", "rings", "surprises", "waves")

    def __init__(self, habits: Habits) -> None:
        self.habits = habits
        self.rings: dict[Hashable, Entry | list[Entry]] = {}
        self.surprises = (Surprise(), Surprise())
        self.waves = [-inf, -inf]
        self.paused = False
        self.parked: list[Entry] = []

    def join(self, entry: Entry) -> None:
        """Stand among the siblings on the same X."""
        ring = self.rings.get(entry.x)
        if isinstance(ring, Entry):
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

    def leave(self, entry: Entry) -> None:
        """Undo `join`."""
        if entry.kin is not None:
            entry.kin.remove(entry)
        if not entry.kin:
            del self.rings[entry.x]

    def keeps(self, entry: Entry) -> bool:
        """Whether the pool is paused; the binding then waits for its end here."""
        if self.paused:
            self.parked.append(entry)
        return self.paused

    def members(self) -> Iterator[Entry]:
        """All bindings; those that come or go while this is read may be missed."""
        for x in list(self.rings):
            ring = self.rings.get(x, ())
            yield from (ring,) if isinstance(ring, Entry) else tuple(ring)
