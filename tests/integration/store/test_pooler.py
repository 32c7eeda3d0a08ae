"""PostgreSQL behind a pooler: in session mode all works; in transaction mode a store is refused, and a source works."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from precall.core.errors import StoreError, StoreUnavailable
from precall.store import ForeignDatabase, LeaderLock, Store
from tests.integration.store.test_leader_lock import taken
from tests.support.needs import pgbouncer
from tests.support.pooler import pooling
from tests.support.postgres import PASSWORD, USER, Databases, psql

SAID = "shares sessions between transactions .*point store.url at the server itself, or at a pool in session mode"


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.new()


async def rows(url: str, query: str) -> list[Sequence[object]]:
    found: list[Sequence[object]] = []
    await ForeignDatabase(url).read(query, lambda _names, some: found.extend(tuple(row) for row in some))
    return found


async def used_as_a_store(url: str) -> None:
    """The lead is taken and kept, and a write is written."""
    lead = LeaderLock(url, 5.0)
    await taken(lead)
    store = await Store.open(url, timeout=5.0, auto_migrate=False)
    await store.mark({"a": "1"})
    assert (await store.marks())["a"] == "1"
    await taken(lead)
    await store.close()
    await lead.leave()


async def opened(url: str) -> None:
    await Store.open(url, timeout=5.0, auto_migrate=False)


async def limits(url: str) -> list[str]:
    from precall.store.connection import DatabaseAddress  # the part that makes sessions

    session = await DatabaseAddress(url).session(5.0, {"lock_timeout": "800", "statement_timeout": "11000"})
    found = [await session.fetchval(f"SHOW {name}") for name in ("lock_timeout", "statement_timeout")]
    await session.close()
    return found


async def test_a_session_pooler_works_like_a_direct_connection(url: str) -> None:
    async with pooling(url, shares=False) as pooled:
        await used_as_a_store(pooled)
        assert await limits(pooled) == ["800ms", "11s"]
        assert await rows(pooled, "SELECT 1 AS a") == [(1,)]


@pytest.mark.parametrize("way", ["lead", "store"])
async def test_a_store_behind_a_transaction_pooler_is_refused(url: str, way: str) -> None:
    async with pooling(url, shares=True) as pooled:
        tried = LeaderLock(pooled, 5.0).take() if way == "lead" else opened(pooled)
        with pytest.raises(StoreError, match=SAID) as raised:
            await tried
        assert not isinstance(raised.value, StoreUnavailable)
        assert PASSWORD not in str(raised.value)


async def test_a_source_behind_a_transaction_pooler_works(url: str) -> None:
    query = "SELECT n, now() AS t, n::numeric AS d, '{}'::jsonb AS j FROM generate_series(1, 500) n"
    async with pooling(url, shares=True) as pooled:
        for _ in range(3):
            assert [row[0] for row in await rows(pooled, query)] == list(range(1, 501))
        both = await asyncio.gather(rows(pooled, query), rows(pooled, query))
        assert [len(one) for one in both] == [500, 500]


@asynccontextmanager
async def bouncing(folder: Path, url: str, mode: str) -> AsyncIterator[str]:
    """Return `url` through a PgBouncer with its default configuration."""
    parts = urlsplit(url)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={parts.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {folder}/users\n"
        f"pool_mode = {mode}\n"
    )
    as_root = {"user": "nobody"} if os.geteuid() == 0 else {}
    if as_root:
        for one in (folder, *folder.parents):
            if one.stat().st_uid == os.geteuid() and str(one).startswith("/tmp/"):
                one.chmod(one.stat().st_mode | 0o055)
    with (folder / "log").open("wb") as log:
        running = await asyncio.create_subprocess_exec(
            pgbouncer() or "", "-q", folder / "ini", stderr=log, stdout=log, **as_root
        )
    try:
        async with asyncio.timeout(30):
            while not await _listens(port):
                assert running.returncode is None, (folder / "log").read_text()
                await asyncio.sleep(0.02)
        yield urlunsplit(parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{port}"))
    finally:
        running.terminate()
        await running.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.needs("pgbouncer")
async def test_pgbouncer_in_session_mode(url: str, tmp_path: Path) -> None:
    async with bouncing(tmp_path, url, "session") as pooled:
        await used_as_a_store(pooled)
        assert await limits(pooled) == ["800ms", "11s"]
        assert await rows(pooled, "SELECT 1 AS a") == [(1,)]


@pytest.mark.needs("pgbouncer")
async def test_pgbouncer_in_transaction_mode(url: str, tmp_path: Path) -> None:
    psql(url, "CREATE TABLE t AS SELECT n FROM generate_series(1, 500) n")
    async with bouncing(tmp_path, url, "transaction") as pooled:
        with pytest.raises(StoreError, match=SAID):
            await opened(pooled)
        with pytest.raises(StoreError, match=SAID):
            await LeaderLock(pooled, 5.0).take()
        for _ in range(3):
            assert len(await rows(pooled, "SELECT n, now() AS t FROM t")) == 500
