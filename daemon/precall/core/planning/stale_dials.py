"""The share of recent dials that got a stale route: whether the promise for dialled routes is kept."""

from collections import deque

from precall.core.ages import Tick

WINDOW = 300.0
"""Seconds of dials that are judged."""
SLOT = 10.0
"""Seconds of dials that are counted together, and leave the window together."""
LEAST = 20
"""Dials in the window below which no shortage begins."""
LIMIT = 0.05
"""The share of stale dials above which the promise is not kept. The alert PrecallBudgetShort has the same."""
RETURN = 0.5
"""A shortage ends at this share of `LIMIT`, so that it does not flap at the border."""


class StaleDials:
    """Counts dials, and says whether too many of those in the window were stale."""

    def __init__(self) -> None:
        self.short = False
        self._stale = self._fresh = 0
        self._slots: deque[tuple[float, int, int]] = deque()

    def count(self, *, stale: bool) -> None:
        """Count one dial. `judge` puts it into the window."""
        if stale:
            self._stale += 1
        else:
            self._fresh += 1

    def judge(self, tick: Tick, *, excused: bool = False) -> bool:
        """Put the dials counted since the last call into the window. Return whether `short` changed.

        With `excused` they are left out: something else than the budget may have made them stale.
        """
        stale, dials = self._stale, self._stale + self._fresh
        self._stale = self._fresh = 0
        slots = self._slots
        if dials and not excused:
            if slots and tick - slots[-1][0] < SLOT:
                since, before, all_before = slots.pop()
                slots.append((since, before + stale, all_before + dials))
            else:
                slots.append((tick, stale, dials))
        while slots and tick - slots[0][0] >= WINDOW:
            slots.popleft()
        was = self.short
        self.short = self.share > LIMIT * RETURN if was else self.dials >= LEAST and self.share > LIMIT
        return self.short is not was

    def forget(self) -> bool:
        """Empty the window, since another promise is in force. Return whether `short` changed."""
        self._stale = self._fresh = 0
        self._slots.clear()
        was, self.short = self.short, False
        return was

    @property
    def dials(self) -> int:
        """The dials in the window."""
        return sum(dials for _, _, dials in self._slots)

    @property
    def share(self) -> float:
        """The share of the dials in the window that were stale (0 to 1). 0.0 without a dial."""
        return sum(stale for _, stale, _ in self._slots) / (self.dials or 1)
