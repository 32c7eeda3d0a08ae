"""Rate limits of one client: requests per second, and requests in flight.

A client that runs wild takes nothing from the others.
"""

from collections.abc import Callable

from precall.api.problems import Code, TooMany
from precall.core.limits.quota import Bucket


class RateLimits:
    """Limits of one token or, without tokens, of all programs on this machine together.

    `rate` is in requests per second, and the burst is as large; 0 means unlimited. `at_once` limits requests in flight,
    `waits` streams, long polls and snapshots, which take long by nature. `clock` is in seconds.
    """

    def __init__(self, rate: float, at_once: int, waits: int, clock: Callable[[], float]) -> None:
        self._bucket = Bucket(rate, rate, clock()) if rate else None
        self._most = {False: at_once, True: waits}
        self._in_flight = {False: 0, True: 0}
        self._clock = clock

    def spend(self) -> None:
        """Count a request against the rate. Raises TooMany (429)."""
        if self._bucket is not None and (wait := self._bucket.spend(self._clock())):
            raise TooMany(
                Code.RATE_LIMITED, "this token asks more often than api.rate, or its own rate, allows", wait
            )

    def enter(self, *, waits: bool) -> None:
        """Count a request as in flight until it leaves. Raises TooMany (429)."""
        if self._in_flight[waits] >= self._most[waits]:
            key = "api.max_streams" if waits else "api.max_in_flight"
            raise TooMany(
                Code.TOO_MANY_AT_ONCE, f"as many requests of this client are in flight as {key} allows", 1.0
            )
        self._in_flight[waits] += 1

    def leave(self, *, waits: bool) -> None:
        """Count a request as finished."""
        self._in_flight[waits] -= 1
