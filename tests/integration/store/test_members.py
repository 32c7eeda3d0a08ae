"""The daemons on a database: each writes its own row, whatever the others do, and none waits for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from precall.core.errors import StoreUnavailable
from precall.core.role import Member, Role
from precall.store import LeaderLock, MemberBook, Store
from tests.integration.store.test_leader_lock import taken
from tests.integration.store.test_postgresql import table_locked
from tests.support.patience import BRIEF
from tests.support.postgres import Databases, psql, sql

LEADER = Member("a", "db1", 11, "http://10.0.0.1:8080", "1.0", Role.LEADING, fencing_token=7)
STANDBY = Member("b", "db2", 12, "http://10.0.0.2:8080", "1.1", Role.STANDBY)


@asynccontextmanager
async def book(url: str, timeout: float = 20.0) -> AsyncIterator[MemberBook]:
    made = MemberBook(url, timeout)
    made.open()
    try:
        yield made
    finally:
        await made.close()


def lead_by(url: str, token: int) -> None:
    """Store this fencing token, as a daemon does that takes the lead."""
    raised = "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    sql(url, f"INSERT INTO marks (name, value) VALUES ('reign', '{token}') {raised}")  # noqa: S608 - a number


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(store_url, timeout=20.0, auto_migrate=True)
    lead_by(store_url, LEADER.fencing_token)
    yield opened
    await opened.close()


async def test_each_daemon_is_listed_with_its_last_sign_of_life(store: Store, store_url: str) -> None:
    async with book(store_url) as one, book(store_url) as other:
        await other.sign(STANDBY, 0.0)
        await one.sign(LEADER, 5.0)
        found = await other.read()
        assert [replace(member, started_at=0.0, seen_at=0.0) for member in found] == [LEADER, STANDBY]
        assert [member.name for member in found] == ["db1/11", "db2/12"]
        assert found[0].seen_at - found[0].started_at == pytest.approx(5.0, abs=1e-3)
        await one.sign(LEADER, 60.0)
        again = (await one.read())[0]
        assert again.started_at == found[0].started_at
        assert again.seen_at > found[0].seen_at
        await one.remove(LEADER)
        assert [member.id for member in await other.read()] == ["b"]
    assert store.name


async def test_a_leader_that_was_replaced_is_shown_as_fenced(store: Store, store_url: str) -> None:
    async with book(store_url) as one:
        await one.sign(LEADER, 0.0)
        lead_by(store_url, 8)
        await one.sign(replace(STANDBY, role=Role.LEADING, fencing_token=8), 0.0)
        assert [(member.id, member.role) for member in await one.read()] == [
            ("b", Role.LEADING),
            ("a", Role.FENCED),
        ]
    assert store.name


async def test_a_deposed_leader_writes_nothing(store: Store, store_url: str) -> None:
    lead_by(store_url, LEADER.fencing_token + 1)
    async with book(store_url) as one:
        await one.sign(LEADER, 0.0)
        assert await one.read() == []
    assert store.name


async def test_a_daemon_replaces_earlier_ones_at_its_address(store: Store, store_url: str) -> None:
    async with book(store_url) as one:
        for member in (LEADER, STANDBY, replace(LEADER, id="c", pid=13)):
            await one.sign(member, 0.0)
        await one.replace(replace(LEADER, id="c"))
        assert [member.id for member in await one.read()] == ["c", "b"]
    assert store.name


async def test_daemons_that_are_silent_for_long_are_forgotten(store: Store, store_url: str) -> None:
    async with book(store_url) as one:
        await one.sign(LEADER, 0.0)
        await one.sign(STANDBY, 0.0)
        sql(store_url, "UPDATE members SET seen_at = seen_at - 100 WHERE id = 'b'")
        assert await store.forget_members(99.0) == 1
        assert [member.id for member in await one.read()] == ["a"]


async def test_a_daemon_without_the_lead_signs_and_writes_nothing_else(store: Store, store_url: str) -> None:
    lead = LeaderLock(store_url, 20.0)
    await taken(lead)
    store.fencing_token = await lead.fence()
    async with book(store_url) as one:
        await one.sign(STANDBY, 0.0)
        assert [member.id for member in await one.read()] == ["b"]
    await store.ping()
    await lead.leave()


async def test_a_locked_table_delays_only_the_sign(databases: Databases) -> None:
    url = databases.new()
    store = await Store.open(url, timeout=20.0, auto_migrate=False)
    async with book(url, BRIEF) as one:
        await one.sign(STANDBY, 0.0)
        async with table_locked(url, "members"):
            with pytest.raises(StoreUnavailable):
                await one.sign(STANDBY, 0.0)
            await store.ping()
        await one.sign(STANDBY, 0.0)
    await store.close()
    databases.drop()


async def test_a_standby_server_can_be_read(databases: Databases) -> None:
    url = databases.new()
    lead_by(url, LEADER.fencing_token)
    async with book(url) as one:
        await one.sign(LEADER, 0.0)
    settle = f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only"
    await asyncio.to_thread(psql, url, f"{settle} = on")
    async with book(url) as one:
        with pytest.raises(StoreUnavailable, match="read-only"):
            await one.sign(STANDBY, 0.0)
        assert [member.id for member in await one.read()] == ["a"]
    databases.drop()
