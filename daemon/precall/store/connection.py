"""How a database is reached, and what its refusals mean. SQL statements do not belong here.

SQLite runs in WAL mode with `synchronous=FULL`: a commit is on the disk before it is acknowledged, so that neither
`kill -9` nor a loss of power takes back a registration, an audit row or a route that a reader has seen. (NORMAL
would do for `kill -9` alone; the difference is one fsync per transaction, and transactions carry thousands of rows.)
Checkpoints are rare, because each rewrites every page touched since the last one.

PostgreSQL is reached as its own tools reach it: `database_url` says which parameters of the URL do what, and its PG
variables count. The server gives up by itself, somewhat later than we do, what it does for us: sessions that we have
left must not pile up behind a lock. These limits are set once a session is there, since a pooler refuses what it does
not know of the start of one. A session with a server that is no primary any more is dropped (`failover`).
"""

import asyncio
import logging
import os
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from precall import private_files
from precall.config import database_url
from precall.config.database_url import DatabaseUrlError, PostgresqlUrl
from precall.core.errors import StoreError, StoreUnavailable
from precall.store.failover import require_version, watch_sessions
from precall.store.pooler import LOST_STATEMENTS, require_session, shared
from precall.telemetry.logging import get_logger
from precall.telemetry.redaction import keep, masked

PATIENCE = 10.0
"""Seconds after our own deadline at which a server ends a statement that we have given up."""

WAL = "PRAGMA journal_mode=WAL"
WAL_TRIES, WAL_PAUSE, AT_ONCE = 50, 0.01, 0.1
"""Two that open a new file at once both ask for this mode, and SQLite refuses one of them at once (s), without waiting
for the lock as it does otherwise."""
PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA cache_size=-16384",
    "PRAGMA wal_autocheckpoint=25000",
    "PRAGMA journal_size_limit=134217728",
)
READER_PRAGMAS = ("PRAGMA cache_size=-2048",)
"""Readers walk in order, which a large cache does not help; there are several of them."""

# The driver logs the parameters of every statement at DEBUG, and they hold numbers.
logging.getLogger("aiosqlite").setLevel(logging.INFO)
log = get_logger(__name__)


class Unwritable(StoreUnavailable):
    """The file may not be written. Later it may be; at start that is a mistake."""


