"""What is dropped for its age: history, calls, and bindings that expired long ago.

The clock may be wrong by a year, and what is dropped is gone. So the limit moves by a fiftieth of what is kept from one
round to the next, at most, or by two hours where that is more. A clock that is far ahead then takes two days to empty
the history, in which somebody may set it right; a daemon that was away for long catches up in as much.
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
"""In so many rounds, at least, all that is kept can be dropped."""
RETIRED = "retired_before"


class Retention:
    """Drops what is older than `retention` seconds, a round at a time."""

    def __init__(self, store: Store, table: Table, ledger: Writer, retention: float) -> None:
        self._store, self._table, self._ledger, self._retention = store, table, ledger, retention

    async def retire(self, policy: Policy, *, now: float) -> None:
        """One round, at `now` (Unix seconds)."""
        try:
            before = await self._limit(now)
            await self._store.retire(before, now)
            await self._store.calls.retire(before)
        except StoreUnavailable as error:
            log.warning("retention.postponed", error=str(error))
            return
        for rows in self._table.slices(SLICE):
            for row in rows:
                end = row.binding.expires_at
                if end is not None and end < before and expired_locally(row.binding, policy, now):
                    self._ledger.submit(
                        row.binding.subs_id, WriteCause.REMOVED, lambda _row, _index: Amendment(None, None)
                    )
            await asyncio.sleep(0)

    async def _limit(self, now: float) -> float:
        """Before when this round drops, which is remembered for the next."""
        before = now - self._retention
        earlier = (await self._store.marks()).get(RETIRED)
        if earlier is not None:
            before = min(before, float(earlier) + max(2 * ROUND, self._retention / SHARE))
        await self._store.mark({RETIRED: repr(before)})
        return before


def _removed(_row: Row | None, _index: int) -> Amendment[None]:
    return Amendment(None, None)
