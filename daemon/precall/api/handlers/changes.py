"""Handlers of the change feed: snapshot, long poll and server-sent events.

A client takes the snapshot once and follows the changes after its index. Together they are the whole table. The feed
and the store know the changes; this module encodes and sends them, and cuts off clients that do not read them.
"""

import asyncio
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import orjson
from aiohttp import HttpVersion11, hdrs, web

from precall.api.access.authenticator import Client
from precall.api.problems import HEADERS, Code
from precall.api.replies import reply
from precall.api.requests import read_query
from precall.api.schemas.changes import ChangesQuery, FilterQuery, StreamQuery
from precall.api.schemas.routes import encode_route
from precall.core.errors import Refusal, StoreUnavailable
from precall.core.model import Action, Flag, Reason, Route, Row, State, Would, WriteCause
from precall.core.routing.route import RETRY_AFTER, past
from precall.engine.services import Services
from precall.table.feed import FeedEntry, FeedFilter, FeedPage, Push

INDEX = "X-Precall-Index"
LAST_EVENT_ID = "Last-Event-ID"
EVENTS, LINES = "text/event-stream", "application/x-ndjson"

BEAT = 15.0
"""Seconds after which a quiet stream sends a comment, and a long poll checks that its client is still there."""

SLOW = 5.0
"""Seconds for a client of a stream to read what is sent. A snapshot has `PATIENCE`, since some clients store it."""

PATIENCE = 30.0
FRESH = 1.0
"""Seconds during which clients share the bytes of a change, which hold the age of its route."""

BUFFER = 128 * 1024
"""Bytes that the kernel buffers per stream; by default it would be megabytes."""

_WAITING = 64 * 1024
_PART = 64
_SLICE = 100
_TURNS = 10


class _Cut(Exception):
    """Ends a stream; its text is the reason."""


@dataclass(slots=True)
class _Follower:
    """The position of one client in the feed: it has been sent everything up to `position`."""

    services: Services
    wanted: FeedFilter
    position: int

    @classmethod
    async def after(cls, services: Services, wanted: FeedFilter, since: int) -> Self:
        """Start after `since`, an index that is stored or that a start continued from. Raises Refusal (410)."""
        feed = services.feed
        if feed.holds(since) or since in feed.bases or await services.store.knows(since):
            return cls(services, wanted, since)
        raise _compacted()

    async def read(self, limit: int) -> Sequence[FeedEntry]:
        """Return up to `limit` next changes with their bytes, and move on. None means none up to the new position."""
        feed, found = self.services.feed, list[FeedEntry]()
        for _ in range(_TURNS):
            if self.position < feed.floor:
                found = await self._stored(limit)
            else:
                found, self.position = feed.after(self.position, self.wanted, limit)
            if found or self.position >= feed.newest:
                break
            await asyncio.sleep(0)
        for entry in found:
            self.encode(entry)
        return found

    async def wait(self, seconds: float, push: Push | None = None) -> None:
        """Wait up to `seconds` for a change."""
        self.position = await self.services.feed.wait(self.wanted, self.position, seconds, push)

    async def _stored(self, limit: int) -> list[FeedEntry]:
        wanted = self.wanted
        found = await self.services.store.changes(
            self.position,
            self.services.feed.floor,
            subs_ids=wanted.subs_ids,
            pool_keys=wanted.pool_keys,
            limit=limit,
        )
        if found is None:
            raise _compacted()
        changes, self.position = found
        return [
            FeedEntry(one["index"], one["at"], one["subs_id"], one["pool_key"], _stored_route(one))
            for one in changes
        ]

    def encode(self, entry: FeedEntry) -> None:
        """Encode a change: the route as it is now or, if it has been replaced, as it was published."""
        services, now = self.services, self.services.monotonic()
        if not entry.body or now - entry.made_at > FRESH:
            row = services.table.get(entry.subs_id)
            if row is not None and row.index == entry.index:
                route = services.lookup.shown(row)
            else:
                route = past(entry.route, entry.at, services.settings.policy, services.clock())
            entry.body, entry.made_at = orjson.dumps(encode_route(route)), now


