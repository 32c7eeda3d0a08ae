"""The daemons on a database, each with a row that it updates itself, by the clock of the database.

A daemon on standby may write nothing else. Nobody decides by these rows, and no two daemons share one; a leader's is
written only while its fencing token is the stored one. A row is written on a connection of its own in one statement, so
it neither waits for the store nor holds it up, and a daemon that is stopped or cut off blocks no other. On a server
that is read-only, a replica perhaps, the row cannot be written; the others can be read there.
"""

import asyncio
from dataclasses import asdict, replace
from typing import Any, TypeVar

from sqlalchemy import Double, Insert, and_, delete, literal, literal_column, select, true
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from precall.concurrency import retrieve_exception
from precall.core.errors import StoreUnavailable
from precall.core.role import Member, Role
from precall.store.attempt import Attempt, Work
from precall.store.bulk import INSERTS
from precall.store.connection import DatabaseAddress, close, failures_of
from precall.store.fencing import MARK
from precall.store.schema import marks, members

T = TypeVar("T")

_NOW = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "CAST(extract(epoch FROM statement_timestamp()) AS double precision)",
}


class MemberBook:
    """The table of the daemons on the database at `url`. `timeout` (seconds) bounds each statement.

    Methods but `close` raise StoreError, such as StoreUnavailable. Call `open` first, once the schema is there.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._address, self._timeout = DatabaseAddress(url), timeout
        self._engine: AsyncEngine | None = None
        self._running: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """Prepare for connections, unless that is done. There is none before it is needed."""
        if self._engine is None:
            self._address.hold()
            engine = self._address.engine(self._timeout, writes=True)
            # A single statement needs no transaction on a server, which would hold the row while the daemon is stopped.
            options = {} if self._address.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
            self._engine = engine.execution_options(**options)

    async def sign(self, member: Member, uptime: float) -> None:
        """Write that this daemon is alive now, and has been for `uptime` seconds. Its own times are ignored.

        Nothing is written of a leader that was deposed.
        """
        await self._run(
            lambda connection: connection.execute(_signing(connection.dialect.name, member, uptime))
        )

    async def replace(self, member: Member) -> None:
        """Delete the rows of earlier daemons that listened at this address of this host."""
        earlier = and_(members.c.host == member.host, members.c.address == member.address)
        gone = delete(members).where(earlier, members.c.id != member.id)
        await self._run(lambda connection: connection.execute(gone))

    async def remove(self, member: Member) -> None:
        """Delete the row of this daemon, which ends."""
        gone = delete(members).where(members.c.id == member.id)
        await self._run(lambda connection: connection.execute(gone))

    async def read(self) -> list[Member]:
        """Return all daemons, the leader first. One that leads by its row, but was replaced since, is fenced."""

        async def work(connection: AsyncConnection) -> list[Member]:
            found = (await connection.execute(select(members))).mappings().all()
            return _ranked([Member(**dict(row) | {"role": Role(row["role"])}) for row in found])

        return await self._run(work)

    async def clock(self) -> float:
        """Return the time by the clock of the database, in Unix seconds."""

        async def work(connection: AsyncConnection) -> float:
            now = literal_column(_NOW[connection.dialect.name], Double)
            return float((await connection.execute(select(now))).scalar_one())

        return await self._run(work)

    async def close(self) -> None:
        """Wait for statements in progress, at most until their deadline, and close the connection."""
        engine, self._engine = self._engine, None
        if self._running:
            await asyncio.wait(self._running, timeout=self._timeout)
        if engine is not None:
            await close(engine, self._timeout)

    async def _run(self, work: Work[T]) -> T:
        engine, attempt = self._engine, Attempt(self._address.name)
        if engine is None:
            raise StoreUnavailable(f"{self._address.name} was not opened")

        async def transact() -> T:
            self._address.confirm()
            with failures_of(self._address.name):
                async with engine.connect() as connection:
                    await attempt.over(connection)
                    async with connection.begin():
                        return await work(connection)

        task = asyncio.create_task(transact(), name="members")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(retrieve_exception)
        return await attempt.ended(task, self._timeout)


async def forget(connection: AsyncConnection, silent: float) -> int:
    """Delete the rows of daemons that have been silent for `silent` seconds. Return their number."""
    now = literal_column(_NOW[connection.dialect.name], Double)
    gone = await connection.execute(delete(members).where(members.c.seen_at < now - silent))
    return gone.rowcount


def _signing(dialect: str, member: Member, uptime: float) -> Insert:
    now = literal_column(_NOW[dialect], Double)
    facts: dict[str, Any] = asdict(member) | {"role": member.role.value}
    times = {"seen_at": now, "started_at": now - literal(uptime, Double)}
    row = {name: literal(value, members.c[name].type) for name, value in facts.items()} | times
    stored = select(marks.c.value).where(marks.c.name == MARK).scalar_subquery()
    valid = stored == str(member.fencing_token) if member.fencing_token else true()
    statement = INSERTS[dialect](members).from_select(list(row), select(*row.values()).where(valid))
    changing = ("address", "role", "fencing_token", "seen_at")
    result: Insert = statement.on_conflict_do_update(
        index_elements=[members.c.id], set_={name: statement.excluded[name] for name in changing}
    )
    return result


def _ranked(found: list[Member]) -> list[Member]:
    newest = max((one.fencing_token for one in found if one.role is Role.LEADING), default=0)
    known = [
        replace(one, role=Role.FENCED) if one.role is Role.LEADING and one.fencing_token < newest else one
        for one in found
    ]
    return sorted(known, key=lambda one: (one.role is not Role.LEADING, one.name, one.id))
