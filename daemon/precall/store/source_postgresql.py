"""A customer's PostgreSQL database, read with asyncpg alone: one transaction, one cursor.

Everything happens in the transaction, with unnamed statements, so it also works through a transaction pooler. Values
are decoded here one by one. A value that Python cannot represent (a date in the year 275760, invalid text) costs one
row instead of ending the read.
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
"""Rows per slice. Processing one blocks the event loop for a few ms."""
CONNECT = 10.0
"""Seconds to connect, unless the URL sets less."""
GOODBYE = 1.0
"""Seconds to end the transaction and close the connection."""

_ENCODINGS = {
    "SQL_ASCII": "utf-8",
    "UTF8": "utf-8",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    "EUC_JIS_2004": "euc_jis_2004",
}
"""Python's names for server encodings whose names differ."""
_AS_BYTES = ("text", "varchar", "bpchar", "name", "json", "jsonb", "xml")


class PostgresqlRows:
    """The database at `url`. `timeout` (seconds) limits a whole read. Raises ConfigError if asyncpg is missing."""

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
        """Connect, within the time limits of the URL."""
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
    """One query, read in slices."""

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
            await self._decode_here(kind, text)
        statement = await connection.prepare(query)
        if not columns:
            return []
        self._rows = await statement.cursor()
        return [column.name for column in columns]

    async def more(self) -> Sequence[Sequence[object]]:
        rows: Sequence[Sequence[object]] = await self._rows.fetch(SLICE)
        return rows

    async def interrupt(self) -> bool:
        return False

    async def close(self, *, whole: bool) -> None:
        if not whole:
            self._connection.terminate()
            return
        await self._connection.execute("ROLLBACK", timeout=GOODBYE)
        await self._connection.close(timeout=GOODBYE)

    async def _text(self) -> Callable[[bytes], object]:
        """Return the decoder for text.

        If Python supports the server's encoding, the server must not convert text. Conversion would fail at the first
        character without an equivalent.
        """
        of_server = self._connection.get_settings().server_encoding
        try:
            encoding = codecs.lookup(_ENCODINGS.get(of_server, of_server.replace("WIN", "cp"))).name
        except LookupError:
            return text_of("utf-8")
        if of_server not in ("UTF8", "SQL_ASCII"):
            await say(self._connection, {"client_encoding": of_server}, CONNECT, local=True)
        return text_of(encoding)

    async def _decode_here(self, kind: str, text: Callable[[bytes], object]) -> None:
        if kind in _AS_BYTES:
            decoder: Callable[[Any], object] = (
                text if kind != "jsonb" else lambda value: text(value[1:])  # skip the version byte
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
    """Return a decoder for text in this encoding."""
    bad = Undecodable(f"is no text in {encoding.upper()}")

    def read(value: bytes) -> object:
        try:
            return str(value, encoding)
        except UnicodeDecodeError:
            return bad

    return read


def _moment(text: str) -> object:
    if text == "infinity":
        return None  # never expires
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
