"""The change feed in memory: no change is lost, and no reader is woken for changes it does not want."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.model import COLUMNS_OF, Action, Change, Flag, Reason, Route, Row, State, WriteCause
from precall.core.routing.route import decide, past, removed
from precall.table.feed import PUSH, Feed, FeedEntry, FeedFilter, FeedPage
from tests.support.builders import NOW, POLICY, X, observed, row

BASE = 1_000
ALL = FeedFilter()


def change(
    index: int, subs_id: str = "1", pool_key: str = "FC1", *, gone: bool = False, left: str = ""
) -> Change:
    """The change of this index: the binding stands in this pool now, or is gone."""
    after = replace(row(subs_id=subs_id, pool_key=pool_key), version=index, index=index)
    route = decide(after, "", POLICY, NOW)
    return Change(
        index=index,
        at=NOW,
        cause=WriteCause.REMOVED if gone else WriteCause.REGISTERED,
        subs_id=subs_id,
        pool_key=pool_key,
        before=None,
        row=None if gone else after,
        route=removed(route, index, index) if gone else route,
        left=left,
        columns=COLUMNS_OF[WriteCause.REMOVED if gone else WriteCause.REGISTERED],
    )


def indexes(found: tuple[list[FeedEntry], int]) -> list[int]:
    return [entry.index for entry in found[0]]


@dataclass
class World:
    """A table, its feed, and all committed changes, in place of a writer and a store."""

    size: int
    pools: dict[str, str] = field(default_factory=dict)
    indexes: dict[str, int] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    waiting: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.index = BASE
        self.feed = Feed(BASE, size=self.size)

    def act(self, subs_id: str, pool_key: str, *, saved: bool) -> None:
        """Put a binding into a pool (none: remove it); `saved`: the database takes it, and all that waited for it."""
        before = self.pools.get(subs_id)
        if not pool_key and before is None:
            return
        left = before if before and pool_key and before != pool_key else ""
        self.index += 2 if left else 1
        new = change(self.index, subs_id, pool_key or before or "", gone=not pool_key, left=left)
        self.waiting.append(new)
        if saved:
            self.log += self.waiting
            self.waiting.clear()
        if pool_key:
            self.pools[subs_id], self.indexes[subs_id] = pool_key, self.index
        else:
            del self.pools[subs_id], self.indexes[subs_id]
        self.feed.append(new, saved=saved)

    def stored(self, since: int, until: int, wanted: FeedFilter) -> list[tuple[str, int, bool]]:
        """Return the stored changes: (id, index, whether it is removed)."""
        found = []
        for one in self.log:
            if one.left and since < one.index - 1 <= until and wanted.names(one.subs_id, one.left):
                found.append((one.subs_id, one.index - 1, True))
            if since < one.index <= until and wanted.names(one.subs_id, one.pool_key):
                found.append((one.subs_id, one.index, one.row is None))
        return found


@dataclass
class Follower:
    """A reader's copy of what it wants of the table."""

    world: World
    wanted: FeedFilter

    def __post_init__(self) -> None:
        world = self.world
        self.position = world.feed.newest
        self.copy = {
            subs_id: index
            for subs_id, index in world.indexes.items()
            if self.wanted.names(subs_id, world.pools[subs_id])
        }

    def read(self, limit: int) -> None:
        feed = self.world.feed
        if self.position < feed.floor:
            told = self.world.stored(self.position, feed.floor, self.wanted)
            self.position = feed.floor
        else:
            before = self.position
            found, self.position = feed.after(self.position, self.wanted, limit)
            assert before <= self.position <= feed.newest
            told = [(one.subs_id, one.index, one.route.action is Action.EXPIRED) for one in found]
        for subs_id, index, gone in told:
            if gone:
                self.copy.pop(subs_id, None)
            else:
                self.copy[subs_id] = index


IDS, POOLS = ("1", "2", "3"), ("FC1", "FC2")
actions = st.tuples(
    st.sampled_from(["act", "act", "act", "join", "read"]),
    st.sampled_from(IDS),
    st.sampled_from(["", *POOLS]),
    st.booleans(),
)
filters = st.builds(FeedFilter, st.frozensets(st.sampled_from(IDS)), st.frozensets(st.sampled_from(POOLS)))


