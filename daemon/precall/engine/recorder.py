"""Records the history of the last hours, so that it can be shown without a Prometheus, also after a restart.

A sample is taken of the status and the counters every 15 s, and of the pools every minute, without a look at single
bindings. Once a minute the leader stores what is new. While the database is away samples wait, and whatever is lost is
a gap.
"""

import json
from collections.abc import Mapping, Sequence
from math import isfinite

from precall.clocks import Clocks
from precall.core.errors import StoreError
from precall.core.model import State
from precall.core.rings import Figures, Increases, Merge, Ring
from precall.core.routing.state import CheckResult
from precall.core.status.facts import PoolFacts, StatusFacts
from precall.engine.checker import Checker
from precall.engine.status_board import StatusBoard
from precall.store import RingRow, Store
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

STEP, HOURS = 15, 6
MINUTE, MINUTES = 60, 60
MOST_POOLS = 200
"""Pools whose history is kept: those with the most bindings in trouble, then the largest."""
AT_ONCE = 100
"""Rows per transaction."""
REREAD = 60.0
"""Seconds between two looks of a standby at what the leader has stored."""

POOL_STATES = (State.NORMAL, State.TEMPORARY, State.FALLBACK, State.UNVERIFIED, State.BLOCKED)
"""The states that a pool is counted by, in the order of its figures."""
FAILED_CHECKS = frozenset(
    {
        CheckResult.THROTTLED,
        CheckResult.STALE,
        CheckResult.TRANSIENT,
        CheckResult.ACCOUNT,
        CheckResult.REFUSED,
        CheckResult.MALFORMED,
    }
)
"""Results of checks that brought no answer."""

PER_SECOND = ("checks", "checks_failed", "reads", "changes")
PER_STEP = ("dials", "calls", "calls_failed")
LEVELS = ("budget", "oldest", "in_flight", "brake", "held", "bindings")
MERGED: Mapping[str, Merge] = dict.fromkeys(PER_STEP, sum) | dict.fromkeys(("oldest", "brake"), max)
"""How figures of several moments become one, where that is not their mean."""

PoolCounts = Mapping[str, Sequence[int]]
"""The bindings of each pool by state, in the order of `POOL_STATES`."""


