"""Leader and standby are listed with their signs of life, and what keeps these from being given disturbs nothing."""

import asyncio
from pathlib import Path

import pytest

from precall.concurrency import cancel_and_wait
from precall.core.role import Role
from precall.runtime import membership
from precall.runtime.daemon import Daemon
from tests.support.api_daemon import Served, serving
from tests.support.patience import BRIEF, PATIENCE, until
from tests.support.postgres import sql


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "EVERY", 0.05)


def roles(served: Served) -> list[Role]:
    return [member.role for member in served.daemon.parts.members()]


@pytest.mark.slow(seconds=4)
async def test_leader_and_standby_are_listed_until_they_leave(tmp_path: Path, store_url: str) -> None:
    async with serving(tmp_path, store={"url": store_url, "auto_migrate": True}) as served:
        await until(lambda: roles(served) == [Role.LEADING])
        [leader] = served.daemon.parts.members()
        assert leader.address == served.url
        assert leader.fencing_token == served.daemon.parts.store.fencing_token
        other = Daemon(served.daemon.config)
        standing_by = asyncio.create_task(other.start())
        await until(lambda: roles(served) == [Role.LEADING, Role.STANDBY])
        await until(lambda: served.daemon.parts.members()[0].seen_at > leader.seen_at)
        await cancel_and_wait(standing_by)
        await until(lambda: roles(served) == [Role.LEADING])
    assert sql(store_url, "SELECT id FROM members") == []


@pytest.mark.slow(seconds=2 * BRIEF)
async def test_without_its_table_a_daemon_serves_and_stops_as_ever(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/precall.db"
    async with serving(tmp_path) as served:
        await until(lambda: roles(served) == [Role.LEADING])
        # In a thread: the daemon, which runs in this loop, may be within a transaction.
        await asyncio.to_thread(sql, url, "ALTER TABLE members RENAME TO moved")
        await served.register()
        assert (await served.ask("GET", "/v1/routes/1?dial=0"))[0] == 200
        known = served.daemon.parts.members()
        assert [member.role for member in known] == [Role.LEADING]
        await asyncio.to_thread(sql, url, "ALTER TABLE moved RENAME TO members")
        await asyncio.to_thread(sql, url, "UPDATE members SET seen_at = 1")
        async with asyncio.timeout(PATIENCE):
            while served.daemon.parts.members()[0].seen_at <= known[0].seen_at:
                await asyncio.sleep(0.02)
