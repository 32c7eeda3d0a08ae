"""Connections of the API: counted, and cut when they are too slow.

aiohttp limits the length of lines and headers, and the time that a connection is idle. But it waits for the rest of a
request's head, and for a client to read a response, as long as a byte comes now and then. Nor does it limit the number
of connections.
"""

import asyncio
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, cast

from aiohttp import hdrs, web

from precall.api.problems import HEADERS, Code, problem
from precall.concurrency import breathe
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

HEAD_WITHIN = 10.0
"""Seconds for the whole head of a request to arrive; for the first request, from the start of the connection."""

ANSWER_WITHIN = 60.0
"""Seconds for a client to read a response. Streams and snapshots have limits of their own."""

STUCK = 30.0
"""Seconds during which a client may read nothing at all."""

_SLICE = 500


class ConnectionPhase(Enum):
    """What a connection is waiting for."""

    HEAD = "for the head of a request"
    WORK = "for us"
    ANSWER = "for its reader to take the answer"
    IDLE = "for the next request"


class Connection(web.RequestHandler):
    """A connection of aiohttp that answers errors with problem documents, and that `ConnectionRegistry` watches."""

    __slots__ = ("_left", "_left_since", "_registry", "phase", "since")

    def __init__(self, server: web.Server, registry: "ConnectionRegistry", **settings: Any) -> None:
        super().__init__(server, **settings)
        self._registry = registry
        self.phase, self.since = ConnectionPhase.HEAD, registry.clock()
        self._left, self._left_since = 0, self.since

    def begin(self, *, known: bool) -> None:
        """Note that a request is being handled. `known` is set if its client has been admitted."""
        self.phase = ConnectionPhase.WORK
        if known:
            self._registry.strangers.pop(self, None)

    def overdue(self, now: float) -> str:
        """Return why the connection must be cut, "" if it need not be."""
        if self.phase is ConnectionPhase.HEAD and now - self.since > HEAD_WITHIN:
            return "slow_head"
        if self.phase is ConnectionPhase.ANSWER and now - self.since > ANSWER_WITHIN:
            return "slow_reader"
        transport = self.transport
        left = transport.get_write_buffer_size() if transport is not None else 0
        if left != self._left or not left:
            self._left, self._left_since = left, now
        return "slow_reader" if now - self._left_since > STUCK else ""

    def cut(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._registry.join(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._registry.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.phase is ConnectionPhase.IDLE:
            self.phase, self.since = ConnectionPhase.HEAD, self._registry.clock()
        super().data_received(data)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if hdrs.X_CONTENT_TYPE_OPTIONS not in resp.headers:
            resp.headers.update(HEADERS)
        self.phase, self.since = ConnectionPhase.ANSWER, self._registry.clock()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.phase, self.since = ConnectionPhase.IDLE, self._registry.clock()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  it quotes what was sent, a token included
    ) -> web.StreamResponse:
        """Answer what never became a request, or failed while it was sent. The connection ends."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        if status < 500:
            self._registry.refused("malformed")
            answer = problem(status, Code.BAD_REQUEST, "this is not a valid HTTP request")
        else:
            log.error("api.unexpected", error=type(exc).__name__)
            answer = problem(status, Code.INTERNAL_ERROR, "something unexpected happened; it has been logged")
        answer.force_close()
        return answer


class ConnectionRegistry:
    """All connections of a server, at most `most` at a time.

    Beyond that, the oldest connection without an admitted request is cut. If there is none, the new one is refused.
    """

    def __init__(self, most: int, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.strangers: dict[Connection, None] = {}
        self._all: set[Connection] = set()
        self.most, self._metrics = most, metrics
        metrics.show(metrics.connections, lambda: float(len(self._all)))

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over the connections that are open now, in no order."""
        return iter(list(self._all))

    def join(self, connection: Connection) -> None:
        """Add a new connection, cutting one if there are too many."""
        self._all.add(connection)
        self.strangers[connection] = None
        if len(self._all) > self.most:
            self._cut(next(iter(self.strangers)), "crowded")

    def leave(self, connection: Connection) -> None:
        """Remove a connection that has ended."""
        self._all.discard(connection)
        self.strangers.pop(connection, None)

    def refused(self, reason: str) -> None:
        """Count a refused request."""
        self._metrics.requests_refused.labels(reason).inc()

    async def sweep(self) -> None:
        """Cut the connections that are too slow, yielding to the loop now and then."""
        for place, connection in enumerate(self, 1):
            if reason := connection.overdue(self.clock()):
                self._cut(connection, reason)
            await breathe(place, _SLICE)

    def _cut(self, connection: Connection, reason: str) -> None:
        self._metrics.connections_cut.labels(reason).inc()
        self.leave(connection)
        connection.cut()


def of(request: web.Request) -> Connection:
    """Return the connection of a request."""
    return cast("Connection", request.protocol)