class Recorder:
    """The history of the last hours. It outlives the parts, which a new role replaces."""

    def __init__(self, metrics: Metrics, clocks: Clocks) -> None:
        self._metrics, self._clocks = metrics, clocks
        self.daemon: Ring[Figures] = Ring("daemon", STEP, HOURS * 3600 // STEP)
        self.pools: Ring[PoolCounts] = Ring("pools", MINUTE, MINUTES)
        self._increases = Increases()
        self._unsaved: set[tuple[str, float]] = set()
        self._latest = 0.0
        self._read_at: float | None = None

    # -- taking samples ----------------------------------------------------------------------------------

    def begin(self, board: StatusBoard, checker: Checker) -> None:
        """Begin to record: increases count from now."""
        self._increases.forget()
        self._latest = 0.0
        self.look(board, checker)

    def look(self, board: StatusBoard, checker: Checker) -> None:
        """Take a sample, unless there is one for this step. To be called every second."""
        now = self._clocks.now()
        moment = self.daemon.moment(now)
        if moment == self._latest:
            return
        if moment < self._latest:
            self._set_back(now)
        self._latest = moment
        facts = board.look().facts
        self.daemon.put(moment, self._figures(facts, checker))
        self._unsaved.add((self.daemon.name, moment))
        minute = self.pools.moment(now)
        if self.pools.get(minute) is None:
            self.pools.put(minute, counted(facts.pools))
            self._unsaved.add((self.pools.name, minute))

    def _set_back(self, now: float) -> None:
        """Drop what a clock that was ahead has stamped."""
        for ring in (self.daemon, self.pools):
            ring.forget_after(now)
        self._unsaved = {(ring, at) for ring, at in self._unsaved if at <= now}

    def _figures(self, facts: StatusFacts, checker: Checker) -> Figures:
        seconds, grown = self._increases.look(self._totals(checker), self._clocks.tick())
        levels = {
            "budget": facts.provider.rate,
            "oldest": facts.freshness.oldest,
            "in_flight": float(checker.in_flight),
            "brake": max(
                (pool.brake.used / pool.brake.cap for pool in facts.pools if pool.brake.cap), default=0.0
            ),
            "held": float(sum(pool.brake.held for pool in facts.pools)),
            "bindings": float(facts.bindings),
        }
        figures = levels | {f"state_{state}": float(count) for state, count in facts.states.items()}
        # A mean over a pause, or over the moment before the clock was set, would pass for the figure of a whole step.
        if STEP / 2 <= seconds <= 2 * STEP:
            figures |= {name: grown[name] / seconds for name in PER_SECOND if name in grown}
            figures |= {name: grown[name] for name in PER_STEP if name in grown}
        return {name: round(figure, 3) for name, figure in figures.items() if isfinite(figure)}

    def _totals(self, checker: Checker) -> Figures:
        metrics, calibration = self._metrics, checker.plan.calibration
        checks = metrics.totals(metrics.checks, "result")
        return {
            "checks": sum(checks.values()),
            "checks_failed": sum(checks.get(result, 0.0) for result in FAILED_CHECKS),
            "reads": metrics.total(metrics.reads),
            "changes": metrics.total(metrics.route_changes),
            "dials": metrics.total(metrics.dials) + metrics.total(metrics.unread_dials),
            "calls": float(calibration.calls),
            "calls_failed": float(calibration.failed),
        }

    # -- storing and restoring ---------------------------------------------------------------------------

    async def keep(self, store: Store) -> None:
        """Store what is not stored yet, the oldest first. A database that is away is tried again the next time."""
        now = self._clocks.now()
        waiting = sorted(self._unsaved, key=_by_moment)
        rows = [row for name, at in waiting if (row := self._row(name, at, now)) is not None][:AT_ONCE]
        kept = {(row.ring, row.at) for row in rows}
        if not kept:
            return
        try:
            await store.rings.keep(rows, now)
        except StoreError as error:
            log.debug("rings.not_kept", error=str(error))
            return
        self._unsaved -= kept

    def _row(self, name: str, at: float, now: float) -> RingRow | None:
        """Return the row to store, or None if it is too old by now."""
        ring: Ring[Figures] | Ring[PoolCounts] = self.daemon if name == self.daemon.name else self.pools
        value = ring.get(at)
        if value is None or at <= ring.since(now):
            self._unsaved.discard((name, at))
            return None
        return RingRow(name, ring.slot(at), at, json.dumps(value, separators=(",", ":")))

    async def restore(self, store: Store) -> None:
        """Read what was stored: at a start, and on standby from time to time. Without a database there is a gap."""
        now = self._clocks.now()
        try:
            rows = await store.rings.read(
                {ring.name: ring.since(now) for ring in (self.daemon, self.pools)}, now
            )
        except StoreError as error:
            log.debug("rings.unread", error=str(error))
            return
        for row in rows:
            try:
                if row.ring == self.daemon.name:
                    self.daemon.put(row.at, _figures_of(row.content))
                else:
                    self.pools.put(row.at, _counts_of(row.content))
            except (ValueError, TypeError, AttributeError):
                continue  # Another program wrote there. It is a gap.

    async def follow(self, store: Store) -> None:
        """On standby: read again what the leader has stored, unless that was done less than a minute ago."""
        tick = self._clocks.tick()
        if self._read_at is None or tick - self._read_at >= REREAD:
            self._read_at = tick
            await self.restore(store)


def counted(pools: Sequence[PoolFacts]) -> PoolCounts:
    """Return the bindings of each pool by state, for at most `MOST_POOLS` pools, the worst first."""
    ranked = sorted(
        pools, key=lambda pool: (pool.states.get(State.NORMAL, 0) - pool.bindings, -pool.bindings)
    )
    return {
        pool.pool_key: [pool.states.get(state, 0) for state in POOL_STATES] for pool in ranked[:MOST_POOLS]
    }


def _figures_of(content: str) -> Figures:
    return {str(name): float(figure) for name, figure in json.loads(content).items()}


def _counts_of(content: str) -> PoolCounts:
    counts = {str(pool): [int(count) for count in row] for pool, row in json.loads(content).items()}
    if any(len(row) != len(POOL_STATES) for row in counts.values()):
        raise ValueError("counts by other states")
    return counts


def _by_moment(waiting: tuple[str, float]) -> tuple[float, str]:
    return waiting[1], waiting[0]
