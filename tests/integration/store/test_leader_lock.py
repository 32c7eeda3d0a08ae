"""Leader election: one candidate leads until it leaves, dies or loses its session."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from precall.core.errors import StoreError, StoreUnavailable
from precall.store import LeaderLock
from tests.support.patience import PATIENCE
from tests.support.postgres import Databases, psql
from tests.support.wire import Wire

ENDED = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'precall' AND datname = current_database()
"""


@pytest.fixture
async def leads(store_url: str) -> AsyncIterator[tuple[LeaderLock, LeaderLock]]:
    """Two candidates for the lead."""
    async with AsyncExitStack() as stack:
        both = LeaderLock(store_url), LeaderLock(store_url)
        for lead in both:
            stack.push_async_callback(lead.leave)
        yield both


async def test_one_leads_until_it_leaves(leads: tuple[LeaderLock, LeaderLock]) -> None:
    first, second = leads
    await taken(first)
    await taken(first)
    assert not await second.take()
    await first.leave()
    await taken(second)
    assert not await first.take()


async def test_leader_locks_of_two_databases_are_independent(
    new_store_url: Callable[[], str],
) -> None:
    first, second = LeaderLock(new_store_url()), LeaderLock(new_store_url())
    await taken(first)
    await taken(second)
    await first.leave()
    await second.leave()


async def sessions_ended(url: str) -> None:
    """As by a restart of the server."""
    await asyncio.to_thread(psql, url, ENDED)
    await asyncio.sleep(0.1)


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    yield databases.new()
    databases.drop()


async def test_the_leader_keeps_the_lead_after_all_sessions_were_lost(url: str) -> None:
    """The previous leader has precedence: the other one has to try twice."""
    first, second = LeaderLock(url), LeaderLock(url)
    await taken(first)
    assert not await second.take()
    await sessions_ended(url)
    with pytest.raises(StoreUnavailable, match="broke the connection"):
        await second.take()
    await taken(first)
    assert not await second.take()
    await first.leave()
    await second.leave()


@contextmanager
def way_to(url: str) -> Iterator[Wire]:
    """A way to the server of `url` that can be cut."""
    with Wire(urlsplit(url).port or 0).running() as wire:
        yield wire


