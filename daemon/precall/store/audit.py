"""The audit of real numbers handed out. Repeated exposures increment the count of one row."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.model import Exposure
from precall.store.bulk import execute_many
from precall.store.schema import exposures

SAME = ("subs_id", "generation", "reader", "side", "reason", "request_id")
"""Columns in which two exposures must agree to share a row."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """A filter for audit rows. "" and None match any value.

    `since` (Unix seconds) excludes rows whose last exposure is older. `number_hashes` matches any of the given
    hashes (see `Exposure.number_hash`).
    """

    pool_key: str = ""
    reader: str = ""
    subs_id: str = ""
    number_hashes: tuple[str, ...] = ()
    since: float | None = None


EVERY = AuditFilter()

_BEGIN = insert(exposures)


async def expose(connection: AsyncConnection, handed_out: Sequence[Exposure], fold: float) -> None:
    """Record exposures.

    Each one increments an equal row whose first exposure is at most `fold` seconds older, or inserts a new row.
    """
    if fold:
        handed_out = [exposure for exposure in handed_out if not await _counted(connection, exposure, fold)]
    await execute_many(connection, _BEGIN, map(_new_row, handed_out))


async def page(
    connection: AsyncConnection, wanted: AuditFilter, before_id: int | None, limit: int
) -> list[dict[str, Any]]:
    """Return at most `limit` matching rows with an id below `before_id`, newest first."""
    rows = select(exposures).order_by(exposures.c.id.desc()).limit(limit)
    if before_id is not None:
        rows = rows.where(exposures.c.id < before_id)
    criteria = asdict(wanted)
    since = criteria.pop("since")
    if since is not None:
        rows = rows.where(exposures.c.last_at >= since)
    if hashes := criteria.pop("number_hashes"):
        rows = rows.where(exposures.c.number_hash.in_(hashes))
    for name, value in criteria.items():
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


def _new_row(exposure: Exposure) -> dict[str, Any]:
    row = asdict(exposure)
    at = row.pop("at")
    return {**row, "first_at": at, "last_at": at, "count": 1}
