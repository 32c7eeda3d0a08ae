"""Errors of the store with a failing PostgreSQL, and recovery without intervention.

These tests stop and freeze the server, so they use one of their own. (A full disk cannot be simulated without one.)
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import Connection, text

from precall.core.errors import OutcomeUnknown, StoreError, StoreUnavailable
from precall.store import Store, migration
from tests.integration.store.test_store import a_change, a_check, a_row, loaded, runs
from tests.support.patience import BRIEF, PATIENCE
from tests.support.postgres import PASSWORD, Databases, PostgresServer, binaries, psql, running

pytestmark = pytest.mark.slow

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def own(server: PostgresServer) -> Databases:
    return Databases(server.url())


@pytest.fixture
def url(own: Databases) -> str:
    return own.new()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await Store.open(url, timeout=BRIEF, auto_migrate=False)
    yield opened
    await opened.close()


@asynccontextmanager
async def frozen(server: PostgresServer) -> AsyncIterator[None]:
    await asyncio.to_thread(server.freeze)
    try:
        yield
    finally:
        await asyncio.to_thread(server.thaw)


@asynccontextmanager
async def table_locked(url: str, table: str) -> AsyncIterator[None]:
    """Hold a lock on a table in another session."""
    pipe = asyncio.subprocess.PIPE
    session = await asyncio.create_subprocess_exec(
        binaries() / "psql", "-Xqt", url, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert session.stdin is not None
    assert session.stdout is not None
    session.stdin.write(f"BEGIN; LOCK TABLE {table}; SELECT 'locked';\n".encode())
    assert b"locked" in await session.stdout.readline()
    try:
        yield
    finally:
        await session.communicate(b"\nROLLBACK;\n")


async def stored(store: Store, index: int) -> None:
    """Commit row `index`, as often as it takes until the database is back."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await store.commit([a_change(a_row(str(index), index=index))])
            except StoreUnavailable:
                continue
            return


@pytest.mark.parametrize(
    ("change", "unavailable", "said"),
    [
        (("/postgres", "/nowhere"), False, "there is no such database: create it"),
        (
            (PASSWORD, "Wr0ng"),
            False,
            'does not let us in: .*password authentication failed for user "precall"',
        ),
        (("@127.0.0.1:{port}", "@127.0.0.1:1"), True, r"cannot be reached \(.*Connect call failed"),
        (("@127.0.0.1:{port}", "@127.0.0.1:none"), False, "store.url: a port is a number"),
        (("/postgres", "/postgres?sslmode=require"), True, "cannot be reached .*rejected SSL upgrade"),
        (
            ("/postgres", "/postgres?sslmode=perhaps"),
            False,
            "store.url: sslmode: perhaps is not one of its values",
        ),
        (
            ("/postgres", "/postgres?passwort=S3cret-of"),
            False,
            "store.url: passwort is not a known parameter.*did you mean password",
        ),
    ],
)
async def test_an_unusable_server_is_a_one_line_error(
    server: PostgresServer, change: tuple[str, str], unavailable: bool, said: str
) -> None:
    was, is_ = (part.format(port=server.port) for part in change)
    with pytest.raises(StoreError, match=said) as raised:
        await Store.open(server.url().replace(was, is_), auto_migrate=False)
    assert isinstance(raised.value, StoreUnavailable) is unavailable
    assert "\n" not in str(raised.value)
    assert "S3cret" not in str(raised.value)


async def test_missing_privileges_are_reported(url: str) -> None:
    psql(url, "CREATE ROLE guest LOGIN PASSWORD 'g'")
    said = r"does not allow it: let this user own the database \(permission denied"
    with pytest.raises(StoreError, match=said):
        await Store.open(url.replace(f"precall:{PASSWORD}", "guest:g"), auto_migrate=True)


