"""The world of `bench_churn`: numbers and troubles computed from a serial and the time, a provider that returns them,
and a database as a daemon would have left it.

Every binding has trouble for `SPELL` seconds once in `PERIOD`, at a time of its own. It is computed, so the
provider and the reader agree on the truth at any time without communicating.
"""

import asyncio
import re
import sqlite3
import time
from collections.abc import Iterator
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, cast

import asyncpg
import uvloop

FIRST = 10**15
POOLS = 40
PERIOD, SPELL = 86_400.0, 1200.0
_STRIDE = 104_729
_ASKED = re.compile(rb"SubsId=(\d+)")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_PART = 20_000

TABLES: dict[str, tuple[str, ...]] = {
    "bindings": (
        *("subs_id", "generation", "pool_key", "number_x", "number_a", "number_b", "extension", "expires_at"),
        *("labels", "origin", "registered_at", "sound"),
    ),
    "routes": (
        *("subs_id", "generation", "state", "status", "number", "extension", "checked_at", "seq", "streak"),
        *(
            "temp_number",
            "temp_extension",
            "temp_at",
            "exposed_at",
            "gone_at",
            "blocked",
            "failures",
            "moves",
        ),
        *("request_id", "action", "reason", "version", "index"),
    ),
    "check_results": (
        *("id", "subs_id", "generation", "result", "status", "number", "extension", "code"),
        *("first_seq", "last_seq", "first_at", "last_at", "count", "request_id", "seconds"),
    ),
}


def subs_id(serial: int) -> str:
    return str(FIRST + serial)


def registered(serial: int) -> dict[str, str]:
    """The binding of this serial, as its customer registers it."""
    return {
        "pool_key": f"FC{serial % POOLS}",
        "number_x": f"170{serial:08}",
        "number_a": f"138{serial:08}",
        "number_b": f"139{serial:08}",
    }


def truth(serial: int, at: float) -> tuple[int, str]:
    """(Status, number) of a binding at a moment."""
    if (at + serial * _STRIDE % PERIOD) % PERIOD < SPELL:
        return 2, f"171{serial:08}"
    return 1, f"170{serial:08}"


class _Provider(asyncio.Protocol):
    """One connection of the provider: QueryCallStatus and nothing else."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        while end >= 0:
            length = _LENGTH.search(self._held, 0, end)
            end += 4 + (int(length[1]) if length else 0)
            if len(self._held) < end:
                return
            asked, self._held = self._held[:end], self._held[end:]
            self._answer(asked)
            end = self._held.find(b"\r\n\r\n")

    def _answer(self, asked: bytes) -> None:
        found = _ASKED.search(asked)
        serial = int(found[1]) - FIRST if found else 0
        status, number = truth(serial, time.time())
        body = (
            b'{"Code":"OK","Message":"OK","RequestId":"0A1B2C3D-4E5F-6071-8293-%012d",'
            b'"SecretCallStatusDTO":{"Status":%d,"CalledNo":"%b"}}' % (serial, status, number.encode())
        )
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


def provide(pipe: Connection) -> None:
    """Run the provider; the main function of its process."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Provider, "127.0.0.1", 0)
        pipe.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await asyncio.to_thread(pipe.recv)
        server.close()

    uvloop.run(work())


def rows(bindings: int, now: float) -> Iterator[tuple[tuple[Any, ...], ...]]:
    """The rows of each table for each serial from 1 on, each checked within the last hour."""
    for serial in range(1, bindings + 1):
        at, born = now - serial * _STRIDE % 3600, now - serial * 7919 % 172_800 - 3600
        status, number = truth(serial, at)
        name, about = subs_id(serial), registered(serial)
        temporary, moved = (number, at) if status == 2 else ("", 0.0)
        state, action = ("temporary", "dial_temp_x") if status == 2 else ("normal", "dial_x")
        end = now + 86_400 + serial % 518_400
        yield (
            (name, serial, *about.values(), "", end, "{}", "api", born, True),
            (
                *(name, serial, state, status, number, "", at, serial, 3, temporary, "", moved, 0.0, 0.0),
                *(False, 0, "[]", "", action, f"status_{status}", 2, serial),
            ),
            (
                *(serial, name, serial, f"status_{status}", status, number, "", "OK"),
                *(serial, serial, at - 60, at, 3, "", 0.05),
            ),
        )


async def fill(url: str, bindings: int, now: float) -> None:
    """Fill a migrated, empty database."""
    made = rows(bindings, now)
    marks = [(name, str(bindings)) for name in ("high_index", "high_seq")]
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
            database.execute("PRAGMA synchronous=OFF")
            while part := list(islice(made, _PART)):
                for (table, columns), values in zip(TABLES.items(), zip(*part, strict=True), strict=True):
                    names, places = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
                    database.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", values)  # noqa: S608
            database.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", marks)
        database.close()
        return
    connection = await asyncpg.connect(url)
    try:
        while part := list(islice(made, _PART)):
            for (table, columns), values in zip(TABLES.items(), zip(*part, strict=True), strict=True):
                await connection.copy_records_to_table(table, records=values, columns=columns)
        await connection.execute("SELECT setval(pg_get_serial_sequence('check_results', 'id'), $1)", bindings)
        await connection.executemany(
            "INSERT INTO marks VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", marks
        )
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


async def stored(url: str) -> int:
    """Bytes that the database uses, without what it has free."""
    if url.startswith("sqlite"):
        database = sqlite3.connect(url.removeprefix("sqlite:///"))
        pages, free, size = (
            database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        database.close()
        return int((pages - free) * size)
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT pg_database_size(current_database())"))
    finally:
        await connection.close()
