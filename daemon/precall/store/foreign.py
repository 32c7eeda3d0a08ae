"""A customer's own database, read and never written: one query, from its first row to its last.

SQLite is opened with `mode=ro`, PostgreSQL is told that the transaction is READ ONLY; elsewhere nothing is committed.
Each read has a connection of its own: between two the database may go away and come back. What the rows mean is
`core.columns`' concern.
"""

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import quote

from sqlalchemy import NullPool, exc
from sqlalchemy.engine import URL, Connection, CursorResult, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from precall.core.errors import ConfigError, OutOfReach
from precall.secrecy import keep

SLICE = 200
"""Rows handed on at once: what is made of them takes a few ms of the loop, which readers share."""
TIMEOUT = 120.0
"""Seconds one read may take, from connecting to the last row."""
DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mariadb+aiomysql",
    "oracle": "oracle+oracledb_async",
    "mssql": "mssql+aioodbc",
}
"""The asynchronous driver of a URL that names none."""

Take = Callable[[Sequence[str], Sequence[Sequence[object]]], None]
"""Called with the names of the columns and some rows: first with none, so that the names can be looked at alone."""

T = TypeVar("T")

_MANY_DIGITS = re.compile(r"\d{5,}")
_WRONG_QUERY = (
    "no such ",
    "syntax error",
    "incomplete input",
    "readonly",
    "read-only",
    "ambiguous column",
    "one statement",
)


class ForeignDatabase:
    """The database at `url`: any that SQLAlchemy knows and an asynchronous driver is installed for.

    Raises ConfigError for a URL that cannot be used, or whose driver is missing; nothing is connected yet.
    `timeout` is that of a whole read, in seconds.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        try:
            given = make_url(url)
        except (exc.ArgumentError, ValueError):
            raise ConfigError(
                ["source.url: is no URL; write postgresql://user@host/name or sqlite:////path"]
            ) from None
        keep(given.password or "")
        self._timeout = timeout
        self._is_sqlite = given.get_backend_name() == "sqlite"
        self.name = f"{given.host or ''}/{given.database or ''}"
        if self._is_sqlite:
            given, self.name = _read_only(given)
        self._engine = _engine(given)

    async def read(self, query: str, take: Take) -> None:
        """Hand all rows of `query` to `take`, slice by slice; between two of them others have the loop.

        Raises ConfigError when the database refuses the query as it is, OutOfReach when it cannot be asked, is too
        slow, or fails on the way; and whatever `take` raises.
        """
        reading = _Reading(self.name, query, take)
        with _failures_of(self.name, exc.SQLAlchemyError, sqlite3.Error, OSError):
            if self._is_sqlite:
                # Here, because the driver leaves a thread behind when it fails at this.
                sqlite3.connect(f"{self._engine.url.database}?mode=ro", uri=True).close()
            task = asyncio.create_task(self._read(reading), name="source")
            try:
                done, _ = await asyncio.wait({task}, timeout=self._timeout)
            finally:
                await reading.give_up(task)
            if not done:
                raise OutOfReach(f"source: {self.name} took more than {self._timeout:g} s")
            task.result()

    async def _read(self, reading: "_Reading") -> None:
        async with self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                await connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                await connection.exec_driver_sql(
                    f"SET LOCAL statement_timeout = {round(self._timeout * 1000)}"
                )
            await reading.stream(connection)


class _Reading:
    """One query under way, and how to call it off."""

    def __init__(self, name: str, query: str, take: Take) -> None:
        self._name, self._query, self._take = name, query, take
        self._interrupt: Callable[[], Awaitable[None]] | None = None
        self._given_up = False

    async def stream(self, connection: AsyncConnection) -> None:
        raw = await connection.get_raw_connection()
        self._interrupt = getattr(raw.driver_connection, "interrupt", None)
        result = await self._ask(connection, self._execute)
        if not result.returns_rows:
            raise ConfigError(["source.query: gives no rows; it should be a SELECT"])
        names = list(result.keys())
        self._take(names, [])
        while not self._given_up and (rows := await self._ask(connection, lambda _: result.fetchmany(SLICE))):
            self._take(names, rows)
            await asyncio.sleep(0)
        await connection.run_sync(lambda _: result.close())

    async def _ask(self, connection: AsyncConnection, work: Callable[[Connection], T]) -> T:
        # While it fetches, a driver's own errors come as they are: asyncpg's are of no class that is known here.
        with _failures_of(self._name, Exception):
            return await connection.run_sync(work)

    async def give_up(self, task: "asyncio.Task[None]") -> None:
        """See `task` to its end. Where the driver can, the statement that runs is interrupted: it would not notice
        that the task is cancelled, and closing the connection waits for it."""
        self._given_up = True
        while not task.done():
            if self._interrupt is None:
                task.cancel()
            else:
                await self._interrupt()
            # Again, since an interruption that comes before the statement does nothing.
            await asyncio.wait({task}, timeout=0.05)
        if not task.cancelled():
            task.exception()  # looked at here, for nobody may be there any more to whom it could be told

    def _execute(self, connection: Connection) -> CursorResult[tuple[object, ...]]:
        # As the driver takes it: no `:name` and no `%` of the query is a parameter.
        options = {"stream_results": True, "no_parameters": True, "max_row_buffer": SLICE}
        return connection.exec_driver_sql(self._query, execution_options=options)


def _read_only(given: URL) -> tuple[URL, str]:
    """(the URL by which SQLite opens the file without ever writing, the file)."""
    file = (given.database or "").removeprefix("file:")
    if not file or ":memory:" in file:
        raise ConfigError(["source.url: names no SQLite file; write sqlite:////var/lib/app/app.db"])
    query = {"mode": "ro", "uri": "true"}
    return URL.create(DRIVERS["sqlite"], database=f"file:{quote(file)}", query=query), file


def _engine(url: URL) -> AsyncEngine:
    try:
        known = (
            url if "+" in url.drivername else url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
        )
        return create_async_engine(known, poolclass=NullPool, hide_parameters=True)
    except ImportError as error:
        name = error.name or str(error)
        raise ConfigError(
            [
                f"source.url: {url.drivername} needs the package {name}, which is not installed: pip install {name}"
            ]
        ) from None
    except exc.NoSuchModuleError:
        raise ConfigError([f"source.url: {url.drivername} is no database SQLAlchemy knows"]) from None
    except exc.InvalidRequestError:
        known_drivers = ", ".join(DRIVERS.values())
        raise ConfigError(
            [f"source.url: {url.drivername} is no asynchronous driver; there are {known_drivers}"]
        ) from None


@contextmanager
def _failures_of(name: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turns errors of these kinds, of the database called `name`, into ConfigError and OutOfReach."""
    try:
        yield
    except kinds as error:
        # Without the cause: its text may quote a value.
        said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        said = _MANY_DIGITS.sub("***", said)
        if isinstance(error, exc.ProgrammingError) or any(words in said.lower() for words in _WRONG_QUERY):
            raise ConfigError([f"source.query: the database refuses it: {said}"]) from None
        raise OutOfReach(f"source: {name} cannot be read: {said or type(error).__name__}") from None
