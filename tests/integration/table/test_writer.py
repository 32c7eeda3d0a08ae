"""The writer on a real database file.

No write is lost, repeated or reordered, even if authors disappear, fail or are refused.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from precall.clocks import Clocks
from precall.config.schema import Config
from precall.config.settings import Settings
from precall.core.errors import OutcomeUnknown, StoreError, StoreUnavailable
from precall.core.model import (
    Action,
    Binding,
    BindingState,
    Change,
    Check,
    NumberRole,
    Override,
    Policy,
    Row,
    WriteCause,
)
from precall.core.planning.sample import DialRecord
from precall.core.routing.registration import RegistrationOutcome, register
from precall.core.routing.state import advance
from precall.store import Store
from precall.table.feed import Feed, FeedFilter
from precall.table.publisher import Publisher
from precall.table.table import Table
from precall.table.unsaved import BACKLOG, UnsavedChanges
from precall.table.writer import BATCH, Writer
from precall.table.writes import Amend, Amendment
from precall.telemetry.metrics import Metrics
from tests.support.builders import NOW, answer, binding, order
from tests.support.locked import locked
from tests.support.patience import BRIEF, PATIENCE, until

TIMEOUT = BRIEF


class Lossy(Store):
    """A database that is lost, `losses` times, in the very commit: after it. More than `at_once` changes time out."""

    losses = 0
    at_once = 1_000_000
    lost: Callable[[], None] = staticmethod(lambda: None)
    watch: Callable[[Sequence[Change]], None] = staticmethod(lambda _changes: None)

    async def commit(
        self,
        changes: Sequence[Change],
        checks: Sequence[Check] = (),
        refreshed: Sequence[Row] = (),
        dials: Sequence[DialRecord] = (),
    ) -> None:
        self.watch(changes)
        if len(changes) > self.at_once:
            raise StoreUnavailable("the database did not answer within 1 s")
        await super().commit(changes, checks, refreshed, dials)
        if self.losses:
            self.losses -= 1
            self.lost()
            raise OutcomeUnknown("the connection was lost")


class Desk:
    """A running writer and what it writes to."""

    def __init__(self, store: Lossy, writer: Writer, table: Table, feed: Feed, file: Path) -> None:
        self.store, self.writer, self.table, self.feed, self.file = store, writer, table, feed, file
        self.now = NOW

    def register(self, subs_id: str, **facts: Any) -> "asyncio.Future[Amendment[Any]]":
        return self.writer.submit(subs_id, WriteCause.REGISTERED, self.registration(subs_id, **facts))

    def registration(self, subs_id: str, **facts: Any) -> Amend[RegistrationOutcome]:
        def amend(row: Row | None, index: int) -> Amendment[RegistrationOutcome]:
            self.now += 0.25
            outcome, after = register(row, wanted(subs_id, **facts), Policy(), self.now, index)
            return Amendment(after, outcome)

        return amend

    def answered(self, subs_id: str, status: int, seq: int) -> "asyncio.Future[Amendment[Any]]":
        """What the checker does with an answer that changes the route."""
        row = self.row(subs_id)
        state = self.observed(row, status, seq)
        check = Check(
            subs_id,
            row.binding.generation,
            seq,
            NOW,
            0.1,
            f"status_{status}",
            status,
            "",
            "",
            "OK",
            f"R{seq}",
        )
        return self.writer.submit(
            subs_id,
            WriteCause.CHECKED,
            lambda row, _: Amendment(row and replace(row, state=state), None),
            check=check,
        )

    def observed(self, row: Row, status: int, seq: int) -> BindingState:
        return advance(
            row.binding,
            row.state,
            answer(status),
            generation=row.binding.generation,
            seq=seq,
            policy=Policy(),
            now=NOW + seq,
            chance=0.5,
            gone_is_credible=True,
        ).state

    def refresh(self, subs_id: str, status: int, seq: int) -> None:
        """What the checker does with an answer that changes nothing."""
        row = self.row(subs_id)
        row = replace(row, state=self.observed(row, status, seq))
        self.table.refresh(row)
        self.writer.record_unchanged(
            Check(
                subs_id, row.binding.generation, seq, NOW, 0.1, f"status_{status}", status, "", "", "OK", ""
            ),
            row,
        )

    def row(self, subs_id: str) -> Row:
        row = self.table.get(subs_id)
        assert row is not None
        return row

    def fail(self, subs_id: str, seq: int) -> None:
        """What the checker does with a check that failed: the newest answer stays the newest."""
        row = self.row(subs_id)
        row = replace(row, state=replace(row.state, failures=row.state.failures + 1))
        self.table.refresh(row)
        self.writer.record_unchanged(
            Check(subs_id, row.binding.generation, seq, NOW, 0.1, "transient", 0, "", "", "timeout", ""), row
        )

    async def stored(self) -> dict[str, Row]:
        return {row.subs_id: row.row async for rows in self.store.load() for row in rows}

    async def published(self) -> list[dict[str, Any]]:
        changes, position = list[dict[str, Any]](), 0
        while position < 2**62:
            page = await self.store.changes(position, 2**62, limit=500)
            assert page is not None
            changes += page[0]
            position = page[1]
        return changes

    async def settled(self) -> None:
        """Everything is stored, and the table is what is stored."""
        await until(lambda: self.writer.saving and not self.writer.pending)
        assert await self.stored() == {row.binding.subs_id: row for row in self.table.rows()}
        assert not self.table.unsaved
        indexes = [change["index"] for change in await self.published()]
        assert indexes == sorted(set(indexes))

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """The file is locked, and the writer has noticed."""
        async with locked(self.file):
            self.writer.probe_database()
            await until(lambda: not self.writer.saving)
            yield


def wanted(subs_id: str, **facts: Any) -> Binding:
    return binding(**{"subs_id": subs_id, "registered_at": 0.0, "generation": 0} | facts)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with running(tmp_path) as desk:
        yield desk


@asynccontextmanager
async def running(folder: Path, backlog: int = BACKLOG) -> AsyncIterator[Desk]:
    loop = asyncio.get_running_loop()
    file = folder / "precall.db"
    store = await Lossy.open(f"sqlite:///{file}", timeout=TIMEOUT, auto_migrate=True)
    table, feed, metrics = Table(), Feed(100), Metrics()
    writer = Writer(
        store,
        table,
        Publisher(table, feed, UnsavedChanges(backlog), metrics),
        Settings(Config()),
        metrics,
        Clocks(lambda: NOW, loop.time),
        100,
    )
    running = asyncio.create_task(writer.run())
    try:
        yield Desk(store, writer, table, feed, file)
    finally:
        writer.close()
        await running
    await store.close()


async def test_cancelled_authors_do_not_stop_the_writer(desk: Desk) -> None:
    await desk.register("1")
    for gone in (desk.register("1"), desk.register("2"), desk.register("1", number_x="17000000009")):
        gone.cancel()
    row = (await desk.register("3")).row
    assert row is not None
    await desk.settled()
    assert desk.row("1").binding.number_x == "17000000009"


async def test_a_group_is_stored_completely_or_not_at_all(desk: Desk) -> None:
    def refuse(_row: Row | None, _index: int) -> Row:
        raise ValueError("no")

    wishes = [("1", WriteCause.REGISTERED, desk.registration("1")), ("2", WriteCause.REGISTERED, refuse)]
    group = desk.writer.submit_all(wishes)
    beside = desk.register("3")
    ended = await asyncio.gather(*group, return_exceptions=True)
    assert [type(error) for error in ended] == [ValueError, ValueError]
    assert (await beside).row is not None
    await desk.settled()
    assert set(await desk.stored()) == {"3"}


@pytest.mark.slow
async def test_a_group_larger_than_a_batch_is_one_transaction(desk: Desk) -> None:
    ids = [str(place) for place in range(1, BATCH + 1001)]
    wishes = [(i, WriteCause.REGISTERED, desk.registration(i)) for i in ids]
    await asyncio.gather(*desk.writer.submit_all(wishes))
    await desk.settled()
    assert len(await desk.stored()) == BATCH + 1000


async def test_a_write_based_on_an_uncommitted_one_fails_with_it(desk: Desk) -> None:
    async with locked(desk.file):
        first, second = desk.register("1"), desk.register("1")
        ended = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(error) for error in ended] == [StoreUnavailable, StoreUnavailable]
    await desk.settled()
    assert desk.table.get("1") is None


@pytest.mark.parametrize("facts", [{"labels": (("a", "b"),)}, {"number_a": "13800000002"}])
async def test_an_observation_during_a_commit_is_kept_within_its_generation(
    desk: Desk, facts: dict[str, Any]
) -> None:
    await desk.register("1")
    await desk.answered("1", 1, 1)
    async with locked(desk.file):
        registered = desk.register("1", **facts)
        await asyncio.sleep(0.05)
        desk.refresh("1", 1, 2)
    row = (await registered).row
    assert row is not None
    assert row == desk.row("1")
    assert row.state.seq == (2 if "labels" in facts else 0)
    await desk.settled()


async def test_a_check_that_fails_during_a_commit_is_stored_with_the_next(desk: Desk) -> None:
    await desk.register("1")
    desk.fail("1", 1)
    committing = asyncio.Event()
    desk.store.watch = lambda _changes: committing.set()
    changed = desk.register("2")
    await committing.wait()
    desk.fail("1", 2)
    await changed
    await desk.settled()
    assert (await desk.stored())["1"].state.failures == 2


async def test_a_long_queue_is_stored_in_slices_and_flags_end_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("precall.table.writer.BATCH", 500)
    async with running(tmp_path) as desk:
        await asyncio.gather(*(desk.register(subs_id) for subs_id in "123"))
        wished = ["1", "2"] * (500 // 2) + ["3"] * 500
        flagged: list[set[str]] = []
        async with desk.down():
            desk.store.watch = lambda changes: flagged.append(set(desk.table.unsaved)) if changes else None
            state = desk.observed(desk.row("1"), 1, 1)
            states = [replace(state, seq=seq) for seq in range(1, len(wished) + 1)]
            await asyncio.gather(
                *(
                    desk.writer.submit(
                        i,
                        WriteCause.CHECKED,
                        lambda row, _, state=state: Amendment(replace(row, state=state), None),
                    )
                    for i, state in zip(wished, states, strict=True)
                )
            )
            desk.refresh("3", 1, len(wished) + 1)
            flagged.clear()  # attempts to store only what was published until then
            await until(lambda: flagged)
        await desk.settled()
        assert flagged[0] == {"1", "2", "3"}
        assert flagged[-1] == {"3"}
        assert all(later <= earlier for earlier, later in pairwise(flagged))
        assert len(await desk.published()) == 3 + len(wished)


async def test_a_queue_too_long_for_a_slow_database_is_stored_in_smaller_batches(desk: Desk) -> None:
    await desk.register("1")
    async with desk.down():
        state = desk.observed(desk.row("1"), 1, 1)
        for seq in range(1, 301):
            desk.writer.submit(
                "1",
                WriteCause.CHECKED,
                lambda row, _, seq=seq: Amendment(row and replace(row, state=replace(state, seq=seq)), None),
            )
        await until(lambda: desk.writer.pending >= 300)
        desk.store.at_once = 20
    await desk.settled()
    assert len(await desk.published()) == 301


async def test_constant_changes_do_not_prevent_recovery(desk: Desk) -> None:
    await desk.register("1")
    seq, ended = 0, False

    async def answers() -> None:
        nonlocal seq
        while not ended:
            seq += 1
            state = replace(desk.row("1").state, seq=seq)
            desk.writer.submit(
                "1",
                WriteCause.CHECKED,
                lambda row, _, state=state: Amendment(row and replace(row, state=state), None),
            )
            await asyncio.sleep(0.001)

    async with desk.down():
        answering = asyncio.create_task(answers())
        await asyncio.sleep(0.1)
    await until(lambda: desk.writer.saving)
    ended = True
    await answering
    await desk.settled()


async def test_a_rejected_value_fails_only_its_author(desk: Desk) -> None:
    bad = desk.register("1", labels=(("city", "\ud800"),))
    good = [desk.register(str(place)) for place in range(2, 12)]
    with pytest.raises(StoreError, match="refuses a value"):
        await bad
    assert all(await asyncio.gather(*good))
    await desk.settled()
    assert len(await desk.stored()) == 10


async def test_while_down_requests_fail_fast_and_answers_are_served(desk: Desk) -> None:
    await asyncio.gather(desk.register("1"), desk.register("2"))
    # Twenty that waited for the database would take twice as long.
    async with desk.down(), asyncio.timeout(10 * TIMEOUT):
        for seq in range(1, 21):
            with pytest.raises(StoreUnavailable):
                await desk.register("3")
            row = (await desk.answered("1", 1 + seq % 2, seq)).row
            assert row == desk.row("1")
            assert row is not None
            assert row.state.seq == seq
            assert desk.table.unsaved == {"1"}
            await asyncio.sleep(0.02)
        desk.refresh("2", 1, 30)
        desk.refresh("1", 1, 31)
    await desk.settled()
    assert [change["status"] for change in await desk.published() if change["subs_id"] == "1"] == [
        0,
        *[2, 1] * 10,
    ]
    assert desk.feed.newest == (await desk.published())[-1]["index"]
    assert (await desk.register("3")).row is not None


async def test_the_queue_is_bounded_and_the_table_stored_completely(tmp_path: Path) -> None:
    async with running(tmp_path, backlog=10) as desk:
        await asyncio.gather(*(desk.register(str(place)) for place in range(1, 6)))
        async with desk.down():
            for seq in range(1, 101):
                await desk.answered(str(1 + seq % 5), 1 + seq // 5 % 2, seq)
            await until(lambda: desk.writer.pending <= 10)
        await desk.settled()
        assert {row.state.seq for row in (await desk.stored()).values()} == {96, 97, 98, 99, 100}


async def test_a_refused_request_that_was_stored_is_undone(desk: Desk) -> None:
    await asyncio.gather(desk.register("1"), desk.register("2"))
    await desk.answered("1", 2, 1)
    pin = Override(Action.HOLD, NumberRole.OWN, None, "stop", desk.row("2").binding.generation, NOW, "me")
    await desk.writer.submit(
        "2", WriteCause.OVERRIDE, lambda row, _: Amendment(row and replace(row, override=pin), None)
    )
    before = {row.binding.subs_id: row for row in desk.table.rows()}
    desk.store.losses = 1
    lost = [
        desk.register("1", number_a="13800000009", pool_key="FC2"),
        desk.writer.submit("2", WriteCause.REMOVED, lambda _row, _index: Amendment(None, None)),
        desk.register("3"),
    ]
    ended = await asyncio.gather(*lost, return_exceptions=True)
    assert all(isinstance(error, StoreUnavailable) for error in ended)
    await desk.settled()
    after = await desk.stored()
    assert set(after) == {"1", "2"}
    for subs_id, row in after.items():
        assert replace(row, version=0, index=0) == replace(before[subs_id], version=0, index=0)
        assert row.version > before[subs_id].version
    last = {(change["subs_id"], change["pool_key"]): change["reason"] for change in await desk.published()}
    assert last["3", "FC1"] == last["1", "FC2"] == "removed"


async def test_a_reader_resuming_after_a_lost_commit_misses_no_change(desk: Desk, tmp_path: Path) -> None:
    """The commit is stored, but that is not known, and before it can be put right we are killed."""
    await asyncio.gather(desk.register("1"), desk.register("2"))
    left = tmp_path / "left.db"

    def kill() -> None:
        with closing(sqlite3.connect(desk.file)) as stored, closing(sqlite3.connect(left)) as copy:
            stored.backup(copy)

    desk.store.losses, desk.store.lost = 1, kill
    wish = desk.register("2", number_a="13800000009")
    await asyncio.gather(wish, desk.answered("1", 2, 1), desk.register("3"), return_exceptions=True)
    await desk.settled()
    entries, _ = desk.feed.after(100, FeedFilter(), 100)
    restarted = await Store.open(f"sqlite:///{left}", auto_migrate=False)
    stands = {row.subs_id: row.row.index async for rows in restarted.load() for row in rows}
    assert set(stands) == {"1", "2", "3"}
    resumed = 0
    for position in [entry.index for entry in entries]:
        if not await restarted.knows(position):
            continue  # a snapshot is taken
        resumed += 1
        knows = {entry.subs_id: entry.index for entry in entries if entry.index <= position}
        found = await restarted.changes(position, 2**62, limit=100)
        assert found is not None
        knows |= {change["subs_id"]: change["index"] for change in found[0]}
        assert knows == stands, position
    assert resumed == 3
    await restarted.close()


@pytest.mark.slow
async def test_undoing_changes_share_one_transaction(desk: Desk) -> None:
    ids = [str(place) for place in range(1, BATCH + 11)]
    await asyncio.gather(*(desk.register(subs_id) for subs_id in ids))
    committed: list[set[str]] = []
    desk.store.watch = lambda changes: committed.append({change.subs_id for change in changes})
    desk.store.losses = 1
    wishes = [(i, WriteCause.REGISTERED, desk.registration(i, number_a="13800000009")) for i in ids]
    ended = await asyncio.gather(*desk.writer.submit_all(wishes), return_exceptions=True)
    assert {type(error) for error in ended} == {StoreUnavailable}
    await desk.settled()
    assert [changed for changed in committed if changed] == [set(ids), set(ids)]
    assert {row.binding.number_a for row in (await desk.stored()).values()} == {"13800000001"}


async def test_an_override_refused_for_a_lost_commit_is_not_in_the_log_of_orders(desk: Desk) -> None:
    await desk.register("1")
    generation = desk.row("1").binding.generation

    def overriding(action: Action, at: float) -> Amend[None]:
        pin = Override(action, NumberRole.OWN, None, "", generation, at, "op")
        given = order("override", "1", action.value, at=at, generation=generation)
        return lambda row, _: Amendment(row and replace(row, override=pin), None, given)

    await desk.writer.submit("1", WriteCause.OVERRIDE, overriding(Action.HOLD, NOW))
    desk.store.losses = 1
    with pytest.raises(StoreUnavailable):
        await desk.writer.submit("1", WriteCause.OVERRIDE, overriding(Action.DIAL_X, NOW + 1.0))
    await desk.settled()
    listed = await desk.store.orders.page(now=NOW, limit=9)
    assert [(one.order.action, one.in_force) for one in listed] == [("hold", True)]
    stored = (await desk.stored())["1"].override
    assert stored is not None
    assert stored.action is Action.HOLD


async def test_an_answer_stored_by_a_lost_commit_is_published_once(desk: Desk) -> None:
    await desk.register("1")
    desk.store.losses = 2
    assert (await desk.answered("1", 2, 1)).row is not None
    await desk.settled()
    assert [change["status"] for change in await desk.published()] == [0, 2]
    runs, _ = await desk.store.history("1", limit=10)
    assert [(run["first_seq"], run["count"]) for run in runs] == [(1, 1)]


async def test_closing_stores_the_queue_and_logs_what_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as desk:
        await desk.register("1")
        desk.refresh("1", 1, 1)
        noted = desk.row("1")
    store = await Store.open(f"sqlite:///{tmp_path}/precall.db", timeout=PATIENCE, auto_migrate=False)
    stored = [row async for rows in store.load() for row in rows]
    assert [row.row for row in stored] == [noted]
    await store.close()
    with closing(sqlite3.connect(tmp_path / "precall.db", isolation_level=None)) as other:
        async with running(tmp_path / ".") as desk:
            desk.table.load(stored)
            other.execute("BEGIN IMMEDIATE")
            await desk.answered("1", 2, 2)
        other.execute("ROLLBACK")
    assert sum("store.lost" in record.getMessage() for record in caplog.records) == 1


async def test_acknowledged_writes_are_stored_despite_lost_commits(desk: Desk) -> None:
    """Many authors, an unruly database: what was acknowledged is stored, in one order for all."""
    acknowledged: dict[str, int] = {}

    async def author(subs_id: str) -> None:
        for turn in range(30):
            try:
                await desk.register(subs_id, labels=(("turn", str(turn)),), number_a=f"138{turn // 10:08}")
                acknowledged[subs_id] = turn
            except StoreUnavailable:
                await asyncio.sleep(0.01)
            if turn % 7 == 3 and desk.table.get(subs_id):
                await desk.answered(subs_id, 1 + turn % 2, 1000 * int(subs_id) + turn)
            await asyncio.sleep(0.001)

    async def trouble() -> None:
        for _ in range(4):
            await asyncio.sleep(0.1)
            desk.store.losses = 1

    await asyncio.gather(trouble(), *(author(str(place)) for place in range(1, 21)))
    await desk.settled()
    for subs_id, turn in acknowledged.items():
        assert dict(desk.row(subs_id).binding.labels)["turn"] == str(turn)
