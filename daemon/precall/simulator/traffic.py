"""Counters of received calls, from which tests judge the daemon's behaviour."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from precall.simulator.scenario import QUERY_CALL_STATUS

ARRIVALS_KEPT = 500_000


@dataclass(slots=True)
class Traffic:
    """Counts by action, code and fault. Arrival times are Unix seconds of the simulator's clock."""

    calls_received: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    received_at: deque[float] = field(default_factory=lambda: deque(maxlen=ARRIVALS_KEPT))
    peak_per_second: int = 0
    _last_second: deque[float] = field(default_factory=deque)

    def arrived(self, action: str, now: float) -> None:
        """Count an authenticated call of a known action. Arrival times are kept for QueryCallStatus only."""
        self.calls_received[action] += 1
        if action != QUERY_CALL_STATUS:
            return
        self.received_at.append(now)
        window = self._last_second
        window.append(now)
        while window[0] <= now - 1.0:
            window.popleft()
        self.peak_per_second = max(self.peak_per_second, len(window))


@dataclass(slots=True)
class TokenBucket:
    """A token bucket of `rate` calls per second and `burst` at once, full at first. A rate of 0 is unlimited."""

    rate: float
    burst: float
    _tokens: float = field(init=False)
    _filled_at: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, now: float) -> bool:
        if not self.rate:
            return True
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._filled_at) * self.rate)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
