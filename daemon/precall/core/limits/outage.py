"""Detects failures of the provider, the network or the account, as opposed to trouble of single bindings.

`Outage` decides on DEGRADED: most checks fail in transport or because of the account. `PoolGoneDetector` finds pools
whose bindings are all reported gone at once, which is an account fault rather than an answer. Neither changes a route.
Times are ticks of a monotonic clock, in seconds.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass

from precall.core.ages import Tick
from precall.core.limits.recent_checks import CheckTally
from precall.core.model import Failure

WINDOW = 30.0
"""Seconds in which checks are counted."""
MIN_CHECKS = 20
"""Checks in the window that suffice to judge by the share of failures."""
FAILURES_IN_ROW = 10
"""Failures in a row that suffice when there were fewer checks."""
ANSWERS_IN_ROW = 10
"""Good answers in a row that end DEGRADED."""
GONE_WINDOW = 300.0
GONE_BINDINGS = 100
"""Latest checked bindings remembered per pool."""
GONE_MIN = 5
GONE_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class OutageTransition:
    """DEGRADED was entered, or left after `duration` seconds.

    `checks` and `failures` count the checks that led to it, or those made while it lasted.
    """

    degraded: bool
    checks: int
    failures: int
    duration: float


class Outage:
    """Whether the daemon is DEGRADED.

    It is entered when at least half of at least 20 checks within 30 s failed in transport or because of the account.
    With fewer checks, 10 such failures in a row suffice. It is left after 10 good answers in a row.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self._recent: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._failed_in_row = 0
        self._good_in_row = 0
        self._since_entered = [0, 0]
        self._next_allowed_at = 0.0

    @property
    def degraded(self) -> bool:
        """Whether most checks fail for a reason other than their binding."""
        return self.since is not None

    @property
    def tally(self) -> CheckTally:
        """The checks of the last 30 s before the latest one, and how many failed."""
        return CheckTally(self._failures, len(self._recent))

    def record(self, failure: Failure | None, now: Tick) -> OutageTransition | None:
        """Record the result of a check (None: an answer) and return the transition it leads to, if any.

        A throttled or stale check was not carried out and does not count. A refusal and "no such binding" are
        well-formed replies and count as good. A malformed reply is neither good nor a failure.
        """
        match failure:
            case Failure.THROTTLED | Failure.STALE:
                return None
            case Failure.TRANSIENT | Failure.ACCOUNT:
                failed, good = True, False
            case Failure.MALFORMED:
                failed, good = False, False
            case Failure.REFUSED | Failure.GONE | None:
                failed, good = False, True
        self._count(failed, now)
        self._failed_in_row = self._failed_in_row + 1 if failed else 0
        self._good_in_row = self._good_in_row + 1 if good else 0
        if self.since is None:
            return self._enter(now) if failed else None
        self._since_entered[0] += 1
        self._since_entered[1] += failed
        if good:
            # What seems to be over is looked at more often, so that it is known soon.
            self._next_allowed_at = min(self._next_allowed_at, now + 1.0)
        return self._leave(self.since, now) if self._good_in_row >= ANSWERS_IN_ROW else None

    def _count(self, failed: bool, now: float) -> None:
        self._recent.append((now, failed))
        self._failures += failed
        while self._recent[0][0] <= now - WINDOW:
            self._failures -= self._recent.popleft()[1]

    def _enter(self, now: float) -> OutageTransition | None:
        checks = len(self._recent)
        if checks >= MIN_CHECKS:
            if 2 * self._failures < checks:
                return None
            transition = OutageTransition(degraded=True, checks=checks, failures=self._failures, duration=0.0)
        elif self._failed_in_row >= FAILURES_IN_ROW:
            transition = OutageTransition(
                degraded=True, checks=self._failed_in_row, failures=self._failed_in_row, duration=0.0
            )
        else:
            return None
        self.since = now
        self._since_entered = [0, 0]
        self._next_allowed_at = now
        return transition

    def _leave(self, since: float, now: float) -> OutageTransition:
        checks, failures = self._since_entered
        transition = OutageTransition(degraded=False, checks=checks, failures=failures, duration=now - since)
        self.since = None
        self._recent.clear()
        self._failures = 0
        return transition

    def admits(self, now: Tick, rate: float) -> bool:
        """Whether a background check may be made. While degraded: one per second, and at most 5 % of `rate`.

        The next one after a good answer follows within a second.
        """
        if self.since is None:
            return True
        if now < self._next_allowed_at:
            return False
        self._next_allowed_at = now + 1 / min(1.0, 0.05 * rate)
        return True


class PoolGoneDetector:
    """Remembers which of the last 100 checked bindings of each pool were reported gone, and when."""

    def __init__(self) -> None:
        self._pools: dict[str, OrderedDict[Hashable, float | None]] = {}

    def answered(self, pool: str, subs_id: Hashable) -> None:
        """Record that a binding was checked and is not gone."""
        self._remember(pool, subs_id, None)

    def credible(self, pool: str, subs_id: Hashable, now: Tick) -> bool:
        """Record that a binding was reported gone, and return whether that is credible.

        It is not when at least 5, and at least 20 %, of the pool's last 100 checked bindings were reported gone within
        5 min. Then the account is at fault, and none of these replies becomes an answer.
        """
        self._remember(pool, subs_id, now)
        return self.accused(pool, now) is None

    def accused(self, pool: str, now: Tick) -> tuple[int, int] | None:
        """(bindings reported gone, bindings checked) when that is not credible, else None."""
        last = self._pools.get(pool) or OrderedDict()
        gone = sum(1 for at in last.values() if at is not None and at > now - GONE_WINDOW)
        return (gone, len(last)) if gone >= GONE_MIN and gone >= GONE_SHARE * len(last) else None

    def _remember(self, pool: str, subs_id: Hashable, gone_at: float | None) -> None:
        last = self._pools.setdefault(pool, OrderedDict())
        last[subs_id] = gone_at
        last.move_to_end(subs_id)
        if len(last) > GONE_BINDINGS:
            last.popitem(last=False)
