"""How many calls ended how: for the report that shows what the routes were worth."""

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
        """Some more calls of this result."""
        self.placed += count
        setattr(self, result.value, getattr(self, result.value) + count)

    @property
    def wrong(self) -> float:
        """Share that failed by what can be the number's fault, of those whose end is known."""
        ended = self.connected + self.failed + self.not_connected
        return self.failed / ended if ended else 0.0


@dataclass(frozen=True, slots=True)
class CallReport:
    """All calls; the same by (pool, state of the route when dialled); how many did not connect by each cause."""

    total: CallCounts
    by_route: dict[tuple[str, str], CallCounts]
    causes: dict[str, int]


def report(counts: Iterable[tuple[str, str, str, str, int]]) -> CallReport:
    """Of (pool, state of the route, result, cause, how many); the largest causes first."""
    total, by_route, causes = CallCounts(), dict[tuple[str, str], CallCounts](), Counter[str]()
    for pool_key, route_state, told, cause, count in counts:
        result = CallResult(told)
        total.add(result, count)
        by_route.setdefault((pool_key, route_state), CallCounts()).add(result, count)
        if result in (CallResult.FAILED, CallResult.NOT_CONNECTED):
            causes[cause] += count
    return CallReport(total, dict(sorted(by_route.items())), dict(causes.most_common()))
