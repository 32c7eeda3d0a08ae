"""A daemon that has lost the lead writes nothing any more; its successor reads all that was written."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest
from sqlalchemy import Connection, Engine, event
from sqlalchemy.util import await_only

from precall.core.errors import LeadershipLost, OutcomeUnknown, StoreUnavailable
from precall.store import LeaderLock, Store
from tests.integration.store.test_leader_lock import sessions_ended, taken, way_to
from tests.integration.store.test_store import a_change, a_removal, a_row, loaded
from tests.support.builders import pause
from tests.support.patience import PATIENCE
from tests.support.postgres import Databases, psql, sql

T = TypeVar("T")

SLOW_COMMIT = """
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(4); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER dawdles AFTER INSERT ON bindings DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.subs_id = '3') EXECUTE FUNCTION dawdle()
"""


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    yield databases.new()
    databases.drop()


@pytest.fixture
async def leaders(url: str) -> AsyncIterator[list[tuple[LeaderLock, Store]]]:
    """Two candidates for the lead, each with its store."""
    async with AsyncExitStack() as stack:
        both = []
        for _ in range(2):
            lead = LeaderLock(url)
            stack.push_async_callback(lead.leave)
            store = await Store.open(url, timeout=2.0, auto_migrate=False)
            stack.push_async_callback(store.close)
            both.append((lead, store))
        yield both


async def insist(work: Callable[[], Awaitable[T]]) -> T:
    """As a start does: until the database takes it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await work()
            except LeadershipLost:
                raise
            except StoreUnavailable:
                await asyncio.sleep(0.1)


async def led(lead: LeaderLock, store: Store) -> Store:
    assert await insist(lead.take)
    store.fencing_token = await insist(lead.fence)
    return store


async def test_a_deposed_leader_cannot_write(url: str, leaders: list[tuple[LeaderLock, Store]]) -> None:
    """Its lead alone was parted from the server: its writes reach it, and are refused."""
    (_, old), (second, new) = leaders
    with way_to(url) as wire:
        first = LeaderLock(wire.of(url))
        await led(first, old)
        await insist(lambda: old.commit([a_change(a_row("1"))]))
        wire.cut()
        await taken(second)
        await refuses_the_first(first, old, second, new)
        await first.leave()


async def test_a_deposed_leader_cannot_write_on_sqlite(tmp_path: Path) -> None:
    """There the lock is lost with its file only."""
    url, parts = f"sqlite:///{tmp_path}/p.db", list[tuple[LeaderLock, Store]]()
    for _ in range(2):
        parts.append((LeaderLock(url), await Store.open(url, timeout=2.0, auto_migrate=True)))
    (first, old), (second, new) = parts
    await led(first, old)
    await old.commit([a_change(a_row("1"))])
    (tmp_path / "p.db.lock").unlink()
    await refuses_the_first(first, old, second, new)
    for lead, store in parts:
        await lead.leave()
        await store.close()


async def refuses_the_first(first: LeaderLock, old: Store, second: LeaderLock, new: Store) -> None:
    deposed = list[bool]()
    old.when_deposed = lambda: deposed.append(True)
    await taken(second)
    new.fencing_token = await insist(second.fence)
    assert new.fencing_token > old.fencing_token > 0
    with pytest.raises(LeadershipLost):
        await insist(lambda: old.commit([a_change(a_row("1", index=2)), a_change(a_row("2", index=3))]))
    assert deposed == [True]
    for write in (lambda: old.mark({"learned": "{}"}), lambda: old.orders.give(pause()), old.ping):
        with pytest.raises(LeadershipLost):
            await write()
    assert {subs_id: row.index for subs_id, row in (await insist(lambda: loaded(old))).items()} == {"1": 1}
    await new.commit([a_change(a_row("2", index=4))])
    assert set(await loaded(new)) == {"1", "2"}
    assert "learned" not in await new.marks()