async def changes(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return the changes after an index, waiting for the first one if there are none yet.

    `index` is where to continue, also when nothing has changed. The wait may last up to a sixteenth longer than `wait`,
    so that clients that came together do not return together. 410 means that the index is unknown or too old: take a
    snapshot.
    """
    query = read_query(request, ChangesQuery)
    follower = await _Follower.after(services, query.filter, query.since)
    wait = query.wait * (1 + services.chance() / 16) if request.method == hdrs.METH_GET else 0.0
    until = services.monotonic() + wait
    while not (found := await follower.read(query.limit)):
        left = until - services.monotonic()
        if left <= 0 or services.feed.closed or request.transport is None:
            break
        await follower.wait(min(left, BEAT))
    return reply({"index": follower.position, "changes": [orjson.Fragment(entry.body) for entry in found]})


async def stream(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Send the changes after an index as server-sent events named `change`, with the index as their id.

    Without an index the stream begins with the next change. The header `Last-Event-ID` resumes it. While nothing
    changes, a comment and an id are sent. A client that does not keep up gets an event `cut` with the reason, and so
    does every client when the daemon stops. 410 means that the index is unknown or too old: take a snapshot.
    """
    query = read_query(request, StreamQuery)
    since = _resumed(request, query.since)
    follower = await _Follower.after(services, query.filter, services.feed.newest if since is None else since)
    # Before the headers, so that a client that needs a snapshot gets a status.
    found = await follower.read(_PART)
    response = _begin({hdrs.CONTENT_TYPE: f"{EVENTS}; charset=utf-8", "X-Accel-Buffering": "no"})
    try:
        await response.prepare(request)
        if request.method == hdrs.METH_GET:
            _bound(request)
            with services.metrics.stream_readers.track_inprogress():
                await _follow(request, response, follower, found)
    except ConnectionError:
        pass
    except (_Cut, Refusal, StoreUnavailable) as error:
        await _part(request, response, error)
    return response


async def snapshot(request: web.Request, services: Services, _client: Client) -> web.StreamResponse:
    """Return the route of every binding, or of those that the filter names, one JSON object per line.

    The header `X-Precall-Index` is the index to follow the changes from. The snapshot and those changes together are
    the whole table.
    """
    wanted = read_query(request, FilterQuery).filter
    response = _begin({hdrs.CONTENT_TYPE: LINES, INDEX: str(services.feed.newest)})
    try:
        await response.prepare(request)
        if request.method == hdrs.METH_GET:
            for rows in _rows(services, wanted):
                named = (row for row in rows if wanted.names(row.binding.subs_id, row.binding.pool_key))
                await _send(response, b"".join([_line(services, row) for row in named]), PATIENCE)
                await asyncio.sleep(0)
    except ConnectionError:
        pass
    except _Cut:
        if request.transport is not None:
            request.transport.abort()  # without its end the response is not mistaken for a complete one
    return response


async def _follow(
    request: web.Request, response: web.StreamResponse, follower: _Follower, found: Sequence[FeedEntry]
) -> None:
    """Send changes as they come, until the client leaves or must be cut off."""
    feed = follower.services.feed
    again = 1000 + int(4000 * follower.services.chance())
    await _send(response, b"retry: %d\nid: %d\n\n" % (again, follower.position), SLOW)
    catching_up = follower.position < feed.floor
    while True:
        if found:
            await _send(response, b"".join(map(_event, found)), SLOW)
        elif feed.closed:
            raise _Cut("stopping")
        elif follower.position >= feed.newest:
            await follower.wait(BEAT, partial(_push, request, follower))
            if follower.position >= feed.newest and not feed.closed:
                await _send(response, b": nothing new\nid: %d\n\n" % follower.position, SLOW)
        if follower.position >= feed.floor:
            catching_up = False
        elif not catching_up:
            raise _Cut("slow")
        found = await follower.read(_PART)


def _push(request: web.Request, follower: _Follower, batch: FeedPage) -> bool:
    """Send a few changes at once, unless earlier ones are still buffered. Most events are sent this way.

    Hundreds of clients share the bytes, and none of their tasks is woken.
    """
    transport = request.transport
    if transport is None or transport.get_write_buffer_size() > _WAITING or request.version < HttpVersion11:
        return False
    if not batch.frame:
        for entry in batch.entries:
            follower.encode(entry)
        events = b"".join(map(_event, batch.entries))
        batch.frame = b"%x\r\n%b\r\n" % (len(events), events)
    transport.write(batch.frame)
    return True


async def _send(response: web.StreamResponse, data: bytes, within: float) -> None:
    try:
        async with asyncio.timeout(within):
            await response.write(data)
    except TimeoutError:
        raise _Cut("slow") from None


async def _part(request: web.Request, response: web.StreamResponse, error: Exception) -> None:
    """Send the reason why a stream ends, and give the client a while to read it."""
    match error:
        case Refusal():
            reason = str(error.code)
        case StoreUnavailable():
            reason = str(Code.STORE_UNAVAILABLE)
        case _:
            reason = str(error)
    transport = request.transport
    if transport is None:
        return
    asyncio.get_running_loop().call_later(SLOW, transport.abort)
    with suppress(ConnectionError):
        await response.write(b'event: cut\ndata: {"reason":"%b"}\n\n' % reason.encode())


def _begin(headers: Mapping[str, str]) -> web.StreamResponse:
    """Start a response of unknown length that ends with its connection."""
    response = web.StreamResponse(headers={**HEADERS, **headers})
    response.force_close()
    return response


def _bound(request: web.Request) -> None:
    """Limit what the kernel buffers for a client that does not read."""
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)