@given(
    size=st.integers(1, 12),
    script=st.lists(actions, max_size=80),
    wanted=st.lists(filters, min_size=1, max_size=4),
    limit=st.integers(1, 5),
)
def test_a_snapshot_and_the_changes_since_are_the_table(
    size: int, script: list[tuple[str, str, str, bool]], wanted: list[FeedFilter], limit: int
) -> None:
    world = World(size)
    followers: list[Follower] = []
    for place, (what, subs_id, pool_key, saved) in enumerate(script):
        if what == "act":
            world.act(subs_id, pool_key, saved=saved)
        elif what == "join":
            followers.append(Follower(world, wanted[place % len(wanted)]))
        elif followers:
            followers[place % len(followers)].read(limit)
    for follower in followers:
        while follower.position < world.feed.newest:
            follower.read(limit)
        assert follower.copy == {
            subs_id: index
            for subs_id, index in world.indexes.items()
            if follower.wanted.names(subs_id, world.pools[subs_id])
        }
    # what the database does not have yet is here
    assert all(one.index > world.feed.floor for one in world.waiting)


def test_old_changes_are_dropped_but_not_unsaved_ones() -> None:
    feed = Feed(BASE, size=8)
    for index in range(BASE + 1, BASE + 101):
        feed.append(change(index))
    assert BASE + 90 <= feed.floor <= BASE + 92
    assert feed.holds(feed.floor)
    assert feed.holds(feed.newest)
    assert not feed.holds(feed.floor - 1)
    assert not feed.holds(feed.newest + 1)
    floor = feed.floor
    for index in range(BASE + 101, BASE + 201):
        feed.append(change(index), saved=False)
    assert floor <= feed.floor <= BASE + 100
    found, _ = feed.after(BASE + 100, ALL, 1000)
    assert [entry.index for entry in found] == list(range(BASE + 101, BASE + 201))
    assert all(Flag.UNSAVED in entry.route.flags for entry in found)
    feed.append(change(BASE + 201))
    assert feed.floor > BASE + 190


def test_quiet_changes_are_not_in_the_feed() -> None:
    feed = Feed(BASE)
    feed.append(replace(change(BASE + 1), quiet=True))
    assert feed.newest == BASE
    assert not feed.holds(BASE + 1)


def test_a_binding_that_leaves_a_pool_is_removed_there() -> None:
    feed = Feed(BASE)
    feed.append(change(BASE + 2, pool_key="FC2", left="FC1"))
    [left], position = feed.after(BASE, FeedFilter(pool_keys=frozenset({"FC1"})), 10)
    assert (left.route.action, left.route.reason, left.index) == (Action.EXPIRED, Reason.REMOVED, BASE + 1)
    assert position == BASE + 2
    [came], _ = feed.after(BASE, FeedFilter(pool_keys=frozenset({"FC2"})), 10)
    assert (came.route.action, came.index, came.route.version) == (
        Action.DIAL_X,
        BASE + 2,
        left.route.version + 1,
    )


async def test_a_change_wakes_only_matching_readers() -> None:
    feed = Feed(BASE)
    wanted = {
        "everything": ALL,
        "its id": FeedFilter(frozenset({"1", "9"})),
        "its pool": FeedFilter(pool_keys=frozenset({"FC1"})),
        "another id": FeedFilter(frozenset({"2"})),
        "another pool": FeedFilter(pool_keys=frozenset({"FC2"})),
        "its id in another pool": FeedFilter(frozenset({"1"}), frozenset({"FC2"})),
    }
    tasks = {name: asyncio.create_task(feed.wait(one, BASE, 60.0)) for name, one in wanted.items()}
    await asyncio.sleep(0)
    for index in range(1, 4):
        feed.append(change(BASE + index))
    await asyncio.wait({tasks["everything"], tasks["its id"], tasks["its pool"]}, timeout=5)
    assert {name for name, task in tasks.items() if task.done()} == {"everything", "its id", "its pool"}
    for name in ("everything", "its id", "its pool"):
        assert indexes(feed.after(tasks[name].result(), wanted[name], 10)) == [BASE + 1, BASE + 2, BASE + 3]
    feed.close()
    # readers with another filter need not look at these changes again
    for name in ("another id", "another pool", "its id in another pool"):
        assert await tasks[name] == BASE + 3
    assert feed.waiting == 0


async def test_a_waiting_reader_is_pushed_a_few_changes_and_woken_for_many() -> None:
    feed = Feed(BASE)
    batches: list[FeedPage] = []

    def push(batch: FeedPage) -> bool:
        batches.append(batch)
        return len(batches) < 3

    tasks = [asyncio.create_task(feed.wait(ALL, BASE, 60.0, push)) for _ in range(2)]
    await asyncio.sleep(0)
    feed.append(change(BASE + 1))
    feed.append(change(BASE + 2))
    await asyncio.sleep(0.01)
    assert [[entry.index for entry in batch.entries] for batch in batches] == [[BASE + 1, BASE + 2]] * 2
    assert batches[0] is batches[1]
    assert not any(task.done() for task in tasks)
    feed.append(change(BASE + 3))  # which neither takes
    assert await asyncio.gather(*tasks) == [BASE + 2, BASE + 2]

    task = asyncio.create_task(feed.wait(ALL, BASE + 3, 60.0, push))
    await asyncio.sleep(0)
    batches.clear()
    for index in range(4, PUSH + 5):
        feed.append(change(BASE + index))
    assert await task == BASE + 3
    assert not batches


