"""The change feed in memory: the newest published changes, in index order, and the readers that wait for more.

Only the writer adds changes. It never waits for a reader, and works only for readers that want a change. A reader is
woken once per batch. Older changes are in the store. `api.handlers.changes` encodes changes for HTTP.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import attrgetter

from precall.core.model import Change, Flag, Route
from precall.core.routing.route import removed

SIZE = 20_000
"""Changes kept in memory: about 20 MB once all have been encoded."""

PUSH = 64
"""Maximum number of changes pushed to a waiting reader at once. For more, it is woken and reads at its own pace."""

SCAN = 2_000
"""Maximum number of changes examined in one call, because readers share the event loop."""

_INDEX = attrgetter("index")
_ALL = ("all",)


@dataclass(frozen=True, slots=True)
class FeedFilter:
    """The changes a reader wants: those of these ids and pools. An empty set matches all."""

    subs_ids: frozenset[str] = frozenset()
    pool_keys: frozenset[str] = frozenset()

    def names(self, subs_id: str, pool_key: str) -> bool:
        """Return whether a change of this binding in this pool is wanted."""
        return (not self.subs_ids or subs_id in self.subs_ids) and (
            not self.pool_keys or pool_key in self.pool_keys
        )


@dataclass(slots=True)
class FeedEntry:
    """One change, as published at `at` (Unix seconds) to readers without a caller, with real numbers withheld.

    `body` is its encoding, made at `made_at` by the first reader that needed it, and shared by all others.
    """

    index: int
    at: float
    subs_id: str
    pool_key: str
    route: Route
    body: bytes = field(default=b"", repr=False)
    made_at: float = 0.0


@dataclass(slots=True)
class FeedPage:
    """Changes sent together. `frame` is their encoding, made by the first reader that needs it."""

    entries: Sequence[FeedEntry]
    frame: bytes = field(default=b"", repr=False)


Push = Callable[[FeedPage], bool]
"""Sends changes to a reader at once. Returns False if that is not possible; the reader is then woken."""


@dataclass(slots=True, eq=False)
class _Sleeper:
    """A waiting reader that has received everything up to `position`."""

    wanted: FeedFilter
    position: int
    push: Push | None
    woken: "asyncio.Future[None]"

    def index_keys(self) -> Iterable[str]:
        """Return the keys under which this reader is indexed: its ids, else its pools, else one for all."""
        if self.wanted.subs_ids:
            return [f"id {subs_id}" for subs_id in self.wanted.subs_ids]
        return [f"pool {pool_key}" for pool_key in self.wanted.pool_keys] or _ALL


class Feed:
    """The newest changes and their readers. A reader's *position* is the index up to which it has seen everything.

    `base` is the index at which this process started. `bases` are those of earlier starts; a reader may have one as
    its position although no change has that index. `size` is the number of changes kept.
    """

    def __init__(self, base: int, bases: Iterable[int] = (), size: int = SIZE) -> None:
        self.newest = base
        self.floor = base
        """Changes above this index are in memory; those up to it are in the store, unless retention deleted them."""
        self.bases = frozenset((*bases, base))
        self.closed = False
        self._size = size
        self._entries: list[FeedEntry] = []
        self._saved = base
        self._sleepers: dict[str, set[_Sleeper]] = {}
        self._fresh: list[FeedEntry] = []
        self._notified = base

    @property
    def waiting(self) -> int:
        """Number of readers that wait for a change."""
        return len(set().union(*self._sleepers.values()))

    def append(self, change: Change, *, saved: bool = True) -> None:
        """Add a published change.

        `saved` says that it and all earlier changes are in the database. Unsaved changes are kept beyond `size`.
        """
        if change.quiet:
            return
        route = change.route
        if not saved:
            route = replace(route, flags=(*route.flags, Flag.UNSAVED))
        if change.left:
            gone = removed(route, route.version - 1, change.index - 1)
            self._add(FeedEntry(gone.index, change.at, change.subs_id, change.left, gone))
        self._add(FeedEntry(change.index, change.at, change.subs_id, change.pool_key, route))
        if saved:
            self._saved = change.index
        self._trim()

    def holds(self, index: int) -> bool:
        """Return whether the changes after `index` are in memory: whether it is a kept change's index, or the floor."""
        if index == self.floor:
            return True
        at = bisect_left(self._entries, index, key=_INDEX)
        return at < len(self._entries) and self._entries[at].index == index

    def after(self, position: int, wanted: FeedFilter, limit: int) -> tuple[list[FeedEntry], int]:
        """Return at most `limit` wanted changes after `position`, and the position they lead to.

        `position` must not be below the floor. If the returned position is below `newest`, there is more to read.
        """
        start = bisect_right(self._entries, position, key=_INDEX)
        found: list[FeedEntry] = []
        last = position
        for entry in self._entries[start : start + SCAN]:
            last = entry.index
            if wanted.names(entry.subs_id, entry.pool_key):
                found.append(entry)
                if len(found) == limit:
                    break
        return found, last

    def latest(self, wanted: FeedFilter, limit: int) -> list[FeedEntry]:
        """Return at most `limit` wanted changes, newest first, out of the newest `SCAN` in memory."""
        newest = islice(reversed(self._entries), SCAN)
        return list(islice((one for one in newest if wanted.names(one.subs_id, one.pool_key)), limit))

    async def wait(self, wanted: FeedFilter, position: int, seconds: float, push: Push | None = None) -> int:
        """Wait at most `seconds` for a wanted change after `position`. Return the position to continue reading from.

        With `push`, small groups of changes are passed to it as they come. The position then advances without waking
        the reader.
        """
        if self.closed or position < self.newest:
            return position
        loop = asyncio.get_running_loop()
        sleeper = _Sleeper(wanted, position, push, loop.create_future())
        for key in sleeper.index_keys():
            self._sleepers.setdefault(key, set()).add(sleeper)
        timer = loop.call_later(seconds, self._wake, sleeper)
        try:
            await sleeper.woken
        finally:
            timer.cancel()
            self._forget(sleeper)
        return sleeper.position

    def close(self) -> None:
        """Wake all readers. Later calls of `wait` return at once."""
        self.closed = True
        for sleepers in list(self._sleepers.values()):
            for sleeper in list(sleepers):
                self._wake(sleeper)

    def _add(self, entry: FeedEntry) -> None:
        self.newest = entry.index
        self._entries.append(entry)
        if self._sleepers:
            if not self._fresh:
                # Deferred, because the writer is about to publish more, and one notification can cover all of it.
                asyncio.get_running_loop().call_soon(self._notify)
            self._fresh.append(entry)

    def _notify(self) -> None:
        """Notify waiting readers of new changes: push to those with a `push`, and wake the others."""
        fresh, self._fresh = self._fresh, []
        before, self._notified = self._notified, self.newest
        whole = FeedPage(fresh)
        for sleeper in list(self._sleepers.get(_ALL[0], ())):
            self._hand(sleeper, whole, before)
        wanted: dict[_Sleeper, list[FeedEntry]] = {}
        for entry in fresh:
            for key in (f"pool {entry.pool_key}", f"id {entry.subs_id}"):
                for sleeper in self._sleepers.get(key, ()):
                    if sleeper.wanted.names(entry.subs_id, entry.pool_key):
                        wanted.setdefault(sleeper, []).append(entry)
        for sleeper, entries in wanted.items():
            self._hand(sleeper, FeedPage(entries), before)

    def _hand(self, sleeper: _Sleeper, batch: FeedPage, before: int) -> None:
        if batch.entries[-1].index <= sleeper.position:
            return
        if batch.entries[0].index <= sleeper.position:  # it had read some of these before it waited
            batch = FeedPage([entry for entry in batch.entries if entry.index > sleeper.position])
        if sleeper.push is not None and len(batch.entries) <= PUSH and sleeper.push(batch):
            sleeper.position = batch.entries[-1].index
        else:
            sleeper.position = max(sleeper.position, before)
            self._forget(sleeper)
            if not sleeper.woken.done():
                sleeper.woken.set_result(None)

    def _wake(self, sleeper: _Sleeper) -> None:
        """End the wait of one reader.

        It has received every wanted change up to the last notification, unless it was already woken and has yet to
        read; its position then stays.
        """
        self._forget(sleeper)
        if not sleeper.woken.done():
            sleeper.position = max(sleeper.position, self._notified)
            sleeper.woken.set_result(None)

    def _forget(self, sleeper: _Sleeper) -> None:
        for key in sleeper.index_keys():
            sleepers = self._sleepers.get(key)
            if sleepers is not None:
                sleepers.discard(sleeper)
                if not sleepers:
                    del self._sleepers[key]

    def _trim(self) -> None:
        """Drop the oldest changes, a few at a time, but never one that is not in the database."""
        if len(self._entries) < self._size + self._size // 8 + 1:
            return
        stored = bisect_right(self._entries, self._saved, key=_INDEX)
        gone = min(len(self._entries) - self._size, stored)
        if gone:
            self.floor = self._entries[gone - 1].index
            del self._entries[:gone]
