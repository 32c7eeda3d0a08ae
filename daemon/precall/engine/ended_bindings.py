"""Ended bindings: how many the table keeps, and their removal.

An ended binding is kept so that its readers get `expired` rather than "unknown". Where bindings come and go quickly,
many more have ended than are active within `store.retention`. Beyond `SHARE` of the active ones, and `FLOOR` in any
case, those that ended first are removed. Their history is kept.

Removal is final, and the clock may be wrong by a year. So an end counts only if it lies before a *horizon*, which
follows the clock but moves at most `PACE` times as fast as time passes. It is stored, so a restart does not move it.
"""

import asyncio
from collections.abc import Iterable, Iterator
from heapq import heappush, heappushpop
from itertools import islice
from math import inf

from precall.clocks import Clocks
from precall.config.settings import Settings
from precall.core.model import Row, State, WriteCause
from precall.core.routing.route import expired_locally
from precall.core.sync.columns import ORIGIN
from precall.store import Store
from precall.table.table import Table
from precall.table.writer import Writer
from precall.table.writes import Amendment

SHARE = 0.25
"""Ended bindings kept, as a share of the active ones."""
FLOOR = 10_000
"""Ended bindings kept in any case."""
MOST = 20_000
"""Bindings removed per sweep at most."""
SLICE = 250
"""Bindings removed in one transaction."""
SETTLED = 7200.0
"""Seconds after which the provider's word that a binding has ended is not checked again."""
PACE = 10.0
"""Seconds by which the horizon moves at most per second."""
HORIZON = "ended_before"


class LongestEnded:
    """The ids of the `most` bindings that ended first, out of all that are added."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ended: list[tuple[float, str]] = []

    def __iter__(self) -> Iterator[str]:
        return (subs_id for _, subs_id in self._ended)

    def add(self, subs_id: str, end: float) -> None:
        """Add a binding that ended at `end`."""
        if len(self._ended) < self._most:
            heappush(self._ended, (-end, subs_id))
        elif self._most:
            heappushpop(self._ended, (-end, subs_id))


class EndedBindings:
    """Removes ended bindings from the table and the database. Times are Unix seconds."""

    def __init__(
        self, store: Store, table: Table, writer: Writer, settings: Settings, clocks: Clocks
    ) -> None:
        self._store, self._table, self._writer = store, table, writer
        self._settings, self._clocks = settings, clocks
        self._horizon: float | None = None
        self._moved_at = clocks.tick()

    async def advance(self) -> None:
        """Move the horizon, and store it. Raises StoreUnavailable."""
        if self._horizon is None:
            stored = (await self._store.marks()).get(HORIZON)
            self._horizon = self._clocks.now() if stored is None else float(stored)
        self._move()
        await self._store.mark({HORIZON: repr(self._horizon)})

    def surplus(self) -> LongestEnded:
        """Return a collector for ended bindings, which keeps those to be removed."""
        ended = self._table.count(State.EXPIRED)
        kept = max(FLOOR, int(SHARE * (len(self._table) - ended)))
        return LongestEnded(max(0, min(MOST, ended - kept)))

    def end_of(self, row: Row) -> float:
        """Return when a binding ended, or inf if it must not be removed for that.

        A binding of the source that ended only according to the provider is kept, since the next sync would add it.
        """
        horizon = self._move()
        end = inf
        if expired_locally(row.binding, self._settings.policy, self._clocks.now()):
            end = row.binding.expires_at or inf
        if row.state.state is State.EXPIRED and row.binding.origin != ORIGIN:
            end = min(end, row.state.checked_at + SETTLED)
        return end if end <= horizon else inf

    async def remove(self, subs_ids: Iterable[str], before: float = inf) -> None:
        """Remove those of these bindings that still end before `before`. Raises StoreUnavailable.

        The transactions are sequential, so that registrations do not wait behind all of them.
        """

        def amend(row: Row | None, _index: int) -> Amendment[None]:
            ended = row is not None and self.end_of(row) < before
            return Amendment(None if ended else row, None)

        ids = iter(subs_ids)
        while part := list(islice(ids, SLICE)):
            writes = [(subs_id, WriteCause.REMOVED, amend) for subs_id in part]
            await asyncio.gather(*self._writer.submit_all(writes))

    def _move(self) -> float:
        """Move the horizon towards the clock, as far as `PACE` allows, and return it."""
        if self._horizon is None:
            return -inf
        tick = self._clocks.tick()
        self._horizon = min(self._clocks.now(), self._horizon + PACE * (tick - self._moved_at))
        self._moved_at = tick
        return self._horizon
