"""The audit of real numbers handed out: one row per reader, side and reason, counted up while it goes on."""

from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.model import Exposure
from precall.store.schema import exposures

SAME = ("subs_id", "generation", "reader", "side", "reason", "request_id")
"""What two exposures have in common when one row tells of both: who, which number, and on whose word."""


async def expose(connection: AsyncConnection, exposure: Exposure, fold: float) -> None:
    """Count `exposure` in a row that began at most `fold` seconds before it, or begin one."""
    earlier = exposures.alias("earlier")
    newest = select(func.max(earlier.c.id)).where(
        *(earlier.c[name] == getattr(exposure, name) for name in SAME),
        earlier.c.first_at > exposure.at - fold,
        earlier.c.first_at <= exposure.at,
    )
    counted = await connection.execute(
        update(exposures)
        .where(exposures.c.id == newest.scalar_subquery())
        .values(count=exposures.c.count + 1, last_at=exposure.at)
    )
    if counted.rowcount:
        return
    begun = {"pool_key": exposure.pool_key, "first_at": exposure.at, "last_at": exposure.at, "count": 1}
    await connection.execute(insert(exposures), begun | {name: getattr(exposure, name) for name in SAME})


async def page(connection: AsyncConnection, before_id: int | None, limit: int) -> list[dict[str, Any]]:
    """At most `limit` rows, newest first, older than the one with `before_id`."""
    rows = select(exposures).order_by(exposures.c.id.desc()).limit(limit)
    if before_id is not None:
        rows = rows.where(exposures.c.id < before_id)
    return [dict(row) for row in (await connection.execute(rows)).mappings()]
