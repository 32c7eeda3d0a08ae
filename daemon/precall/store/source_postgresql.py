"""A customer's PostgreSQL, read by its driver alone: one transaction, one cursor.

Everything happens inside the transaction, and no statement has a name: so it works through a pooler that shares
sessions between transactions, too. Values come as the server writes them and are read here, one by one: what Python
has no value for (a date of the year 275760, text that is none) is one bad value, not the end of the read.
"""

import codecs
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from precall.config.database_url import PostgresqlUrl
from precall.core.errors import ConfigError
from precall.core.sync.columns import Undecodable
from precall.store.connection import say

SLICE = 200
"""Rows handed on at once: what is made of them takes a few ms of the loop, which readers share."""
CONNECT = 10.0
"""Seconds to connect, unless the URL says less."""
GOODBYE = 1.0

_ENCODINGS = {
    "SQL_ASCII": "utf-8",
    "UTF8": "utf-8",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    "EUC_JIS_2004": "euc_jis_2004",
}
"""What Python calls an encoding of the server, where it does not call it the same."""
_AS_BYTES = ("text", "varchar", "bpchar", "name", "json", "jsonb", "xml")


class PostgresqlRows:
    """The database at `url`; a whole read may take `timeout` seconds. Raises ConfigError without the driver."""

    def __init__(self, url: PostgresqlUrl, timeout: float) -> None:
        try:
            import asyncpg  # noqa: PLC0415  an extra
        except ImportError:
            raise ConfigError(
                [
                    "source.url: postgresql needs the package asyncpg, which is not installed: pip install asyncpg"
                ]
            ) from None
        self._connect: Callable[..., Any] = asyncpg.connect
        self._url, self._timeout = url, timeout
        self.name = url.name.partition("@")[2] or url.name.partition("://")[2]

    async def connect(self) -> "_Cursor":
        """Connect, within the limits of the URL."""
        longest = min(self._timeout, CONNECT, self._url.connect_timeout or CONNECT)
        connection = await self._connect(
            self._url.dsn,
            timeout=longest,
            statement_cache_size=0,
            server_settings={"application_name": self._url.application_name},
        )
        limits = {"statement_timeout": str(round(self._timeout * 1000)), "datestyle": "ISO"}
        return _Cursor(connection, {**self._url.settings, **limits})


class _Cursor:
    """One query, read slice by slice."""

    def __init__(self, connection: Any, settings: dict[str, str]) -> None:
        self._connection, self._settings = connection, settings
        self._rows: Any = None

    async def open(self, query: str) -> Sequence[str]:
        connection = self._connection
        await connection.execute("BEGIN READ ONLY")
        await say(connection, self._settings, CONNECT, local=True)
        text = await self._text()
        columns = (await connection.prepare(query)).get_attributes()
        for kind in {column.type.name for column in columns if column.type.schema == "pg_catalog"}:
            await self._read_by_hand(kind, text)
        statement = await connection.prepare(query)
        if not columns:
            return []
        self._rows = await statement.cursor()
        return [column.name for column in columns]

    async def more(self) -> Sequence[Sequence[object]]:
        found: Sequence[Sequence[object]] = await self._rows.fetch(SLICE)
        return found

    async def interrupt(self) -> bool:
        return False

    async def close(self, *, whole: bool) -> None:
        if not whole:
            self._connection.terminate()
            return
        await self._connection.execute("ROLLBACK", timeout=GOODBYE)
        await self._connection.close(timeout=GOODBYE)

    async def _text(self) -> Callable[[bytes], object]:
        """How text is read. Where Python knows the encoding of the server, the server is not to convert it: that would
        fail with the first character that has no counterpart."""
        of_server = self._connection.get_settings().server_encoding
        try:
            encoding = codecs.lookup(_ENCODINGS.get(of_server, of_server.replace("WIN", "cp"))).name
        except LookupError:
            return text_of("utf-8")
        if of_server not in ("UTF8", "SQL_ASCII"):
            await say(self._connection, {"client_encoding": of_server}, CONNECT, local=True)
        return text_of(encoding)

    async def _read_by_hand(self, kind: str, text: Callable[[bytes], object]) -> None:
        if kind in _AS_BYTES:
            decoder: Callable[[Any], object] = (
                text if kind != "jsonb" else lambda value: text(value[1:])  # after the version
            )
            form = "binary"
        elif kind in _READERS:
            decoder, form = _READERS[kind], "text"
        else:
            return
        await self._connection.set_type_codec(
            kind, schema="pg_catalog", encoder=str, decoder=decoder, format=form
        )


def text_of(encoding: str) -> Callable[[bytes], object]:
    """A reader of text in this encoding."""
    bad = Undecodable(f"is no text in {encoding.upper()}")

    def read(value: bytes) -> object:
        try:
            return str(value, encoding)
        except UnicodeDecodeError:
            return bad

    return read


def _moment(text: str) -> object:
    if text == "infinity":
        return None  # it never comes
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return Undecodable("should lie between the years 1970 and 9999")


def _day(text: str) -> object:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return Undecodable("should lie between the years 1970 and 9999")


def _span(_text: str) -> object:
    return Undecodable("is a span or a time of day: cast it to text in the query")


_READERS: dict[str, Callable[[str], object]] = {
    "timestamp": _moment,
    "timestamptz": _moment,
    "date": _day,
    "time": _span,
    "timetz": _span,
    "interval": _span,
    "numeric": Decimal,
}