async def test_a_standby_server_is_recognised(url: str) -> None:
    name = url.rpartition("/")[2]
    psql(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store = await Store.open(url, timeout=PATIENCE, auto_migrate=False)
    with pytest.raises(StoreUnavailable, match="is read-only, a standby perhaps: name its primary"):
        await store.mark({"a": "1"})
    await store.close()


async def test_a_restart_between_two_writes_is_not_noticed(server: PostgresServer, store: Store) -> None:
    await store.commit([a_change(a_row("1"))])
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    await store.commit([a_change(a_row("2", index=2))])
    assert set(await loaded(store)) == {"1", "2"}


async def test_a_stopped_server_is_reported_and_reconnected_to(server: PostgresServer, store: Store) -> None:
    await store.commit([a_change(a_row("1"))])
    await asyncio.to_thread(server.stop)
    try:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=r"cannot be reached \(.*Connect call failed"):
                await store.commit([a_change(a_row("2", index=2))])
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await store.high_water()
    finally:
        await asyncio.to_thread(server.start)
    await store.commit([a_change(a_row("2", index=2))])
    assert set(await loaded(store)) == {"1", "2"}
    assert await store.high_water() == (2, 0)


async def test_a_locked_table_times_out_and_leaves_no_session(url: str, store: Store) -> None:
    async with table_locked(url, "marks"):
        for _ in range(3):
            with pytest.raises(
                StoreUnavailable, match="is locked by another session: wait for it, or end it"
            ):
                await store.mark({"a": "1"})
        assert psql(url, WAITING) == [["0"]]
    await store.mark({"a": "1"})
    assert await store.marks() == {"a": "1"}


async def test_stopping_the_server_within_a_transaction_stores_nothing(
    server: PostgresServer, url: str
) -> None:
    store = await Store.open(url, timeout=PATIENCE, auto_migrate=False)
    async with table_locked(url, "marks"):
        writing = asyncio.create_task(store.commit([a_change(a_row("1"))]))
        # The rows are written, and the last statement waits for the lock.
        async with asyncio.timeout(PATIENCE):
            while await asyncio.to_thread(psql, url, WAITING) != [["1"]]:
                await asyncio.sleep(0.05)
        await asyncio.to_thread(server.stop)
        with pytest.raises(StoreUnavailable) as raised:
            await writing
        assert not isinstance(raised.value, OutcomeUnknown)
        await asyncio.to_thread(server.start)
    assert await loaded(store) == {}
    await store.commit([a_change(a_row("1"))])
    assert set(await loaded(store)) == {"1"}
    await store.close()


async def test_a_frozen_server_counts_as_down_after_the_timeout(server: PostgresServer, store: Store) -> None:
    await store.commit([a_change(a_row("1"))])
    async with frozen(server):
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.commit([a_change(a_row("2", index=2))])
            with pytest.raises(StoreUnavailable):
                await store.high_water()
    await stored(store, 2)
    assert set(await loaded(store)) == {"1", "2"}
    _, changes = await store.history("2", limit=9)
    assert [change["index"] for change in changes] == [2]


async def test_a_frozen_server_holds_up_neither_start_nor_stop(server: PostgresServer, url: str) -> None:
    store = await Store.open(url, timeout=BRIEF, auto_migrate=False)
    async with frozen(server):
        await store.close()
        for auto_migrate in (False, True):
            with pytest.raises(StoreUnavailable):
                await Store.open(url, timeout=BRIEF, auto_migrate=auto_migrate)


async def test_a_hung_load_times_out(server: PostgresServer, store: Store) -> None:
    for at in range(1, 10_001, 5000):
        await store.commit([a_change(a_row(str(n), index=n)) for n in range(at, at + 5000)])
    batches = store.load()
    assert len(await anext(batches)) == 5000
    async with frozen(server), asyncio.timeout(PATIENCE):
        with pytest.raises(StoreUnavailable):
            await anext(batches)


async def test_a_long_migration_is_not_cut_short(url: str) -> None:
    def slow(connection: Connection) -> str:
        connection.execute(text("SELECT pg_sleep(4.5)"))
        return "done"

    assert await migration.run(url, slow, 2.0, writes=True) == "done"


async def test_equal_checks_in_one_batch_are_counted(store: Store) -> None:
    """Many rows are one statement here, which touches no row twice."""
    await store.commit([a_change(a_row())])
    await store.commit([], [a_check(seq) for seq in range(1, 1001)])
    assert await runs(store) == [(1, 1000, 1000)]
