"""Database connections, and the translation of database errors. SQL statements do not belong here.

SQLite runs in WAL mode with `synchronous=FULL`: a commit is on disk before it is acknowledged. Neither `kill -9` nor a
power loss can undo a registration, an audit row or a route that a reader has seen. (NORMAL would survive `kill -9`;
FULL costs one fsync per transaction, and transactions carry thousands of rows.) Checkpoints are rare, because each
one rewrites every page changed since the last.

PostgreSQL is reached as by its own tools: `database_url` documents the URL parameters, and the PG* environment
variables apply. Server-side timeouts, slightly longer than ours, end abandoned statements, so that sessions do not
pile up behind a lock. They are set after connecting, because poolers reject unknown startup parameters. A session
whose server is no longer the primary is dropped (see `failover`).
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
"""Seconds after our own deadline before the server ends an abandoned statement."""

WAL = "PRAGMA journal_mode=WAL"
WAL_TRIES, WAL_PAUSE, AT_ONCE = 50, 0.01, 0.1
"""Retries, seconds between them, and the longest wait (s) that counts as an immediate refusal.

When two connections open a new file together, SQLite may refuse one of them WAL mode at once, ignoring the busy
timeout."""
PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA cache_size=-16384",
    "PRAGMA wal_autocheckpoint=25000",
    "PRAGMA journal_size_limit=134217728",
)
READER_PRAGMAS = ("PRAGMA cache_size=-2048",)
"""Readers scan sequentially, which a large cache does not speed up, and there are several of them."""

# At DEBUG the driver logs statement parameters, which contain phone numbers.
logging.getLogger("aiosqlite").setLevel(logging.INFO)
log = get_logger(__name__)


class Unwritable(StoreUnavailable):
    """The file is not writable. This may be transient while running; at startup it is a configuration error."""


class DatabaseAddress:
    """The location of a database: its SQLAlchemy URL, and its name in messages (never with a password).

    Raises StoreError for an unknown backend, an in-memory SQLite database or a missing directory.
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
        if (postgres := self._postgresql_url) is not None:
            self.name, ignored = postgres.name, postgres.ignored
            keep(postgres.password)
            if missing := unreadable(postgres.files):
                raise StoreError(f"store.url: {missing}")
        else:
            self.name = self._file(self.url)
        if ignored:
            # Logged once per address; identical lines are folded.
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
                f"{path}: the directory {path.parent} does not exist: create it, or correct store.url"
            )
        return str(path)

    def hold(self) -> None:
        """Record the identity of the SQLite file, for `confirm`."""
        if self.is_sqlite:
            self._inode = Path(self.name).stat().st_ino

    def confirm(self) -> None:
        """Raise StoreUnavailable if the SQLite file is no longer the one recorded by `hold`.

        SQLite keeps writing to a deleted file, and may apply the journal of the old file to a new one.
        """
        if not self.is_sqlite:
            return
        try:
            same = Path(self.name).stat().st_ino == self._inode
        except OSError:
            same = False
        if not same:
            raise StoreUnavailable(
                f"{self.name} was moved, deleted or replaced while in use:"
                " put it back, or restart precall to continue with the current file"
            )

    def engine(self, timeout: float, *, writes: bool, patience: float = PATIENCE) -> AsyncEngine:
        """Create an engine for the single writer, or for readers.

        `timeout` (seconds) bounds the wait for a lock or a connection. On PostgreSQL the server ends a statement
        after `timeout + patience`.

        Raises StoreUnavailable if the file cannot be opened, StoreError if the driver is missing.
        """
        options: dict[str, Any] = {"pool_timeout": timeout, "hide_parameters": True}
        options |= {"pool_size": 1 if writes else 2, "max_overflow": 0 if writes else 2}
        return (self._sqlite if self.is_sqlite else self._postgresql)(timeout, writes, patience, options)

    def _sqlite(self, timeout: float, writes: bool, _patience: float, options: dict[str, Any]) -> AsyncEngine:
        self._keep_private()
        with failures_of(self.name):
            # Tried here first, because the driver leaks a thread when opening the file fails.
            try:
                sqlite3.connect(self.url.database or "", uri="file:" in (self.url.database or "")).close()
            except ValueError as error:  # not a valid file name
                raise StoreError(f"store.url: {error}") from None
        # Below the deadline of a write, so that a lock is reported as a lock.
        options["connect_args"] = {"timeout": timeout * 0.8, "isolation_level": None}
        engine = create_async_engine(self.url, **options)
        event.listen(engine.sync_engine, "connect", _prepare_writer if writes else _prepare_reader)
        event.listen(engine.sync_engine, "begin", _begin_write if writes else _begin_read)
        return engine

    def _keep_private(self) -> None:
        """Create the database file with mode 0600, and tighten one that other users may access: it contains numbers.

        SQLite gives `-wal` and `-shm` the permissions of the database. A failure is logged and otherwise ignored.
        """
        file = Path(self.name).resolve()
        if self.url.query.get("mode", "rwc") == "rwc":
            with suppress(OSError):  # SQLite reports the problem more precisely
                private_files.make(file)
        for path in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal"))):
            try:
                if private_files.shut(path):
                    log.warning(
                        "store.shut", file=str(path), hint="other users could access it; its mode is now 0600"
                    )
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning(
                    "store.open_to_others",
                    file=str(path),
                    error=error.strerror,
                    hint="its owner should run chmod 600",
                )

    def _postgresql(
        self, timeout: float, writes: bool, patience: float, options: dict[str, Any]
    ) -> AsyncEngine:
        limits = {
            # Below the deadline of a write, so that a lock is reported as a lock.
            "lock_timeout": str(round(timeout * 800)),
            "statement_timeout": str(round((timeout + patience) * 1000)),
        }
        if writes:
            # A generic plan made while the table was small would scan the whole table once it has grown.
            limits["plan_cache_mode"] = "force_custom_plan"
            # The writer accesses rows by key, mostly in memory.
            limits["enable_seqscan"] = "off"
        connect = partial(self.session, timeout, limits)
        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, **options)
        watch_sessions(engine.sync_engine)
        return engine

    async def session(self, timeout: float, settings: dict[str, str]) -> Any:
        """Open a bare asyncpg connection with these server settings. Raises StoreError, StoreUnavailable."""
        url = self._postgresql_url
        if url is None:
            raise StoreError(f"{self.name} is not a PostgreSQL database")
        try:
            connection = await self._connected(url, timeout)
            try:
                require_version(connection, self.name)
                await say(connection, {**url.settings, **settings}, timeout)
                if not self._is_session:
                    reconnect = partial(self._connected, url, timeout)
                    await require_session(connection, reconnect, self.name, timeout)
                    self._is_session = True
            except BaseException:
                connection.terminate()
                raise
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  translated
            raise _no_connection(error, self.name) from None
        return connection

    async def _connected(self, url: PostgresqlUrl, timeout: float) -> Any:
        if url.connect_timeout is not None:
            timeout = min(timeout, url.connect_timeout)
        # The only one of our settings that every pooler accepts at startup.
        startup = {"application_name": url.application_name}
        return await _driver(self.name)(url.dsn, timeout=timeout, server_settings=startup)


