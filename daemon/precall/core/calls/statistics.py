"""Counts of calls by how they ended, for the report on how well the routes worked."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from precall.core.calls.call import CallResult


@dataclass(slots=True)
class CallCounts:
    """Calls by how they ended."""

    placed: int = 0
    connected: int = 0
    failed: int = 0
    not_connected: int = 0
    unverified: int = 0
    pending: int = 0

    def add(self, result: CallResult, count: int) -> None:
        """Add `count` calls with this result."""
        self.placed += count
        setattr(self, result.value, getattr(self, result.value) + count)

    @property
    def wrong(self) -> float:
        """Share of ended calls that failed for a reason that can be the number's fault."""
        ended = self.connected + self.failed + self.not_connected
        return self.failed / ended if ended else 0.0


@dataclass(frozen=True, slots=True)
class CallReport:
    """Counts of all calls, counts by (pool, state of the route when dialled), and unconnected calls by cause."""

    total: CallCounts
    by_route: dict[tuple[str, str], CallCounts]
    causes: dict[str, int]


def report(counts: Iterable[tuple[str, str, str, str, int]]) -> CallReport:
    """Sum up tuples of (pool, state of the route, result, cause, count). The most frequent causes come first."""
    total, by_route, causes = CallCounts(), dict[tuple[str, str], CallCounts](), Counter[str]()
    for pool_key, route_state, stored_result, cause, count in counts:
        result = CallResult(stored_result)
        total.add(result, count)
        by_route.setdefault((pool_key, route_state), CallCounts()).add(result, count)
        if result in (CallResult.FAILED, CallResult.NOT_CONNECTED):
            causes[cause] += count
    return CallReport(total, dict(sorted(by_route.items())), dict(causes.most_common()))