async def taken(lead: LeaderLock) -> None:
    """Return once `lead` has the lead, trying like a standby."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(StoreUnavailable):
                if await lead.take():
                    return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("silently", [False, True])
async def test_a_partitioned_leader_learns_that_another_leads(url: str, silently: bool) -> None:
    """Whether the server notices at once, or has nothing but its limit to go by."""
    lost = asyncio.Event()
    with way_to(url) as wire:
        first, second = LeaderLock(wire.of(url), limit=2.0, when_lost=lost.set), LeaderLock(url)
        await taken(first)
        assert first.is_known
        wire.cut(silently=silently)
        await taken(second)
        assert not lost.is_set()
        wire.heal()
        async with asyncio.timeout(PATIENCE):
            await lost.wait()
        assert not first.is_known
        assert not await first.take()
        await first.leave()
        await second.leave()


async def test_a_leader_with_a_blocked_event_loop_is_replaced(url: str) -> None:
    """Its process still runs, and the kernel acknowledges for it. Only its silence reveals it."""
    stands_still, go_on, lost = threading.Event(), threading.Event(), threading.Event()

    async def lead() -> None:
        first = LeaderLock(url, limit=1.0, when_lost=lost.set)
        await taken(first)
        stands_still.set()
        go_on.wait()
        async with asyncio.timeout(PATIENCE):
            while not lost.is_set():
                await asyncio.sleep(0.01)
        await first.leave()

    second = LeaderLock(url)
    leading = asyncio.create_task(asyncio.to_thread(asyncio.run, lead()))
    try:
        assert await asyncio.to_thread(stands_still.wait, PATIENCE)
        await taken(second)
    finally:
        go_on.set()
        await leading
    assert lost.is_set()
    await taken(second)
    await second.leave()


async def test_an_idle_leader_keeps_the_lead(url: str) -> None:
    limit = 1.0
    first, second = LeaderLock(url, limit=limit), LeaderLock(url)
    await taken(first)
    held = "SELECT now() - backend_start > interval '3 s' FROM pg_locks JOIN pg_stat_activity USING (pid)"
    held += " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(psql, url, held) != [["t"]]:
            assert not await second.take()
            await asyncio.sleep(0.1)
    await taken(first)
    await first.leave()
    await second.leave()


async def test_a_lock_on_a_standby_server_does_not_count(url: str) -> None:
    """As on a standby server, or on a primary that was taken out of service."""
    lead, name = LeaderLock(url), url.rpartition("/")[2]
    read_only = f"ALTER DATABASE {name} SET default_transaction_read_only = on"
    await asyncio.to_thread(psql, url, read_only)
    with pytest.raises(StoreUnavailable, match="is read-only, a standby perhaps: name its primary"):
        await lead.take()
    await asyncio.to_thread(psql, url, "SET default_transaction_read_only = off", f"{read_only[:-2]}off")
    # The session that was read-only is gone.
    await taken(lead)
    await asyncio.to_thread(psql, url, read_only, ENDED)
    lead.doubt()
    await until_known(lead)
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database"
    held += " WHERE datname = current_database())"
    assert await asyncio.to_thread(psql, url, held) == [["0"]]
    with pytest.raises(StoreUnavailable, match="read-only"):
        await lead.take()
    await asyncio.to_thread(psql, url, "SET default_transaction_read_only = off", f"{read_only[:-2]}off")
    await taken(lead)
    await lead.leave()


async def until_known(lead: LeaderLock) -> None:
    async with asyncio.timeout(PATIENCE):
        while not lead.is_known:
            await asyncio.sleep(0.01)


async def test_a_doubt_lasts_until_the_lead_is_confirmed(leads: tuple[LeaderLock, LeaderLock]) -> None:
    lead, _ = leads
    assert not lead.is_known
    await taken(lead)
    assert lead.is_known
    lead.doubt()
    assert not lead.is_known
    await until_known(lead)


async def test_a_doubt_ends_when_the_server_is_unreachable(url: str) -> None:
    with way_to(url) as wire:
        lead = LeaderLock(wire.of(url), 0.2, limit=1.0)
        await taken(lead)
        wire.cut()
        lead.doubt()
        await until_known(lead)
        with pytest.raises(StoreUnavailable):
            await lead.take()
        await lead.leave()


async def test_an_ended_session_puts_the_lead_in_doubt(url: str) -> None:
    lead = LeaderLock(url)
    await taken(lead)
    ended = asyncio.create_task(sessions_ended(url))
    async with asyncio.timeout(PATIENCE):
        while lead.is_known:
            await asyncio.sleep(0.001)
    await until_known(lead)
    await ended
    await lead.leave()


async def test_a_replaced_lock_file_loses_the_lead(tmp_path: Path) -> None:
    lost = asyncio.Event()
    first, second = (
        LeaderLock(f"sqlite:///{tmp_path}/p.db", when_lost=lost.set),
        LeaderLock(f"sqlite:///{tmp_path}/p.db"),
    )
    await taken(first)
    (tmp_path / "p.db.lock").unlink()
    await taken(second)
    async with asyncio.timeout(PATIENCE):
        await lost.wait()
    assert not await first.take()
    await first.leave()
    await second.leave()


async def test_an_internal_error_is_reported_to_when_broken(url: str) -> None:
    broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    lead = LeaderLock(url, when_broken=broken.set_result)
    await taken(lead)
    assert await lead.fence()
    await asyncio.to_thread(psql, url, "ALTER TABLE marks RENAME TO gone", ENDED)
    async with asyncio.timeout(PATIENCE):
        assert isinstance(await broken, RuntimeError)
    assert not lead.is_known
    await lead.leave()


async def test_an_unreachable_server_raises_store_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await LeaderLock("postgresql://precall@127.0.0.1:1/precall").take()


async def test_a_server_that_cannot_limit_a_session_is_refused() -> None:
    """Its first words are those of a PostgreSQL 13."""

    def said(kind: bytes, content: bytes) -> bytes:
        return kind + (len(content) + 4).to_bytes(4, "big") + content

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read(1000)
        if asked[4:8] == (80877103).to_bytes(4, "big"):
            writer.write(b"N")  # no TLS here
            await reader.read(1000)
        version = said(b"S", b"server_version\0" + b"13.22\0")
        writer.write(said(b"R", bytes(4)) + version + said(b"K", bytes(8)) + said(b"Z", b"I"))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StoreError, match="is PostgreSQL 13: precall needs 14 or newer") as raised:
            await LeaderLock(f"postgresql://precall@127.0.0.1:{port}/precall").take()
        assert not isinstance(raised.value, StoreUnavailable)
