"""Read latency under attack: idle connections, slow heads and bodies, wrong tokens.

`python -m tests.bench.bench_crowd [SECONDS]` reads from a daemon and from a bare aiohttp handler that returns constant
bytes, each in its own process. It reads first alone, then next to `IDLE` idle connections, `SLOW` slow ones that
reconnect when cut, and one that sends malformed requests without pause. SECONDS is the length of each turn. The
result is printed next to its goal, `LIMIT`.
"""

import asyncio
import itertools
import logging
import multiprocessing
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from multiprocessing.connection import Connection

import uvloop

from tests.bench.bench_read import KINDS, _serve

IDLE = 2000
SLOW = 200
READERS = 4
PAUSE = 0.005
LIMIT = 0.020

_QUESTION = KINDS["GET route"][1]
_HEAD = b"GET /v1/routes/1 HTTP/1.1\r\nHost: localhost\r\nX: "
_BODY = b"POST /v1/routes/lookup HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_BODY += b"Content-Length: 999\r\n\r\n"


def _serve_quietly(which: str, pipe: Connection) -> None:
    logging.disable()  # bare aiohttp writes a traceback for every malformed request
    _serve(which, pipe)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_QUESTION())
    head = await reader.readuntil(b"\r\n\r\n")
    start = head.index(b"Content-Length: ") + 16
    await reader.readexactly(int(head[start : head.index(b"\r\n", start)]))


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _dribble(port: int, begun: bytes) -> None:
    while True:
        with suppress(ConnectionError):
            async with _connected(port) as (_, writer):
                writer.write(begun)
                while not writer.is_closing():
                    await asyncio.sleep(0.5)
                    writer.write(b"x")


async def _guess(port: int) -> None:
    while True:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            async with _connected(port) as (reader, writer):
                while True:
                    writer.write(b"GET /v1/routes/1 HTTP/1.1\r\nAuthorization: Bearer no\x01\r\n\r\n")
                    await reader.readuntil(b"\r\n\r\n")


@asynccontextmanager
async def _crowd(port: int) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for _ in range(IDLE):
            await _ask(*await stack.enter_async_context(_connected(port)))
        begun = itertools.cycle((_HEAD, _BODY))
        tasks = [asyncio.create_task(_dribble(port, next(begun))) for _ in range(SLOW)]
        tasks.append(asyncio.create_task(_guess(port)))
        try:
            await asyncio.sleep(1.0)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _read(port: int, until: float) -> list[float]:
    found = []
    async with _connected(port) as (reader, writer):
        while (begun := time.perf_counter()) < until:
            await _ask(reader, writer)
            found.append(time.perf_counter() - begun)
            await asyncio.sleep(PAUSE)
    return found


async def _turn(port: int, seconds: float) -> list[float]:
    """Return the latencies of all reads, sorted."""
    until = time.perf_counter() + seconds
    found = await asyncio.gather(*(_read(port, until) for _ in range(READERS)))
    return sorted(itertools.chain(*found))


async def _measure(ports: dict[str, int], seconds: float) -> dict[str, list[float]]:
    found = {f"{name}, alone": await _turn(port, seconds) for name, port in ports.items()}
    for name, port in ports.items():
        async with _crowd(port):
            found[f"{name}, in a crowd"] = await _turn(port, seconds)
    return found


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    context = multiprocessing.get_context("spawn")
    ports, ends = {}, []
    for which in ("bare", "daemon"):
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve_quietly, args=(which, theirs), daemon=True)
        process.start()
        theirs.close()
        ends.append((ours, process))
        ports[which] = ours.recv()
    found = uvloop.run(_measure(ports, seconds))
    for pipe, process in ends:
        pipe.send("stop")
        process.join()
    print(f"{'':24}{'reads':>8}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for name, waits in found.items():
        middle, late = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
        print(f"{name:24}{len(waits):8}{middle * 1e3:9.2f}{late * 1e3:9.2f}{waits[-1] * 1e3:9.2f}")
    waits = found["daemon, in a crowd"]
    print(
        f"p99 among {IDLE} idle and {SLOW} slow connections: {waits[len(waits) * 99 // 100] * 1e3:.2f} ms",
        end=" ",
    )
    print(f"(goal: {LIMIT * 1e3:g} ms)")


if __name__ == "__main__":
    main()
