"""The cost of a check, as signing and parsing alone and as whole calls.

    python -m tests.bench.bench_check_cost

Whole calls are compared with a bare aiohttp loop (no signature, reply not parsed) and with the official SDK 1.0.5. All
run in turns against one stub on loopback, for about 20 s.

Look at the ratios, since absolute figures depend on the machine. The stub answers at once, so these are CPU limits. The
bare loop names the binding in its URL, as any client must; the row with one URL for all shows what that costs.
"""

import asyncio
import os
import re
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count, cycle

import aiohttp
import uvloop
from alibabacloud_dyplsapi20170525 import models as sdk_models
from alibabacloud_dyplsapi20170525.client import Client as SdkClient
from alibabacloud_tea_openapi import models as sdk_settings
from rich.console import Console
from rich.table import Table

from precall.config.schema import ProviderConfig
from precall.core.model import Answer, Binding
from precall.provider import Credential, Credentials, Provider
from precall.provider.replies import read_status
from precall.provider.sign import signer

CONCURRENCY = 64
SECONDS = 0.25
ROUNDS = 12
FIRST_ID = 1_000_000_000_000_000
BODY = (
    b'{"Message":"OK","RequestId":"E7F99446-8191-43C0-99B5-F58A6AEAD7D5",'
    b'"SecretCallStatusDTO":{"Status":1,"CalledNo":"17000000000"},"Code":"OK"}'
)
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)

Call = Callable[[], Awaitable[object]]


class Stub(asyncio.Protocol):
    """A server that sends one fixed reply to every request and keeps connections alive."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self.buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < whole:
                return
            self.buffer = self.buffer[whole:]
            self.transport.write(REPLY)


async def serve_stub() -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@dataclass
class Side:
    """One way to make the call, and its results: calls per second, and CPU microseconds per call."""

    name: str
    call: Call
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    async def measure(self) -> None:
        until = time.perf_counter() + SECONDS
        done = 0

        async def worker() -> None:
            nonlocal done
            while time.perf_counter() < until:
                await self.call()
                done += 1

        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
        self.rates.append(done / (time.perf_counter() - started))
        self.costs.append((time.process_time() - cpu) / done * 1e6)


def bare(session: aiohttp.ClientSession, url: str) -> Call:
    async def call() -> None:
        async with session.post(url) as response:
            await response.read()

    return call


def bare_by_id(session: aiohttp.ClientSession, url: str) -> Call:
    ids = count(FIRST_ID)

    async def call() -> None:
        async with session.post(f"{url}/?PoolKey=FC123456&SubsId={next(ids)}") as response:
            await response.read()

    return call


def ours(provider: Provider) -> Call:
    bindings = cycle(
        Binding(str(subs_id), "FC123456", "17000000000", "13800000000")
        for subs_id in range(FIRST_ID, FIRST_ID + 10_000)
    )

    async def call() -> None:
        asked = await provider.query_call_status(next(bindings), again=lambda: False)
        if not isinstance(asked.reply, Answer):
            raise TypeError(f"not an answer: {asked.reply}")

    return call


def official(address: str) -> Call:
    client = SdkClient(
        sdk_settings.Config(
            access_key_id="testid", access_key_secret="testsecret", endpoint=address, protocol="HTTP"
        )
    )

    ids = count(FIRST_ID)

    async def call() -> None:
        request = sdk_models.QueryCallStatusRequest(subs_id=str(next(ids)), pool_key="FC123456")
        await client.query_call_status_async(request)

    return call


async def compare(address: str) -> list[Side]:
    url = f"http://{address}"
    credentials = Credentials(Credential("testid", "testsecret"))
    nonces = count()
    providers = [
        Provider(
            ProviderConfig(
                endpoint=url, call_detail_endpoint=url, signature=scheme, max_in_flight=CONCURRENCY
            ),
            credentials,
            wall=time.time,
            monotonic=time.monotonic,
            nonce=lambda: f"{next(nonces):032x}",
        )
        for scheme in ("acs3", "rpc")
    ]
    for provider in providers:
        await provider.start()
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector) as session:
        sides = [
            Side("bare aiohttp, asking by id", bare_by_id(session, url)),
            Side("bare aiohttp, one URL for all", bare(session, url)),
            Side("precall, acs3", ours(providers[0])),
            Side("precall, rpc", ours(providers[1])),
            Side("official SDK 1.0.5 async", official(address)),
        ]
        for _ in range(ROUNDS):
            for side in sides:
                await side.measure()
    for provider in providers:
        await provider.close()
    return sides


def micro() -> dict[str, float]:
    """Return the microseconds for signing, per scheme, and for parsing; the best of five."""
    params = {"PoolKey": "FC123456", "SubsId": "1000000768798832"}
    nonce, timestamp = "0123456789abcdef0123456789abcdef", "2024-01-02T03:04:05Z"
    steps: dict[str, Callable[[], object]] = {
        "parse": lambda: read_status(200, None, "application/json", BODY)
    }
    for scheme in ("acs3", "rpc"):
        made = signer(scheme, "dyplsapi.aliyuncs.com", "QueryCallStatus", Credential("testid", "testsecret"))
        steps[scheme] = lambda made=made: made.sign(params, timestamp, nonce)
    return {
        name: min(timeit.repeat(step, number=20_000, repeat=5)) / 20_000 * 1e6 for name, step in steps.items()
    }


def spread(figures: list[float]) -> str:
    return f"{statistics.median(figures):,.0f} [{min(figures):,.0f}..{max(figures):,.0f}]"


def show(sides: list[Side], steps: dict[str, float]) -> None:
    # By the least CPU per check: it sets the checks/s of a core, and what else runs here only ever adds to it.
    costs = [min(side.costs) for side in sides]
    table = Table("client", "checks/s", "CPU us/check", "x bare", "x SDK", title=f"{CONCURRENCY} at a time")
    for side, cost in zip(sides, costs, strict=True):
        table.add_row(
            side.name,
            spread(side.rates),
            spread(side.costs),
            f"{costs[0] / cost:.2f}",
            f"{costs[-1] / cost:.1f}",
        )
    console = Console(width=110)
    console.print(table)
    for scheme in ("acs3", "rpc"):
        console.print(f"sign + parse, {scheme}: {steps[scheme]:.1f} + {steps['parse']:.1f} us")


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    if sys.argv[1:] == ["stub"]:
        os.sched_setaffinity(0, {cores[0]})
        uvloop.run(serve_stub())
        return
    command = [sys.executable, "-m", "tests.bench.bench_check_cost", "stub"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stub:
        os.sched_setaffinity(0, {cores[-1]})
        port = int(stub.stdout.readline())
        show(uvloop.run(compare(f"127.0.0.1:{port}")), micro())
        stub.stdin.close()


if __name__ == "__main__":
    main()
