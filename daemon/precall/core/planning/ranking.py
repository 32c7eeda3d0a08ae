"""Bindings ranked by the value of checking them, in queues of about equal weight, the longest unconfirmed first.

Within a queue the value of a check depends on age alone, so only the heads compete. Finding the most valuable check
takes a look at some fifty heads, however many bindings wait. A binding whose weight has changed is moved when it
becomes a head.

`value` computes the value of a check; `planner` chooses between this lane and the others.
"""

from collections.abc import Callable, Iterator
from math import log2
from operator import attrgetter

from precall.core.planning.entries import PlanEntry, ValuePhase, WeightQueue
from precall.core.planning.value import CheckValue, shape

TRIES, MOVES = 3, 5
"""Limits of one decision: looks at all queues, and heads moved after each look."""
BUCKETS = 40
"""The queues of a phase hold weights between 2^-40 and 2^40 dials."""
CLEANING = 2
"""Decisions per part of a queue that is cleaned."""
ABNORMAL, DOUBTED = ValuePhase.ABNORMAL, ValuePhase.DOUBTED


class Ranking:
    """The queues of all phases and weights. `ready` returns the time (s) from which an entry may be checked again."""

    def __init__(self, value: CheckValue, ready: Callable[[PlanEntry], float]) -> None:
        self._value, self._ready = value, ready
        self._queues: dict[tuple[ValuePhase, int], WeightQueue] = {}
        self._by_weight: list[WeightQueue] = []
        self._looks = 0
        self._cleaned: WeightQueue | None = None
        self._uncleaned: Iterator[WeightQueue] = iter(())

    def put(self, entry: PlanEntry, now: float) -> None:
        """Move an entry to the queue of its current weight."""
        phase, weight = self._value.weigh(entry, now)
        bucket = max(-BUCKETS, min(BUCKETS, round(log2(weight))))
        queue = self._queues.get((phase, bucket))
        if queue is None:
            queue = self._queues[phase, bucket] = WeightQueue(phase, 2.0**bucket)
            self._by_weight = sorted(self._queues.values(), key=attrgetter("weight"), reverse=True)
        queue.put(entry)

    def best(self, now: float) -> WeightQueue | None:
        """The queue whose head is the most valuable to check, after moving a few heads whose weight has changed."""
        self._clean()
        for _ in range(TRIES):
            best = self._best(now)
            if best is None:
                return None
            if not self._move_misfits(best, now):
                return best
        return self._best(now)

    def _clean(self) -> None:
        """Let one queue after the other drop its stale entries: those worth least are never reached otherwise."""
        self._looks += 1
        if self._looks % CLEANING == 0 and self._cleaned is not None and not self._cleaned.clean():
            self._cleaned = next(self._uncleaned, None)
        if self._cleaned is None:
            self._uncleaned = iter(tuple(self._by_weight))
            self._cleaned = next(self._uncleaned, None)

    def abnormal_heads(self) -> Iterator[PlanEntry]:
        """The longest unconfirmed entry of each weight, of those whose published route is abnormal."""
        for queue in self._queues.values():
            if queue.phase is ABNORMAL and (entry := queue.head()) is not None:
                yield entry

    def _move_misfits(self, queue: WeightQueue, now: float) -> int:
        """Move heads whose weight has halved or doubled to another queue, and return how many.

        A narrower tolerance would move all of them whenever a common rate drifts across a bucket boundary.
        """
        for moved in range(MOVES):
            entry = queue.head()
            if entry is None:
                return moved
            phase, weight = self._value.weigh(entry, now)
            if phase is queue.phase and queue.weight / 2 < weight < queue.weight * 2:
                return moved
            self.put(queue.pop(), now)
        return MOVES

    def _best(self, now: float) -> WeightQueue | None:
        learned, scarcity = self._value.learned, self._value.scarcity
        recovery_rate, abnormal_end_rate = learned.recovery_rate, learned.abnormal_end_rate
        best, most = None, -1.0
        for queue in self._by_weight:
            if queue.weight <= most:
                break
            entry = queue.head()
            if entry is None:
                continue
            value = queue.weight
            if queue.phase is not DOUBTED:
                rate = abnormal_end_rate if queue.phase is ABNORMAL else recovery_rate
                value *= shape((now - entry.confirmed_at) * rate, scarcity)
            if value > most and now >= self._ready(entry):
                best, most = queue, value
        return best
