"""The routing policy in the database: for the view `routing_table`, and for the report on pools that were observed."""

from dataclasses import fields

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.model import Policy
from precall.store.bulk import execute_many, upsert
from precall.store.schema import observed_pools, policy

_IN_FORCE = observed_pools.c.until.is_(None)


async def state(connection: AsyncConnection, allowed: Policy, at: float) -> None:
    """Store the policy in force since `at` (Unix seconds). A pool that was observed before keeps its beginning."""
    # The freshness promise has no column: the view cannot tell which rows are dialled, and goes by `max_age`.
    stated = {each.name: getattr(allowed, each.name) for each in fields(allowed) if each.name in policy.c}
    await execute_many(connection, upsert(connection.dialect.name, policy), [{"id": 1, **stated}])
    before = set(await connection.scalars(select(observed_pools.c.pool_key).where(_IN_FORCE)))
    for pool_key in sorted(before - allowed.observe):
        ended = update(observed_pools).where(_IN_FORCE, observed_pools.c.pool_key == pool_key)
        await connection.execute(ended.values(until=at))
    begun = [{"pool_key": pool_key, "since": at} for pool_key in sorted(allowed.observe - before)]
    await execute_many(connection, insert(observed_pools), begun)
