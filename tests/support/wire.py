"""A TCP proxy that simulates a network partition.

While it is cut, the server loses its connections at once. Clients notice nothing and get no replies, even on new
connections, until it is healed.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Wire:
    """Listen on a `port` of loopback and forward to port `to` while not cut."""

    def __init__(self, to: int) -> None:
        self.port = 0
        self._to, self._loop = to, asyncio.new_event_loop()
        self._intact = asyncio.Event()
        self._near: set[asyncio.StreamWriter] = set()
        self._far: set[asyncio.StreamWriter] = set()

    def cut(self, *, silently: bool = False) -> None:
        """Cut the connection. With `silently` the server notices nothing either, as if all packets were dropped."""
        self._call(self._intact.clear if silently else self._cut)

    def heal(self) -> None:
        self._call(self._heal)

    @contextmanager
    def running(self) -> Iterator["Wire"]:
        thread = threading.Thread(target=self._loop.run_forever, name="wire")
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def of(self, url: str) -> str:
        """Return the URL of the same database through this proxy."""
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=parts.netloc.replace(str(self._to), str(self.port))))

    def _call(self, act: object) -> None:
        async def acted() -> None:
            act()  # type: ignore[operator]

        asyncio.run_coroutine_threadsafe(acted(), self._loop).result()

    def _cut(self) -> None:
        self._intact.clear()
        for writer in self._far:
            writer.transport.abort()

    def _heal(self) -> None:
        self._intact.set()
        for writer in self._near | self._far:
            writer.transport.abort()

    async def _listen(self) -> None:
        self._intact.set()
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self._near.add(near)
        try:
            await self._intact.wait()
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._to)
            self._far.add(far)
            try:
                await asyncio.gather(self._forward(reader, far), self._forward(far_reader, near))
            finally:
                self._far.discard(far)
                far.close()
        except OSError:
            pass
        finally:
            self._near.discard(near)
            near.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward data until either end is closed. Hold it back while the wire is cut."""
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._intact.wait()
                writer.write(data)
                await writer.drain()
        await self._intact.wait()
        writer.close()