class DatabaseAddress:
    """Where a database is: its SQLAlchemy URL, and the name it has in messages (never with a password).

    Raises StoreError for what cannot be used: an unknown kind, SQLite in memory, a directory that is missing.
    """

    def __init__(self, url: str) -> None:
        self._postgresql_url: PostgresqlUrl | None = None
        self._is_session = False
        self._inode = 0
        try:
            kind = database_url.backend(url)
            if kind == "postgresql":
                self._postgresql_url = database_url.postgresql(url)
            elif kind == "sqlite":
                ignored = database_url.sqlite(url)
                self.url: URL = make_url(url).set(drivername="sqlite+aiosqlite")
                self.url = self.url.difference_update_query(ignored)
        except DatabaseUrlError as mistake:
            raise StoreError(f"store.url: {mistake}") from None
        except (exc.ArgumentError, ValueError):
            raise StoreError("store.url is no URL: write sqlite:///precall.db or postgresql://...") from None
        if kind not in ("sqlite", "postgresql"):
            raise StoreError(f"store.url begins with {kind}: only sqlite and postgresql are known")
        self.is_sqlite = kind == "sqlite"
        if (given := self._postgresql_url) is not None:
            self.name, ignored = given.name, given.ignored
            keep(given.password)
            if missing := unreadable(given.files):
                raise StoreError(f"store.url: {missing}")
        else:
            self.name = self._file(self.url)
        if ignored:
            # Once per place; lines that say the same are folded.
            log.warning("store.url_ignored", parameters=list(ignored))

    @staticmethod
    def _file(url: URL) -> str:
        if not url.database or ":memory:" in url.database or url.query.get("mode") == "memory":
            raise StoreError(
                "store.url names an SQLite database in memory, which would forget every route:"
                " name a file, as in sqlite:///precall.db"
            )
        path = Path(url.database.removeprefix("file:"))
        if not path.parent.is_dir():
            raise StoreError(
                f"{path}: the directory {path.parent} does not exist: make it, or mend store.url"
            )
        return str(path)

    def hold(self) -> None:
        """Take the file that is there now for the database."""
        if self.is_sqlite:
            self._inode = Path(self.name).stat().st_ino

    def confirm(self) -> None:
        """Raise StoreUnavailable unless the file is the one that was held: SQLite goes on writing one that was deleted,
        and takes the journal of the old for that of a new one."""
        if not self.is_sqlite:
            return
        try:
            same = Path(self.name).stat().st_ino == self._inode
        except OSError:
            same = False
        if not same:
            raise StoreUnavailable(
                f"{self.name} was moved, deleted or replaced while in use:"
                " put it back, or restart precall to go on with what is there"
            )

    def engine(self, timeout: float, *, writes: bool, patience: float = PATIENCE) -> AsyncEngine:
        """An engine for the one writer, or for readers. `timeout` bounds the wait for a lock or a connection, and
        with `patience` more what a statement may take where only the server can end it.

        Raises StoreUnavailable for a file that cannot be opened, StoreError where the driver is missing.
        """
        options: dict[str, Any] = {"pool_timeout": timeout, "hide_parameters": True}
        options |= {"pool_size": 1 if writes else 2, "max_overflow": 0 if writes else 2}
        return (self._sqlite if self.is_sqlite else self._postgresql)(timeout, writes, patience, options)

    def _sqlite(self, timeout: float, writes: bool, _patience: float, options: dict[str, Any]) -> AsyncEngine:
        self._keep_private()
        with failures_of(self.name):
            # Here, because the driver leaves a thread behind when it fails at this.
            try:
                sqlite3.connect(self.url.database or "", uri="file:" in (self.url.database or "")).close()
            except ValueError as error:  # a name that no file can have
                raise StoreError(f"store.url: {error}") from None
        # Less than the deadline of a write, so that a lock is called a lock.
        options["connect_args"] = {"timeout": timeout * 0.8, "isolation_level": None}
        engine = create_async_engine(self.url, **options)
        event.listen(engine.sync_engine, "connect", _prepare_writer if writes else _prepare_reader)
        event.listen(engine.sync_engine, "begin", _begin_write if writes else _begin_read)
        return engine

    def _keep_private(self) -> None:
        """Numbers stand in the file: make it for its owner alone, and close one that everybody may read.

        SQLite gives `-wal` and `-shm` the permissions of the database. What cannot be done is said, and hinders nobody.
        """
        file = Path(self.name).resolve()
        if self.url.query.get("mode", "rwc") == "rwc":
            with suppress(OSError):  # SQLite says better what is wrong with it
                private_files.make(file)
        for one in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal"))):
            try:
                if private_files.shut(one):
                    log.warning("store.shut", file=str(one), hint="it was open to every user: mode 0600 now")
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning(
                    "store.open_to_others",
                    file=str(one),
                    error=error.strerror,
                    hint="let its owner chmod 600",
                )

    def _postgresql(
        self, timeout: float, writes: bool, patience: float, options: dict[str, Any]
    ) -> AsyncEngine:
        limits = {
            # Less than the deadline of a write, so that a lock is called a lock.
            "lock_timeout": str(round(timeout * 800)),
            "statement_timeout": str(round((timeout + patience) * 1000)),
        }
        if writes:
            # A plan made while the table was small reads all of it for every batch when it has grown.
            limits["plan_cache_mode"] = "force_custom_plan"
            # All it does is by key, and mostly in memory.
            limits["enable_seqscan"] = "off"
        connect = partial(self.session, timeout, limits)
        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, **options)
        watch_sessions(engine.sync_engine)
        return engine

    async def session(self, timeout: float, settings: dict[str, str]) -> Any:
        """A connection of PostgreSQL's driver (asyncpg) by itself, with these settings of the server's.

        Raises StoreError, StoreUnavailable.
        """
        given = self._postgresql_url
        if given is None:
            raise StoreError(f"{self.name} is no PostgreSQL database")
        try:
            connection = await self._connected(given, timeout)
            try:
                require_version(connection, self.name)
                await say(connection, {**given.settings, **settings}, timeout)
                if not self._is_session:
                    again = partial(self._connected, given, timeout)
                    await require_session(connection, again, self.name, timeout)
                    self._is_session = True
            except BaseException:
                connection.terminate()
                raise
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  told again as what it means
            raise _no_connection(error, self.name) from None
        return connection

    async def _connected(self, given: PostgresqlUrl, timeout: float) -> Any:
        if given.connect_timeout is not None:
            timeout = min(timeout, given.connect_timeout)
        # The one setting of ours that every pooler knows.
        named = {"application_name": given.application_name}
        return await _driver(self.name)(given.dsn, timeout=timeout, server_settings=named)


