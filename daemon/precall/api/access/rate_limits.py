"""What one reader may use of the daemon: requests a second, requests and waits at a time. So one program that runs wild
takes nothing from the others."""

from collections.abc import Callable

from precall.api.problems import Code, TooMany
from precall.core.limits.quota import Bucket


class RateLimits:
    """Of one token, or of all programs on this machine where there are none.

    `rate` is in requests a second, as many of which may come at once; 0: any. `at_once` are requests under way;
    `waits` streams, long polls and snapshots, which take long by their nature.
    """

    def __init__(self, rate: float, at_once: int, waits: int, clock: Callable[[], float]) -> None:
        self._bucket = Bucket(rate, rate, clock()) if rate else None
        self._most = {False: at_once, True: waits}
        self._under_way = {False: 0, True: 0}
        self._clock = clock

    def spend(self) -> None:
        """One more request has come. Raises TooMany (429)."""
        if self._bucket is not None and (wait := self._bucket.spend(self._clock())):
            raise TooMany(
                Code.RATE_LIMITED, "this token asks more often than api.rate, or its own rate, allows", wait
            )

    def enter(self, *, waits: bool) -> None:
        """One more is under way, until it leaves. Raises TooMany (429)."""
        if self._under_way[waits] >= self._most[waits]:
            key = "api.max_streams" if waits else "api.max_in_flight"
            raise TooMany(
                Code.TOO_MANY_AT_ONCE, f"as many requests of this reader are under way as {key} allows", 1.0
            )
        self._under_way[waits] += 1

    def leave(self, *, waits: bool) -> None:
        """One that entered has ended."""
        self._under_way[waits] -= 1
