"""Retention: deletes old history, calls, audit rows, orders, and bindings that expired long ago.

The exposure audit and orders that are no longer in force have a period of their own, `store.audit_retention`;
everything else goes by `store.retention`.

The clock may be wrong by a year, and deletion is final. The time that a round goes by is therefore at most 1/50 of
`store.retention`, or two hours if that is more, later than that of the round before. A clock that is far ahead takes
two days to empty the history, which leaves time to correct it. A daemon that was down for long catches up in the same
time. A shorter period takes effect in the next round.
"""

import asyncio

from precall.config.settings import Settings
from precall.core.errors import StoreUnavailable
from precall.engine.ended_bindings import EndedBindings
from precall.store import Store
from precall.table.table import Table
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

SLICE = 500
ROUND = 3600.0
"""Seconds between two rounds."""
SHARE = 50
"""The minimum number of rounds needed to delete everything."""
SILENT = 86_400.0
"""Seconds after which a daemon without a sign of life is no longer listed."""
TRUSTED = "retention_clock"
"""The mark that holds the time the latest round went by."""
RETIRED = "retired_before"
"""Its predecessor, a mark that held the latest cutoff."""


class Retention:
    """Deletes what is older than the periods of the configuration in force, in rounds."""

    def __init__(self, store: Store, table: Table, ended: EndedBindings, settings: Settings) -> None:
        self._store, self._table, self._ended, self._settings = store, table, ended, settings

    async def begin(self) -> None:
        """Take up what an earlier start has come to."""
        try:
            await self._ended.advance()
        except StoreUnavailable as error:
            log.warning("retention.postponed", error=str(error))

    async def retire(self, *, now: float) -> None:
        """Run one round at `now` (Unix seconds)."""
        config = self._settings.config.store
        try:
            trusted = await self._trusted(now)
            before = trusted - config.retention
            await self._store.retire(before, now, audit_before=trusted - config.audit_retention)
            await self._store.calls.retire(before)
            await self._store.orders.retire(trusted - config.audit_retention)
            await self._store.forget_members(SILENT)
            await self._ended.advance()
            for rows in self._table.slices(SLICE):
                over = [row.binding.subs_id for row in rows if self._ended.end_of(row) < before]
                await self._ended.remove(over, before)
                await asyncio.sleep(0)
        except StoreUnavailable as error:
            log.warning("retention.postponed", error=str(error))

    async def _trusted(self, now: float) -> float:
        """Return the time that this round goes by, and store it for the next one."""
        period, marks = self._settings.config.store.retention, await self._store.marks()
        earlier = float(marks[TRUSTED]) if TRUSTED in marks else None
        if earlier is None and RETIRED in marks:
            earlier = float(marks[RETIRED]) + period
        trusted = now if earlier is None else min(now, earlier + max(2 * ROUND, period / SHARE))
        await self._store.mark({TRUSTED: repr(trusted)})
        return trusted
