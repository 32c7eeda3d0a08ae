"""How long a committed change takes to reach the readers of the stream, compared with a bare aiohttp broadcast.

`python -m tests.bench.bench_feed [SECONDS] [READERS]` runs both servers in turns, each on uvloop in its own process,
with the readers in another one. The daemon commits `RATE` changes per second to SQLite and streams them. The bare
server writes the same bytes to every reader in a loop, without a database.

The latency is the time from the commit (bare: the broadcast) to the arrival at each reader. Exit code 1 means that the
daemon misses `P50` or `P99`.
"""

import asyncio
import multiprocessing
import re
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop
from aiohttp import web

from precall.api.schemas.bindings import BindingBody
from precall.config.schema import Config
from precall.config.settings import Settings
from precall.core.model import Row
from precall.engine.registry import Registry
from precall.runtime.daemon import Daemon
from precall.telemetry import logging as log

RATE = 50
P50, P99 = 0.010, 0.050
ROUNDS = 2

BODY = (
    b'{"subs_id":"1000000000000001","action":"dial_x","number":"17000000000","extension":"","state":"normal",'
    b'"reason":"status_1","status":1,"checked_at":"2026-01-02T03:04:05.678Z","age_ms":1234,"stale":false,'
    b'"retry_after":0,"flags":[],"expires_at":"2026-02-02T00:00:00Z","version":7,"index":123456}'
)
_ID = re.compile(rb"id: (\d+)\nevent")

Stamps = dict[int, float]
"""When each change was committed, by index: seconds of the monotonic clock that all processes share."""


async def _changing(seconds: float) -> "asyncio.Queue[int]":
    """Return a queue that gets a number `RATE` times per second, and -1 at the end."""
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def feed() -> None:
        begun = time.monotonic()
        for place in range(int(RATE * seconds)):
            await asyncio.sleep(max(0.0, begun + place / RATE - time.monotonic()))
            queue.put_nowait(place)
        queue.put_nowait(-1)

    queue.feeder = asyncio.create_task(feed())  # type: ignore[attr-defined]
    return queue


async def _bare(pipe: Connection, seconds: float) -> None:
    responses: list[web.StreamResponse] = []
    over = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"retry: 1000\n\n")
        responses.append(response)
        await over.wait()
        return response

    app = web.Application()
    app.router.add_get("/v1/routes/stream", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    pipe.send(runner.addresses[0][1])
    await asyncio.to_thread(pipe.recv)
    stamps: Stamps = {}
    cpu = time.process_time()
    queue = await _changing(seconds)
    while (place := await queue.get()) >= 0:
        stamps[place] = time.monotonic()
        for response in responses:
            await response.write(b"id: %d\nevent: change\ndata: %b\n\n" % (place, BODY))
    await asyncio.sleep(0.5)
    pipe.send((stamps, time.process_time() - cpu))
    over.set()
    await runner.cleanup()


async def _daemon(pipe: Connection, seconds: float) -> None:
    log.configure("error")
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            provider={  # type: ignore[arg-type]
                "endpoint": "http://127.0.0.1:9",
                "access_key_id": "none",
                "access_key_secret": "none",
                "rate": 0.001,
            },
            store={"url": f"sqlite:///{Path(folder)}/bench.db"},  # type: ignore[arg-type]
            api={"listen": "127.0.0.1:0"},  # type: ignore[arg-type]
        )
        daemon = Daemon(config)
        stamps: Stamps = {}

        def committed(_before: Row | None, after: Row | None) -> None:
            if after is not None:
                stamps[after.index] = time.monotonic()

        async with daemon.running() as [url]:
            daemon.parts.table.listeners.append(committed)
            registry = Registry(daemon.parts.writer, daemon.parts.table, Settings(config), time.time)
            pipe.send(int(url.rpartition(":")[2]))
            await asyncio.to_thread(pipe.recv)
            cpu = time.process_time()
            queue = await _changing(seconds)
            while (place := await queue.get()) >= 0:
                body = BindingBody(pool_key="FC1", number_x=f"170{place:08}", number_a=f"138{place:08}")
                await registry.register([body.binding(str(place))], atomic=False)
            await asyncio.sleep(0.5)
            pipe.send((stamps, time.process_time() - cpu))


def _serve(which: str, pipe: Connection, seconds: float) -> None:
    uvloop.run({"bare": _bare, "daemon": _daemon}[which](pipe, seconds))


class _Reader(asyncio.Protocol):
    """A stream reader that records when each change arrived."""

    def __init__(self, seen: list[tuple[int, float]], begun: asyncio.Event) -> None:
        self._seen, self._begun = seen, begun

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(  # type: ignore[attr-defined]
            b"GET /v1/routes/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._begun.set()
        self._seen.extend((int(index), now) for index in _ID.findall(data))


async def _read(port: int, readers: int, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    seen: list[tuple[int, float]] = []
    for _ in range(readers):
        begun = asyncio.Event()
        await loop.create_connection(lambda begun=begun: _Reader(seen, begun), "127.0.0.1", port)  # type: ignore[misc]
        await begun.wait()
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    pipe.send(seen)


def _readers(port: int, readers: int, pipe: Connection) -> None:
    uvloop.run(_read(port, readers, pipe))


def _turn(which: str, seconds: float, readers: int) -> tuple[list[float], int, float]:
    """Return (sorted latencies in seconds, number of changes, CPU seconds of the server per event)."""
    context = multiprocessing.get_context("spawn")
    server, its = context.Pipe()
    reader, other = context.Pipe()
    serving = context.Process(target=_serve, args=(which, its, seconds), daemon=True)
    serving.start()
    reading = context.Process(target=_readers, args=(server.recv(), readers, other), daemon=True)
    reading.start()
    reader.recv()
    server.send("go")
    stamps: Stamps
    stamps, cpu = server.recv()
    reader.send("over")
    seen: list[tuple[int, float]] = reader.recv()
    reading.join()
    serving.join()
    return sorted(at - stamps[index] for index, at in seen), len(stamps), cpu / len(seen)


def main() -> int:
    """Measure, print, and return the exit code."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    readers = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    print(
        f"{RATE} changes/s to {readers} readers; milliseconds from the commit to a reader, best of {ROUNDS}"
    )
    print(f"{'':36}{'p50':>8}{'p99':>8}{'max':>8}{'events':>10}{'lost':>6}{'us CPU/event':>14}")
    found = {}
    for which, name in (("bare", "bare aiohttp, no database"), ("daemon", "precall, SQLite")):
        best = min(
            (_turn(which, seconds, readers) for _ in range(ROUNDS)),
            key=lambda turn: turn[0][len(turn[0]) // 2],
        )
        times, changes, cpu = best
        p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
        found[which] = p50, p99
        lost = changes * readers - len(times)
        print(
            f"{name:36}{p50 * 1e3:8.2f}{p99 * 1e3:8.2f}{times[-1] * 1e3:8.2f}{len(times):10}{lost:6}{cpu * 1e6:14.1f}"
        )
    p50, p99 = found["daemon"]
    print(f"goal: p50 <= {P50 * 1e3:.0f} ms, p99 <= {P99 * 1e3:.0f} ms")
    return int(p50 > P50 or p99 > P99)


if __name__ == "__main__":
    sys.exit(main())
