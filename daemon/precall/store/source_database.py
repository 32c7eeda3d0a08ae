"""A customer's own database, read and never written: one query, from its first row to its last.

SQLite is opened with `mode=ro`, PostgreSQL and MySQL are told that the transaction is READ ONLY; elsewhere nothing is
committed. Each read has a connection of its own: between two the database may go away and come back. A value that a
driver cannot read is handed on as `Undecodable`, so that it costs one row. What the rows mean is `core.columns`'
concern.
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
"""Seconds one read may take, from connecting to the last row."""

Take = Callable[[Sequence[str], Sequence[Sequence[object]]], None]
"""Called with the names of the columns and some rows: first with none, so that the names can be looked at alone."""

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
"""What PostgreSQL's conditions begin with when the query is at fault."""


class Connected(Protocol):
    """A connection that one query is read by."""

    async def open(self, query: str) -> Sequence[str]:
        """Begin; the names of the columns, none where the statement gives no rows."""

    async def more(self) -> Sequence[Sequence[object]]:
        """The next rows; none at the end."""

    async def interrupt(self) -> bool:
        """End the statement that runs, from another task. False where that is done by cancelling."""

    async def close(self, *, whole: bool) -> None:
        """Close the connection; `whole`: all was read."""


class Reachable(Protocol):
    """A database that connections are made to."""

    name: str

    async def connect(self) -> Connected:
        """Connect. Raises whatever the driver does."""


class ForeignDatabase:
    """The database at `url`: any that SQLAlchemy knows and an asynchronous driver is installed for.

    Raises ConfigError for a URL that cannot be used, or whose driver is missing; nothing is connected yet.
    `timeout` is that of a whole read, in seconds.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        try:
            self._database = _database(url, timeout)
        except DatabaseUrlError as mistake:
            raise ConfigError([f"source.url: {mistake}"]) from None
        self.name = self._database.name

    async def read(self, query: str, take: Take) -> None:
        """Hand all rows of `query` to `take`, slice by slice; between two of them others have the loop.

        Raises ConfigError when the database refuses the query as it is, OutOfReach when it cannot be asked, is too
        slow, or fails on the way; and whatever `take` raises.
        """
        reading = _Reading(self._database, query, take)
        task = asyncio.create_task(reading.run(), name="source")
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout)
        finally:
            await reading.give_up(task)
        if not done:
            raise OutOfReach(f"source: {self.name} took more than {self._timeout:g} s")
        if task.cancelled():  # not by us: it came out of the driver
            raise OutOfReach(f"source: {self.name} cannot be read: the driver broke off")
        task.result()


def _database(url: str, timeout: float) -> Reachable:
    kind = database_url.backend(url)
    driver = url.partition("://")[0].partition("+")[2]
    ignored: tuple[str, ...] = ()
    found: Reachable
    if kind == "postgresql" and driver in ("", "asyncpg"):
        given = database_url.postgresql(url)
        ignored = given.ignored
        keep(given.password)
        _must_be_readable(given.files)
        found = PostgresqlRows(given, timeout)
    elif kind == "mysql":
        mysql = database_url.mysql(url)
        ignored = mysql.ignored
        _must_be_readable(mysql.files)
        found = EngineRows(mysql.plain, mysql)
    else:
        database_url.check(url)
        found = EngineRows(url)
    if ignored:
        log.warning("source.url_ignored", parameters=list(ignored))
    return found


def _must_be_readable(files: Mapping[str, str]) -> None:
    if missing := unreadable(files):
        raise DatabaseUrlError(missing)


class _Reading:
    """One query under way, and how to call it off."""

    def __init__(self, database: Reachable, query: str, take: Take) -> None:
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
        """See `task` to its end. Where the driver can, the statement that runs is interrupted: it would not notice
        that the task is cancelled, and closing the connection waits for it."""
        self._given_up = True
        while not task.done():
            if self._connection is None or not await self._connection.interrupt():
                task.cancel()
            # Again, since an interruption that comes before the statement does nothing.
            await asyncio.wait({task}, timeout=0.05)
        if not task.cancelled():
            task.exception()  # looked at here, for nobody may be there any more to whom it could be told


@contextmanager
def _failures_of(name: str, *, connecting: bool = False) -> Iterator[None]:
    """Turns what goes wrong with the database called `name` into ConfigError and OutOfReach: drivers raise anything,
    also a TypeError or a KeyError, for a URL, a certificate or a value they cannot make sense of."""
    try:
        yield
    except PrecallError:
        raise
    except Exception as error:  # noqa: BLE001  told again as what it means
        # Without the cause: its text may quote a value.
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
        return ConfigError([f"source.query: the database refuses it: {said}"])
    known = isinstance(error, (OSError, exc.SQLAlchemyError)) or state or _is_database_error(origin)
    if connecting and (isinstance(origin, ValueError) or not known):
        kind = type(origin).__name__
        return ConfigError([f"source.url: {name} cannot be connected to like this ({kind}: {said})"])
    return OutOfReach(f"source: {name} cannot be read: {said or type(error).__name__}")


def _is_database_error(error: Exception) -> bool:
    """Whether a driver says so itself: the base of its errors is called Error, or as asyncpg has it."""
    bases = {base.__name__ for base in type(error).__mro__}
    return bool(
        bases & {"DatabaseError", "PostgresError", "InterfaceError", "MySQLError", "OperationalError"}
    )
