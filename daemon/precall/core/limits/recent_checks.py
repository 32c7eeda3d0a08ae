"""Whether checks fail now: long before enough of them have failed for DEGRADED (`outage`), and as soon over.

Times are ticks of a monotonic clock, in seconds.
"""

from collections import deque
from dataclasses import dataclass

from precall.core.ages import Tick

WINDOW = 5.0
"""Seconds in which checks are judged by the share of failures."""
LATEST = 10
"""Checks that are judged by themselves, however long they took; the fewest that are judged by the share."""
FORGET_AFTER = 60.0
"""Seconds without a check after which nothing is known any more."""


@dataclass(frozen=True, slots=True)
class CheckTally:
    """Checks that failed, of all checks counted."""

    failures: int
    checks: int


class RecentChecks:
    """Counts the checks of the last seconds, and remembers how the latest ended."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, bool]] = deque()
        self._latest: deque[bool] = deque(maxlen=LATEST)
        self._failures = 0
        self._at = 0.0

    def record(self, now: Tick, *, failed: bool) -> None:
        """Count a check. `failed`: no reply of the provider came."""
        self._recent.append((now, failed))
        self._failures += failed
        self._latest.append(failed)
        self._at = now
        self._forget(now)

    def failing(self, now: Tick) -> CheckTally | None:
        """Return the failures while checks fail, else None.

        They do when all of the latest 10 failed, or half of at least 10 in the last 5 s.
        """
        self._forget(now)
        checks = len(self._recent)
        if checks >= LATEST and 2 * self._failures >= checks:
            return CheckTally(self._failures, checks)
        if len(self._latest) == LATEST and all(self._latest) and now - self._at < FORGET_AFTER:
            return CheckTally(LATEST, LATEST)
        return None

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] <= now - WINDOW:
            self._failures -= self._recent.popleft()[1]
