"""What operators said of pools ("": all): which are paused, and the last word on each one's brake. A number may stand
in a reason, so that is sealed."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.store.bulk import execute_many, upsert
from precall.store.cipher import Cipher, is_sealed
from precall.store.schema import brakes
from precall.store.sealed_columns import BRAKES, PAUSES, SealedColumns


async def said(
    connection: AsyncConnection, seals: Cipher, places: SealedColumns
) -> dict[str, dict[str, Any]]:
    """By pool. A reason in plain was given before reasons were sealed, and decides nothing: it is taken as it is."""
    told: dict[str, dict[str, Any]] = {}
    for row in (await connection.execute(select(places.table))).mappings():
        opened = places.open(seals, row) if is_sealed(row["reason"]) else dict(row)
        told[opened.pop("pool_key")] = opened
    return told


async def pause(connection: AsyncConnection, seals: Cipher, pool_key: str, order: Mapping[str, Any]) -> None:
    """This pool is paused."""
    await _put(connection, seals, PAUSES, {pool_key}, order)


async def brake(connection: AsyncConnection, seals: Cipher, pool_key: str, order: Mapping[str, Any]) -> None:
    """The brake of this pool is engaged, or released; all released is each released."""
    pools = {pool_key}
    if not pool_key and not order["engaged"]:
        pools.update(await connection.scalars(select(brakes.c.pool_key).where(brakes.c.engaged)))
    await _put(connection, seals, BRAKES, pools, order)


async def _put(
    connection: AsyncConnection,
    seals: Cipher,
    places: SealedColumns,
    pools: set[str],
    order: Mapping[str, Any],
) -> None:
    rows = [places.seal(seals, {"pool_key": pool, **order}) for pool in pools]
    await execute_many(connection, upsert(connection.dialect.name, places.table), rows)
