"""Connections: counted, and cut when they keep us waiting.

aiohttp bounds lines, header fields and the time a connection is idle. It waits for the rest of a request's head, and
for the reader of an answer, as long as a byte comes now and then; and it takes any number of connections.
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
"""Seconds in which the whole head of a request must come: of the first one since the connection was made."""

ANSWER_WITHIN = 60.0
"""Seconds in which an answer must be taken, streams and snapshots aside: they look after themselves."""

STUCK = 30.0
"""Seconds for which a reader may take nothing at all."""

_SLICE = 500


class ConnectionPhase(Enum):
    """Whom a connection waits for."""

    HEAD = "for the head of a request"
    WORK = "for us"
    ANSWER = "for its reader to take the answer"
    IDLE = "for the next request"


class Connection(web.RequestHandler):
    """One connection: aiohttp's, less what it says of its own, and with what `ConnectionRegistry` looks at."""

    __slots__ = ("_crowd", "_left", "_left_since", "phase", "since")

    def __init__(self, server: web.Server, crowd: "ConnectionRegistry", **settings: Any) -> None:
        super().__init__(server, **settings)
        self._crowd = crowd
        self.phase, self.since = ConnectionPhase.HEAD, crowd.clock()
        self._left, self._left_since = 0, self.since

    def begin(self, *, known: bool) -> None:
        """A request is being answered. `known`: of somebody who may ask something."""
        self.phase = ConnectionPhase.WORK
        if known:
            self._crowd.strangers.pop(self, None)

    def overdue(self, now: float) -> str:
        """Why it must be cut ("": it need not)."""
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
        """End it at once, whatever is under way."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._crowd.join(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._crowd.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.phase is ConnectionPhase.IDLE:
            self.phase, self.since = ConnectionPhase.HEAD, self._crowd.clock()
        super().data_received(data)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if hdrs.X_CONTENT_TYPE_OPTIONS not in resp.headers:
            resp.headers.update(HEADERS)
        self.phase, self.since = ConnectionPhase.ANSWER, self._crowd.clock()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.phase, self.since = ConnectionPhase.IDLE, self._crowd.clock()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  it quotes what was sent, a token included
    ) -> web.StreamResponse:
        """What never became a request, or failed on its way out. It ends the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        if status < 500:
            self._crowd.refused("malformed")
            answer = problem(status, Code.BAD_REQUEST, "this is no HTTP request that is understood here")
        else:
            log.error("api.unexpected", error=type(exc).__name__)
            answer = problem(status, Code.INTERNAL_ERROR, "something unexpected happened; it has been logged")
        answer.force_close()
        return answer


class ConnectionRegistry:
    """All connections of a server, `most` at a time. When there are as many, the eldest of those that never asked
    anything they may ask gives way; when all have, the newcomer is not let in."""

    def __init__(self, most: int, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.strangers: dict[Connection, None] = {}
        self._all: set[Connection] = set()
        self.most, self._metrics = most, metrics
        metrics.show(metrics.connections, lambda: float(len(self._all)))

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        """The open connections, in no order."""
        return iter(self._all)

    def join(self, connection: Connection) -> None:
        """A connection was made."""
        self._all.add(connection)
        self.strangers[connection] = None
        if len(self._all) > self.most:
            self._cut(next(iter(self.strangers)), "crowded")

    def leave(self, connection: Connection) -> None:
        """A connection is over."""
        self._all.discard(connection)
        self.strangers.pop(connection, None)

    def refused(self, reason: str) -> None:
        """A request was not let in."""
        self._metrics.requests_refused.labels(reason).inc()

    async def sweep(self) -> None:
        """Cut those that keep us waiting, in turns with the readers."""
        for place, connection in enumerate(list(self._all), 1):
            if reason := connection.overdue(self.clock()):
                self._cut(connection, reason)
            await breathe(place, _SLICE)

    def _cut(self, connection: Connection, reason: str) -> None:
        self._metrics.connections_cut.labels(reason).inc()
        self.leave(connection)
        connection.cut()


def of(request: web.Request) -> Connection:
    """The connection a request came by."""
    return cast("Connection", request.protocol)
