"""Retention: deletes old history, calls, and bindings that expired long ago.

The clock may be wrong by a year, and deletion is final. The cutoff therefore advances by at most 1/50 of the retention
period per round, or by two hours if that is more. A clock that is far ahead takes two days to empty the history, which
leaves time to correct it. A daemon that was down for long catches up in the same time.
"""

import asyncio

from precall.core.errors import StoreUnavailable
from precall.engine.ended import EndedBindings
from precall.store import Store
from precall.table.table import Table
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

SLICE = 500
ROUND = 3600.0
"""Seconds between two rounds."""
SHARE = 50
"""The minimum number of rounds needed to delete everything."""
RETIRED = "retired_before"


class Retention:
    """Deletes what is older than `retention` seconds, in rounds."""

    def __init__(self, store: Store, table: Table, ended: EndedBindings, retention: float) -> None:
        self._store, self._table, self._ended, self._retention = store, table, ended, retention

    async def begin(self) -> None:
        """Take up what an earlier start has come to."""
        try:
            await self._ended.advance()
        except StoreUnavailable as error:
            log.warning("retention.postponed", error=str(error))

    async def retire(self, *, now: float) -> None:
        """Run one round at `now` (Unix seconds)."""
        try:
            before = await self._cutoff(now)
            await self._store.retire(before, now)
            await self._store.calls.retire(before)
            await self._ended.advance()
            for rows in self._table.slices(SLICE):
                over = [row.binding.subs_id for row in rows if self._ended.end_of(row) < before]
                await self._ended.remove(over, before)
                await asyncio.sleep(0)
        except StoreUnavailable as error:
            log.warning("retention.postponed", error=str(error))

    async def _cutoff(self, now: float) -> float:
        """Return the cutoff of this round, and store it for the next one."""
        before = now - self._retention
        earlier = (await self._store.marks()).get(RETIRED)
        if earlier is not None:
            before = min(before, float(earlier) + max(2 * ROUND, self._retention / SHARE))
        await self._store.mark({RETIRED: repr(before)})
        return before
