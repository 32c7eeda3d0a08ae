"""The cost of many bindings for one daemon: `python -m tests.bench.bench_scale [N] [--seconds S]`.

A daemon and a simulator run in a process each. The daemon loads N bindings (default 200,000) from SQLite, checks them
at 500/s and serves a reader meanwhile. Measured are the times from process start to the first route and to the last
planned binding, and memory per binding. A probe in the loop measures how long the loop is blocked. The CPU figure is
that of the loop's thread within one such gap, which other work on the machine cannot lengthen.

It is compared with the obvious implementation: a dict of dataclasses loaded by a plain query, and the pause that the
garbage collector makes for it.
"""

import argparse
import asyncio
import gc
import multiprocessing
import os
import resource
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import uvloop

from precall.config.schema import Config
from precall.engine.services import Services
from precall.runtime import daemon as runtime_daemon
from precall.runtime.assembly import Assembly
from precall.runtime.daemon import Daemon
from precall.simulator import Account, Pool, Scenario, Simulator
from precall.store import Store
from precall.telemetry import logging as log

RATE = 500
POOLS = 40
EVERY = 0.002
"""Seconds that the probe sleeps, and that the reader waits between two reads."""
GOALS = {"load s": 15.0, "served s": 20.0, "bytes each": 1000.0, "stall ms": 50.0}

BINDINGS = "INSERT INTO bindings VALUES (?, ?, ?, ?, ?, ?, '', ?, '{}', 'api', ?, 1)"
ROUTES = (
    "INSERT INTO routes VALUES"
    " (?, ?, 'normal', 1, ?, '', ?, ?, 3, '', '', 0, 0, 0, 0, 0, '[]', ?, 'dial_x', 'status_1', 2, ?)"
)
RESULTS = "INSERT INTO check_results VALUES (?, ?, ?, 'status_1', 1, ?, '', 'OK', ?, ?, ?, ?, 3, ?, 0.05)"


def scenario(bindings: int) -> Scenario:
    """Return a scenario with this many bindings, some of which are abnormal at any time."""
    pools = tuple(
        Pool(
            pool_key=f"FC{n}",
            bindings=bindings // POOLS + (n < bindings % POOLS),
            onset=86_400.0,
            recovery=1200.0,
            lifetime=0.0,
        )
        for n in range(POOLS)
    )
    return Scenario(account=Account(access_key_id="bench", access_key_secret="bench"), pools=pools)


def fill(path: Path, bindings: int, now: float) -> None:
    """Fill the database as a daemon would have left it, each binding checked within the last hour."""

    def rows() -> Iterator[tuple[tuple[object, ...], ...]]:
        for n, one in enumerate(Simulator(scenario(bindings)).bindings(), 1):
            at, born, end = (
                now - n * 104_729 % 3600,
                now - n * 7919 % 172_800 - 3600,
                now + 86_400 + n % 518_400,
            )
            facts = (one.subs_id, n, one.pool_key, one.number_x, one.number_a, one.number_b, end, born)
            request = f"0A1B2C3D-4E5F-6071-8293-{n:012d}"
            route = (one.subs_id, n, one.number_x, at, n, request, n)
            yield facts, route, (n, one.subs_id, n, one.number_x, n, n, at - 60, at, request)

    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("BEGIN")
    made = rows()
    while part := [row for row, _ in zip(made, range(20_000), strict=False)]:
        for statement, values in zip((BINDINGS, ROUTES, RESULTS), zip(*part, strict=True), strict=True):
            connection.executemany(statement, values)
    for name in ("high_index", "high_seq"):
        connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, str(bindings)))
    connection.execute("COMMIT")
    connection.close()


def provide(pipe: Connection, bindings: int) -> None:
    """Run the simulator; the main function of its process."""

    async def work() -> None:
        simulator = Simulator(scenario(bindings))
        async with simulator.running() as url:
            pipe.send(url)
            await asyncio.to_thread(pipe.recv)

    uvloop.run(work())


class Timed(Assembly):
    """An assembly that records how long it took to build the parts from the database, above all the table."""

    loaded = (0.0, 0.0)

    async def leading(self, store: Store) -> Services:
        begun, cpu = time.perf_counter(), time.process_time()
        parts = await super().leading(store)
        Timed.loaded = (time.perf_counter() - begun, time.process_time() - cpu)
        return parts


def serve(pipe: Connection, folder: str, provider: str, port: int) -> None:
    """Run the daemon; the main function of its process.

    It sends the load time once everything is planned, and the gaps in the loop at the end.
    """
    log.configure("error")
    config = Config(
        provider={  # type: ignore[arg-type]
            "endpoint": provider,
            "access_key_id": "bench",
            "access_key_secret": "bench",
            "rate": RATE,
        },
        store={"url": f"sqlite:///{folder}/scale.db"},  # type: ignore[arg-type]
        api={"listen": f"127.0.0.1:{port}"},  # type: ignore[arg-type]
    )

    runtime_daemon.Assembly = Timed  # type: ignore[misc]

    async def work() -> None:
        gaps: list[tuple[float, float]] = []
        daemon = Daemon(config)
        async with daemon.running():
            watching = asyncio.create_task(probe(gaps))
            pipe.send(Timed.loaded)
            await asyncio.to_thread(pipe.recv)
            watching.cancel()
            checks = daemon.metrics.registry.get_sample_value("precall_check_duration_seconds_count")
            pipe.send(
                (gaps, checks, daemon.metrics.registry.get_sample_value("precall_provider_throttled_total"))
            )
            await asyncio.to_thread(pipe.recv)

    uvloop.run(work())


