"""Read-only access to a customer's database: one query, read from its first row to its last.

SQLite is opened with `mode=ro`; PostgreSQL and MySQL transactions are READ ONLY; elsewhere nothing is committed. Each
read opens its own connection, so the database may be restarted between two. A value that a driver cannot decode
becomes `Undecodable`, and invalidates only its row. `core.sync.columns` interprets the rows.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from sqlalchemy import exc

from precall.config import database_url
from precall.config.database_url import DatabaseUrlError
from precall.core.errors import ConfigError, OutOfReach, PrecallError
from precall.store.connection import unreadable
from precall.store.source_engine import EngineRows
from precall.store.source_postgresql import PostgresqlRows
from precall.telemetry.logging import get_logger
from precall.telemetry.redaction import keep, masked

log = get_logger(__name__)

TIMEOUT = 120.0
"""Limit in seconds for one read, from connecting to the last row."""

TakeRows = Callable[[Sequence[str], Sequence[Sequence[object]]], None]
"""Called with the column names and a slice of rows. The first slice is empty, so the names can be validated alone."""

_WRONG_QUERY = (
    "no such ",
    "syntax error",
    "error in your sql syntax",
    "incomplete input",
    "readonly",
    "read-only",
    "read only",
    "ambiguous column",
    "one statement",
    "unknown column",
)
_WRONG_CHARSET = "unknown character set"
_OF_THE_QUERY = ("42", "25006", "0A")
"""Prefixes of the SQLSTATEs for which the query itself is at fault."""


class Connected(Protocol):
    """A connection that reads one query."""

    async def open(self, query: str) -> Sequence[str]:
        """Start the query. Return its column names, or none if the statement returns no rows."""

    async def more(self) -> Sequence[Sequence[object]]:
        """Return the next rows, or none at the end."""

    async def interrupt(self) -> bool:
        """Interrupt the running statement, from another task. Return False if the task must be cancelled instead."""

    async def close(self, *, whole: bool) -> None:
        """Close the connection. `whole` says that every row was read."""


class Reachable(Protocol):
    """A database that can be connected to."""

    name: str

    async def connect(self) -> Connected:
        """Connect. Raises whatever the driver raises."""


class ForeignDatabase:
    """The database at `url`: any backend of SQLAlchemy with an installed asynchronous driver.

    `timeout` (seconds) limits a whole read. The constructor does not connect. It raises ConfigError for an unusable
    URL or a missing driver.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        try:
            self._database = _database(url, timeout)
        except DatabaseUrlError as mistake:
            raise ConfigError([f"source.url: {mistake}"]) from None
        self.name = self._database.name

    async def read(self, query: str, take: TakeRows) -> None:
        """Pass all rows of `query` to `take` in slices, yielding to the event loop in between.

        Raises ConfigError if the database rejects the query, and OutOfReach if the database is unreachable, too slow,
        or fails on the way. Errors of `take` propagate.
        """
        reading = _Reading(self._database, query, take)
        task = asyncio.create_task(reading.run(), name="source")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout)
            late = loop.time() >= deadline
        finally:
            await reading.give_up(task)
        # A server-side timeout may end the query before a busy event loop notices the deadline.
        if not done or (
            late and not task.cancelled() and isinstance(task.exception(), OutOfReach | ConfigError)
        ):
            raise OutOfReach(f"source: {self.name} took more than {self._timeout:g} s")
        if task.cancelled():  # not by us, but inside the driver
            raise OutOfReach(f"source: {self.name} cannot be read: the driver cancelled the query")
        task.result()


