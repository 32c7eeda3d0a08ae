"""A gate for provider calls, which closes after the process was suspended (stopped, or its machine paused or asleep).

Another daemon may have become the leader meanwhile, and spend the same quota. The saved-up quota is therefore
discarded, and no call starts until the lead is confirmed. If the database is unreachable, the leader is unknown; checks
then continue as in any other loss of the database.
"""

from collections.abc import Callable, Sequence

from precall.core.ages import Tick
from precall.core.limits.quota import Quota
from precall.store import LeaderLock
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

GAP = 2.0
"""Seconds without a query of the gate after which the process counts as having been suspended. The check tick queries
it 20 times a second."""


class CallGate:
    """Open while the lead is not in doubt.

    `tick` is the clock of the quotas. `boottime` returns seconds and keeps counting while the machine sleeps.
    """

    def __init__(
        self,
        lead: LeaderLock,
        quotas: Sequence[Quota],
        tick: Callable[[], Tick],
        boottime: Callable[[], float],
    ) -> None:
        self._lead, self._quotas = lead, quotas
        self._tick, self._boottime = tick, boottime
        self._queried_at = boottime()

    def is_open(self) -> bool:
        """Return whether a call may start now. Query this before each call, and regularly in between."""
        now = self._boottime()
        gap, self._queried_at = now - self._queried_at, now
        if gap > GAP:
            for quota in self._quotas:
                quota.empty(self._tick())
            self._lead.doubt()
            log.warning("precall.stood_still", seconds=round(gap, 1))
        return self._lead.is_known
