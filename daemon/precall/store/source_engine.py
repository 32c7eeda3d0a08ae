"""A customer's database on any backend of SQLAlchemy: SQLite, MySQL, and others with an asynchronous driver.

SQLite's driver and aiomysql are made to return undecoded values, so that invalid text costs only its row. Other drivers
decode whole rows; there such a value ends the read.
"""

import sqlite3
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from importlib import import_module
from typing import Any
from urllib.parse import quote

from sqlalchemy import NullPool, exc
from sqlalchemy.engine import URL, Connection, CursorResult, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from precall.config.database_url import MysqlUrl
from precall.core.errors import ConfigError
from precall.core.sync.columns import Undecodable
from precall.store.attempt import interrupt
from precall.telemetry.redaction import keep, masked

SLICE = 200
"""Rows per slice. Processing one blocks the event loop for a few ms."""
DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mariadb+aiomysql",
    "oracle": "oracle+oracledb_async",
    "mssql": "mssql+aioodbc",
}
"""The asynchronous driver for a URL that names none."""
BLOCKING = (
    "psycopg2",
    "pg8000",
    "mysqldb",
    "pymysql",
    "mysqlconnector",
    "pysqlite",
    "pyodbc",
    "pymssql",
    "cx_oracle",
)
"""Well-known synchronous drivers, which would block the event loop."""
MYSQL_DECIMALS = (0, 246)
"""The MySQL type codes of decimal values."""


class EngineRows:
    """The database at `url`. `mysql` has the connection parameters if it is MySQL or MariaDB.

    Raises ConfigError for an unusable URL or a missing driver.
    """

    def __init__(self, url: str, mysql: MysqlUrl | None = None) -> None:
        try:
            given = make_url(url)
        except (exc.ArgumentError, ValueError):
            raise ConfigError(
                ["source.url: is no URL; write postgresql://user@host/name or sqlite:////path"]
            ) from None
        keep(given.password or "")
        self._file = ""
        self.name = f"{given.host or ''}/{given.database or ''}"
        if given.get_backend_name() == "sqlite":
            given, self.name = _read_only(given)
            self._file = f"{given.database}?mode=ro"
        if given.drivername.partition("+")[2].lower() in BLOCKING:
            raise ConfigError([_not_asynchronous(given.drivername)])
        charset = str(mysql.arguments.get("charset", "")) if mysql is not None else ""
        if charset and not _is_known(charset):
            wrong = f"charset={masked(charset)} is not known to this driver; write charset=utf8mb4"
            raise ConfigError([f"source.url: {wrong}"])
        self._engine = _engine(given, _arguments(mysql))

    async def connect(self) -> "_Result":
        """Connect."""
        if self._file:
            # Tried here first, because the driver leaks a thread when opening the file fails.
            sqlite3.connect(self._file, uri=True).close()
        return _Result(await self._engine.connect())


