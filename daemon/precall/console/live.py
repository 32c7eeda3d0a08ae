"""Live pages: a stream that says that something has changed, at most once a second. Pages then ask for what has."""

import asyncio
from collections.abc import Callable

from aiohttp import hdrs, web

from precall.api.server import Server
from precall.console import headers
from precall.console.mark import mark

BEAT = 15.0
"""Seconds after which a quiet stream sends a comment."""

LOOK = 0.25
"""Seconds between two looks at what a page might show."""

SPACING = 1.0
"""Seconds between two events, at least."""

SLOW = 5.0
"""Seconds for a browser to take an event."""


async def follow(
    request: web.Request,
    server: Server,
    admitted: Callable[[], bool],
    clock: Callable[[], float],
) -> web.StreamResponse:
    """Send an event `changed` whenever something has. Ends when the visitor leaves, the session or the daemon.

    The parameter `seen` is the mark of the page, so that nothing is lost between the page and its stream. `admitted`
    says whether the session still lasts. `clock` is in seconds.
    """
    response = web.StreamResponse(
        headers={**headers.PAGE, hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"}
    )
    response.force_close()
    try:
        await response.prepare(request)
        if request.method == hdrs.METH_GET:
            await _send(response, b"retry: 2000\n\n")
            await _tell(request, response, server, admitted, clock)
    except (ConnectionError, TimeoutError):
        pass
    return response


async def _tell(
    request: web.Request,
    response: web.StreamResponse,
    server: Server,
    admitted: Callable[[], bool],
    clock: Callable[[], float],
) -> None:
    seen, sent_at = request.query.get("seen") or mark(server.services), clock()
    told_at = sent_at - SPACING
    while request.transport is not None:
        if not admitted():
            await _send(response, b"event: end\ndata: session\n\n")
            return
        now = clock()
        if server.stopping:
            return
        shown = mark(server.services)
        if shown != seen and now - told_at >= SPACING:
            seen, told_at, sent_at = shown, now, now
            await _send(response, b"event: changed\ndata: %b\n\n" % shown.encode())
        elif now - sent_at >= BEAT:
            sent_at = now
            await _send(response, b": nothing new\n\n")
        await asyncio.sleep(LOOK)


async def _send(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(SLOW):
        await response.write(data)