async def test_a_reader_that_waits_within_a_batch_gets_only_the_rest() -> None:
    feed = Feed(BASE)
    told: list[int] = []

    def push(batch: FeedPage) -> bool:
        told.extend(entry.index for entry in batch.entries)
        return True

    other = asyncio.create_task(feed.wait(ALL, BASE, 60.0))
    await asyncio.sleep(0)
    feed.append(change(BASE + 1))
    late = asyncio.create_task(feed.wait(ALL, BASE + 1, 60.0, push))
    latest = feed.wait(ALL, BASE + 2, 0.01, push)
    asyncio.get_running_loop().call_soon(feed.append, change(BASE + 2))
    assert await other == BASE
    assert await latest == BASE + 2
    feed.close()
    assert await late == BASE + 2
    assert told == [BASE + 2]


async def test_waiting_returns_the_newest_index() -> None:
    feed = Feed(BASE)
    wanted = FeedFilter(frozenset({"2"}))
    task = asyncio.create_task(feed.wait(wanted, BASE, 0.02))
    await asyncio.sleep(0)
    feed.append(change(BASE + 5))
    assert await task == BASE + 5
    assert await feed.wait(wanted, BASE, 60.0) == BASE  # there is something to look through first
    feed.close()
    assert await feed.wait(wanted, BASE + 5, 60.0) == BASE + 5


@pytest.mark.parametrize("wanted", [ALL, FeedFilter(frozenset({"1"}))])
async def test_a_change_at_the_end_of_a_wait_is_not_skipped(wanted: FeedFilter) -> None:
    """The loop was blocked, and finds both a new change and an expired wait."""
    loop, feed = asyncio.get_running_loop(), Feed(BASE)
    waiting = asyncio.create_task(feed.wait(wanted, BASE, 0.05))
    await asyncio.sleep(0)
    feed.append(change(BASE + 1))
    over = loop.time() + 0.1
    while loop.time() < over:
        pass
    assert await waiting == BASE


async def test_a_reader_that_gives_up_is_forgotten() -> None:
    feed = Feed(BASE)
    task = asyncio.create_task(feed.wait(FeedFilter(frozenset({"1", "2"})), BASE, 60.0))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert feed.waiting == 0
    feed.append(change(BASE + 1))


def route_shown(after: Row) -> Route:
    return decide(after, "", POLICY, NOW)


@pytest.mark.parametrize(
    ("after", "later", "action", "reason"),
    [
        (row(observed(State.NORMAL)), 60.0, Action.DIAL_X, Reason.STATUS_1),
        (row(observed(State.NORMAL)), 3594.0, Action.DIAL_X, Reason.STATUS_1),
        (row(observed(State.NORMAL)), 3595.0, Action.EXPIRED, Reason.EXPIRED_LOCALLY),
        (row(observed(State.TEMPORARY)), 600.0, Action.DIAL_TEMP_X, Reason.STATUS_2),
        (row(observed(State.TEMPORARY)), 601.0, Action.HOLD, Reason.TOO_OLD),
        (row(observed(State.TEMPORARY)), 3600.0, Action.EXPIRED, Reason.EXPIRED_LOCALLY),
        (row(observed(State.NORMAL), expires_at=None), 86_400.0, Action.DIAL_X, Reason.STATUS_1),
        (row(observed(State.NORMAL), expires_at=None), 86_401.0, Action.HOLD, Reason.TOO_OLD),
        (row(observed(State.EXPIRED)), 9999.0, Action.EXPIRED, Reason.STATUS_4),
    ],
)
def test_past_routes_lose_expired_numbers(after: Row, later: float, action: Action, reason: Reason) -> None:
    route = past(route_shown(after), NOW, POLICY, NOW + later)
    assert (route.action, route.reason) == (action, reason)
    assert bool(route.number) == (action in (Action.DIAL_X, Action.DIAL_TEMP_X))
    assert route.number in ("", X, "17100000001")
    assert route.age == pytest.approx(later + 1.0)


def test_the_latest_changes_come_newest_first() -> None:
    feed = Feed(BASE)
    for index in range(1, 7):
        feed.append(change(BASE + index, pool_key="FC1" if index % 2 else "FC2"))
    assert [entry.index - BASE for entry in feed.latest(ALL, 4)] == [6, 5, 4, 3]
    assert [entry.index - BASE for entry in feed.latest(FeedFilter(pool_keys=frozenset({"FC1"})), 9)] == [
        5,
        3,
        1,
    ]
    assert Feed(BASE).latest(ALL, 4) == []
