"""May the provider be called now: one token bucket, two lanes, a rate that yields to throttling, a circuit.

In any window of `w` seconds at most `rate * w + burst` calls are let through, across restarts too: the bucket starts
empty. What to check is `planner`, whether the provider is in trouble `outage`. `now` is a tick of a monotonic clock, in
seconds.
"""

from enum import StrEnum
from math import inf

from precall.core.ages import Tick
from precall.core.planning.admission_price import SHARE

RESERVE = 0.25
"""Share of the bucket the background leaves to readers, so that they need not queue behind it."""
WINDOW = 1.0
"""The rate is halved once in so many seconds, at most."""
REGAIN = 0.8
"""Of the rate that was throttled, what is soon regained. A provider that saves up unused calls throttles only at a
rate well above its quota: with more than this the rate would soon be above it again, and on average."""
PATIENCE = 60.0
"""Seconds after throttling during which growth beyond that is slow; in as many more all is regained."""
CREEP = 0.005
"""Of the rate that was throttled, that growth per second: in proportion to it, so that a small quota is no sooner
exceeded than a large one."""
LONGEST_PAUSE = 60.0
"""A longer `x-acs-retry-after` is not believed."""
PROBE_EVERY = 30.0
"""Seconds between two probes of an open circuit."""
PROBE_AGAIN = 0.5
"""Seconds until the next probe after one that said nothing of the account."""
STALE_LEAST = 10
"""Stale replies in a row that amount to a refusal of the account, once they last for `STALE_SPAN`."""
STALE_SPAN = 5.0
"""Seconds from the first of these to the last: so that at a high rate a few unlucky ones in a row do not count."""


class Priority(StrEnum):
    """For whom a call is made."""

    DEMAND = "demand"
    BACKGROUND = "background"


class Quota:
    """Calls per second, adapted: throttling halves the rate, quiet lets it grow back to the configured one.

    Growth is additive: fast up to `REGAIN` of the rate that was throttled, slow for `PATIENCE`, then the configured
    rate within as long. The bucket shrinks with the rate. Readers get 70 % of the calls at most; the background
    gets the rest for certain, and all that readers leave.
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
        """Calls per second as of the last call of a method."""
        return self._rate

    def retune(self, rate: float, burst: float, now: Tick) -> None:
        """The configured rate or burst changed. A rate lowered by throttling is not raised by it."""
        self._advance(now)
        self.configured, self.burst = rate, max(1.0, burst)
        self._advance(now)

    def empty(self, now: Tick) -> None:
        """Let go of all calls that were saved up until now."""
        self._advance(now)
        self._tokens = self._readers = 0.0

    def spend(self, now: Tick, lane: Priority) -> bool:
        """Take a token for one call; False when there is none for that lane now."""
        if self.until(now, lane) > 0:
            return False
        self._tokens = max(0.0, self._tokens - 1)
        if lane is Priority.DEMAND:
            self._readers = max(0.0, self._readers - 1)
        return True

    def until(self, now: Tick, lane: Priority) -> float:
        """Seconds until `spend` can succeed for that lane, if nobody else spends; 0 when it can now."""
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
        """The provider said "too fast"; `retry_after` in seconds, when it told. No call is made until then, and none
        is saved up: at once they would be too fast again, and say nothing of the rate."""
        self._advance(now)
        if retry_after is not None:
            self._paused_until = max(self._paused_until, now + min(max(0.0, retry_after), LONGEST_PAUSE))
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
        """The rate after so many seconds without throttling."""
        if quiet == inf:
            return self.configured
        regained = max(self._floor, REGAIN * self._ceiling)
        fast = (regained - self._floor) / (self._ceiling / 5)
        if quiet < fast:
            return min(self.configured, self._floor + quiet * self._ceiling / 5)
        slow = max(0.0, min(quiet, PATIENCE) - fast) * self._ceiling * CREEP
        later = max(0.0, quiet - PATIENCE) * self.configured / PATIENCE
        return min(self.configured, regained + slow + later)

    def _capacity(self) -> float:
        return max(1.0, self.burst * self._rate / self.configured)


class Circuit:
    """Open while the account itself is refused (arrears, denied, bad signature ...): then only probes pass.

    One reply is enough where it names such a cause. A stale nonce or token is renewed with the next question, so it
    takes `STALE_LEAST` stale replies in a row over at least `STALE_SPAN` seconds: however large their share, as long
    as some questions are answered the account is not refused.
    """

    def __init__(self) -> None:
        self.opened_at: float | None = None
        self._probe_at = 0.0
        self._stale = 0
        self._stale_since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self.opened_at is not None

    def fault(self, now: Tick) -> bool:
        """The account was refused; True when that opened the circuit."""
        opened = self.opened_at is None
        if opened:
            self.opened_at = now
            self._probe_at = now + PROBE_EVERY
        return opened

    def stale(self, now: Tick) -> bool:
        """A nonce or token was taken for stale; True when such replies, in a row, amount to a refusal of the account.

        Until they do, a probe that ends so has said nothing, and the next one is made soon.
        """
        if not self._stale:
            self._stale_since = now
        self._stale += 1
        if self._stale >= STALE_LEAST and now - self._stale_since >= STALE_SPAN:
            return True
        if self.is_open:
            self._probe_at = now + PROBE_AGAIN
        return False

    def doubt(self) -> None:
        """What the account was refused for may be over: the next call is a probe."""
        self._probe_at = 0.0

    def answered(self, now: Tick) -> float | None:
        """The provider answered; seconds the circuit was open when that closed it, else None."""
        self._stale = 0
        opened_at, self.opened_at = self.opened_at, None
        return None if opened_at is None else now - opened_at

    def admits(self, now: Tick) -> bool:
        """Whether a call may be made; while open, one probe per 30 s."""
        if self.opened_at is None:
            return True
        if now < self._probe_at:
            return False
        self._probe_at = now + PROBE_EVERY
        return True


class Bucket:
    """A plain token bucket: `rate` a second, `burst` at once, full at first. For those who ask us, not whom we ask."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, max(1.0, burst)
        self._tokens, self._at = self._burst, now

    def spend(self, now: float) -> float:
        """Take one, and 0.0; or nothing, and the seconds until there is one."""
        self._advance(now)
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0

    def full(self, now: float) -> bool:
        """Whether nothing was taken for so long that it could as well be a new one."""
        self._advance(now)
        return self._tokens >= self._burst

    def _advance(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(now, self._at)