async def probe(gaps: list[tuple[float, float]]) -> None:
    """Record by how many (seconds, CPU seconds of this thread) each sleep was too long."""
    while True:
        wall, cpu = time.perf_counter(), time.thread_time()
        await asyncio.sleep(EVERY)
        gaps.append((time.perf_counter() - wall - EVERY, time.thread_time() - cpu))


@dataclass(slots=True)
class Plain:
    """The obvious implementation of a row."""

    binding: tuple[object, ...]
    state: tuple[object, ...]


def plain(pipe: Connection, folder: str) -> None:
    """Load the obvious implementation and time one garbage collection, in a process of its own."""
    before, begun = resident(os.getpid()), time.perf_counter()
    connection = sqlite3.connect(f"{folder}/scale.db")
    found = connection.execute("SELECT * FROM bindings JOIN routes USING (subs_id)")
    rows = {row[0]: Plain(row[:12], row[12:]) for row in found}
    loaded, size = time.perf_counter() - begun, resident(os.getpid()) - before
    begun = time.perf_counter()
    gc.collect()
    pipe.send((loaded, size / len(rows), 1e3 * (time.perf_counter() - begun)))


def resident(process: int) -> int:
    """Return the resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


async def reads(url: str, ids: int, seconds: float) -> list[float]:
    """Return how long each of many sequential reads took."""
    spent, end, n = [], time.perf_counter() + seconds, 0
    async with aiohttp.ClientSession() as session:
        while time.perf_counter() < end:
            n = (n + 7919) % ids
            begun = time.perf_counter()
            async with session.get(f"{url}/v1/routes/{10**15 + 1 + n}") as reply:
                await reply.read()
                reply.raise_for_status()
            spent.append(time.perf_counter() - begun)
            await asyncio.sleep(EVERY)
    return sorted(spent)


async def first_route(url: str, begun: float) -> float:
    """Return the seconds until the first route was served."""
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{url}/v1/routes/{10**15 + 1}") as reply:
                    reply.raise_for_status()
                    return time.perf_counter() - begun
            except (aiohttp.ClientConnectionError, aiohttp.ClientResponseError):
                await asyncio.sleep(0.02)


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def measure(folder: str, bindings: int, seconds: float) -> dict[str, float]:
    """Measure everything about the daemon."""
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    provider = processes.Process(target=provide, args=(theirs, bindings), daemon=True)
    provider.start()
    endpoint = ours.recv()
    pipe, other = processes.Pipe()
    port = free_port()
    daemon = processes.Process(target=serve, args=(other, folder, endpoint, port), daemon=True)
    begun = time.perf_counter()
    daemon.start()
    url = f"http://127.0.0.1:{port}"
    served = uvloop.run(first_route(url, begun))
    loaded, load_cpu = pipe.recv()
    planned = time.perf_counter() - begun
    pid = daemon.pid or 0
    fresh = resident(pid)
    spent = uvloop.run(reads(url, bindings, seconds))
    size = resident(pid)
    pipe.send("stop")
    gaps, checks, throttled = pipe.recv()
    for process, end in ((daemon, pipe), (provider, ours)):
        end.send("stop")
        process.join()
    walls, cpus = sorted(wall for wall, _ in gaps), sorted(cpu for _, cpu in gaps)
    return {
        "load s": loaded,
        "load CPU s": load_cpu,
        "served s": served,
        "planned s": planned,
        "bytes each": size / bindings,
        "bytes each, at first": fresh / bindings,
        "stall ms": 1e3 * walls[-1],
        "stall p99.9 ms": 1e3 * walls[-len(walls) // 1000],
        "stall CPU ms": 1e3 * cpus[-1],
        "read p99 ms": 1e3 * spent[-len(spent) // 100],
        "read worst ms": 1e3 * spent[-1],
        "checks/s": checks / seconds,
        "throttled": throttled,
    }


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("bindings", nargs="?", type=int, default=200_000)
    options.add_argument("--seconds", type=float, default=20.0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scale.db")

        async def make() -> None:
            await (await Store.open(f"sqlite:///{path}", auto_migrate=True)).close()

        asyncio.run(make())
        fill(path, given.bindings, time.time())
        found = measure(folder, given.bindings, given.seconds)
        pipe, other = multiprocessing.get_context("spawn").Pipe()
        peer = multiprocessing.get_context("spawn").Process(target=plain, args=(other, folder))
        peer.start()
        beside = dict(zip(("load s", "bytes each", "stall ms"), pipe.recv(), strict=True))
        peer.join()
    print(f"{given.bindings:,} bindings in SQLite, {RATE} checks/s and a reader for {given.seconds:g} s")
    print(f"{'':22}{'precall':>12}{'plain dict':>12}{'goal':>8}")
    for name, value in found.items():
        peers = f"{beside[name]:12.1f}" if name in beside else f"{'':12}"
        goal = f"{GOALS[name]:8g}" if name in GOALS else ""
        print(f"{name:22}{value:12.1f}{peers}{goal}")


if __name__ == "__main__":
    main()