def _resumed(request: web.Request, since: int | None) -> int | None:
    """Return where a stream begins: `Last-Event-ID`, which a browser sends when it reconnects, or else `since`."""
    given = request.headers.get(LAST_EVENT_ID, "")
    if not given:
        return since
    if not re.fullmatch(r"[0-9]{1,18}", given, re.ASCII):
        raise Refusal(
            400, Code.INVALID_PARAMETER, "should be the id of an event of this stream", LAST_EVENT_ID
        )
    return int(given)


def _event(entry: FeedEntry) -> bytes:
    return b"id: %d\nevent: change\ndata: %b\n\n" % (entry.index, entry.body)


def _rows(services: Services, wanted: FeedFilter) -> Iterator[Sequence[Row]]:
    """Yield the rows of a snapshot in slices, since all clients share the loop."""
    if not wanted.subs_ids:
        yield from services.table.slices(_SLICE)
        return
    yield [row for subs_id in sorted(wanted.subs_ids) if (row := services.table.get(subs_id))]


def _line(services: Services, row: Row) -> bytes:
    return orjson.dumps(encode_route(services.lookup.shown(row)), option=orjson.OPT_APPEND_NEWLINE)


def _stored_route(change: Mapping[str, Any]) -> Route:
    """Return the route of a stored change. It has the time of its check only if a check made the change."""
    action, reason = Action(change["action"]), Reason(change["reason"])
    return Route(
        subs_id=change["subs_id"],
        action=action,
        number=change["number"],
        extension=change["extension"],
        state=State(change["to_state"]),
        reason=reason,
        status=change["status"],
        checked_at=change["at"] if change["cause"] == WriteCause.CHECKED else 0.0,
        age=None,
        stale=False,
        retry_after=RETRY_AFTER.get(reason, 5) if action is Action.HOLD else 0,
        flags=tuple(Flag(flag) for flag in change["flags"].split(",") if flag),
        expires_at=change["expires_at"],
        version=change["version"],
        index=change["index"],
        decided_at=change["at"],
        until=change["at"],
        would=_stored_would(change),
    )


def _stored_would(change: Mapping[str, Any]) -> Would | None:
    action, reason = change["would_action"], change["would_reason"]
    return Would(Action(action), Reason(reason)) if action else None


def _compacted() -> Refusal:
    detail = (
        "this index is unknown, or not all changes since are kept: take /v1/routes/snapshot, and continue from"
        f" its {INDEX}"
    )
    return Refusal(410, Code.COMPACTED, detail)
