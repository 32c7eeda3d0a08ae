"""The audit of real numbers handed out: one row per reader, side and reason, counted up while it goes on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.model import Exposure
from precall.store.bulk import execute_many
from precall.store.schema import exposures

SAME = ("subs_id", "generation", "reader", "side", "reason", "request_id")
"""What two exposures have in common when one row tells of both: who, which number, and on whose word."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which rows of the audit are looked for: "" and None are any. `since` is a time in Unix seconds: rows that ended
    before are left out. `number_hashes`: any of these, as in Exposure."""

    pool_key: str = ""
    reader: str = ""
    subs_id: str = ""
    number_hashes: tuple[str, ...] = ()
    since: float | None = None


EVERY = AuditFilter()

_BEGIN = insert(exposures)


async def expose(connection: AsyncConnection, handed_out: Sequence[Exposure], fold: float) -> None:
    """Count each of `handed_out` in a row that began at most `fold` seconds before it, or begin one."""
    if fold:
        handed_out = [one for one in handed_out if not await _counted(connection, one, fold)]
    await execute_many(connection, _BEGIN, map(_begun, handed_out))


async def page(
    connection: AsyncConnection, wanted: AuditFilter, before_id: int | None, limit: int
) -> list[dict[str, Any]]:
    """At most `limit` rows, newest first, older than the one with `before_id`."""
    rows = select(exposures).order_by(exposures.c.id.desc()).limit(limit)
    if before_id is not None:
        rows = rows.where(exposures.c.id < before_id)
    given = asdict(wanted)
    since = given.pop("since")
    if since is not None:
        rows = rows.where(exposures.c.last_at >= since)
    if hashes := given.pop("number_hashes"):
        rows = rows.where(exposures.c.number_hash.in_(hashes))
    for name, value in given.items():
        if value:
            rows = rows.where(exposures.c[name] == value)
    return [dict(row) for row in (await connection.execute(rows)).mappings()]


async def _counted(connection: AsyncConnection, exposure: Exposure, fold: float) -> bool:
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
    return counted.rowcount > 0


def _begun(exposure: Exposure) -> dict[str, Any]:
    row = asdict(exposure)
    at = row.pop("at")
    return {**row, "first_at": at, "last_at": at, "count": 1}