def _database(url: str, timeout: float) -> Reachable:
    kind = database_url.backend(url)
    driver = url.partition("://")[0].partition("+")[2]
    ignored: tuple[str, ...] = ()
    database: Reachable
    if kind == "postgresql" and driver in ("", "asyncpg"):
        postgres = database_url.postgresql(url)
        ignored = postgres.ignored
        keep(postgres.password)
        _require_readable(postgres.files)
        database = PostgresqlRows(postgres, timeout)
    elif kind == "mysql":
        mysql = database_url.mysql(url)
        ignored = mysql.ignored
        _require_readable(mysql.files)
        database = EngineRows(mysql.plain, mysql)
    else:
        database_url.check(url)
        database = EngineRows(url)
    if ignored:
        log.warning("source.url_ignored", parameters=list(ignored))
    return database


def _require_readable(files: Mapping[str, str]) -> None:
    if missing := unreadable(files):
        raise DatabaseUrlError(missing)


class _Reading:
    """One query in progress, which can be cancelled."""

    def __init__(self, database: Reachable, query: str, take: TakeRows) -> None:
        self._database, self._query, self._take = database, query, take
        self._connection: Connected | None = None
        self._given_up = False

    async def run(self) -> None:
        name, whole = self._database.name, False
        with _failures_of(name, connecting=True):
            self._connection = connection = await self._database.connect()
        try:
            with _failures_of(name):
                names = await connection.open(self._query)
            if not names:
                raise ConfigError(["source.query: gives no rows; it should be a SELECT"])
            self._take(names, [])
            while not self._given_up and (rows := await self._more(connection)):
                self._take(names, rows)
                await asyncio.sleep(0)
            whole = True
        finally:
            await connection.close(whole=whole)

    async def _more(self, connection: Connected) -> Sequence[Sequence[object]]:
        with _failures_of(self._database.name):
            return await connection.more()

    async def give_up(self, task: "asyncio.Task[None]") -> None:
        """End `task` and wait for it.

        Where the driver can, the running statement is interrupted. It would not notice that the task is cancelled, and
        closing the connection waits for it.
        """
        self._given_up = True
        while not task.done():
            if self._connection is None or not await self._connection.interrupt():
                task.cancel()
            # Repeated, because an interrupt before the statement has started has no effect.
            await asyncio.wait({task}, timeout=0.05)
        if not task.cancelled():
            task.exception()  # mark as retrieved: the caller may be gone


@contextmanager
def _failures_of(name: str, *, connecting: bool = False) -> Iterator[None]:
    """Translate errors of the database called `name` into ConfigError and OutOfReach.

    Drivers raise anything, even TypeError or KeyError, for an invalid URL, certificate or value.
    """
    try:
        yield
    except PrecallError:
        raise
    except Exception as error:  # noqa: BLE001  translated
        # Without the cause, whose text may quote a value.
        raise _meaning(error, name, connecting=connecting) from None


def _meaning(error: Exception, name: str, *, connecting: bool) -> PrecallError:
    origin = getattr(error, "orig", None) or error
    said = masked(str(origin).strip().partition("\n")[0])
    state = str(getattr(origin, "sqlstate", None) or "")
    if _WRONG_CHARSET in said.lower():
        return ConfigError([f"source.url: charset: the server does not know it ({said})"])
    if not connecting and (
        isinstance(error, exc.ProgrammingError)
        or state.startswith(_OF_THE_QUERY)
        or any(words in said.lower() for words in _WRONG_QUERY)
    ):
        return ConfigError([f"source.query: the database rejects it: {said}"])
    known = isinstance(error, (OSError, exc.SQLAlchemyError)) or state or _is_database_error(origin)
    if connecting and (isinstance(origin, ValueError) or not known):
        kind = type(origin).__name__
        return ConfigError([f"source.url: {name} cannot be connected to with this URL ({kind}: {said})"])
    return OutOfReach(f"source: {name} cannot be read: {said or type(error).__name__}")


def _is_database_error(error: Exception) -> bool:
    """Return whether a driver classifies it as a database error, judging by the names of its base classes."""
    bases = {base.__name__ for base in type(error).__mro__}
    return bool(
        bases & {"DatabaseError", "PostgresError", "InterfaceError", "MySQLError", "OperationalError"}
    )