async def say(connection: Any, settings: Mapping[str, str], timeout: float, *, local: bool = False) -> None:
    """Change settings of the session (`local`: of its transaction), in one question without a prepared statement."""
    if settings:
        until = str(local).lower()
        wanted = (f"set_config('{name}', '{_quoted(value)}', {until})" for name, value in settings.items())
        await connection.execute(f"SELECT {', '.join(wanted)}", timeout=timeout)


def _quoted(value: str) -> str:
    return value.replace("'", "''")


def unreadable(files: Mapping[str, str]) -> str:
    """Why one of these files (parameter -> path) cannot be read, "" when all can be."""
    for name, path in files.items():
        try:
            os.close(os.open(path, os.O_RDONLY))
        except (OSError, ValueError) as error:
            return f"{name}: {path} cannot be read: {getattr(error, 'strerror', None) or error}"
    return ""


def _driver(name: str) -> Callable[..., Awaitable[Any]]:
    try:
        import asyncpg  # noqa: PLC0415  an extra
    except ImportError:
        raise StoreError(f"{name}: its driver is not installed: pip install 'precall[postgres]'") from None
    found: Callable[..., Awaitable[Any]] = asyncpg.connect
    return found


async def close(engine: AsyncEngine, timeout: float) -> None:
    """Close the connections of `engine`; those whose server does not say goodbye within `timeout` are dropped."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await engine.dispose()


def _prepare_writer(connection: Any, _record: object) -> None:
    _say(connection, PRAGMAS)


def _prepare_reader(connection: Any, _record: object) -> None:
    _say(connection, PRAGMAS + READER_PRAGMAS)


def _say(connection: Any, pragmas: Iterable[str]) -> None:
    cursor = connection.cursor()
    loop = asyncio.get_running_loop()
    for left in reversed(range(WAL_TRIES)):
        begun = loop.time()
        try:
            cursor.execute(WAL)
            break
        except sqlite3.OperationalError as error:
            waited = loop.time() - begun > AT_ONCE
            if waited or not left or "locked" not in str(error):
                raise
            connection.run_async(lambda _: asyncio.sleep(WAL_PAUSE))
    for pragma in pragmas:
        cursor.execute(pragma)
    cursor.close()


def _begin_write(connection: Connection) -> None:
    # At once as a writer: a reader that turns writer cannot wait for a lock, it fails.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_read(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


@contextmanager
def failures_of(name: str) -> Iterator[None]:
    """Turns what the database called `name` says or does into StoreError and StoreUnavailable.

    A wrong value or a wrong statement is a bug of ours: a RuntimeError, without the numbers that servers quote.
    """
    try:
        yield
    except (exc.DBAPIError, exc.TimeoutError, sqlite3.Error, OSError) as error:
        # Without the cause, for its text may quote a row; it went through the same lines.
        raise _meaning(error, name).with_traceback(error.__traceback__) from None
    except Exception as error:
        if not _of_driver(error):
            raise
        raise _meaning(error, name) from None


BUGS = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)


def _of_driver(error: BaseException) -> bool:
    # An extra: it may not be there to be imported.
    return type(error).__module__.partition(".")[0] == "asyncpg"


def _no_connection(error: Exception, name: str) -> Exception:
    """Why PostgreSQL could not be connected to."""
    said, state = _said(error), getattr(error, "sqlstate", None)
    if isinstance(error, OSError):
        return StoreUnavailable(f"{name} cannot be reached ({said})")
    if state is not None and (found := _of_state(state, said, name)) is not None:
        return found
    if state is None and _of_driver(error) and not isinstance(error, ValueError):
        return StoreUnavailable(f"{name} cannot be reached ({said})")
    # Whatever else a driver makes of a URL: a TypeError, a KeyError ...
    return StoreError(f"{name} cannot be connected to like this: mend store.url ({said})")


def _meaning(error: Exception, name: str) -> Exception:
    origin = getattr(error, "orig", None) or error
    said = _said(origin)
    found: Exception | None = None
    if state := getattr(origin, "sqlstate", None):
        found = _of_state(state, said, name)
    elif not isinstance(error, BUGS):
        found = _of_text(said, name)
    return found or RuntimeError(f"{name} refuses a statement of ours: {said}")


def _said(error: BaseException) -> str:
    """The first line of it, without any value that it quotes."""
    line = str(error).strip().partition("\n")[0]
    # SQLAlchemy puts the class before what the server said.
    line = re.sub(r"^<class '[\w.]+'>: ", "", line)
    return masked(line) or type(error).__name__


def _of_state(state: str, said: str, name: str) -> StoreError | None:
    """What a condition of PostgreSQL (https://www.postgresql.org/docs/current/errcodes-appendix.html) means for us."""
    match state[:2], state:
        case "28", _:
            return StoreError(
                f"{name} does not let us in: mend the user or the password in store.url ({said})"
            )
        case "3D", _:
            return StoreError(f"{name}: there is no such database: create it, or mend store.url")
        case _, state if state in LOST_STATEMENTS:
            return StoreError(shared(name))
        case _, "42501":
            return StoreError(f"{name} does not allow it: let this user own the database ({said})")
        case _, "55P03":
            return StoreUnavailable(f"{name} is locked by another session: wait for it, or end it")
        case _, "53100":
            return StoreUnavailable(f"{name} cannot grow, its disk is full: make room ({said})")
        case _, "25006":
            return StoreUnavailable(f"{name} is read-only, a standby perhaps: name its primary ({said})")
        case (("08" | "25" | "40" | "53" | "55" | "57" | "58" | "XX"), _):
            return StoreUnavailable(f"{name} does not answer as it should ({said})")
        case _:
            return None


def _of_text(said: str, name: str) -> StoreError:
    """What SQLite, the driver or the operating system said means for us."""
    low = said.lower()
    if "not a database" in low or "malformed" in low:
        return StoreError(
            f"{name} is not an SQLite database, or is damaged: move it away or restore a copy, or mend store.url"
        )
    if "locked" in low or "busy" in low:
        return StoreUnavailable(f"{name} is locked by another process: wait for it, or stop it")
    if "full" in low:
        return StoreUnavailable(f"{name} cannot grow, its disk is full: make room ({said})")
    if "readonly" in low or "unable to open" in low:
        return Unwritable(
            f"{name} cannot be written: give this user write access to the file and its directory ({said})"
        )
    return StoreUnavailable(f"{name} does not answer as it should ({said})")
