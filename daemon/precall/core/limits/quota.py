"""Limits on calls: a token bucket with two lanes whose rate adapts to throttling, and a circuit breaker.

In any window of `w` seconds at most `rate * w + burst` calls are let through. This holds across restarts too, since the
bucket starts empty. What to check is decided in `planner`, whether the provider is in trouble in `outage`. `now` is a
tick of a monotonic clock, in seconds.
"""

from enum import StrEnum
from math import inf

from precall.core.ages import Tick
from precall.core.planning.admission_price import SHARE

RESERVE = 0.25
"""Share of the bucket that the background leaves to readers, so that they need not wait behind it."""
WINDOW = 1.0
"""Minimum seconds between two halvings of the rate."""
FAST_RECOVERY = 0.8
"""Share of the throttled rate that is regained quickly.

A provider that saves up unused calls throttles only at a rate well above its quota. With a larger share the rate would
soon exceed the quota again, also on average.
"""
SLOW_PERIOD = 60.0
"""Seconds after throttling during which the rate grows slowly. In the next period of that length it recovers fully."""
SLOW_GROWTH = 0.005
"""Slow growth per second, as a share of the throttled rate: a small quota is exceeded no sooner than a large one."""
MAX_PAUSE = 60.0
"""Maximum honoured `x-acs-retry-after` (s)."""
PROBE_EVERY = 30.0
"""Seconds between two probes of an open circuit."""
PROBE_AGAIN = 0.5
"""Seconds until the next probe after an inconclusive one."""
STALE_LEAST = 10
"""Stale replies in a row that count as a refusal of the account, if they span at least `STALE_SPAN`."""
STALE_SPAN = 5.0
"""Seconds from the first of these replies to the last. At a high rate, a few in a row may be chance."""


class Priority(StrEnum):
    """Whether a reader waits for a call, or the background makes it."""

    DEMAND = "demand"
    BACKGROUND = "background"


