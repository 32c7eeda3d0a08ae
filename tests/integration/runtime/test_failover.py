"""A store and a starting daemon whose server is temporarily read-only or slow."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from precall.config.schema import Config
from precall.core.errors import StoreUnavailable
from precall.runtime.daemon import Daemon
from precall.store import LeaderLock, Store
from precall.store.leader_lock import LIMIT
from tests.integration.store.test_postgresql import table_locked
from tests.integration.store.test_store import a_change, a_row, loaded
from tests.support.api_daemon import a_binding, serving
from tests.support.patience import PATIENCE, until
from tests.support.postgres import Databases, psql

READ_ONLY = "current_setting('transaction_read_only')"
SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
SESSIONS += " AND pid <> pg_backend_pid()"


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    yield databases.new()
    databases.drop()


@asynccontextmanager
async def another_primary(url: str) -> AsyncIterator[None]:
    """All sessions end, and new ones are read-only: the address leads to a standby server for a while."""
    settle = f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only"
    await asyncio.to_thread(psql, url, f"{settle} = on", SESSIONS)
    yield
    await asyncio.to_thread(psql, url, "SET default_transaction_read_only = off", f"{settle} = off")


async def test_a_session_on_a_standby_is_dropped(url: str) -> None:
    store = await Store.open(url, timeout=10.0, auto_migrate=False)

    async def read_only() -> str:
        return str(await store._read(lambda connection: connection.scalar(text(f"SELECT {READ_ONLY}"))))

    async with another_primary(url):
        said = ""
        for _ in range(3):
            # A session that ends during its start is reported in the driver's words.
            with pytest.raises(StoreUnavailable) as refused:
                await store.commit([a_change(a_row("1"))])
            said = str(refused.value)
            assert await loaded(store) == {}
            assert await read_only() == "on"
        assert "is read-only, a standby perhaps: name its primary" in said
    await store.commit([a_change(a_row("1"))])
    assert await read_only() == "off"
    assert set(await loaded(store)) == {"1"}
    await store.close()


async def test_a_session_is_dropped_when_its_server_becomes_read_only(url: str) -> None:
    """Behind a pooler nothing has ended for us."""
    store = await Store.open(url, timeout=10.0, auto_migrate=False)
    await store.commit([a_change(a_row("1"))])
    turn = text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    await store._write(lambda connection: connection.execute(turn))
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.commit([a_change(a_row("2", index=2))])
    await store.commit([a_change(a_row("2", index=2))])
    assert set(await loaded(store)) == {"1", "2"}
    await store.close()


async def test_a_daemon_resumes_writing_after_a_failover(tmp_path: Path, url: str) -> None:
    async with serving(tmp_path, store={"url": url, "auto_migrate": True}) as served:
        await served.register()
        writer = served.daemon.parts.writer
        async with another_primary(url):
            status, _ = await served.ask("PUT", "/v1/bindings/2", a_binding(subs_id="2"))
            assert status == 503
            assert not writer.saving
        await until(lambda: writer.saving)
        await served.register(subs_id="2")
        assert await served.stored() == 2
        assert served.daemon.parts.store.role.leads


async def test_a_start_that_takes_longer_than_the_limit_keeps_the_lead(url: str) -> None:
    """Two daemons start at once. One has the lead, and waits for its table for longer than a silent leader may be
    silent; the other takes nothing from it."""
    config = Config(
        provider={  # type: ignore[arg-type]
            "endpoint": "http://127.0.0.1:9",
            "access_key_id": "demo",
            "access_key_secret": "demo-secret",
        },
        store={"url": url, "timeout": f"{PATIENCE}s"},  # type: ignore[arg-type]
        api={"listen": "127.0.0.1:0"},  # type: ignore[arg-type]
    )
    held = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted"
    held += f" AND datname = current_database() AND now() - backend_start > interval '{1.5 * LIMIT} s'"
    daemons = [Daemon(config), Daemon(config)]
    async with table_locked(url, "bindings"):
        starts = [asyncio.create_task(daemon.start()) for daemon in daemons]
        async with asyncio.timeout(PATIENCE):
            while await asyncio.to_thread(psql, url, held) != [["1"]]:
                await asyncio.sleep(0.2)
        assert not any(start.done() for start in starts)
    done, _ = await asyncio.wait(starts, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    leading = daemons[starts.index(next(iter(done)))]
    assert leading.lead.is_known
    other = LeaderLock(url)
    assert not await other.take()
    await other.leave()
    await leading.stop()
    # The other daemon has waited for the lock.
    await asyncio.wait(starts, timeout=PATIENCE)
    for start, daemon in zip(starts, daemons, strict=True):
        assert start.result()
        if daemon is not leading:
            await daemon.stop()
