"""What a check must be worth before a reader is made to wait for it.

A live check spends a call the background would have spent, so it must be worth at least what the background gets for
one. Live checks have a share of all calls; where readers want more than that, the price rises until they want less.
Whether a call may be made at all is `quota`.
"""

from math import exp

SHARE = 0.7
"""Of all calls, at most, for readers who wait (also in `quota`)."""
LEAST = 1e-4
"""The price while calls abound: a check must be worth something."""
GAIN = 6.0
STEP = 0.01
"""How fast the price follows what is left."""
SPAN = 300.0
"""Seconds of that share that may be saved up."""


class AdmissionPrice:
    """The going price in dials saved, and what is left of the readers' share (which starts full)."""

    __slots__ = ("_at", "_left", "_usual", "going", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.going = self._usual = LEAST
        self._left = self._most()
        self._at: float | None = None

    def _most(self) -> float:
        return max(2.0, SHARE * self.rate * SPAN)

    def accepts(self, value: float, now: float) -> bool:
        """Whether a live check that saves `value` dials is made; moves the price."""
        left = self._refill(now) / self._most()
        self._usual = max(LEAST, self._usual * (1 + STEP * (0.5 - left)))
        self.going = max(LEAST, self._usual * exp(GAIN * (0.5 - left)))
        return value >= self.going and self._left >= 1

    def spend(self, now: float) -> None:
        """A live check is made."""
        self._left = max(0.0, self._refill(now) - 1)

    def _refill(self, now: float) -> float:
        if self._at is not None:
            self._left = min(self._most(), self._left + (now - self._at) * SHARE * self.rate)
        self._at = now
        return self._left
