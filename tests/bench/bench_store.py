"""How fast the store saves observations and loads the table, compared with a bare executemany upsert.

    python -m tests.bench.bench_store [N] [--batches 20] [--sqlite-only]

N bindings (default 200,000) are registered. Then batches of 5,000 observations of random bindings, each a refreshed row
and an unchanged check, go through `Store.commit`, on SQLite and on PostgreSQL.

The bare side writes as many rows of the same columns with one executemany of the driver per batch, without SQLAlchemy
or history. Both sides commit to disk. On SQLite the store is measured again with all numbers sealed. CPU time is that
of this process and excludes the PostgreSQL server.
"""

import argparse
import asyncio
import gc
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

import asyncpg

from precall.core.model import (
    COLUMNS_OF,
    Action,
    Binding,
    BindingState,
    Change,
    Check,
    Reason,
    Route,
    Row,
    State,
    WriteCause,
)
from precall.store import LeaderLock, Store, cipher, upgrade
from precall.store.connection import PRAGMAS, WAL
from precall.table.table import Table
from tests.support.postgres import Databases, running

BATCH = 5000
ROUTE = Route(
    subs_id="",
    action=Action.DIAL_X,
    number="",
    extension="",
    state=State.NORMAL,
    reason=Reason.STATUS_1,
    status=1,
    checked_at=0.0,
    age=0.0,
    stale=False,
    retry_after=0,
    flags=(),
    expires_at=None,
    version=1,
    index=1,
    decided_at=0.0,
    until=inf,
)

CREATE = """
CREATE TABLE bare (subs_id TEXT PRIMARY KEY, state TEXT, status INTEGER, number TEXT, extension TEXT,
  checked_at DOUBLE PRECISION, seq BIGINT, streak BIGINT, temp_number TEXT, temp_extension TEXT,
  temp_at DOUBLE PRECISION, exposed_at DOUBLE PRECISION, gone_at DOUBLE PRECISION, blocked BOOLEAN, failures BIGINT,
  moves TEXT, request_id TEXT)
"""
UPSERT = """
INSERT INTO bare VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
ON CONFLICT (subs_id) DO UPDATE SET state = excluded.state, status = excluded.status, number = excluded.number,
  extension = excluded.extension, checked_at = excluded.checked_at, seq = excluded.seq,
  streak = excluded.streak, temp_number = excluded.temp_number, temp_extension = excluded.temp_extension,
  temp_at = excluded.temp_at, exposed_at = excluded.exposed_at, gone_at = excluded.gone_at,
  blocked = excluded.blocked, failures = excluded.failures, moves = excluded.moves,
  request_id = excluded.request_id
"""


def row(number: int, seq: int) -> Row:
    """Return binding `number` after its check `seq`."""
    binding = Binding(
        f"{10**15 + number}",
        f"FC{number % 40}",
        f"{17000000000 + number}",
        f"{13800000000 + number}",
        f"{13900000000 + number}",
        "",
        2e9,
        (),
        "api",
        1e9,
        number + 1,
    )
    state = BindingState(
        State.NORMAL,
        1,
        binding.number_x,
        "",
        1e9 + seq / 100,
        seq,
        seq,
        request_id=f"0A1B2C3D-4E5F-6071-8293-{seq:012d}",
    )
    return Row(binding, state, None, 1, number + 1)


def columns(of: Row) -> tuple[object, ...]:
    """Return the columns that the bare side writes for a row."""
    state, number = of.state, of.state.number
    times = (state.temp_at, state.exposed_at, state.gone_at)
    seen = (
        state.state.value,
        state.status,
        number,
        state.extension,
        state.checked_at,
        state.seq,
        state.streak,
    )
    details = (state.temp_number, state.temp_extension, *times, state.blocked, state.failures, "[]")
    return (of.binding.subs_id, *seen, *details, state.request_id)


def check(of: Row) -> Check:
    """Return the check that led to the row `of`."""
    state, binding = of.state, of.binding
    return Check(
        binding.subs_id,
        binding.generation,
        state.seq,
        state.checked_at,
        0.05,
        "status_1",
        1,
        state.number,
        request_id=state.request_id,
    )


REGISTERED = COLUMNS_OF[WriteCause.REGISTERED]


def registration(of: Row) -> Change:
    """Return the change that registers the row `of`, with its first check."""
    binding = of.binding
    return Change(
        of.index,
        1e9,
        WriteCause.REGISTERED,
        binding.subs_id,
        binding.pool_key,
        None,
        of,
        ROUTE,
        check(of),
        columns=COLUMNS_OF[WriteCause.REGISTERED],
    )


