"""A way to a TCP server that can be cut, as by a network that parts: the server loses the connections at once, who
connected notices nothing and gets no answer, also on new ones, until the way is whole again."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Wire:
    """Listens on `port` of loopback and leads to `to`, for as long as it is not cut."""

    def __init__(self, to: int) -> None:
        self.port = 0
        self._to, self._loop = to, asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._near: set[asyncio.StreamWriter] = set()
        self._far: set[asyncio.StreamWriter] = set()

    def cut(self, *, silently: bool = False) -> None:
        """Part both ends. `silently`: the server is not let know either, as by a network that drops all packets."""
        self._call(self._whole.clear if silently else self._cut)

    def heal(self) -> None:
        self._call(self._heal)

    @contextmanager
    def laid(self) -> Iterator["Wire"]:
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
        """The URL of the same database by this way."""
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=parts.netloc.replace(str(self._to), str(self.port))))

    def _call(self, act: object) -> None:
        async def acted() -> None:
            act()  # type: ignore[operator]

        asyncio.run_coroutine_threadsafe(acted(), self._loop).result()

    def _cut(self) -> None:
        self._whole.clear()
        for writer in self._far:
            writer.transport.abort()

    def _heal(self) -> None:
        self._whole.set()
        for writer in self._near | self._far:
            writer.transport.abort()

    async def _listen(self) -> None:
        self._whole.set()
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self._near.add(near)
        try:
            await self._whole.wait()
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._to)
            self._far.add(far)
            try:
                await asyncio.gather(self._pass(reader, far), self._pass(far_reader, near))
            finally:
                self._far.discard(far)
                far.close()
        except OSError:
            pass
        finally:
            self._near.discard(near)
            near.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What comes, until either end is closed; silence instead while the wire is cut."""
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        await self._whole.wait()
        writer.close()
