"""Retention: deletes old history, calls, and bindings that expired long ago.

The clock may be wrong by a year, and deletion is final. The cutoff therefore advances by at most 1/50 of the retention
period per round, or by two hours if that is more. A clock that is far ahead takes two days to empty the history, which
leaves time to correct it. A daemon that was down for long catches up in the same time.
"""

import asyncio

from precall.core.errors import StoreUnavailable
from precall.core.model import Policy, Row, WriteCause
from precall.core.routing.route import expired_locally
from precall.store import Store
from precall.table.table import Table
from precall.table.writer import Writer
from precall.table.writes import Amendment
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

    def __init__(self, store: Store, table: Table, writer: Writer, retention: float) -> None:
        self._store, self._table, self._writer, self._retention = store, table, writer, retention

    async def retire(self, policy: Policy, *, now: float) -> None:
        """Run one round at `now` (Unix seconds)."""
        try:
            before = await self._cutoff(now)
            await self._store.retire(before, now)
            await self._store.calls.retire(before)
        except StoreUnavailable as error:
            log.warning("retention.postponed", error=str(error))
            return
        for rows in self._table.slices(SLICE):
            for row in rows:
                end = row.binding.expires_at
                if end is not None and end < before and expired_locally(row.binding, policy, now):
                    self._writer.submit(row.binding.subs_id, WriteCause.REMOVED, _removed)
            await asyncio.sleep(0)

    async def _cutoff(self, now: float) -> float:
        """Return the cutoff of this round, and store it for the next one."""
        before = now - self._retention
        earlier = (await self._store.marks()).get(RETIRED)
        if earlier is not None:
            before = min(before, float(earlier) + max(2 * ROUND, self._retention / SHARE))
        await self._store.mark({RETIRED: repr(before)})
        return before


def _removed(_row: Row | None, _index: int) -> Amendment[None]:
    return Amendment(None, None)