class Quota:
    """A token bucket whose rate is halved by throttling and then grows back to the configured one.

    Growth is additive: fast up to `FAST_RECOVERY` of the throttled rate, slow for `SLOW_PERIOD`, then up to the
    configured rate within another such period. The bucket shrinks with the rate. Readers get at most 70 % of the calls;
    the background gets the rest and whatever readers leave.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.configured = rate
        self.burst = max(1.0, burst)
        self._rate = rate
        self._tokens = 0.0
        self._readers = 0.0
        self._at = now
        self._throttled_at = -inf
        self._ceiling = self._floor = rate
        self._paused_until = now

    @property
    def rate(self) -> float:
        """Calls per second, as of the latest method call."""
        return self._rate

    def retune(self, rate: float, burst: float, now: Tick) -> None:
        """Change the configured rate and burst. This does not raise a rate that is lowered by throttling."""
        self._advance(now)
        self.configured, self.burst = rate, max(1.0, burst)
        self._advance(now)

    def empty(self, now: Tick) -> None:
        """Discard all saved-up calls."""
        self._advance(now)
        self._tokens = self._readers = 0.0

    def spend(self, now: Tick, lane: Priority) -> bool:
        """Take a token for one call; False when the lane has none now."""
        if self.until(now, lane) > 0:
            return False
        self._tokens = max(0.0, self._tokens - 1)
        if lane is Priority.DEMAND:
            self._readers = max(0.0, self._readers - 1)
        return True

    def until(self, now: Tick, lane: Priority) -> float:
        """Seconds until `spend` can succeed for that lane if nothing else is spent; 0 when it can now."""
        self._advance(now)
        match lane:
            case Priority.DEMAND:
                short, readers = 1 - self._tokens, 1 - self._readers
                wait = max(short / self._rate, readers / (SHARE * self._rate))
            case Priority.BACKGROUND:
                reserve = min(RESERVE * self._capacity(), self._capacity() - 1)
                wait = (1 + reserve - self._tokens) / self._rate
        wait = max(0.0, wait) + max(0.0, self._paused_until - now)
        return wait if wait > 1e-9 else 0.0

    def throttled(self, now: Tick, retry_after: float | None = None) -> None:
        """Halve the rate after the provider throttled a call.

        No call is made for `retry_after` seconds, if the provider specified it. No tokens accumulate in that time: a
        burst would be throttled again, which says nothing about the rate.
        """
        self._advance(now)
        if retry_after is not None:
            self._paused_until = max(self._paused_until, now + min(max(0.0, retry_after), MAX_PAUSE))
        if now - self._throttled_at < WINDOW:
            return
        least = min(self.configured, max(0.1, self.configured / 100))
        self._throttled_at = now
        self._ceiling, self._floor = self._rate, max(self._rate / 2, least)
        self._advance(now)

    def _advance(self, now: float) -> None:
        elapsed = max(0.0, now - max(self._at, self._paused_until))
        self._at = max(now, self._at)
        self._tokens += elapsed * self._rate
        self._readers += elapsed * SHARE * self._rate
        self._rate = self._grown(self._at - self._throttled_at)
        self._tokens = min(self._tokens, self._capacity())
        self._readers = min(self._readers, max(1.0, SHARE * self._capacity()))

    def _grown(self, quiet: float) -> float:
        """The rate after `quiet` seconds without throttling."""
        if quiet == inf:
            return self.configured
        regained = max(self._floor, FAST_RECOVERY * self._ceiling)
        fast = (regained - self._floor) / (self._ceiling / 5)
        if quiet < fast:
            return min(self.configured, self._floor + quiet * self._ceiling / 5)
        slow = max(0.0, min(quiet, SLOW_PERIOD) - fast) * self._ceiling * SLOW_GROWTH
        later = max(0.0, quiet - SLOW_PERIOD) * self.configured / SLOW_PERIOD
        return min(self.configured, regained + slow + later)

    def _capacity(self) -> float:
        return max(1.0, self.burst * self._rate / self.configured)


class Circuit:
    """A circuit breaker that is open while the account is refused (arrears, denied, bad signature ...).

    While it is open, only probes pass. One reply that names such a cause opens it. A stale nonce or token is renewed
    with the next call, so `STALE_LEAST` stale replies in a row over at least `STALE_SPAN` seconds are needed. As long
    as some calls are answered the account is not refused, however large the share of stale replies.
    """

    def __init__(self) -> None:
        self.opened_at: float | None = None
        self._probe_at = 0.0
        self._stale = 0
        self._stale_since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether only probes pass."""
        return self.opened_at is not None

    def fault(self, now: Tick) -> bool:
        """Record that the account was refused; True when that opens the circuit."""
        opened = self.opened_at is None
        if opened:
            self.opened_at = now
            self._probe_at = now + PROBE_EVERY
        return opened

    def stale(self, now: Tick) -> bool:
        """Record a stale nonce or token; True when such replies amount to a refusal of the account.

        Until then, a stale reply to a probe is inconclusive, and the next probe follows soon.
        """
        if not self._stale:
            self._stale_since = now
        self._stale += 1
        if self._stale >= STALE_LEAST and now - self._stale_since >= STALE_SPAN:
            return True
        if self.is_open:
            self._probe_at = now + PROBE_AGAIN
        return False

    def probe_soon(self) -> None:
        """Probe with the next call, since the cause of the refusal may be over."""
        self._probe_at = 0.0

    def answered(self, now: Tick) -> float | None:
        """Record an answer. Returns the seconds the circuit was open if this closes it, else None."""
        self._stale = 0
        opened_at, self.opened_at = self.opened_at, None
        return None if opened_at is None else now - opened_at

    def admits(self, now: Tick) -> bool:
        """Whether a call may be made; while open, one probe every 30 s."""
        if self.opened_at is None:
            return True
        if now < self._probe_at:
            return False
        self._probe_at = now + PROBE_EVERY
        return True


class Bucket:
    """A plain token bucket for incoming requests: `rate` per second, `burst` at once, full at first."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, max(1.0, burst)
        self._tokens, self._at = self._burst, now

    def spend(self, now: float) -> float:
        """Take a token and return 0.0; if there is none, return the seconds until there is."""
        self._advance(now)
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0

    def full(self, now: float) -> bool:
        """Whether the bucket is full, and so equals a new one."""
        self._advance(now)
        return self._tokens >= self._burst

    def _advance(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(now, self._at)
