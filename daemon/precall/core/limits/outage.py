"""Is it us? Whether what went wrong is the provider's or our own trouble rather than that of a binding.

`Outage` knows DEGRADED: most checks fail in transport or for the account. `PoolGoneDetector` knows the pools whose
bindings are reported gone all at once: that is an account fault, not an answer. Neither changes a route; `state` and
`route` do. Times are ticks of a monotonic clock, in seconds.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass

from precall.core.ages import Tick
from precall.core.model import Failure

SPAN = 30.0
ENOUGH = 20
FEW = 10
RECOVERED = 10
GONE_SPAN = 300.0
GONE_LAST = 100
GONE_LEAST = 5
GONE_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Turn:
    """DEGRADED was entered, or left after `duration` seconds. `checks` and `failures` are those that led to it, or
    those made meanwhile."""

    degraded: bool
    checks: int
    failures: int
    duration: float


class Outage:
    """Entered when at least half of at least 20 checks in 30 s, or all of the last 10 when there were fewer, failed in
    transport or for the account; left after 10 good answers in a row."""

    def __init__(self) -> None:
        self.since: float | None = None
        self._recent: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._failed_in_row = 0
        self._good_in_row = 0
        self._meanwhile = [0, 0]
        self._trickle_at = 0.0

    @property
    def degraded(self) -> bool:
        """Whether it is us."""
        return self.since is not None

    def record(self, failure: Failure | None, now: Tick) -> Turn | None:
        """One check came back: with an answer (None) or with a non-answer. The turn it led to, if any.

        A throttled or a stale check was not made and says nothing. A refusal and "no such binding" are well-formed
        replies, thus good; a malformed reply is neither good nor a failure."""
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
        self._meanwhile[0] += 1
        self._meanwhile[1] += failed
        return self._leave(self.since, now) if self._good_in_row >= RECOVERED else None

    def _count(self, failed: bool, now: float) -> None:
        self._recent.append((now, failed))
        self._failures += failed
        while self._recent[0][0] <= now - SPAN:
            self._failures -= self._recent.popleft()[1]

    def _enter(self, now: float) -> Turn | None:
        checks = len(self._recent)
        if checks >= ENOUGH:
            if 2 * self._failures < checks:
                return None
            turn = Turn(degraded=True, checks=checks, failures=self._failures, duration=0.0)
        elif self._failed_in_row >= FEW:
            turn = Turn(degraded=True, checks=self._failed_in_row, failures=self._failed_in_row, duration=0.0)
        else:
            return None
        self.since = now
        self._meanwhile = [0, 0]
        self._trickle_at = now
        return turn

    def _leave(self, since: float, now: float) -> Turn:
        checks, failures = self._meanwhile
        turn = Turn(degraded=False, checks=checks, failures=failures, duration=now - since)
        self.since = None
        self._recent.clear()
        self._failures = 0
        return turn

    def admits(self, now: Tick, rate: float) -> bool:
        """Whether a background check may be made; while degraded one per second, at most 5 % of `rate`."""
        if self.since is None:
            return True
        if now < self._trickle_at:
            return False
        self._trickle_at = now + 1 / min(1.0, 0.05 * rate)
        return True


class PoolGoneDetector:
    """Per pool, which of its last 100 checked bindings said "no such binding", and when."""

    def __init__(self) -> None:
        self._pools: dict[str, OrderedDict[Hashable, float | None]] = {}

    def answered(self, pool: str, subs_id: Hashable) -> None:
        """A binding was checked, and is not gone."""
        self._note(pool, subs_id, None)

    def credible(self, pool: str, subs_id: Hashable, now: Tick) -> bool:
        """A binding says it is gone: False when at least 5 and at least 20 % of the pool's last 100 checked bindings
        said so within 5 min. Then it is the account, and no such word becomes an answer."""
        self._note(pool, subs_id, now)
        return self.accused(pool, now) is None

    def accused(self, pool: str, now: Tick) -> tuple[int, int] | None:
        """How many of how many bindings say so, when that is too many to be true."""
        last = self._pools.get(pool) or OrderedDict()
        gone = sum(1 for at in last.values() if at is not None and at > now - GONE_SPAN)
        return (gone, len(last)) if gone >= GONE_LEAST and gone >= GONE_SHARE * len(last) else None

    def _note(self, pool: str, subs_id: Hashable, gone_at: float | None) -> None:
        last = self._pools.setdefault(pool, OrderedDict())
        last[subs_id] = gone_at
        last.move_to_end(subs_id)
        if len(last) > GONE_LAST:
            last.popitem(last=False)
