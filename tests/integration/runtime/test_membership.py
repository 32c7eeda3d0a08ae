"""Leader and standby are listed with their signs of life, and what keeps these from being given disturbs nothing."""

import asyncio
import time
from pathlib import Path
from typing import cast

import pytest

from precall.concurrency import cancel_and_wait
from precall.core.errors import StoreUnavailable
from precall.core.role import Member, Role
from precall.runtime import membership
from precall.runtime.daemon import Daemon
from precall.store.members import MemberBook
from tests.support.api_daemon import Served, serving
from tests.support.patience import BRIEF, PATIENCE, until
from tests.support.postgres import sql


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "EVERY", 0.05)
    monkeypatch.setattr(membership, "FAREWELL", PATIENCE)


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


class _Book:
    """The list of members, in memory. Every sign of life but the first fails."""

    def __init__(self) -> None:
        self.listed: set[str] = set()
        self.signs = 0

    def open(self) -> None:
        """Nothing is to be opened."""

    async def sign(self, member: Member, _seconds: float) -> None:
        self.signs += 1
        if self.signs > 1:
            raise StoreUnavailable("busy")
        self.listed.add(member.id)

    async def replace(self, _member: Member) -> None:
        """No earlier one was at this address."""

    async def remove(self, member: Member) -> None:
        self.listed.discard(member.id)

    async def read(self) -> list[Member]:
        return []

    async def close(self) -> None:
        """Nothing is to be closed."""


async def test_a_daemon_whose_last_sign_of_life_failed_leaves_the_list() -> None:
    book = _Book()
    this = Member("one", "host", 1, "", "1", Role.STANDBY)
    membership_of_this = membership.Membership(
        cast("MemberBook", book), this, lambda: Role.STANDBY, time.monotonic
    )
    membership_of_this.begin()
    running = asyncio.create_task(membership_of_this.run("http://one"))
    await until(lambda: book.signs > 1)
    assert book.listed == {"one"}
    await cancel_and_wait(running)
    await membership_of_this.leave()
    assert book.listed == set()
