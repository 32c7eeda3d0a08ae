"""Holds calls back after this process stood still: stopped, its machine paused or asleep.

Another daemon may have taken the lead meanwhile, and spends the same quota. So nothing that was saved up is spent, and
no call begins until the lead is confirmed, or the database is found to be out of reach: nobody can say who leads then,
and checks go on as they do in any loss of the database.
"""

from collections.abc import Callable, Sequence

from precall.core.ages import Tick
from precall.core.limits.quota import Quota
from precall.store import LeaderLock
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

GAP = 2.0
"""Seconds without a look at the gate after which the process counts as having stood still. The check tick looks twenty
times a second."""


class CallGate:
    """Open while nothing puts the lead in doubt. `tick` is the clock of the quotas; `boottime` gives seconds, and
    counts on while the machine sleeps."""

    def __init__(
        self,
        lead: LeaderLock,
        quotas: Sequence[Quota],
        tick: Callable[[], Tick],
        boottime: Callable[[], float],
    ) -> None:
        self._lead, self._quotas = lead, quotas
        self._tick, self._boottime = tick, boottime
        self._seen_at = boottime()

    def is_open(self) -> bool:
        """Whether a call may begin now. To be asked before each call, and often in between."""
        now = self._boottime()
        away, self._seen_at = now - self._seen_at, now
        if away > GAP:
            for quota in self._quotas:
                quota.empty(self._tick())
            self._lead.doubt()
            log.warning("precall.stood_still", seconds=round(away, 1))
        return self._lead.is_known
