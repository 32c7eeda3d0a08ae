"""A minimal connection pooler for PostgreSQL, in session mode or transaction mode.

Like PgBouncer it rejects startup parameters that it does not track and reports its own process id to clients. In
transaction mode it lends the server connection that was used last. Clients log in to the server through it.
"""

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

TRACKED = frozenset(
    {
        "user",
        "database",
        "client_encoding",
        "datestyle",
        "timezone",
        "standard_conforming_strings",
        "application_name",
    }
)
SSL, GSS, VERSION_3 = 80877103, 80877104, 196608
TERMINATE = b"X"
IDLE = b"I"
"""Transaction status of a server that is ready and not in a transaction."""
Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Pooler:
    """A pooler in front of the server at `port`; `shares` selects transaction mode."""

    port: int
    shares: bool
    idle: list[Wire] = field(default_factory=list)
    opened: list[asyncio.StreamWriter] = field(default_factory=list)
    clients: "set[asyncio.Task[None]]" = field(default_factory=set)
    pids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1_000_000))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        if (task := asyncio.current_task()) is not None:
            self.clients.add(task)
        self.opened.append(writer)
        with suppress(OSError, EOFError):
            if (head := await self._greeted(reader, writer)) is not None:
                server = await self._logged_in(head, reader, writer)
                if self.shares:
                    await self._by_transaction(server, reader, writer)
                else:
                    await self._by_session(server, reader, writer)
        writer.close()

    async def _greeted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        while True:
            size = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack("!I", size)[0] - 4)
            (code,) = struct.unpack("!I", body[:4])
            if code in (SSL, GSS):
                writer.write(b"N")
                continue
            if code != VERSION_3:
                return None  # a request to cancel
            names = body[4:].rstrip(b"\0").split(b"\0")[::2]
            for name in names:
                if name.decode().lower() not in TRACKED:
                    error = b"SFATAL\0C08P01\0Munsupported startup parameter: " + name + b"\0\0"
                    writer.write(b"E" + struct.pack("!I", len(error) + 4) + error)
                    await writer.drain()
                    return None
            return size + body

    async def _logged_in(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Wire:
        """Open a server connection and let the client log in through it."""
        server = await asyncio.open_connection("127.0.0.1", self.port)
        self.opened.append(server[1])
        server[1].write(head)
        while True:
            kind, message = await _message(server[0])
            if kind == b"K":
                message = message[:5] + struct.pack("!I", next(self.pids)) + message[9:]
            writer.write(message)
            if kind == b"Z":
                return server
            if kind == b"E":
                raise EOFError
            if kind == b"R" and struct.unpack("!I", message[5:9])[0] in (3, 5, 10, 11):
                server[1].write((await _message(reader))[1])

    async def _by_session(
        self, server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await asyncio.gather(_pump(server[0], writer), _pump(reader, server[1]))

    async def _by_transaction(
        self, server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.idle.append(server)
        while True:
            if (message := await _message(reader))[0] == TERMINATE:
                return
            server = self.idle.pop()
            statuses: asyncio.Queue[bytes] = asyncio.Queue()
            replies = asyncio.create_task(_until_idle(server[0], writer, statuses))
            try:
                while True:
                    server[1].write(message[1])
                    if message[0] in (b"Q", b"S") and await statuses.get() == IDLE:
                        break
                    message = await _message(reader)
            finally:
                await _cancelled(replies)
            self.idle.append(server)


async def _until_idle(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, statuses: "asyncio.Queue[bytes]"
) -> None:
    status = b""
    while status != IDLE:
        kind, message = await _message(reader)
        writer.write(message)
        if kind == b"Z":
            status = message[5:6]
            statuses.put_nowait(status)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while some := await reader.read(65_536):
            writer.write(some)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def pooling(url: str, *, shares: bool) -> AsyncIterator[str]:
    """Run a pooler inside the `with` block and yield `url` through it."""
    parts = urlsplit(url)
    pooler = Pooler(parts.port or 5432, shares)
    server = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield urlunsplit(parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{port}"))
    finally:
        server.close()
        for writer in pooler.opened:
            writer.close()
        await asyncio.gather(*pooler.clients)
        for writer in pooler.opened:
            with suppress(OSError):
                await writer.wait_closed()
