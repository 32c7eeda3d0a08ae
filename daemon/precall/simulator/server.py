"""The HTTP server of the simulator: the gateway at `/`, the admin API under `/_admin/`.

service.py decides what to answer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from email.utils import formatdate
from functools import lru_cache
from typing import assert_never

from aiohttp import web

from precall.simulator import admin
from precall.simulator.dispatcher import Dispatcher
from precall.simulator.gateway import Envelope
from precall.simulator.like import Recording
from precall.simulator.message_queue import CALL_REPORT, EXCEPTION_REPORT, QueueRequest
from precall.simulator.population import SimBinding
from precall.simulator.receipts import Pusher
from precall.simulator.replies import BindingStatus, Reply
from precall.simulator.scenario import Scenario
from precall.simulator.service import Delivery, Service, Silence

_MAX_BODY = 64 * 1024 * 1024
_SLICE = 500
_QUEUE_LOOK = 0.05
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


class Simulator:
    """A simulated provider for one scenario, served over HTTP.

    `clock` returns Unix seconds; request timestamps are checked against it. `speed` is how many scenario seconds pass
    per real second, for failures, recoveries, lifetimes, faults and calls. The scenario starts at construction.
    """

    def __init__(
        self,
        scenario: Scenario | None = None,
        clock: Callable[[], float] = time.time,
        speed: float = 1.0,
        recording: Recording | None = None,
    ) -> None:
        """A `recording` without a scenario brings its own."""
        self._clock = clock
        self.scenario = scenario or (recording.scenario() if recording is not None else Scenario())
        self.service = Service(self.scenario, clock(), speed, recording)
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def calls_received(self) -> Counter[str]:
        """Authenticated calls by action, including those throttled or hit by a fault."""
        return self.service.traffic.calls_received

    @property
    def received_at(self) -> deque[float]:
        """Arrival times of the newest authenticated QueryCallStatus calls, by the simulator's clock."""
        return self.service.traffic.received_at

    def bindings(self) -> list[SimBinding]:
        """Return all bindings, as their owner would register them with precall."""
        return list(self.service.world.bindings())

    def dispatcher(
        self, url: str, bindings: Sequence[SimBinding] | None = None, token: str = ""
    ) -> Dispatcher:
        """Return a dispatcher that asks the precall at `url`, by default about all bindings."""
        return Dispatcher(
            self.service.exchange,
            self.bindings() if bindings is None else bindings,
            url,
            token,
            tally=self.service.tally,
            outcomes=self.scenario.dispatcher.outcomes,
            seed=self.scenario.seed,
            clock=self._clock,
        )

    def push_receipts(self, url: str) -> Pusher:
        """Push receipts to `url` until the server stops."""
        pusher = Pusher(self.service.receipts, url, self.scenario.receipts, self._clock)
        self._tasks.append(asyncio.create_task(pusher.run(), name="receipts"))
        return pusher

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen and return the base URL. Port 0 picks a free port."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("GET", "/", self._serve)
        app.router.add_route("POST", "/", self._serve)
        for method in ("GET", "DELETE"):
            app.router.add_route(method, "/queues/{name}/messages", self._serve_queue)
        app.add_routes(admin.routes(self.service, self._clock))
        # Without cancellation, hung calls would outlive clients that have gone.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.3)
        await runner.setup()
        self._runner = runner
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
        except OSError:
            await self.stop()
            raise
        if self.scenario.receipts.url:
            self.push_receipts(self.scenario.receipts.url)
        self._feed_queues()
        if self.scenario.dispatcher.url:
            self._tasks.append(asyncio.create_task(self._dispatch(), name="dispatcher"))
        address = runner.addresses[0]
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"http://{shown}:{address[1]}"

    async def stop(self) -> None:
        """Stop within a second, cancelling hung calls."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @asynccontextmanager
    async def running(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve inside a `with` block, which gets the base URL."""
        url = await self.start(host, port)
        try:
            yield url
        finally:
            await self.stop()

    def _feed_queues(self) -> None:
        queues = self.service.queues
        if queues.named(EXCEPTION_REPORT):
            self._tasks.append(asyncio.create_task(self._watch_numbers(), name="exceptions"))
        if queues.named(CALL_REPORT) and not self.scenario.receipts.url:
            self._tasks.append(asyncio.create_task(self._queue_receipts(), name="queued receipts"))

    async def _watch_numbers(self) -> None:
        """Report each X that changes between normal and abnormal. One of several bindings suffices."""
        world = self.service.world
        while True:
            now, seen = self._clock(), dict[str, tuple[str, bool]]()
            for i, binding in enumerate(world.bindings(), 1):
                truth = world.truth(binding, now)
                abnormal = isinstance(truth, BindingStatus) and truth.status in (2, 3)
                _, before = seen.get(binding.number_x, ("", False))
                seen[binding.number_x] = (binding.pool_key, before or abnormal)
                if i % _SLICE == 0:
                    await asyncio.sleep(0)
            for number_x, (pool_key, abnormal) in seen.items():
                self.service.exceptions.see(number_x, pool_key, now, abnormal=abnormal)
            await asyncio.sleep(self.scenario.queues.every)

    async def _queue_receipts(self) -> None:
        while True:
            while batch := self.service.receipts.take(self._clock()):
                for report, _ in batch:
                    self.service.queues.put(CALL_REPORT, report.fields())
            await asyncio.sleep(self.scenario.receipts.every)

    async def _dispatch(self) -> None:
        settings = self.scenario.dispatcher
        async with self.dispatcher(settings.url, token=settings.token) as dispatcher:
            await dispatcher.run(settings.rate)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        now = self._clock()
        body = await request.read() if request.body_exists else b""
        headers: dict[str, list[str]] = {}
        for name, value in request.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        envelope = Envelope(request.method, request.rel_url.raw_query_string, headers, body)
        delivery = self.service.handle(envelope, now)
        match delivery:
            case Delivery(reply, delay, ahead):
                if delay:
                    await asyncio.sleep(delay)
                return _response(reply, now + ahead)
            case Silence.HANG:
                await asyncio.Event().wait()
                raise AssertionError("only cancelling ends a hung call")
            case Silence.RESET:
                return _reset(request)
            case _:
                assert_never(delivery)

    async def _serve_queue(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = QueueRequest(request.method, request.raw_path, headers, await request.read())
        queues, time_of = self.service.queues, asyncio.get_running_loop().time
        if queues.hung:
            await asyncio.Event().wait()
        patient_until = time_of() + queues.patience(asked)
        status, body = queues.answer(asked, self._clock())
        while b"MessageNotExist" in body and time_of() < patient_until:
            await asyncio.sleep(_QUEUE_LOOK)
            status, body = queues.answer(asked, self._clock())
        return web.Response(status=status, body=body, content_type="text/xml" if body else None)


async def serve(simulator: Simulator, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until cancelled. Call `ready` with the base URL once listening."""
    async with simulator.running(host, port) as url:
        ready(url)
        await asyncio.Event().wait()


def _response(reply: Reply, now: float) -> web.Response:
    # Date follows the simulator's clock, because clients measure their own clock against it.
    headers = {"Content-Type": reply.content_type, "Date": _http_date(int(now))}
    if reply.retry_after:
        headers["x-acs-retry-after"] = str(reply.retry_after)
    return web.Response(status=reply.http_status, body=reply.body, headers=headers)


@lru_cache(maxsize=4)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _reset(request: web.Request) -> web.Response:
    """Close the connection with a TCP reset. The response is never sent."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        transport.abort()
    return web.Response()
