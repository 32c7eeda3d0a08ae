"""Counts of calls by how they ended, for the report on how well the routes worked."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from precall.core.calls.call import CallResult
from precall.core.calls.observed import Proportion

HOUR = 3600.0


class ReportBy(StrEnum):
    """What a report puts calls together by."""

    HOUR = "hour"
    POOL = "pool"
    STATE = "state"
    CAUSE = "cause"


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
    def ended(self) -> int:
        """Calls of which it is known how they ended."""
        return self.connected + self.failed + self.not_connected

    @property
    def wrong(self) -> float:
        """Share of ended calls that failed for a reason that can be the number's fault."""
        return self.failed / self.ended if self.ended else 0.0


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


@dataclass(frozen=True, slots=True)
class CallGroup:
    """Calls that have the hour, pool, state or cause `name` in common.

    `found` is the proportion of the ended calls that failed by the number's fault; in a group by cause, of all ended
    calls those with this cause.
    """

    name: str
    placed: int
    found: Proportion


def group(counts: Iterable[tuple[str, str, str, str, int]], by: ReportBy) -> list[CallGroup]:
    """Put tuples as `report` takes them together by pool or state, by name, or by cause, the most frequent first."""
    if by is ReportBy.CAUSE:
        found = report(counts)
        return [
            CallGroup(cause, count, Proportion(count, found.total.ended))
            for cause, count in found.causes.items()
        ]
    groups: dict[str, CallCounts] = {}
    for pool_key, route_state, stored_result, _, count in counts:
        name = pool_key if by is ReportBy.POOL else route_state
        groups.setdefault(name, CallCounts()).add(CallResult(stored_result), count)
    return [_failed(name, found) for name, found in sorted(groups.items())]


def by_hour(counts: Iterable[tuple[int, str, int]]) -> list[tuple[float, CallGroup]]:
    """Put tuples of (hours since 1970, result, count) together. Return each hour's start in Unix seconds, in order."""
    groups: dict[int, CallCounts] = {}
    for hour, stored_result, count in counts:
        groups.setdefault(hour, CallCounts()).add(CallResult(stored_result), count)
    return [(hour * HOUR, _failed("", found)) for hour, found in sorted(groups.items())]


def _failed(name: str, found: CallCounts) -> CallGroup:
    return CallGroup(name, found.placed, Proportion(found.failed, found.ended))
