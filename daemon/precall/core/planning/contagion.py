"""Whom else an answer makes suspect: siblings on the same X, and the whole pool.

Trouble seldom belongs to one binding. How suspect the others are is learned from those of them that are asked first;
whether a pool surprises is found in `worth`. Whoever is many is filed anew a slice at a time.
"""

from collections.abc import Callable, Iterable, Iterator
from math import inf

from precall.core.planning.entries import Face, PlanEntry, PlanPool, PlanSuspicion, SuspicionCause
from precall.core.planning.value import WAVE_PRIOR

FALSE = 0.15
"""An alarm is false when no more of the pool than this turned out wrong."""


class Contagion:
    """Spreads doubt, and takes it back. `file` puts an entry where it now belongs; `later` does so with many."""

    def __init__(
        self, file: Callable[[PlanEntry, float], None], later: Callable[[Iterator[None]], None]
    ) -> None:
        self._file, self._later = file, later

    def tell_kin(self, entry: PlanEntry, before: Face, now: float) -> None:
        """A change makes siblings on the same X suspect; an answer without one may vouch for them."""
        habits = entry.pool.habits
        if entry.face != before:
            doubt = PlanSuspicion(SuspicionCause.KIN, now, habits.kin.mean())
            for sibling in entry.kin or ():
                if sibling is not entry and sibling.doubt is None and bool(sibling.face) == bool(before):
                    sibling.doubt = doubt
                    self._file(sibling, now)
        elif entry.kin and habits.vouches():
            for sibling in entry.kin:
                if sibling.doubt is None and bool(sibling.face) == bool(before):
                    sibling.since = now

    def open(self, pool: PlanPool, abnormal: bool, now: float) -> None:
        """So many of the pool surprised that all who were not asked since are suspect."""
        pool.waves[abnormal] = now
        self._later(self._suspect(pool, abnormal, PlanSuspicion(SuspicionCause.WAVE, now, WAVE_PRIOR)))

    def correct(self, doubt: PlanSuspicion, entry: PlanEntry, abnormal: bool) -> None:
        """Those in that doubt are more or less suspect than they were filed. A false alarm is over at once."""
        if doubt.cause is SuspicionCause.WAVE:
            self._later(self._refile(entry.pool.members(), doubt))
            if doubt.wrong() < FALSE:
                entry.pool.waves[abnormal] = -inf
        elif doubt.cause is SuspicionCause.KIN:
            self._later(self._refile(tuple(entry.kin or ()), doubt))

    def _suspect(self, pool: PlanPool, abnormal: bool, doubt: PlanSuspicion) -> Iterator[None]:
        for entry in pool.members():
            if entry.last < doubt.since and bool(entry.face) == abnormal and entry.doubt is None:
                entry.doubt = doubt
                self._file(entry, doubt.since)
            yield

    def _refile(self, members: Iterable[PlanEntry], doubt: PlanSuspicion) -> Iterator[None]:
        for entry in members:
            if entry.doubt is doubt:
                self._file(entry, entry.counted)
            yield
