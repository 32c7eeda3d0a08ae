"""The change feed in memory: the newest published changes, in index order, and the readers that wait for more.

The writer is its only author. It never waits for a reader, does work only for readers that a change concerns, and
wakes a reader once per batch. Older changes are in the store. How a change looks over HTTP is up to
`api.handlers.changes`.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from precall.core.model import Change, Flag, Route
from precall.core.routing.route import removed

SIZE = 20_000
"""Changes kept in memory: some 20 MB once all have been told."""

PUSH = 64
"""Changes that are told to a waiting reader at once; for more it is woken, and takes them at its own pace."""

SCAN = 2_000
"""Changes looked at in one go: readers share the loop."""

_INDEX = attrgetter("index")
_ALL = ("all",)


@dataclass(frozen=True, slots=True)
class FeedFilter:
    """Which changes a reader wants: those of these ids, in these pools. An empty set means all."""

    subs_ids: frozenset[str] = frozenset()
    pool_keys: frozenset[str] = frozenset()

    def names(self, subs_id: str, pool_key: str) -> bool:
        """Whether a change of this binding in this pool is wanted."""
        return (not self.subs_ids or subs_id in self.subs_ids) and (
            not self.pool_keys or pool_key in self.pool_keys
        )


@dataclass(slots=True)
class FeedEntry:
    """One change as published to readers without a caller at `at`, with real numbers withheld.

    `body` holds its encoded bytes, `made_at` when they were made. The first reader that needs them makes them; all
    others share them.
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
    """Changes sent together. `frame` holds the bytes of them all, made by the first reader that needs them."""

    entries: Sequence[FeedEntry]
    frame: bytes = field(default=b"", repr=False)


Push = Callable[[FeedPage], bool]
"""Takes changes for a reader on the spot; False: it cannot, let the reader come for them itself."""


@dataclass(slots=True, eq=False)
class _Sleeper:
    """A waiting reader that has received everything up to `position`."""

    wanted: FeedFilter
    position: int
    push: Push | None
    woken: "asyncio.Future[None]"

    def places(self) -> Iterable[str]:
        """The keys under which this filter is looked up: its ids, else its pools, else everything."""
        if self.wanted.subs_ids:
            return [f"id {subs_id}" for subs_id in self.wanted.subs_ids]
        return [f"pool {pool_key}" for pool_key in self.wanted.pool_keys] or _ALL


class Feed:
    """The newest changes and their readers. A *position* is an index up to which a reader knows everything.

    `base` is the index at which this start continues. `bases` are those of earlier starts that are still known: a
    reader may hold one as its position although no change has that index. `size` is how many changes are kept.
    """

    def __init__(self, base: int, bases: Iterable[int] = (), size: int = SIZE) -> None:
        self.newest = base
        self.floor = base
        """Every change above it is here; those up to it are in the store, as far as they are kept."""
        self.bases = frozenset((*bases, base))
        self.closed = False
        self._size = size
        self._entries: list[FeedEntry] = []
        self._saved = base
        self._sleepers: dict[str, set[_Sleeper]] = {}
        self._fresh: list[FeedEntry] = []
        self._told = base

    @property
    def waiting(self) -> int:
        """Readers that wait for a change."""
        return len(set().union(*self._sleepers.values()))

    def append(self, change: Change, *, saved: bool = True) -> None:
        """Add a published change. `saved`: this change and all before it are in the database. Unsaved changes are
        kept whatever `size` says."""
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
        """Whether the changes after `index` are in memory: it is the index of a kept change, or the floor."""
        if index == self.floor:
            return True
        place = bisect_left(self._entries, index, key=_INDEX)
        return place < len(self._entries) and self._entries[place].index == index

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

    async def wait(self, wanted: FeedFilter, position: int, seconds: float, push: Push | None = None) -> int:
        """Wait at most `seconds` until there may be a wanted change after `position`; return the position to read
        from.

        With `push`, changes are handed to it in small groups as they come, without waking the reader, and the
        position rises.
        """
        if self.closed or position < self.newest:
            return position
        loop = asyncio.get_running_loop()
        sleeper = _Sleeper(wanted, position, push, loop.create_future())
        for place in sleeper.places():
            self._sleepers.setdefault(place, set()).add(sleeper)
        timer = loop.call_later(seconds, self._wake, sleeper)
        try:
            await sleeper.woken
        finally:
            timer.cancel()
            self._forget(sleeper)
        return sleeper.position

    def close(self) -> None:
        """Wake all readers. From now on, none waits."""
        self.closed = True
        for sleepers in list(self._sleepers.values()):
            for sleeper in list(sleepers):
                self._wake(sleeper)

    def _add(self, entry: FeedEntry) -> None:
        self.newest = entry.index
        self._entries.append(entry)
        if self._sleepers:
            if not self._fresh:
                # Not here: the writer has more to publish than this, and all of it can be told at once.
                asyncio.get_running_loop().call_soon(self._tell)
            self._fresh.append(entry)

    def _tell(self) -> None:
        """Notify the sleepers of new changes: push to those that take pushes, wake the others."""
        fresh, self._fresh = self._fresh, []
        before, self._told = self._told, self.newest
        whole = FeedPage(fresh)
        for sleeper in list(self._sleepers.get(_ALL[0], ())):
            self._hand(sleeper, whole, before)
        wanted: dict[_Sleeper, list[FeedEntry]] = {}
        for entry in fresh:
            for place in (f"pool {entry.pool_key}", f"id {entry.subs_id}"):
                for sleeper in self._sleepers.get(place, ()):
                    if sleeper.wanted.names(entry.subs_id, entry.pool_key):
                        wanted.setdefault(sleeper, []).append(entry)
        for sleeper, entries in wanted.items():
            self._hand(sleeper, FeedPage(entries), before)

    def _hand(self, sleeper: _Sleeper, batch: FeedPage, before: int) -> None:
        if batch.entries[-1].index <= sleeper.position:
            return
        if batch.entries[0].index <= sleeper.position:  # it fell asleep amid these
            batch = FeedPage([entry for entry in batch.entries if entry.index > sleeper.position])
        if sleeper.push is not None and len(batch.entries) <= PUSH and sleeper.push(batch):
            sleeper.position = batch.entries[-1].index
        else:
            sleeper.position = max(sleeper.position, before)
            self._forget(sleeper)
            if not sleeper.woken.done():
                sleeper.woken.set_result(None)

    def _wake(self, sleeper: _Sleeper) -> None:
        """End the wait of one sleeper. Everything before its position has been received, or was not for it. A sleeper
        woken at this very moment has yet to read."""
        self._forget(sleeper)
        if not sleeper.woken.done():
            sleeper.position = max(sleeper.position, self._told)
            sleeper.woken.set_result(None)

    def _forget(self, sleeper: _Sleeper) -> None:
        for place in sleeper.places():
            sleepers = self._sleepers.get(place)
            if sleepers is not None:
                sleepers.discard(sleeper)
                if not sleepers:
                    del self._sleepers[place]

    def _trim(self) -> None:
        """Drop the oldest changes, a few at a time, but never one that only this process knows."""
        if len(self._entries) < self._size + self._size // 8 + 1:
            return
        stored = bisect_right(self._entries, self._saved, key=_INDEX)
        gone = min(len(self._entries) - self._size, stored)
        if gone:
            self.floor = self._entries[gone - 1].index
            del self._entries[:gone]
