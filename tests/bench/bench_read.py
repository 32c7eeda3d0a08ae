"""CPU time of the daemon per read, compared with a bare aiohttp handler that returns constant bytes.

`python -m tests.bench.bench_read [SECONDS]` runs both servers, each on uvloop in its own process. It reads from them in
turns of SECONDS, over 16 kept-alive connections. The figure is the CPU time of the server process, which other work on
the machine disturbs least. It is printed next to its goal, `LIMIT`.
"""

import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import uvloop
from aiohttp import web

from precall.cli.client import DaemonClient
from precall.config.schema import Config
from precall.runtime.daemon import Daemon
from precall.telemetry import logging as log

BINDINGS = 10_000
CONNECTIONS = 16
ROUNDS = 3
LIMIT = 1.5
LOOKUP = 100

CONSTANT = (
    b'{"subs_id":"1000000000000001","action":"dial_x","number":"17000000000","extension":"","state":"normal",'
    b'"reason":"status_1","status":1,"checked_at":"2026-01-02T03:04:05.678Z","age_ms":1234,"stale":false,'
    b'"retry_after":0,"flags":[],"expires_at":"2026-02-02T00:00:00Z",'
    b'"good_until":"2026-02-01T23:59:55.000Z","version":7,"index":123456}'
)


def _id(place: int) -> str:
    return str(1_000_000_000_000_000 + place)


async def _bare(pipe: Connection) -> None:
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(body=CONSTANT, content_type="application/json")

    app = web.Application()
    app.router.add_get("/v1/routes/{subs_id}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    pipe.send(runner.addresses[0][1])
    await asyncio.to_thread(pipe.recv)
    await runner.cleanup()


async def _daemon(pipe: Connection) -> None:
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
        async with Daemon(config).running() as [url], DaemonClient(url) as client:
            for start in range(0, BINDINGS, 5000):
                bindings = [
                    {
                        "subs_id": _id(place),
                        "pool_key": "FC1",
                        "number_x": f"170{place:08}",
                        "number_a": f"138{place:08}",
                        "number_b": f"139{place:08}",
                        "expires_at": "2099-01-01T00:00:00Z",
                    }
                    for place in range(start, start + 5000)
                ]
                await client.request("POST", "/v1/bindings/batch", json={"bindings": bindings})
            pipe.send(int(url.rpartition(":")[2]))
            await asyncio.to_thread(pipe.recv)


def _serve(which: str, pipe: Connection) -> None:
    uvloop.run({"bare": _bare, "daemon": _daemon}[which](pipe))


class _Asker(asyncio.Protocol):
    """A connection that sends the next request as soon as the last one is answered."""

    def __init__(self, question: Callable[[], bytes]) -> None:
        self.answers = 0
        self._question, self._held = question, b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._transport.write(self._question())

    def data_received(self, data: bytes) -> None:
        held = self._held = self._held + data
        end = held.find(b"\r\n\r\n")
        if end < 0:
            return
        if not held.startswith((b"HTTP/1.1 200", b"HTTP/1.1 304")):
            raise AssertionError(held[:200])
        start = held.find(b"Content-Length: ")
        length = int(held[start + 16 : held.index(b"\r\n", start)]) if 0 <= start < end else 0
        if len(held) < end + 4 + length:
            return
        self._held = b""
        self.answers += 1
        assert self._transport is not None
        self._transport.write(self._question())


async def _turn(port: int, question: Callable[[], bytes], seconds: float, pid: int) -> tuple[float, float]:
    """Return (CPU microseconds per request, requests per second)."""
    loop = asyncio.get_running_loop()
    pairs = [
        await loop.create_connection(lambda: _Asker(question), "127.0.0.1", port) for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(0.2)
    before, cpu = sum(asker.answers for _, asker in pairs), _cpu(pid)
    await asyncio.sleep(seconds)
    count, cpu = sum(asker.answers for _, asker in pairs) - before, _cpu(pid) - cpu
    for transport, _ in pairs:
        transport.close()
    return cpu / count * 1e6, count / seconds


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _get(suffix: str = "", header: str = "") -> Callable[[], bytes]:
    turn = 0

    def question() -> bytes:
        nonlocal turn
        turn = (turn + 7919) % BINDINGS
        path = f"/v1/routes/{_id(turn)}{suffix}"
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n".encode()

    return question


def _many() -> bytes:
    ids = ",".join(f'"{_id(place * 97 % BINDINGS)}"' for place in range(LOOKUP))
    body = f'{{"subs_ids":[{ids}]}}'
    head = "POST /v1/routes/lookup HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


KINDS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "bare aiohttp, constant bytes": ("bare", _get()),
    "GET route": ("daemon", _get()),
    "GET route, text": ("daemon", _get("?format=text")),
    "GET route, caller in header": ("daemon", _get(header="X-Precall-Caller: 13800000001\r\n")),
    "GET route, caller and dial=0 in query": ("daemon", _get("?caller=13800000001&dial=0")),
    "GET route, 304": ("daemon", _get(header="If-None-Match: *\r\n")),
    f"POST lookup of {LOOKUP}": ("daemon", _many),
}


async def _measure(
    servers: dict[str, tuple[int, int]], seconds: float
) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in KINDS}
    for _ in range(ROUNDS):
        for name, (which, question) in KINDS.items():
            port, pid = servers[which]
            found[name].append(await _turn(port, question, seconds, pid))
    return found


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    context = multiprocessing.get_context("spawn")
    servers, ends = {}, []
    for which in ("bare", "daemon"):
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(which, theirs), daemon=True)
        process.start()
        theirs.close()  # a server that dies is then an end of file here, not a long wait
        ends.append((ours, process))
        servers[which] = ours.recv(), process.pid or 0
    found = uvloop.run(_measure(servers, seconds))
    for pipe, process in ends:
        pipe.send("stop")
        process.join()
    base = statistics.median(cost for cost, _ in next(iter(found.values())))
    print(f"{'':40}{'us CPU/req':>12}{'[min..max]':>16}{'req/s':>9}{'x bare':>8}")
    for name, turns in found.items():
        costs = sorted(cost for cost, _ in turns)
        middle, rate = statistics.median(costs), statistics.median(rate for _, rate in turns)
        span = f"[{costs[0]:.0f}..{costs[-1]:.0f}]"
        print(f"{name:40}{middle:12.1f}{span:>16}{rate:9.0f}{middle / base:8.2f}")
    ratio = statistics.median(cost for cost, _ in found["GET route"]) / base
    print(f"GET route costs {ratio:.2f} times a bare handler (goal: {LIMIT})")


if __name__ == "__main__":
    main()
