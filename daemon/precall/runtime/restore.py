"""What a daemon knows from its earlier lives: the table, change indexes, the brake, what the planner learned."""

import json
from collections.abc import Callable
from functools import partial

from precall.clocks import Clocks
from precall.config.schema import BrakeConfig, FreshnessConfig
from precall.core.planning.planner import Planner
from precall.core.planning.sample import Sample
from precall.core.routing.brake import Brake
from precall.store import Store
from precall.table.feed import Feed
from precall.table.table import Table
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

STARTS = 1000  # whose first index is remembered, for readers who were told it
MILLENNIUM = 1_577_836_800  # 2020-01-01T00:00:00Z: change indexes are never below the milliseconds since then


async def recall_table(store: Store, clocks: Clocks) -> tuple[Table, int, int]:
    """The table as it is stored, the index to go on from and the newest sequence number."""
    table = Table(lambda: clocks.lead)
    async for rows in store.load():
        table.load(rows)
    committed, seq = await store.high_water()
    return table, max(committed + 1, int((clocks.now() - MILLENNIUM) * 1000)), seq


async def recall_feed(store: Store, index: int) -> Feed:
    """The change feed from `index` on, or from above every index an earlier start went on from. Each start's own is
    remembered before a reader is told of it."""
    bases = json.loads((await store.marks()).get("bases", "[]"))
    base = max([index, *(earlier + 1 for earlier in bases)])
    await store.mark({"bases": json.dumps([*bases, base][-STARTS:])})
    return Feed(base, bases)


async def recall_brake(store: Store, settings: BrakeConfig, clocks: Clocks) -> Brake:
    """The brake as it stood: a restart does not reopen it."""
    brake = Brake(settings.share, settings.floor, settings.window)
    for pool_key, order in (await store.brakes()).items():
        if order["engaged"]:
            brake.halt(pool_key)
    for pool_key, at in await recall_turns(store, clocks, settings.window):
        brake.recall(pool_key, at)
    return brake


async def recall_turns(store: Store, clocks: Clocks, window: float) -> list[tuple[str, float]]:
    """(pool, tick) of what turned to the real number in the last `window` seconds and counts, in order: not what an
    operator has released."""
    orders = await store.brakes()
    released = {pool_key: order["at"] for pool_key, order in orders.items() if not order["engaged"]}
    return [
        (pool_key, clocks.tick_of(at))
        for pool_key, at in await store.turned(clocks.now() - window)
        if at > max(released.get(pool_key, 0.0), released.get("", 0.0))
    ]


async def recall_sample(store: Store, share: float, key: Callable[[], str]) -> Sample:
    """Whose dials and answers are logged, under pseudonyms that this database's own secret, made once by `key` (hex),
    makes."""
    return Sample(share, bytes.fromhex(await store.secret("dial_key", key()) if share else ""))


def learned_of(planner: Planner, clocks: Clocks) -> str:
    """What the planner has learned, for `recall_planner` in its next life (JSON)."""
    plain = planner.export()
    if plain["halved_at"] is not None:
        plain["halved_at"] = clocks.moment_of(plain["halved_at"])
    return json.dumps(plain)


def recall_planner(learned: str, rate: float, freshness: FreshnessConfig, clocks: Clocks) -> Planner:
    """The planner, with what it learned in an earlier life (JSON). What cannot be read of it is dropped."""
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
