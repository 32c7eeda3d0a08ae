"""What it costs that bindings come and go: `python -m tests.bench.bench_churn [--bindings N] [--churn R] [--checks C]`.

The daemon, the provider and the customer run in a process each. The daemon loads N bindings (default 100,000) from
SQLite (`--url`: another database, `--postgres`: a private PostgreSQL) and checks C a second (default 100). For a third
of the time it is only read, which is the peer; then R bindings are registered and as many end each second (default
150): half of them because they are removed, half because their `expires_at` passes. Reads and registrations each go one
by one, registrations over several connections.

CPU and memory are those of the daemon's process. Times depend on what else the machine does; ratios and CPU figures
less so. A read is *wrong* when it names a number that, at that moment, is not the one to dial. `blocked` is the longest
time the loop did not come round, by a probe in it, with the CPU time of the loop's thread within it; `collection` is
the longest garbage collection.

The form for a large fleet takes some minutes and 2.5 GB:

    python -m tests.bench.bench_churn --bindings 1000000 --checks 500 --seconds 120

Whether memory levels off once more bindings have ended than there are (`memory`: the RSS at each fifth of the churn):

    python -m tests.bench.bench_churn --bindings 20000 --churn 300 --checks 300 --seconds 240
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import uvloop

from precall.config.schema import Config
from precall.runtime.daemon import Daemon
from precall.store import Store
from precall.telemetry import logging as log
from tests.bench.bench_scale import EVERY, first_route, free_port, probe, resident
from tests.bench.churn_world import fill, provide, registered, stored, subs_id, truth
from tests.support.postgres import Databases, running

RECENT = 600
"""Bindings registered last, which half of the reads are about: what was just registered is dialled most."""
PARTS = 5
PATIENCE = "10s"
"""What the database may take for a transaction: other work on the machine is not to be measured as an outage."""
START = 900.0
"""Seconds that the start may take."""
LIFE, MARGIN = 15.0, 8.0
"""Seconds: the shortest life of a binding that ends by itself, and how long before its end it is no longer read, which
is more than `policy.skew`."""
ABREAST = 24
"""Registrations and removals under way at once."""
SEED = 1


# -- the daemon's process ---------------------------------------------------------------------------


def serve(pipe: Connection, url: str, provider: str, port: int, rate: float) -> None:
    """Run the daemon; the main function of its process. It answers each message with its figures since the last."""
    log.configure("error")
    config = Config(
        provider={  # type: ignore[arg-type]
            "endpoint": provider,
            "access_key_id": "bench",
            "access_key_secret": "bench",
            "rate": rate,
        },
        store={"url": url, "timeout": PATIENCE},  # type: ignore[arg-type]
        api={"listen": f"127.0.0.1:{port}"},  # type: ignore[arg-type]
    )
    collections: list[float] = []
    begun = 0.0

    def collected(phase: str, _facts: dict[str, int]) -> None:
        nonlocal begun
        if phase == "start":
            begun = time.perf_counter()
        else:
            collections.append(time.perf_counter() - begun)

    async def work() -> None:
        gaps: list[tuple[float, float]] = []
        daemon = Daemon(config)
        async with daemon.running():
            watching = asyncio.create_task(probe(gaps))
            gc.callbacks.append(collected)
            pipe.send(None)
            while await asyncio.to_thread(pipe.recv) != "stop":
                parts, value = daemon.parts, daemon.metrics.registry.get_sample_value
                pipe.send(
                    {
                        "cpu": time.process_time(),
                        "blocked": max((wall for wall, _ in gaps), default=0.0),
                        "blocked CPU": max((cpu for _, cpu in gaps), default=0.0),
                        "lag": value("precall_scheduler_lag_seconds"),
                        "collection": max(collections, default=0.0),
                        "checks": value("precall_check_duration_seconds_count"),
                        "commits": value("precall_store_write_seconds_count"),
                        "rows": len(parts.table),
                        "planned": len(parts.checker.planner),
                        "unverified": value("precall_routes", {"state": "unverified"}),
                    }
                )
                gaps.clear()
                collections.clear()
            watching.cancel()

    uvloop.run(work())


# -- the customer -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Phase:
    """What one part of the run showed."""

    seconds: float
    reads: list[float] = field(default_factory=list)
    wrong: int = 0
    held: int = 0
    registrations: list[float] = field(default_factory=list)
    ends: int = 0
    refused: int = 0
    memory: list[int] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    bytes: int = 0


class Customer:
    """Registers, removes and reads. Serials up to `bindings` were there at the start."""

    def __init__(self, url: str, session: aiohttp.ClientSession, bindings: int, churn: float) -> None:
        self._url, self._session, self._churn = url, session, churn
        self._newest = self._filled = bindings
        self._removed = 0
        self._due = 0.0
        self._expiring: dict[int, float] = {}
        self._gone: set[int] = set()
        self._chance = random.Random(SEED)

    async def read(self, phase: Phase, until: float) -> None:
        """Read one after the other, and compare with the truth."""
        while time.perf_counter() < until:
            serial = self._pick()
            begun = time.perf_counter()
            async with self._session.get(f"{self._url}/v1/routes/{subs_id(serial)}") as reply:
                route = await reply.json()
            phase.reads.append(time.perf_counter() - begun)
            if reply.status != 200:
                if serial in self._gone:
                    continue
                raise AssertionError(route)
            phase.held += not route["number"]
            phase.wrong += bool(route["number"]) and route["number"] != truth(serial, time.time())[1]
            await asyncio.sleep(EVERY)

    def _pick(self) -> int:
        """A binding that has not ended: one of the newest, or any of the first."""
        while True:
            if self._newest > self._filled and self._chance.random() < 0.5:
                serial = self._chance.randint(max(self._filled + 1, self._newest - RECENT), self._newest)
            else:
                serial = self._chance.randint(1, self._filled)
            if serial not in self._gone and self._expiring.get(serial, float("inf")) > time.time() + MARGIN:
                return serial

    async def churn(self, phase: Phase, life: float, until: float) -> None:
        """Register and remove at the rate, or as fast as the daemon takes it. Every other binding ends after `life` s
        by itself; until the first of them does, all ends are removals."""
        self._due = begun = time.perf_counter()

        async def work() -> None:
            while (due := max(self._due, time.perf_counter() - 1.0)) < until:
                self._due = due + 1 / self._churn
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                serial = self._newest = self._newest + 1
                await self._register(phase, serial, life if serial % 2 else None)
                if serial % 2 or time.perf_counter() - begun < life:
                    await self._remove(phase)
                else:
                    phase.ends += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(ABREAST):
                group.create_task(work())

    async def _register(self, phase: Phase, serial: int, life: float | None) -> None:
        self._gone.add(serial)

        def body() -> dict[str, Any]:
            if life is None:
                return registered(serial)
            end = self._expiring[serial] = time.time() + life
            return registered(serial) | {"expires_at": datetime.fromtimestamp(end, UTC).isoformat()}

        begun = time.perf_counter()
        await self._ask(phase, "PUT", serial, 201, body)
        phase.registrations.append(time.perf_counter() - begun)
        self._gone.discard(serial)

    async def _remove(self, phase: Phase) -> None:
        """Remove the oldest that is there for good."""
        self._removed += 1
        serial = self._removed
        if serial > self._filled:
            serial = self._filled + 2 * (serial - self._filled) - self._filled % 2
            if serial >= self._newest:
                return
        self._gone.add(serial)
        await self._ask(phase, "DELETE", serial, 204, lambda: None)
        phase.ends += 1

    async def _ask(
        self, phase: Phase, method: str, serial: int, well: int, body: Callable[[], dict[str, Any] | None]
    ) -> None:
        """Ask until it is done: the database of a busy machine may be busy, too."""
        while True:
            address = f"{self._url}/v1/bindings/{subs_id(serial)}"
            async with self._session.request(method, address, json=body()) as reply:
                if reply.status == well:
                    return
                if reply.status != 503:
                    raise AssertionError(await reply.text())
            phase.refused += 1
            await asyncio.sleep(0.5)


async def run(
    customer: Customer,
    pid: int,
    figures: Callable[[], Awaitable[dict[str, float]]],
    size: Callable[[], Awaitable[int]],
    seconds: float,
    *,
    churning: bool,
) -> Phase:
    """One part of the run."""
    phase = Phase(seconds, memory=[resident(pid)])
    before, stored_before = await figures(), await size()
    until = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        group.create_task(customer.read(phase, until))
        if churning:
            group.create_task(customer.churn(phase, max(LIFE, seconds / 3), until))
        for _ in range(PARTS):
            await asyncio.sleep(seconds / PARTS)
            phase.memory.append(resident(pid))
    phase.figures = await figures()
    for name in ("cpu", "checks", "commits"):
        phase.figures[name] -= before[name]
    phase.bytes = await size() - stored_before
    return phase


async def measure(given: argparse.Namespace, url: str) -> dict[str, Any]:
    """Run everything; the figures by name: a number, or (the peer's, ours) where both have it."""
    await (await Store.open(url, auto_migrate=True)).close()
    await fill(url, given.bindings, time.time())
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    provider = processes.Process(target=provide, args=(theirs,), daemon=True)
    provider.start()
    pipe, other = processes.Pipe()
    port = free_port()
    daemon = processes.Process(target=serve, args=(other, url, ours.recv(), port, given.checks), daemon=True)
    daemon.start()
    address = f"http://127.0.0.1:{port}"
    async with asyncio.timeout(START):
        await first_route(address, time.perf_counter())
        await asyncio.to_thread(pipe.recv)
    pid = daemon.pid or 0

    async def figures() -> dict[str, float]:
        pipe.send("figures")
        found: dict[str, float] = await asyncio.to_thread(pipe.recv)
        return found

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
        customer = Customer(address, session, given.bindings, given.churn)
        quiet = await run(customer, pid, figures, lambda: stored(url), given.seconds / 3, churning=False)
        busy = await run(customer, pid, figures, lambda: stored(url), given.seconds * 2 / 3, churning=True)
    for process, end in ((daemon, pipe), (provider, ours)):
        end.send("stop")
        await asyncio.to_thread(process.join)
    return summary(given, quiet, busy)


def rank(times: list[float], share: float) -> float:
    """A percentile, in milliseconds."""
    return 1e3 * sorted(times)[int(share * (len(times) - 1))]


def summary(given: argparse.Namespace, quiet: Phase, busy: Phase) -> dict[str, Any]:
    """The figures by name: a number, or (quiet, churning) where both have it."""
    both: dict[str, Callable[[Phase], float]] = {
        "read p50 ms": lambda phase: rank(phase.reads, 0.5),
        "read p99 ms": lambda phase: rank(phase.reads, 0.99),
        "cores": lambda phase: phase.figures["cpu"] / phase.seconds,
        "checks/s": lambda phase: phase.figures["checks"] / phase.seconds,
        "commits/s": lambda phase: phase.figures["commits"] / phase.seconds,
        "wrong %": lambda phase: 1e2 * phase.wrong / len(phase.reads),
        "not to be dialled %": lambda phase: 1e2 * phase.held / len(phase.reads),
        "unverified": lambda phase: phase.figures["unverified"],
        "blocked ms": lambda phase: 1e3 * phase.figures["blocked"],
        "blocked CPU ms": lambda phase: 1e3 * phase.figures["blocked CPU"],
        "collection ms": lambda phase: 1e3 * phase.figures["collection"],
        "RSS MB": lambda phase: phase.memory[-1] / 1e6,
        "database MB/h": lambda phase: phase.bytes / phase.seconds * 3600 / 1e6,
    }
    more = busy.figures["cpu"] - quiet.figures["cpu"] / quiet.seconds * busy.seconds
    return {
        **{name: (of(quiet), of(busy)) for name, of in both.items()},
        "registration p50 ms": rank(busy.registrations, 0.5),
        "registration p99 ms": rank(busy.registrations, 0.99),
        "CPU ms per registration and end": 1e3 * more / len(busy.registrations),
        "refused for the database": busy.refused,
        "registered/s": len(busy.registrations) / busy.seconds,
        "ended/s": busy.ends / busy.seconds,
        "database bytes per registration and end": busy.bytes / len(busy.registrations),
        "rows": busy.figures["rows"],
        "planned": busy.figures["planned"],
        "bytes per binding": busy.memory[-1] / given.bindings,
        "memory MB": [round(size / 1e6) for size in busy.memory],
    }


def show(given: argparse.Namespace, found: dict[str, Any]) -> None:
    """Print the table."""
    kind = "PostgreSQL" if given.postgres or given.url.startswith("postgresql") else "SQLite"
    print(
        f"{given.bindings:,} bindings in {kind}, {given.churn:g} registrations and ends/s, {given.checks:g} checks/s,"
        f" {given.seconds:g} s; nothing is old enough for store.retention to drop it"
    )
    print(f"{'':42}{'quiet':>12}{'churning':>12}{'ratio':>8}")
    for name, value in found.items():
        match value:
            case tuple((quiet, busy)):
                print(f"{name:42}{quiet:12.2f}{busy:12.2f}{busy / quiet if quiet else float('nan'):8.2f}")
            case list():
                print(f"{name:42}{' '.join(map(str, value))}")
            case _:
                print(f"{name:42}{'':12}{value:12.2f}")


def main() -> None:
    """Parse the arguments, run, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--bindings", type=int, default=100_000)
    options.add_argument("--churn", type=float, default=150.0)
    options.add_argument("--checks", type=float, default=100.0)
    options.add_argument("--seconds", type=float, default=45.0)
    options.add_argument(
        "--url", default="", help="an empty database; default: SQLite in a folder of its own"
    )
    options.add_argument("--postgres", action="store_true", help="a PostgreSQL of its own")
    options.add_argument("--json", action="store_true", help="the figures as JSON")
    given = options.parse_args()
    with ExitStack() as stack:
        url = given.url or f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/churn.db"
        if given.postgres:
            url = Databases(stack.enter_context(running()).url()).new(migrated=False)
        found = uvloop.run(measure(given, url))
    if given.json:
        print(json.dumps(found))
    else:
        show(given, found)


if __name__ == "__main__":
    main()