async def say(connection: Any, settings: Mapping[str, str], timeout: float, *, local: bool = False) -> None:
    """Change settings of the session (or, if `local`, of its transaction) in one round trip.

    No prepared statement is used, so this works through any pooler.
    """
    if settings:
        until = str(local).lower()
        wanted = (f"set_config('{name}', '{_quoted(value)}', {until})" for name, value in settings.items())
        await connection.execute(f"SELECT {', '.join(wanted)}", timeout=timeout)


def _quoted(value: str) -> str:
    return value.replace("'", "''")


def unreadable(files: Mapping[str, str]) -> str:
    """Return why one of these files (parameter -> path) cannot be read, or "" if all can be."""
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
    connect: Callable[..., Awaitable[Any]] = asyncpg.connect
    return connect


async def close(engine: AsyncEngine, timeout: float) -> None:
    """Close the connections of `engine`, dropping those that do not close within `timeout` seconds."""
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
    for retries_left in reversed(range(WAL_TRIES)):
        started = loop.time()
        try:
            cursor.execute(WAL)
            break
        except sqlite3.OperationalError as error:
            waited = loop.time() - started > AT_ONCE
            if waited or not retries_left or "locked" not in str(error):
                raise
            connection.run_async(lambda _: asyncio.sleep(WAL_PAUSE))
    for pragma in pragmas:
        cursor.execute(pragma)
    cursor.close()


