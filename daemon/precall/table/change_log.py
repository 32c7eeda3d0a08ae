"""Logs changes of routes: a line each or, while a wave of them goes through a pool, a line of counts every few seconds.

A carrier that fails changes thousands of routes within seconds. Their lines would hide everything else; at level debug
they are all there.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from precall.core.model import Change, WriteCause
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

FEW = 10
"""Changes of a pool within a second that are logged one by one."""
SECOND = 1.0
EVERY = 5.0
"""Seconds between two lines of counts."""


@dataclass(slots=True)
class _PoolWave:
    """The changes of a pool: how many since `began` (loop time), and those that are only counted."""

    began: float
    times: int = 0
    states: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    timer: asyncio.TimerHandle | None = None


class ChangeLog:
    """Needs a running loop. Registrations are no news: they are logged at level debug and start no wave."""

    def __init__(self) -> None:
        self._pools: dict[str, _PoolWave] = {}

    def add(self, change: Change) -> None:
        """Log a change, or count it."""
        after = change.row.state.state if change.row else "removed"
        # In an observed pool the route stays the bound X. What it would be is the news.
        would = change.route.would
        observed = {"would": would.action, "would_reason": would.reason} if would else {}
        counted = change.cause is not WriteCause.REGISTERED and self._counted(change, after)
        say = log.debug if counted or change.cause is WriteCause.REGISTERED else log.info
        say(
            "route.changed",
            subs_id=change.subs_id,
            cause=change.cause,
            action=change.route.action,
            reason=change.route.reason,
            version=change.route.version,
            index=change.index,
            **observed,
        )

    def close(self) -> None:
        """Log what is counted so far."""
        for pool_key in list(self._pools):
            self._tell(pool_key)
        for pool in self._pools.values():
            if pool.timer is not None:
                pool.timer.cancel()
        self._pools.clear()

    def _counted(self, change: Change, after: str) -> bool:
        """Whether this change is part of a wave; then count it."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        pool = self._pools.get(change.pool_key)
        if pool is None or (pool.timer is None and now - pool.began >= SECOND):
            pool = self._pools[change.pool_key] = _PoolWave(now)
        pool.times += 1
        if pool.timer is None:
            if pool.times <= FEW:
                return False
            pool.timer = loop.call_later(EVERY, self._tell, change.pool_key)
        pool.states[f"{change.before or 'none'}->{after}"] += 1
        pool.actions[change.route.action.value] += 1  # a plain string, since the log shows a dict by `repr`
        return True

    def _tell(self, pool_key: str) -> None:
        """Log the counts of a pool. Its wave ends once few changes came in between."""
        pool = self._pools[pool_key]
        if pool.timer is not None:
            pool.timer.cancel()  # of use only when the log is closed before it is due
        count = pool.states.total()
        if count:
            log.info(
                "routes.changed",
                pool=pool_key,
                count=count,
                states=dict(pool.states.most_common()),
                actions=dict(pool.actions.most_common()),
            )
        if count <= FEW:
            del self._pools[pool_key]
            return
        pool.states.clear()
        pool.actions.clear()
        pool.timer = asyncio.get_running_loop().call_later(EVERY, self._tell, pool_key)
