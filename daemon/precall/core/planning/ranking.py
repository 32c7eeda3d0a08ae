"""The lane of worth: bindings of about equal weight wait in one queue, the longest unconfirmed first.

Within a queue the worth of a check grows with age alone, so that only the heads compete: to find the binding whose
check is worth most takes a look at some fifty of them, however many wait. A binding whose weight has changed since it
was filed moves when it comes to be head.

What a check is worth is `worth`; which lane's turn it is, is `planner`.
"""

from collections.abc import Callable, Iterator
from math import log2
from operator import attrgetter

from precall.core.planning.entries import PlanEntry, ValuePhase, WeightQueue
from precall.core.planning.value import CheckValue, shape

TRIES, MOVES = 3, 5
"""How often a decision looks at all queues, at most, and how many heads it moves after each look."""
BUCKETS = 40
"""Queues of a phase lie between 2^-40 and 2^40 dials."""
ABNORMAL, DOUBTED = ValuePhase.ABNORMAL, ValuePhase.DOUBTED


class Ranking:
    """All queues by weight. `ready` says from when on (s) an entry may be checked again."""

    def __init__(self, worth: CheckValue, ready: Callable[[PlanEntry], float]) -> None:
        self._worth, self._ready = worth, ready
        self._queues: dict[tuple[ValuePhase, int], WeightQueue] = {}
        self._by_weight: list[WeightQueue] = []

    def put(self, entry: PlanEntry, now: float) -> None:
        """Stand in the queue of its weight, and in no other."""
        phase, weight = self._worth.weigh(entry, now)
        bucket = max(-BUCKETS, min(BUCKETS, round(log2(weight))))
        queue = self._queues.get((phase, bucket))
        if queue is None:
            queue = self._queues[phase, bucket] = WeightQueue(phase, 2.0**bucket)
            self._by_weight = sorted(self._queues.values(), key=attrgetter("weight"), reverse=True)
        queue.put(entry)

    def richest(self, now: float) -> WeightQueue | None:
        """The queue whose head is worth most, after moving a few heads whose weight has changed."""
        for _ in range(TRIES):
            best = self._best(now)
            if best is None:
                return None
            if not self._move_misfits(best, now):
                return best
        return self._best(now)

    def abnormal_heads(self) -> Iterator[PlanEntry]:
        """The longest unconfirmed of each weight whose published route is abnormal."""
        for queue in self._queues.values():
            if queue.phase is ABNORMAL and (entry := queue.head()) is not None:
                yield entry

    def _move_misfits(self, queue: WeightQueue, now: float) -> int:
        """How many heads moved away because their weight has changed: to less than half, or more than twice. At the
        next power of two already, all would move whenever a common rate drifts across a boundary."""
        for moved in range(MOVES):
            entry = queue.head()
            if entry is None:
                return moved
            phase, weight = self._worth.weigh(entry, now)
            if phase is queue.phase and queue.weight / 2 < weight < queue.weight * 2:
                return moved
            self.put(queue.pop(), now)
        return MOVES

    def _best(self, now: float) -> WeightQueue | None:
        worth, learned = self._worth, self._worth.learned
        best, most, rho, nu, eager = None, -1.0, learned.rho, learned.nu, worth.eager
        for queue in self._by_weight:
            if queue.weight <= most:
                break
            entry = queue.head()
            if entry is None:
                continue
            gain = queue.weight
            if queue.phase is not DOUBTED:
                x = (now - entry.since) * (nu if queue.phase is ABNORMAL else rho)
                gain *= shape(x, eager)
            if gain > most and now >= self._ready(entry):
                best, most = queue, gain
        return best
