"""The price of a live check: how much it must be worth before a reader waits for it.

A live check spends a call of the background, so it must be worth at least as much as a background check. Live checks
have a limited share of all calls. When readers ask for more, the price rises until they ask for less. Whether a call
may be made at all is decided in `quota`.
"""

from math import exp

SHARE = 0.7
"""Maximum share of all calls for live checks (also in `quota`)."""
MIN_PRICE = 1e-4
"""The price while calls are plentiful."""
GAIN, STEP = 6.0, 0.01
"""How strongly the price responds to the remaining budget, at once and over time."""
SPAN = 300.0
"""Seconds of the readers' share that may be saved up."""


class AdmissionPrice:
    """The current price in dials saved, and the remaining budget of the readers, which starts full."""

    __slots__ = ("_at", "_base", "_budget", "current", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.current = self._base = MIN_PRICE
        self._budget = self._capacity()
        self._at: float | None = None

    def _capacity(self) -> float:
        return max(2.0, SHARE * self.rate * SPAN)

    def accepts(self, value: float, now: float) -> bool:
        """Adjust the price, and return whether a live check that saves `value` dials meets it."""
        left = self._refill(now) / self._capacity()
        self._base = max(MIN_PRICE, self._base * (1 + STEP * (0.5 - left)))
        self.current = max(MIN_PRICE, self._base * exp(GAIN * (0.5 - left)))
        return value >= self.current and self._budget >= 1

    def spend(self, now: float) -> None:
        """Charge a live check to the budget."""
        self._budget = max(0.0, self._refill(now) - 1)

    def _refill(self, now: float) -> float:
        if self._at is not None:
            self._budget = min(self._capacity(), self._budget + (now - self._at) * SHARE * self.rate)
        self._at = now
        return self._budget
