"""Operator orders per pool ("": all): pauses, and the latest order for each exposure brake.

Reasons are sealed, because operators may write a number in one.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.store.bulk import execute_many, upsert
from precall.store.cipher import Cipher, is_sealed
from precall.store.schema import brakes
from precall.store.sealed_columns import BRAKES, PAUSES, SealedColumns


async def read(
    connection: AsyncConnection, cipher: Cipher, columns: SealedColumns
) -> dict[str, dict[str, Any]]:
    """Return the stored orders by pool.

    A plain reason predates sealing. It affects no decision, so it is returned as stored, even in a strict database.
    """
    orders: dict[str, dict[str, Any]] = {}
    for row in (await connection.execute(select(columns.table))).mappings():
        opened = columns.open(cipher, row) if is_sealed(row["reason"]) else dict(row)
        orders[opened.pop("pool_key")] = opened
    return orders


async def pause(connection: AsyncConnection, cipher: Cipher, pool_key: str, order: Mapping[str, Any]) -> None:
    """Store that this pool is paused."""
    await _put(connection, cipher, PAUSES, {pool_key}, order)


async def brake(connection: AsyncConnection, cipher: Cipher, pool_key: str, order: Mapping[str, Any]) -> None:
    """Store that the brake of this pool is engaged or released. Releasing all pools also releases each one."""
    pools = {pool_key}
    if not pool_key and not order["engaged"]:
        pools.update(await connection.scalars(select(brakes.c.pool_key).where(brakes.c.engaged)))
    await _put(connection, cipher, BRAKES, pools, order)


async def _put(
    connection: AsyncConnection,
    cipher: Cipher,
    columns: SealedColumns,
    pools: set[str],
    order: Mapping[str, Any],
) -> None:
    rows = [columns.seal(cipher, {"pool_key": pool, **order}) for pool in pools]
    await execute_many(connection, upsert(connection.dialect.name, columns.table), rows)
