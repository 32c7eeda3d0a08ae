"""Suspicion that one answer casts on other bindings: on siblings on the same X, and on a whole pool.

Trouble seldom affects a single binding. How likely the others are wrong is learned from the first of them that are
checked; `value` detects trouble of a whole pool. Large groups are queued again a slice at a time.
"""

from collections.abc import Callable, Iterable, Iterator
from math import inf

from precall.core.planning.entries import PlanEntry, PlanPool, PlanSuspicion, SuspicionCause, Variant
from precall.core.planning.value import POOL_PRIOR

FALSE_ALARM = 0.15
"""A pool alarm is false when no larger share of the suspects turned out wrong."""


class Contagion:
    """Spreads suspicion and withdraws it.

    `enqueue` puts one entry into the queue it now belongs to; `later` runs an iterator a slice at a time.
    """

    def __init__(
        self, enqueue: Callable[[PlanEntry, float], None], later: Callable[[Iterator[None]], None]
    ) -> None:
        self._enqueue, self._later = enqueue, later

    def spread_to_siblings(self, entry: PlanEntry, before: Variant, now: float) -> None:
        """Make the siblings of a changed route suspect; let an unchanged one confirm them where siblings agree."""
        rates = entry.pool.rates
        if entry.variant != before:
            suspicion = PlanSuspicion(SuspicionCause.SIBLING, now, rates.siblings.mean())
            for sibling in entry.siblings or ():
                if (
                    sibling is not entry
                    and sibling.suspicion is None
                    and bool(sibling.variant) == bool(before)
                ):
                    sibling.suspicion = suspicion
                    self._enqueue(sibling, now)
        elif entry.siblings and rates.siblings_agree():
            for sibling in entry.siblings:
                if sibling.suspicion is None and bool(sibling.variant) == bool(before):
                    sibling.confirmed_at = now

    def spread_to_pool(self, pool: PlanPool, abnormal: bool, now: float) -> None:
        """Make every binding of an alarmed pool suspect that has not been checked since."""
        pool.alarmed_at[abnormal] = now
        self._later(self._suspect(pool, abnormal, PlanSuspicion(SuspicionCause.POOL, now, POOL_PRIOR)))

    def correct(self, suspicion: PlanSuspicion, entry: PlanEntry, abnormal: bool) -> None:
        """Queue the remaining suspects again after their P(wrong) has changed. A false alarm ends at once."""
        if suspicion.cause is SuspicionCause.POOL:
            self._later(self._enqueue_again(entry.pool.members(), suspicion))
            if suspicion.wrong() < FALSE_ALARM:
                entry.pool.alarmed_at[abnormal] = -inf
        elif suspicion.cause is SuspicionCause.SIBLING:
            self._later(self._enqueue_again(tuple(entry.siblings or ()), suspicion))

    def _suspect(self, pool: PlanPool, abnormal: bool, suspicion: PlanSuspicion) -> Iterator[None]:
        for entry in pool.members():
            if (
                entry.checked_at < suspicion.since
                and bool(entry.variant) == abnormal
                and entry.suspicion is None
            ):
                entry.suspicion = suspicion
                self._enqueue(entry, suspicion.since)
            yield

    def _enqueue_again(self, members: Iterable[PlanEntry], suspicion: PlanSuspicion) -> Iterator[None]:
        for entry in members:
            if entry.suspicion is suspicion:
                self._enqueue(entry, entry.counted_until)
            yield
