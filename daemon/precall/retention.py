"""What is dropped for its age: history, calls, and bindings that expired long ago."""

import asyncio

from precall.core.errors import StoreUnavailable
from precall.core.model import Cause, Policy
from precall.core.routing import expired_locally
from precall.ledger import Ledger
from precall.log import get_logger
from precall.store import Store
from precall.table import Table

log = get_logger(__name__)

SLICE = 500


async def retire(
    store: Store, table: Table, ledger: Ledger, policy: Policy, *, now: float, retention: float
) -> None:
    """Drop what is older than `retention` seconds."""
    before = now - retention
    try:
        await store.retire(before)
        await store.calls.retire(before)
    except StoreUnavailable as error:
        log.warning("retention.postponed", error=str(error))
        return
    for rows in table.slices(SLICE):
        for row in rows:
            end = row.binding.expires_at
            if end is not None and end < before and expired_locally(row.binding, policy, now):
                ledger.submit(row.binding.subs_id, Cause.REMOVED, lambda _row, _index: None)
        await asyncio.sleep(0)