MILLENNIUM = 1_577_836_800  # 2020-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("stored", "counted"),
    [
        (None, 1),
        ("1", 2),
        ("41", 42),
        ("9b2f0c1e-7d6a-4c8b-9f35-1f2f6f0f7a11", 1),
        ("", 1),
        ("-7", 1),
        ("\u0661\u0662", 1),
        ("99999999999999999", 100_000_000_000_000_000),
        ("9" * 30, 1),
    ],
)
async def test_fencing_tokens_increase(store_url: str, stored: str | None, counted: int) -> None:
    """Counted on SQLite; on PostgreSQL no less than the milliseconds since 2020."""
    store = await Store.open(store_url, timeout=10.0, auto_migrate=True)
    await store.close()
    if stored is not None:
        sql(store_url, f"INSERT INTO marks (name, value) VALUES ('reign', '{stored}')")  # noqa: S608
    before = int((time.time() - MILLENNIUM - 60) * 1000)
    lead = LeaderLock(store_url, 2.0)
    assert await insist(lead.take)
    first, second = await insist(lead.fence), await insist(lead.fence)
    await lead.leave()
    if store_url.startswith("sqlite") or counted > 10**15:
        assert (first, second) == (counted, counted + 1)
    else:
        assert before < first < second
    assert sql(store_url, "SELECT value FROM marks WHERE name = 'reign'") == [[str(second)]]


async def test_a_leader_continues_if_no_other_has_led_in_between(
    url: str, leaders: list[tuple[LeaderLock, Store]]
) -> None:
    lead, store = leaders[0]
    await led(lead, store)
    await sessions_ended(url)
    assert await insist(lead.take)
    await insist(lambda: store.commit([a_change(a_row("1"))]))
    assert store.role.leads


async def test_issuing_a_token_waits_for_transactions_in_progress(
    url: str, leaders: list[tuple[LeaderLock, Store]]
) -> None:
    """A commit that the old leader has given up, and that the server takes all the same, is read by the new one."""
    (first, old), (second, new) = leaders
    await led(first, old)
    await asyncio.to_thread(psql, url, SLOW_COMMIT)
    with pytest.raises(OutcomeUnknown):
        await old.commit([a_change(a_row("3"))])
    await first.leave()
    await led(second, new)
    assert set(await loaded(new)) == {"3"}


async def test_a_write_given_up_but_stored_later_can_be_undone(
    url: str, leaders: list[tuple[LeaderLock, Store]]
) -> None:
    store = await led(*leaders[0])
    await asyncio.to_thread(psql, url, SLOW_COMMIT)
    with pytest.raises(OutcomeUnknown):
        await store.commit([a_change(a_row("3"))])
    await insist(lambda: store.commit([a_removal(a_row("3"), 2)]))
    assert await loaded(store) == {}


async def test_a_leader_silent_before_executing_does_not_block_its_successor(
    url: str, leaders: list[tuple[LeaderLock, Store]]
) -> None:
    """A statement is prepared and not executed: the server waits for it, and does not take the session for idle."""
    lead, store = leaders[0]
    await led(lead, store)
    silent = await asyncpg.connect(url)
    await silent.execute(
        "SET idle_in_transaction_session_timeout = '1s'; BEGIN; SELECT 1 FROM marks FOR UPDATE"
    )
    await silent.prepare("SELECT 2")
    token = store.fencing_token
    assert await insist(lead.fence) > token
    silent.terminate()


async def test_a_leader_silent_within_a_transaction_does_not_block_its_successor(
    url: str, leaders: list[tuple[LeaderLock, Store]]
) -> None:
    first, (second, new) = leaders[0][0], leaders[1]
    old = await Store.open(url, timeout=60.0, auto_migrate=False)
    await led(first, old)
    written, whole = asyncio.Event(), asyncio.Event()

    def falls_silent(_connection: Connection) -> None:
        if not written.is_set():
            written.set()
            await_only(whole.wait())

    event.listen(Engine, "commit", falls_silent)
    writing = asyncio.create_task(old.mark({"late": "1"}))
    await written.wait()
    await first.leave()
    await led(second, new)
    whole.set()
    with pytest.raises(StoreUnavailable):
        await writing
    event.remove(Engine, "commit", falls_silent)
    assert "late" not in await new.marks()
    await old.close()