@contextmanager
def measured(what: str, rows: int) -> Iterator[None]:
    """Print rate and CPU of the block, which handles `rows` rows."""
    gc.collect()
    gc.freeze()
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:44} {rows / wall:10,.0f}/s {cpu / rows * 1e6:8.1f} us CPU/row {wall:8.2f} s", flush=True)


def observations(total: int, batches: int, seed: int) -> list[list[Row]]:
    """Yield batches of rows of random bindings, each with a newer check than all before."""
    order, chance = list(range(total)), random.Random(seed)
    chance.shuffle(order)
    picked = [order[at % total] for at in range(batches * BATCH)]
    return [
        [row(number, total + at + step) for step, number in enumerate(picked[at : at + BATCH])]
        for at in range(0, len(picked), BATCH)
    ]


async def through_store(url: str, total: int, batches: list[list[Row]], keys: Path | None = None) -> None:
    """Register, observe, load, as a leader does; with `keys` all numbers are sealed."""
    await upgrade(url)
    lead = LeaderLock(url)
    assert await lead.take()
    store = await Store.open(url, key_file=keys, auto_migrate=False)
    store.fencing_token = await lead.fence()
    print("numbers sealed" if keys else "numbers in plain")
    with measured("Store.commit, registrations", total):
        for start in range(0, total, BATCH):
            changes = [registration(row(n, n)) for n in range(start, min(start + BATCH, total))]
            await store.commit(changes)
    checks = [[check(of) for of in batch] for batch in batches]
    longest, ended = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        while not ended.is_set():
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - begun - 0.001)

    watcher = asyncio.create_task(watch())
    with measured("Store.commit, observations", len(batches) * BATCH):
        for batch, made in zip(batches, checks, strict=True):
            await store.commit([], made, batch)
    ended.set()
    await watcher
    print(f"{'':4}longest the loop was held: {longest * 1e3:.1f} ms")
    table = Table()
    before = resident()
    gc.disable()
    with measured("Store.load into the table", total):
        async for part in store.load():
            table.load(part)
    gc.enable()
    print(f"{'':4}memory of the table: {(resident() - before) / total:.0f} bytes per binding")
    if len(table) != total:
        raise SystemExit(f"loaded {len(table)} of {total}")
    await store.close()
    await lead.leave()


def resident() -> int:
    """Bytes of memory this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def bare_sqlite(path: Path, total: int, batches: list[list[Row]]) -> None:
    """The same observed columns by executemany upserts."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in (WAL, *PRAGMAS):
        connection.execute(pragma)
    connection.execute(CREATE)
    connection.execute("BEGIN")
    connection.executemany(UPSERT, (columns(row(number, number)) for number in range(total)))
    connection.execute("COMMIT")
    made = [[columns(of) for of in batch] for batch in batches]
    with measured("bare sqlite3 executemany upsert", len(batches) * BATCH):
        for batch in made:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(UPSERT, batch)
            connection.execute("COMMIT")
    connection.close()


async def bare_postgresql(url: str, total: int, batches: list[list[Row]]) -> None:
    """Likewise."""
    connection = await asyncpg.connect(url)
    upsert = UPSERT.replace("?", "$")
    await connection.execute(CREATE)
    await connection.executemany(upsert, [columns(row(number, number)) for number in range(total)])
    made = [[columns(of) for of in batch] for batch in batches]
    with measured("bare asyncpg executemany upsert", len(batches) * BATCH):
        for batch in made:
            async with connection.transaction():
                await connection.executemany(upsert, batch)
    await connection.close()


def main() -> None:
    """Both sides, one after the other, on both databases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bindings", nargs="?", type=int, default=200_000)
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--sqlite-only", action="store_true")
    given = parser.parse_args()
    batches = observations(given.bindings, given.batches, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        print("SQLite")
        bare_sqlite(Path(folder, "bare.db"), given.bindings, batches)
        asyncio.run(through_store(f"sqlite:///{folder}/store.db", given.bindings, batches))
        keys = Path(folder, "keys")
        cipher.add(keys, random.Random(2).randbytes(cipher.LENGTH))
        asyncio.run(through_store(f"sqlite:///{folder}/sealed.db", given.bindings, batches, keys))
        for name in ("store.db", "sealed.db"):
            print(f"{name:10} {Path(folder, name).stat().st_size / given.bindings:.0f} bytes per binding")
    if given.sqlite_only:
        return
    with running({"max_wal_size": "4GB"}) as server:
        print("PostgreSQL")
        databases = Databases(server.url())
        asyncio.run(bare_postgresql(databases.new(migrated=False), given.bindings, batches))
        asyncio.run(through_store(databases.new(migrated=False), given.bindings, batches))


if __name__ == "__main__":
    main()
