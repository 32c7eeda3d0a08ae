"""The change feed in memory: the newest published changes, in the order of their index, and who waits for more.

`ledger` is the one writer. It never waits for a reader and does work only for those a change concerns; a whole batch
wakes a reader once. Older changes are in the store; how a change is told over HTTP is `api.changes`' concern.
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
    """Which changes a reader wants: of these ids and in these pools; an empty set is all."""

    subs_ids: frozenset[str] = frozenset()
    pool_keys: frozenset[str] = frozenset()

    def names(self, subs_id: str, pool_key: str) -> bool:
        """Whether a change of this binding in this pool is wanted."""
        return (not self.subs_ids or subs_id in self.subs_ids) and (
            not self.pool_keys or pool_key in self.pool_keys
        )


@dataclass(slots=True)
class FeedEntry:
    """One change as readers without a caller were told of it at `at`, real numbers withheld.

    `body` are the bytes it is told in and `made_at` when they were made: whoever tells it first makes them, all others
    share them.
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
    """Changes told together; `frame` are the bytes of them all, made by whoever is first to tell them."""

    entries: Sequence[FeedEntry]
    frame: bytes = field(default=b"", repr=False)


Push = Callable[[FeedPage], bool]
"""Takes changes for a reader on the spot; False: it cannot, let the reader come for them itself."""


@dataclass(slots=True, eq=False)
class _Sleeper:
    """A reader who waits, and has been told of everything up to `position`."""

    wanted: FeedFilter
    position: int
    push: Push | None
    woken: "asyncio.Future[None]"

    def places(self) -> Iterable[str]:
        """Under what it is found: its ids, else its pools, else everything."""
        if self.wanted.subs_ids:
            return [f"id {subs_id}" for subs_id in self.wanted.subs_ids]
        return [f"pool {pool_key}" for pool_key in self.wanted.pool_keys] or _ALL


class Feed:
    """The newest changes, and their readers. A *position* is an index up to which a reader knows everything.

    `base` is the index this start goes on from; `bases` are those of earlier starts that are still known: readers may
    have been told them as positions though no change bears them. `size` is how many changes are kept.
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
        """Take in a published change. `saved`: it and all before it are in the database; one that is not stays here."""
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
        """Whether what follows `index` can be told from memory: it is that of a change kept here, or the floor."""
        if index == self.floor:
            return True
        place = bisect_left(self._entries, index, key=_INDEX)
        return place < len(self._entries) and self._entries[place].index == index

    def after(self, position: int, wanted: FeedFilter, limit: int) -> tuple[list[FeedEntry], int]:
        """(at most `limit` wanted changes after `position`, which is not below the floor; the position they lead to).

        Few or none with a position below `newest`: there is more, for the next turn of the loop.
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
        """Wait until there may be a wanted change after `position`, at most `seconds`; the position to read on from.

        With `push` a few changes at a time are told to that meanwhile, without waking anybody, and the position rises.
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
        """Wake everybody; nobody waits from now on."""
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
        """Tell the sleepers what has come since the last time: each is pushed what it wants of it, or woken for it."""
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
        """Its time is over: nothing that was told to others was for it, or it was told as well. One who was woken for
        something in this very moment has yet to read it."""
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
        """Let go of the oldest, some at a time, but never of what only this process knows."""
        if len(self._entries) < self._size + self._size // 8 + 1:
            return
        stored = bisect_right(self._entries, self._saved, key=_INDEX)
        gone = min(len(self._entries) - self._size, stored)
        if gone:
            self.floor = self._entries[gone - 1].index
            del self._entries[:gone]
