"""The daemon's planner behind the interface of the freshness benchmark.

From the project root: `python FRESHNESS.PY --policy tests.bench.freshness_policy:Policy --scenarios core --seeds 10`,
with the project root and `daemon/` on the path.

`Policy` counts every read. With `Kept` a cache answers all of them, and the calls are reported; it should do as well.
With `Unreported` nobody tells of the dials, which shows what they are worth.
"""

from collections import deque
from collections.abc import Mapping
from math import inf
from typing import Any

from precall.core.planning.planner import CheckKind, Planner


class Policy:
    """A policy of the benchmark. `next` takes and `on_result` settles, as every answer arrives at once."""

    def __init__(self, rate: float, **settings: Any) -> None:
        free = {"max_age": inf, "abnormal_max_age": inf, "min_interval": 0.0, "abnormal_min_interval": 0.0}
        self.planner = Planner(rate, **(free | settings))

    def on_add(self, subs_id: int, now: float, meta: Mapping[str, Any]) -> None:
        self.planner.add(
            subs_id,
            now,
            pool=str(meta["pool"]),
            x=meta["x"],
            registered_at=meta["created"],
            checked_at=now,
            variant=meta["state"],
        )

    def on_remove(self, subs_id: int, now: float) -> None:
        self.planner.remove(subs_id)

    def next(self, now: float) -> int | None:
        return self.planner.take(now)

    def on_result(self, subs_id: int, state: int, now: float) -> None:
        self.planner.take_on_demand(subs_id, now)
        self.planner.settle(subs_id, state, now)

    def on_dial(self, subs_id: int, now: float, can_wait: bool) -> bool:
        verified = can_wait and self.planner.worth_waiting(subs_id, now)
        self.planner.dial(subs_id, now, verified=verified)
        return verified

    def on_report(self, subs_id: int, ok: bool, now: float) -> None:
        if not ok:
            self.planner.schedule(subs_id, now, kind=CheckKind.REPORT)


class Unreported(Policy):
    """All reads are answered by a cache, and no dial is told."""

    def on_dial(self, subs_id: int, now: float, can_wait: bool) -> bool:
        return False


class Kept(Unreported):
    """All reads are answered by a cache, and each call is reported `REPORTED_AFTER` seconds later."""

    REPORTED_AFTER = 120.0

    def __init__(self, rate: float, **settings: Any) -> None:
        super().__init__(rate, **settings)
        self._calls: deque[tuple[float, int]] = deque()

    def on_dial(self, subs_id: int, now: float, can_wait: bool) -> bool:
        self._calls.append((now, subs_id))
        return super().on_dial(subs_id, now, can_wait)

    def next(self, now: float) -> int | None:
        while self._calls and self._calls[0][0] <= now - self.REPORTED_AFTER:
            called_at, subs_id = self._calls.popleft()
            self.planner.dial_of_call(subs_id, called_at, now)
        return super().next(now)
