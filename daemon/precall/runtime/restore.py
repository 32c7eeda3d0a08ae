"""Restore what an earlier run stored: the table, change indexes, the brake, and what the planner learned."""

import json
from collections.abc import Callable
from functools import partial

from precall.clocks import Clocks
from precall.config.schema import BrakeConfig, FreshnessConfig
from precall.core.orders import OrderKind, in_force
from precall.core.planning.planner import Planner
from precall.core.planning.sample import Sample
from precall.core.routing.brake import Brake
from precall.store import Store
from precall.table.feed import Feed
from precall.table.table import Table
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

STARTS = 1000
"""Starts whose first change index is remembered, for readers that hold such an index."""
MILLENNIUM = 1_577_836_800
"""2020-01-01T00:00:00Z. Change indexes are never below the milliseconds since then."""


async def restore_table(store: Store, clocks: Clocks) -> tuple[Table, int, int]:
    """Load the table. Returns it, the change index to continue from, and the newest sequence number of a check."""
    table = Table(lambda: clocks.lead)
    async for rows in store.load():
        table.load(rows)
    committed, seq = await store.high_water()
    return table, max(committed + 1, int((clocks.now() - MILLENNIUM) * 1000)), seq


async def restore_feed(store: Store, index: int) -> Feed:
    """Make the change feed, starting at `index` or above every index that an earlier start continued from.

    The first index of each start is stored before any reader sees it.
    """
    bases = json.loads((await store.marks()).get("bases", "[]"))
    base = max([index, *(earlier + 1 for earlier in bases)])
    await store.mark({"bases": json.dumps([*bases, base][-STARTS:])})
    return Feed(base, bases)


async def restore_brake(store: Store, settings: BrakeConfig, clocks: Clocks) -> Brake:
    """Restore the exposure brake: a restart does not release it."""
    brake = Brake(settings.share, settings.floor, settings.window)
    for order in in_force(await store.orders.newest(OrderKind.BRAKE), {}, clocks.now()):
        brake.halt(order.target)
    for pool_key, at in await restore_turns(store, clocks, settings.window):
        brake.recall(pool_key, at)
    return brake


async def restore_turns(store: Store, clocks: Clocks, window: float) -> list[tuple[str, float]]:
    """The turns to a real number that count for the brake, as (pool key, tick) in order.

    These are the turns of the last `window` seconds, without those that an operator has released.
    """
    orders = await store.orders.newest(OrderKind.BRAKE)
    released = {order.target: order.at for order in orders if order.ends}
    return [
        (pool_key, clocks.tick_of(at))
        for pool_key, at in await store.turned(clocks.now() - window)
        if at > max(released.get(pool_key, 0.0), released.get("", 0.0))
    ]


async def restore_pauses(store: Store, clocks: Clocks) -> list[str]:
    """The pools ("": all) whose background checks are paused."""
    newest = await store.orders.newest(OrderKind.PAUSE)
    return [order.target for order in in_force(newest, {}, clocks.now())]


async def restore_sample(store: Store, share: float, key: Callable[[], str]) -> Sample:
    """The sample of bindings whose dials and answers are logged: `share` of them, between 0 and 1.

    Pseudonyms depend on a secret of this database. `key` makes it once, as hex digits.
    """
    return Sample(share, bytes.fromhex(await store.secret("dial_key", key()) if share else ""))


def learned_of(planner: Planner, clocks: Clocks) -> str:
    """What the planner has learned, as JSON for `restore_planner`."""
    plain = planner.export()
    if plain["halved_at"] is not None:
        plain["halved_at"] = clocks.moment_of(plain["halved_at"])
    return json.dumps(plain)


def restore_planner(learned: str, rate: float, freshness: FreshnessConfig, clocks: Clocks) -> Planner:
    """Make the planner with what an earlier run learned (JSON). Unreadable JSON is dropped with a log line."""
    make = partial(
        Planner,
        rate,
        max_age=freshness.max_age,
        abnormal_max_age=freshness.abnormal_max_age,
        min_interval=freshness.min_interval,
        abnormal_min_interval=freshness.abnormal_min_interval,
    )
    try:
        plain = json.loads(learned) or None
        if plain is not None and plain["halved_at"] is not None:
            plain["halved_at"] = clocks.tick_of(plain["halved_at"])
        return make(learned=plain)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("learned.dropped", error=type(error).__name__)
        return make()