def _begin_write(connection: Connection) -> None:
    # Start as a writer: upgrading a read transaction fails at once instead of waiting for the lock.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_read(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


@contextmanager
def failures_of(name: str) -> Iterator[None]:
    """Translate errors of the database called `name` into StoreError and StoreUnavailable.

    An invalid statement or value is a bug in precall. It becomes a RuntimeError, without the numbers servers quote.
    """
    try:
        yield
    except (exc.DBAPIError, exc.TimeoutError, sqlite3.Error, OSError) as error:
        # Without the cause, whose text may quote a row; the traceback is kept.
        raise _meaning(error, name).with_traceback(error.__traceback__) from None
    except Exception as error:
        if not _of_driver(error):
            raise
        raise _meaning(error, name) from None


BUGS = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)


def _of_driver(error: BaseException) -> bool:
    # By module name, because asyncpg is an optional dependency.
    return type(error).__module__.partition(".")[0] == "asyncpg"


def _no_connection(error: Exception, name: str) -> Exception:
    """Translate a failure to connect to PostgreSQL."""
    message, state = _message_of(error), getattr(error, "sqlstate", None)
    if isinstance(error, OSError):
        return StoreUnavailable(f"{name} cannot be reached ({message})")
    if state is not None and (known := _of_state(state, message, name)) is not None:
        return known
    if state is None and _of_driver(error) and not isinstance(error, ValueError):
        return StoreUnavailable(f"{name} cannot be reached ({message})")
    # Drivers raise anything for a bad URL: TypeError, KeyError ...
    return StoreError(f"{name} cannot be connected to with this URL: correct store.url ({message})")


def _meaning(error: Exception, name: str) -> Exception:
    origin = getattr(error, "orig", None) or error
    message = _message_of(origin)
    known: Exception | None = None
    if state := getattr(origin, "sqlstate", None):
        known = _of_state(state, message, name)
    elif not isinstance(error, BUGS):
        known = _of_text(message, name)
    return known or RuntimeError(f"{name} rejects a statement of precall: {message}")


def _message_of(error: BaseException) -> str:
    """Return the first line of an error message, with any values masked."""
    line = str(error).strip().partition("\n")[0]
    # SQLAlchemy prefixes the message of the server with the error class.
    line = re.sub(r"^<class '[\w.]+'>: ", "", line)
    return masked(line) or type(error).__name__


def _of_state(state: str, message: str, name: str) -> StoreError | None:
    """Translate an SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html), or return None."""
    match state[:2], state:
        case "28", _:
            return StoreError(
                f"{name} does not let us in: correct the user or the password in store.url ({message})"
            )
        case "3D", _:
            return StoreError(f"{name}: there is no such database: create it, or correct store.url")
        case _, state if state in LOST_STATEMENTS:
            return StoreError(shared(name))
        case _, "42501":
            return StoreError(f"{name} does not allow it: let this user own the database ({message})")
        case _, "55P03":
            return StoreUnavailable(f"{name} is locked by another session: wait for it, or end it")
        case _, "53100":
            return StoreUnavailable(f"{name} cannot grow, its disk is full: make room ({message})")
        case _, "25006":
            return StoreUnavailable(f"{name} is read-only, a standby perhaps: name its primary ({message})")
        case (("08" | "25" | "40" | "53" | "55" | "57" | "58" | "XX"), _):
            return StoreUnavailable(f"{name} does not answer as it should ({message})")
        case _:
            return None


def _of_text(message: str, name: str) -> StoreError:
    """Translate an error message of SQLite, the driver or the operating system."""
    low = message.lower()
    if "not a database" in low or "malformed" in low:
        return StoreError(
            f"{name} is not an SQLite database, or is damaged: move it away or restore a copy, or correct store.url"
        )
    if "locked" in low or "busy" in low:
        return StoreUnavailable(f"{name} is locked by another process: wait for it, or stop it")
    if "full" in low:
        return StoreUnavailable(f"{name} cannot grow, its disk is full: make room ({message})")
    if "readonly" in low or "unable to open" in low:
        return Unwritable(
            f"{name} cannot be written: give this user write access to the file and its directory ({message})"
        )
    return StoreUnavailable(f"{name} does not answer as it should ({message})")
