"""Changes: the feed by long poll and as server-sent events, and the whole table to begin with.

A reader takes the snapshot once and follows the changes after its index; the two together are the table. Which changes
there are is `feed`'s concern and the store's; here they are put into bytes and sent, and readers who do not take them
are cut off.
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
from precall.core.model import Action, Flag, Reason, Route, Row, State, WriteCause
from precall.core.routing.route import RETRY_AFTER, past
from precall.engine.services import Services
from precall.table.feed import FeedEntry, FeedFilter, FeedPage, Push

INDEX = "X-Precall-Index"
LAST_EVENT_ID = "Last-Event-ID"
EVENTS, LINES = "text/event-stream", "application/x-ndjson"

BEAT = 15.0
"""Seconds after which a stream without news says that it lives, and a long poll looks whether its reader does."""

SLOW = 5.0
"""Seconds within which a reader must take what is sent: of a stream. A snapshot, which is stored by some, has more."""

PATIENCE = 30.0
FRESH = 1.0
"""Seconds for which readers share the bytes of a change: it is told with the age it has."""

BUFFER = 128 * 1024
"""What the kernel keeps of a stream for its reader, in bytes; left to itself it grows to megabytes for each."""

_WAITING = 64 * 1024
_PART = 64
_SLICE = 100
_TURNS = 10


class _Cut(Exception):
    """A stream must end; why."""


@dataclass(slots=True)
class _Follower:
    """One reader's way through the feed; it has been told of everything up to `position`."""

    services: Services
    wanted: FeedFilter
    position: int

    @classmethod
    async def after(cls, services: Services, wanted: FeedFilter, since: int) -> Self:
        """From `since` on, which must be the index of a change that is kept, or one a start went on from."""
        feed = services.feed
        if feed.holds(since) or since in feed.bases or await services.store.knows(since):
            return cls(services, wanted, since)
        raise _compacted()

    async def read(self, limit: int) -> Sequence[FeedEntry]:
        """The next changes, at most `limit`, with their bytes; none: nothing so far, up to the new position."""
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
            self.tell(entry)
        return found

    async def wait(self, seconds: float, push: Push | None = None) -> None:
        """Wait for a change to read, at most `seconds`."""
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
            FeedEntry(one["index"], one["at"], one["subs_id"], one["pool_key"], _recalled(one))
            for one in changes
        ]

    def tell(self, entry: FeedEntry) -> None:
        """Make the bytes of a change: of its route as it stands now, or, if it was replaced since, as it was told."""
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
    # Before the headers, so that one who must take a snapshot is told by a status.
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
            request.transport.abort()  # without an end nobody takes it for whole
    return response


async def _follow(
    request: web.Request, response: web.StreamResponse, follower: _Follower, found: Sequence[FeedEntry]
) -> None:
    """Send changes as they come, until the reader goes or must be cut off."""
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
    """Send a few changes on the spot, unless what was sent before is still on its way: the way most events go. Hundreds
    of readers share the bytes, and none of their tasks is woken."""
    transport = request.transport
    if transport is None or transport.get_write_buffer_size() > _WAITING or request.version < HttpVersion11:
        return False
    if not batch.frame:
        for entry in batch.entries:
            follower.tell(entry)
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
    """Tell the reader of a stream why it ends, and give it a while to take that."""
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
    """An answer without a known length; it ends with its connection, so that the end can be cut off."""
    response = web.StreamResponse(headers={**HEADERS, **headers})
    response.force_close()
    return response


def _bound(request: web.Request) -> None:
    """Keep little in the kernel for a reader who does not take it."""
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)


def _resumed(request: web.Request, since: int | None) -> int | None:
    """Where a stream begins: a browser that connects again repeats its address, but tells what it had in a header."""
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
    """The rows a snapshot tells, in slices: readers share the loop."""
    if not wanted.subs_ids:
        yield from services.table.slices(_SLICE)
        return
    yield [row for subs_id in sorted(wanted.subs_ids) if (row := services.table.get(subs_id))]


def _line(services: Services, row: Row) -> bytes:
    return orjson.dumps(encode_route(services.lookup.shown(row)), option=orjson.OPT_APPEND_NEWLINE)


def _recalled(change: Mapping[str, Any]) -> Route:
    """The route of a change as the database keeps it: without the time of its check, unless that was the change."""
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
    )


def _compacted() -> Refusal:
    detail = (
        "this index is not known here, or not all changes since are kept: take /v1/routes/snapshot, and go on from"
        f" its {INDEX}"
    )
    return Refusal(410, Code.COMPACTED, detail)