class _Result:
    """One query, read in slices."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._result: CursorResult[tuple[object, ...]] | None = None
        self._interrupt: Callable[[], Awaitable[None]] | None = None
        self._read: Callable[[Sequence[object]], Sequence[object]] = _as_is

    async def open(self, query: str) -> Sequence[str]:
        connection = self._connection
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        self._interrupt = getattr(driver, "interrupt", None)
        match connection.dialect.name:
            case "sqlite":
                driver.text_factory = text_or_none  # type: ignore[union-attr]
            case "mysql" | "mariadb":
                await connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
                await connection.rollback()
                self._read = _unread(driver)
            case "postgresql":
                await connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        result = self._result = await connection.run_sync(lambda sync: _execute(sync, query))
        return list(result.keys()) if result.returns_rows else []

    async def more(self) -> Sequence[Sequence[object]]:
        result = self._result
        if result is None:
            return []
        rows = await self._connection.run_sync(lambda _: result.fetchmany(SLICE))
        return [self._read(row) for row in rows]

    async def interrupt(self) -> bool:
        if self._interrupt is None:
            return False
        await interrupt(self._interrupt)
        return True

    async def close(self, *, whole: bool) -> None:
        result = self._result
        if whole and result is not None:
            await self._connection.run_sync(lambda _: result.close())
        await self._connection.close()


def _execute(connection: Connection, query: str) -> CursorResult[tuple[object, ...]]:
    # Passed to the driver verbatim: neither `:name` nor `%` in the query is a parameter.
    options = {"stream_results": True, "no_parameters": True, "max_row_buffer": SLICE}
    return connection.exec_driver_sql(query, execution_options=options)


def text_or_none(value: bytes) -> object:
    """Decode a text value of SQLite, which stores any bytes it is given."""
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        return Undecodable("is no text in UTF-8")


def _as_is(row: Sequence[object]) -> Sequence[object]:
    return row


def _unread(driver: Any) -> Callable[[Sequence[object]], Sequence[object]]:
    """Make aiomysql return bytes. Return the function that decodes a row."""
    try:
        driver.use_unicode = False
        driver.decoders = {**driver.decoders, **dict.fromkeys(MYSQL_DECIMALS, decimal_of)}
        encoding = str(driver.encoding)
    except AttributeError:  # another driver
        return _as_is
    return lambda row: [text_or_bytes(value, encoding) for value in row]


def decimal_of(value: bytes) -> Decimal:
    """Parse a decimal number of MySQL."""
    return Decimal(str(value, "ascii"))


def text_or_bytes(value: object, encoding: str) -> object:
    """Decode a value of MySQL. Bytes are text in the encoding of the connection."""
    if not isinstance(value, bytes):
        return value
    try:
        return str(value, encoding)
    except UnicodeDecodeError:
        return Undecodable(f"is no text in {encoding.upper()}")


def _is_known(charset: str) -> bool:
    """Return whether the driver supports a MySQL charset.

    Checked in advance, because aiomysql would fail with a half-open connection. That one also emits a warning which
    cannot be caught.
    """
    try:
        names = import_module("pymysql.charset")
    except ImportError:  # another driver, which checks this itself
        return True
    return names.charset_by_name(charset) is not None


def _read_only(given: URL) -> tuple[URL, str]:
    """Return the URL with which SQLite opens the file read-only, and the file."""
    file = (given.database or "").removeprefix("file:")
    if not file or ":memory:" in file:
        raise ConfigError(["source.url: names no SQLite file; write sqlite:////var/lib/app/app.db"])
    query = {"mode": "ro", "uri": "true"}
    return URL.create(DRIVERS["sqlite"], database=f"file:{quote(file)}", query=query), file


def _arguments(mysql: MysqlUrl | None) -> dict[str, object]:
    if mysql is None:
        return {}
    arguments: dict[str, object] = dict(mysql.arguments)
    if mysql.tls is not None:
        arguments["ssl"] = _tls(mysql.tls, mysql.files)
    return arguments


def _tls(mode: str, files: Mapping[str, str]) -> ssl.SSLContext:
    """Create the TLS context for a mode of MySQL's `--ssl-mode`."""
    try:
        context = ssl.create_default_context(cafile=files.get("ssl_ca"))
        context.check_hostname = mode == "VERIFY_IDENTITY"
        if mode == "REQUIRED":
            context.verify_mode = ssl.CERT_NONE
        if certificate := files.get("ssl_cert"):
            context.load_cert_chain(certificate, files.get("ssl_key"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            [f"source.url: ssl_ca, ssl_cert or ssl_key cannot be used ({masked(str(error))})"]
        ) from None
    return context


def _engine(url: URL, arguments: Mapping[str, object]) -> AsyncEngine:
    try:
        complete = (
            url if "+" in url.drivername else url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
        )
        return create_async_engine(
            complete, poolclass=NullPool, hide_parameters=True, connect_args=dict(arguments)
        )
    except ImportError as error:
        name = error.name or str(error)
        raise ConfigError(
            [
                f"source.url: {url.drivername} needs the package {name}, which is not installed: pip install {name}"
            ]
        ) from None
    except exc.NoSuchModuleError:
        raise ConfigError(
            [f"source.url: {url.drivername} is not a database that SQLAlchemy supports"]
        ) from None
    except exc.InvalidRequestError:
        raise ConfigError([_not_asynchronous(url.drivername)]) from None
    except (exc.ArgumentError, TypeError, ValueError) as error:
        raise ConfigError([f"source.url: cannot be used ({masked(str(error))})"]) from None


def _not_asynchronous(drivername: str) -> str:
    kind = drivername.partition("+")[0]
    suitable = [driver for driver in DRIVERS.values() if driver.partition("+")[0] == kind]
    return f"source.url: {drivername} is not an asynchronous driver; write {' or '.join(suitable or DRIVERS.values())}"
