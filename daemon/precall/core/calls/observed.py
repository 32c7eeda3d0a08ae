"""What precall would have done for the calls of pools that are only observed.

A call there dials the bound X, whatever precall decided. If precall's route at that time was not X, a failed call
counts as avoidable and a connected one as changed. The shares come with Wilson score intervals
(E. B. Wilson, 1927), since a pool may have few calls.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import sqrt

from precall.core.calls.call import CallResult
from precall.core.model import Action

Z = 1.959964
"""The quantile of the normal distribution for two-sided 95 %."""


@dataclass(frozen=True, slots=True)
class Proportion:
    """`part` of `whole`, and the bounds (0 to 1) between which the share lies with 95 % confidence."""

    part: int
    whole: int

    @property
    def share(self) -> float:
        """The share as counted; 0 if `whole` is 0."""
        return self.part / self.whole if self.whole else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson score interval; (0, 1) if `whole` is 0."""
        n, p = self.whole, self.share
        if not n:
            return 0.0, 1.0
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
        low = 0.0 if self.part == 0 else max(0.0, middle - half)
        return low, 1.0 if self.part == n else min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class ObservedExample:
    """A call that would have gone another way: `action` and `reason` are of precall's route when it was placed.

    `request_id` is that of the provider's answer behind the route, "" if none is kept.
    """

    pool_key: str
    call_id: str
    subs_id: str
    called_at: float
    result: str
    action: str
    reason: str
    request_id: str


@dataclass(slots=True)
class ObservedCalls:
    """The ended calls of an observed pool.

    `failed` and `connected` count the actions that precall would have taken. `not_connected` calls ended for a
    reason other than the number. `unknown` calls have no route on record, and are counted here only.
    """

    failed: Counter[str] = field(default_factory=Counter)
    connected: Counter[str] = field(default_factory=Counter)
    not_connected: int = 0
    unknown: int = 0
    examples: list[ObservedExample] = field(default_factory=list)

    def add(self, result: CallResult, action: str, count: int) -> None:
        """Add `count` calls with this result. `action` is "" if it is not known what precall would have done."""
        if not action:
            self.unknown += count
        elif result is CallResult.FAILED:
            self.failed[action] += count
        elif result is CallResult.CONNECTED:
            self.connected[action] += count
        else:
            self.not_connected += count

    @property
    def calls(self) -> int:
        """Calls whose route is known."""
        return self.failed.total() + self.connected.total() + self.not_connected

    @property
    def avoided(self) -> Proportion:
        """Of the failed calls, those that precall would have sent another way or held back."""
        return _not_by_x(self.failed)

    @property
    def changed(self) -> Proportion:
        """Of the connected calls, those that precall would have sent another way or held back."""
        return _not_by_x(self.connected)


def observed_report(
    counts: Iterable[tuple[str, str, str, int]], examples: Iterable[ObservedExample]
) -> dict[str, ObservedCalls]:
    """Sum up tuples of (pool, result, action of precall's route, count), by pool."""
    pools: dict[str, ObservedCalls] = {}
    for pool_key, result, action, count in counts:
        pools.setdefault(pool_key, ObservedCalls()).add(CallResult(result), action, count)
    for example in examples:
        if example.pool_key in pools:
            pools[example.pool_key].examples.append(example)
    return dict(sorted(pools.items()))


def _not_by_x(actions: Counter[str]) -> Proportion:
    whole = actions.total()
    return Proportion(whole - actions[Action.DIAL_X], whole)
