"""The store on real databases: its contract, and its errors when the database fails."""

import asyncio
import os
import sqlite3
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event

from precall.core.errors import StoreError, StoreUnavailable
from precall.core.model import (
    COLUMNS_OF,
    Action,
    Binding,
    BindingState,
    Change,
    Check,
    Exposure,
    Flag,
    NumberRole,
    Override,
    Reason,
    Route,
    Row,
    State,
    WriteCause,
)
from precall.store import Store
from tests.support.examples import examples
from tests.support.patience import BRIEF, PATIENCE

LOCKED = 8.0
"""Timeout in seconds. A fifth of it is left to report a lock before the deadline of the write."""


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(store_url, timeout=20.0, auto_migrate=True)
    yield opened
    await opened.close()


def a_row(subs_id: str = "1", *, generation: int = 1, index: int = 1, **observed: Any) -> Row:
    binding = Binding(
        subs_id, "FC1", "17000000001", "13800000001", "13900000001", origin="api", generation=generation
    )
    return Row(binding, BindingState(**observed), None, version=index, index=index)


def route_of(row: Row, **differing: Any) -> Route:
    told = Route(
        subs_id=row.binding.subs_id,
        action=Action.DIAL_X,
        number=row.binding.number_x,
        extension=row.binding.extension,
        state=row.state.state,
        reason=Reason.UNVERIFIED,
        status=row.state.status,
        checked_at=row.state.checked_at,
        age=None,
        stale=False,
        retry_after=0,
        flags=(),
        expires_at=row.binding.expires_at,
        version=row.version,
        index=row.index,
        decided_at=0.0,
        until=inf,
    )
    return replace(told, **differing)


def a_change(
    row: Row, cause: WriteCause = WriteCause.REGISTERED, *, at: float = 100.0, **more: Any
) -> Change:
    told = more.pop("route", None) or route_of(row)
    return Change(
        row.index,
        at,
        cause,
        row.binding.subs_id,
        row.binding.pool_key,
        more.pop("before", None),
        row,
        told,
        columns=COLUMNS_OF[cause],
        **more,
    )


def a_removal(row: Row, index: int) -> Change:
    told = route_of(row, action=Action.EXPIRED, number="", state=State.EXPIRED, reason=Reason.REMOVED)
    told = replace(told, version=row.version + 1, index=index)
    state = row.state.state
    return Change(
        index,
        100.0,
        WriteCause.REMOVED,
        row.binding.subs_id,
        "FC1",
        state,
        None,
        told,
        columns=COLUMNS_OF[WriteCause.REMOVED],
    )


def a_check(seq: int, subs_id: str = "1", **differing: Any) -> Check:
    check = Check(subs_id, 1, seq, float(seq), 0.05, "status_1", 1, "17000000001", request_id=f"R{seq}")
    return replace(check, **differing)


async def loaded(store: Store) -> dict[str, Row]:
    return {row.subs_id: row.row async for batch in store.load() for row in batch}


async def runs(store: Store, subs_id: str = "1") -> list[tuple[int, int, int]]:
    """(first_seq, last_seq, count) of a binding's runs, newest first."""
    page, _ = await store.history(subs_id, limit=1000)
    return [(run["first_seq"], run["last_seq"], run["count"]) for run in page]


# -- the routing table ----------------------------------------------------------------------------

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
number = st.one_of(st.just(""), st.text("0123456789+", min_size=3, max_size=20))
moment = st.floats(0, 1e11)
count = st.integers(0, 2**62)
overrides = st.builds(
    Override,
    st.sampled_from([Action.HOLD, Action.DIAL_X, Action.DIAL_TEMP_X]),
    st.sampled_from(NumberRole),
    st.none() | moment,
    text,
    count,
    moment,
    text,
)


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    rows = []
    for subs_id in draw(st.lists(text, min_size=1, max_size=6, unique=True)):
        labels = tuple(draw(st.dictionaries(text, text, max_size=3)).items())
        binding = st.builds(
            Binding,
            st.just(subs_id),
            text,
            number,
            number,
            number,
            number,
            st.none() | moment,
            st.just(labels),
            text,
            moment,
            count,
        )
        state = st.builds(
            BindingState,
            st.sampled_from([state for state in State if state is not State.BLOCKED]),
            st.integers(0, 4),
            number,
            number,
            moment,
            count,
            count,
            number,
            number,
            moment,
            moment,
            moment,
            st.booleans(),
            count,
            st.lists(moment, max_size=5).map(tuple),
            text,
        )
        rows.append(draw(st.builds(Row, binding, state, st.none() | overrides, count, count)))
    return rows


@pytest.mark.slow
@given(rows=some_rows())
@examples(8, 500, HealthCheck.function_scoped_fixture)
async def test_every_field_of_a_row_survives_a_restart(
    rows: list[Row], new_store_url: Callable[[], str]
) -> None:
    url = new_store_url()
    store = await Store.open(url, timeout=PATIENCE, auto_migrate=True)
    await store.commit([a_change(row) for row in rows])
    await store.close()

    store = await Store.open(url, timeout=PATIENCE, auto_migrate=False)
    assert await loaded(store) == {row.binding.subs_id: row for row in rows}
    await store.close()


async def test_a_checked_change_writes_only_observed_columns(store: Store) -> None:
    pinned = Override(Action.HOLD, NumberRole.OWN, None, "because", 1, 5.0, "op")
    row = replace(a_row(), override=pinned)
    await store.commit([a_change(row)])

    answered = BindingState(
        State.TEMPORARY, 2, "17100000001", "7", 50.0, 9, 1, moves=(50.0,), request_id="R9"
    )
    other = replace(row.binding, number_a="13811111111", labels=(("k", "v"),))
    await store.commit([a_change(Row(other, answered, None, 2, 2), WriteCause.CHECKED)])

    assert await loaded(store) == {"1": Row(row.binding, answered, pinned, 2, 2)}


async def test_labels_and_overrides_do_not_change_observed_columns(store: Store) -> None:
    row = a_row(state=State.NORMAL, status=1, seq=5, checked_at=5.0)
    await store.commit([a_change(row)])
    newer = replace(row.state, seq=6, checked_at=6.0, streak=2)
    await store.commit([], [], [replace(row, state=newer)])

    labelled = replace(row.binding, labels=(("k", "v"),))
    await store.commit([a_change(Row(labelled, row.state, None, 2, 2))])
    pin = Override(Action.DIAL_X, NumberRole.OWN, 500.0, "", 1, 5.0)
    await store.commit([a_change(Row(labelled, row.state, pin, 3, 3), WriteCause.OVERRIDE)])

    assert await loaded(store) == {"1": Row(labelled, newer, pin, 3, 3)}


async def test_a_new_generation_resets_observed_columns(store: Store) -> None:
    row = replace(
        a_row(state=State.FALLBACK, status=3, seq=5, exposed_at=5.0),
        override=Override(Action.HOLD, NumberRole.OWN, None, "", 1, 5.0),
    )
    await store.commit([a_change(row)])
    again = a_row(generation=2, index=2)
    await store.commit([a_change(again)])
    await store.commit([], [], [row])

    assert await loaded(store) == {"1": again}


async def test_an_override_is_stored_and_removed(store: Store) -> None:
    row = a_row()
    pinned = replace(
        row, override=Override(Action.HOLD, NumberRole.OWN, 900.0, "why", 1, 5.0, "op"), version=2, index=2
    )
    await store.commit([a_change(row), a_change(pinned, WriteCause.OVERRIDE)])
    assert await loaded(store) == {"1": pinned}

    lifted = replace(row, version=3, index=3)
    await store.commit([a_change(lifted, WriteCause.OVERRIDE)])
    assert await loaded(store) == {"1": lifted}


async def test_a_removal_deletes_all_parts_of_a_row(store: Store) -> None:
    pinned = replace(a_row(), override=Override(Action.HOLD, NumberRole.OWN, None, "", 1, 5.0))
    await store.commit([a_change(pinned), a_change(a_row("2"))])
    await store.commit([a_removal(pinned, 3)])
    assert set(await loaded(store)) == {"2"}

    again = a_row(generation=4, index=4)
    await store.commit([a_change(again)])
    assert (await loaded(store))["1"] == again


async def test_the_last_of_several_changes_in_a_transaction_is_stored(store: Store) -> None:
    row = a_row(state=State.NORMAL, seq=1)
    again = a_row(generation=3, index=3)
    checked = Row(again.binding, BindingState(State.NORMAL, 1, seq=4), None, 2, 4)
    await store.commit(
        [a_change(row), a_removal(row, 2), a_change(again), a_change(checked, WriteCause.CHECKED)]
    )
    assert await loaded(store) == {"1": checked}

    await store.commit([a_change(replace(checked, index=5)), a_removal(checked, 6)])
    assert await loaded(store) == {}
    _, changes = await store.history("1", limit=10)
    assert [change["index"] for change in changes] == [6, 5, 4, 3, 2, 1]


async def test_a_refresh_ignores_other_generations_and_newer_rows(store: Store) -> None:
    row = a_row(generation=2, index=2, state=State.NORMAL, seq=5)
    await store.commit([a_change(row)])
    refreshed = BindingState(
        State.NORMAL, 1, "17", "3", 7.0, 7, 3, "18", "4", 6.0, 5.0, 4.0, moves=(1.5, 2.5), failures=2
    )
    refreshed = replace(refreshed, blocked=True, request_id="R7")
    stale = a_row(generation=1, state=State.FALLBACK, seq=9)
    await store.commit([], [], [replace(row, state=refreshed), stale])
    assert await loaded(store) == {"1": replace(row, state=refreshed)}

    await store.commit([], [], [replace(row, state=replace(refreshed, seq=6, failures=0))])
    assert await loaded(store) == {"1": replace(row, state=refreshed)}


async def test_many_rows_are_loaded_completely(store: Store) -> None:
    rows = [a_row(str(at), generation=at, index=at) for at in range(1, 5203)]
    await store.commit([a_change(row) for row in rows])
    batches = [batch async for batch in store.load()]
    assert [len(batch) for batch in batches] == [5000, 202]
    assert await loaded(store) == {row.binding.subs_id: row for row in rows}


async def test_high_water_is_the_highest_ever_stored(store: Store, store_url: str) -> None:
    assert await store.high_water() == (0, 0)
    row = a_row(index=7, seq=3)
    await store.commit([a_change(row)], [a_check(12)])
    quiet = replace(a_change(replace(row, version=2)), index=9, quiet=True)
    await store.commit([quiet], [], [replace(row, state=BindingState(seq=11))])
    await store.commit([a_removal(row, 8)])
    await store.retire(1e9)
    assert await store.high_water() == (9, 12)
    await store.close()

    reopened = await Store.open(store_url, timeout=PATIENCE, auto_migrate=True)
    await reopened.commit([], [a_check(2)])
    assert await reopened.high_water() == (9, 12)
    await reopened.close()


# -- history --------------------------------------------------------------------------------------


async def test_equal_checks_are_one_run_and_any_difference_begins_another(store: Store) -> None:
    await store.commit([a_change(a_row())])
    for seq in (1, 2, 3):
        await store.commit([], [a_check(seq)])
    differing: list[dict[str, Any]] = [
        {"result": "status_2", "status": 2},
        {"result": "status_2", "status": 2, "number": "17100000001"},
        {"result": "status_2", "status": 2, "number": "17100000001", "extension": "5"},
        {"result": "transient", "status": 0, "number": "", "code": "timeout"},
        {"result": "transient", "status": 0, "number": "", "code": "connect"},
        {"result": "transient", "status": 0, "number": "", "code": "connect", "generation": 2},
    ]
    for seq, difference in enumerate(differing, start=4):
        await store.commit([], [a_check(seq, **difference)])

    assert await runs(store) == [(seq, seq, 1) for seq in range(9, 3, -1)] + [(1, 3, 3)]
    page, _ = await store.history("1", limit=100)
    assert page[-1] == {
        "id": page[-1]["id"],
        "subs_id": "1",
        "generation": 1,
        "result": "status_1",
        "status": 1,
        "number": "17000000001",
        "extension": "",
        "code": "OK",
        "first_seq": 1,
        "last_seq": 3,
        "first_at": 1.0,
        "last_at": 3.0,
        "count": 3,
        "request_id": "R3",
        "seconds": 0.05,
    }


def folded(checks: Sequence[Check]) -> list[tuple[int, int, int]]:
    """The runs of one binding as a person would draw them, newest first."""
    drawn: list[tuple[int, int, int]] = []
    last: Check | None = None
    for check in checks:
        if last is not None and check.result == last.result:
            first, _, times = drawn.pop()
            drawn.append((first, check.seq, times + 1))
        else:
            drawn.append((check.seq, check.seq, 1))
        last = check
    return drawn[::-1]


@pytest.mark.slow
@given(
    batches=st.lists(
        st.lists(st.tuples(st.sampled_from("123"), st.sampled_from("xyz")), max_size=8),
        min_size=1,
        max_size=5,
    )
)
@examples(8, 500, HealthCheck.function_scoped_fixture)
async def test_folding_does_not_depend_on_how_checks_are_batched(
    batches: list[list[tuple[str, str]]], new_store_url: Callable[[], str]
) -> None:
    store = await Store.open(new_store_url(), timeout=PATIENCE, auto_migrate=True)
    await store.commit([a_change(a_row(subs_id, index=int(subs_id))) for subs_id in "123"])
    told: dict[str, list[Check]] = {"1": [], "2": [], "3": []}
    seq = 0
    for batch in batches:
        checks = []
        for subs_id, result in batch:
            seq += 1
            checks.append(a_check(seq, subs_id, result=result))
            told[subs_id].append(checks[-1])
        await store.commit([], checks)
        await store.commit([], checks)  # again, as after a failure that was none
    for subs_id, checks in told.items():
        assert await runs(store, subs_id) == folded(checks)
    await store.close()


async def test_the_check_of_a_change_is_kept_with_it(store: Store) -> None:
    row = a_row(state=State.NORMAL, seq=1)
    await store.commit([a_change(row, WriteCause.CHECKED, check=a_check(1))], [a_check(2)])
    page, changes = await store.history("1", limit=10)
    assert [(run["first_seq"], run["last_seq"]) for run in page] == [(1, 2)]
    assert [change["request_id"] for change in changes] == ["R1"]


async def test_with_history_every_each_check_has_its_row(store_url: str) -> None:
    store = await Store.open(store_url, timeout=PATIENCE, history="every", auto_migrate=True)
    await store.commit([a_change(a_row())], [a_check(1), a_check(2)])
    await store.commit([], [a_check(2), a_check(3)])
    assert await runs(store) == [(3, 3, 1), (2, 2, 1), (1, 1, 1)]
    await store.close()


async def test_the_stored_feed_has_published_routes_without_real_numbers(store: Store) -> None:
    row = a_row(state=State.FALLBACK, status=3, seq=1)
    real = route_of(row, action=Action.DIAL_REAL, number="13900000001", extension="1", reason=Reason.STATUS_3)
    real = replace(real, flags=(Flag.NUMBER_WITHHELD, Flag.SUSPECT), expires_at=900.0)
    await store.commit(
        [a_change(row, WriteCause.CHECKED, route=real, before=State.NORMAL, check=a_check(1), at=55.5)]
    )
    await store.commit([replace(a_change(replace(row, index=2)), quiet=True)])
    _, changes = await store.history("1", limit=10)
    assert changes == [
        {
            "index": 1,
            "subs_id": "1",
            "pool_key": "FC1",
            "generation": 1,
            "version": 1,
            "at": 55.5,
            "cause": "checked",
            "from_state": "normal",
            "to_state": "fallback",
            "action": "dial_real",
            "number": "",
            "extension": "",
            "reason": "status_3",
            "flags": "number_withheld,suspect",
            "status": 3,
            "request_id": "R1",
            "expires_at": 900.0,
            "would_action": "",
            "would_reason": "",
        }
    ]


async def test_history_pages_are_disjoint_and_complete(store: Store) -> None:
    row = a_row()
    for seq in range(1, 8):
        made = a_change(replace(row, index=seq, version=seq), WriteCause.CHECKED)
        await store.commit([replace(made, check=a_check(seq, result=f"r{seq % 2}"))])
    seen_runs, seen_changes = [], []
    before: tuple[int, int] | None = None
    while before != (0, 0):
        page, changes = await store.history("1", before=before, limit=3)
        seen_runs += [run["first_seq"] for run in page]
        seen_changes += [change["index"] for change in changes]
        before = (page[-1]["first_seq"] if page else 0, changes[-1]["index"] if changes else 0)
    assert seen_runs == seen_changes == [7, 6, 5, 4, 3, 2, 1]
    assert await store.history("2", limit=3) == ([], [])


async def test_retention_deletes_only_what_has_ended(store: Store) -> None:
    rows = [a_row(str(at), index=at) for at in range(1, 31)]
    await store.commit([a_change(row, at=float(row.index)) for row in rows])
    await store.commit([], [a_check(1, "1")] + [a_check(at, str(at)) for at in range(2, 31)])
    await store.commit([], [a_check(50, "1")])
    for at in (5.0, 500.0):
        await store.expose(Exposure("1", 1, "FC1", "me", "b", "status_3", "R", at))

    assert await store.retire(21.0, batch=7) == 20 + 19
    assert await store.retire(21.0) == 0
    assert [row["first_at"] for row in await store.exposures(limit=9)] == [500.0, 5.0]
    assert await store.retire(-1.0, audit_before=21.0, batch=7) == 1
    assert [len(found) for found in await store.history("20", limit=9)] == [0, 0]
    assert [len(found) for found in await store.history("21", limit=9)] == [1, 1]
    assert await runs(store, "1") == [(1, 50, 2)]
    assert [row["first_at"] for row in await store.exposures(limit=9)] == [500.0]
    assert len(await loaded(store)) == 30


# -- audit, operators, small facts ----------------------------------------------------------------


async def test_equal_exposures_within_a_minute_are_counted_in_one_row(store: Store) -> None:
    first = Exposure("1", 1, "FC1", "me", "b", "status_3", "R1", 100.0)
    for at in (100.0, 120.0, 159.0, 161.0):
        await store.expose(replace(first, at=at))
    others: list[dict[str, Any]] = [
        {"subs_id": "2"},
        {"generation": 2},
        {"reader": "you"},
        {"side": "a"},
        {"request_id": "R2"},
        {"reason": "override"},
    ]
    for other in others:
        await store.expose(replace(first, at=162.0, **other))

    rows = await store.exposures(limit=100)
    assert [(row["first_at"], row["last_at"], row["count"]) for row in rows] == [
        *[(162.0, 162.0, 1)] * 6,
        (161.0, 161.0, 1),
        (100.0, 159.0, 3),
    ]
    page = await store.exposures(limit=2, before_id=rows[5]["id"])
    assert page == rows[6:8]
    assert {
        name: page[1][name] for name in ("subs_id", "generation", "pool_key", "reader", "side", "reason")
    } == {
        "subs_id": "1",
        "generation": 1,
        "pool_key": "FC1",
        "reader": "me",
        "side": "b",
        "reason": "status_3",
    }


async def test_marks_are_stored_and_those_of_the_store_hidden(store: Store) -> None:
    await store.commit([a_change(a_row(seq=4))])
    await store.mark({"learned": "{}", "other": "1"})
    await store.mark({"learned": '{"a":1}'})
    await store.mark({})
    assert await store.marks() == {"learned": '{"a":1}', "other": "1"}
    assert await store.high_water() == (1, 4)


# -- when the database does not play --------------------------------------------------------------


async def test_concurrent_writes_are_all_stored(store: Store) -> None:
    rows = [a_row(str(at), index=at) for at in range(1, 41)]
    await asyncio.gather(*(store.commit([a_change(row)]) for row in rows), loaded(store))
    assert set(await loaded(store)) == {row.binding.subs_id for row in rows}


async def test_a_cancelled_caller_does_not_damage_the_store(store: Store) -> None:
    writing = asyncio.create_task(store.commit([a_change(a_row())]))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await store.commit([a_change(a_row("2", index=2))])
    assert "2" in await loaded(store)


async def test_an_invalid_value_is_a_runtime_error_and_stores_nothing(store: Store) -> None:
    wrong = a_row(checked_at=None)
    with pytest.raises(RuntimeError, match=r"(?i)not.null") as raised:
        await store.commit([a_change(a_row("2", index=2)), a_change(wrong)])
    assert not isinstance(raised.value, StoreError)
    assert "138" not in "".join(traceback.format_exception(raised.value))
    assert await loaded(store) == {}
    await store.ping()


async def test_a_locked_file_times_out_and_loses_nothing(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/a.db", timeout=LOCKED, auto_migrate=True)
    rows = [a_row("1"), a_row("2", index=2)]
    await store.commit([a_change(rows[0])])
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"a\.db is locked by another process"):
            await store.commit([a_change(rows[1])], [a_check(2)])
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.ping()
        assert set(await loaded(store)) == {"1"}
        other.execute("ROLLBACK")
    await store.commit([a_change(rows[1])], [a_check(2)])
    assert await loaded(store) == {"1": rows[0], "2": rows[1]}
    await store.close()


ENDLESS = """
CREATE TRIGGER endless BEFORE INSERT ON exposures BEGIN
  SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n);
END
"""


async def test_a_hung_write_is_given_up_and_the_next_succeeds(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/a.db", timeout=BRIEF, auto_migrate=True)
    with closing(sqlite3.connect(tmp_path / "a.db")) as other:
        other.execute(ENDLESS)
    exposure = Exposure("1", 1, "FC1", "me", "b", "status_3", "R", 1.0)
    with pytest.raises(StoreUnavailable, match=r"did not answer within 3\.001 s"):
        await store.expose(exposure)
    await store.mark({"still": "alive"})
    with closing(sqlite3.connect(tmp_path / "a.db")) as other:
        other.execute("DROP TRIGGER endless")
    await store.expose(exposure)
    assert [row["count"] for row in await store.exposures(limit=9)] == [1]
    await store.close()


@contextmanager
def disk_of(pages: int) -> Iterator[None]:
    """Limit the database to this many pages, as a full disk would."""

    def limit(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    event.listen(Engine, "begin", limit)
    try:
        yield
    finally:
        event.remove(Engine, "begin", limit)


async def test_a_full_disk_refuses_the_write_and_keeps_the_rest(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/a.db", timeout=PATIENCE, auto_migrate=True)
    await store.commit([a_change(a_row())])
    many = [a_change(a_row(str(at), index=at)) for at in range(2, 2000)]
    with (
        disk_of(pages=60),
        pytest.raises(StoreUnavailable, match=r"a\.db cannot grow, its disk is full: make room"),
    ):
        await store.commit(many)
    assert set(await loaded(store)) == {"1"}
    with disk_of(pages=100_000):
        await store.commit(many)
    assert len(await loaded(store)) == 1999
    await store.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///{dir}/no/such/a.db", r"the directory .*/no/such does not exist"),
        ("sqlite:///{dir}", "cannot be written: give this user write access"),
        ("sqlite:////proc/precall.db", "/proc/precall.db cannot be written"),
        ("mysql://localhost/precall", "store.url begins with mysql"),
        ("precall.db", "store.url: is not a URL"),
    ],
)
async def test_an_unusable_path_is_a_one_line_error(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=said) as raised:
        await Store.open(url.format(dir=tmp_path), auto_migrate=True)
    assert "\n" not in str(raised.value)


async def test_a_file_that_is_not_a_database_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes\n" * 100)
    with pytest.raises(StoreError, match=r"notes\.txt is not an SQLite database") as raised:
        await Store.open(f"sqlite:///{path}", auto_migrate=True)
    assert not isinstance(raised.value, StoreUnavailable)
    assert path.read_text() == "these are my notes\n" * 100


async def test_an_exclusively_locked_database_cannot_be_opened(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    await (await Store.open(url, timeout=PATIENCE, auto_migrate=True)).close()
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked by another process"):
            await Store.open(url, timeout=LOCKED, auto_migrate=True)


CHILD = """
import asyncio, sys
from precall.store import Store
from tests.integration.store.test_store import a_change, a_row

async def main():
    store = await Store.open(sys.argv[1], timeout=120.0, auto_migrate=True)
    for index in range(1, 1_000_000):
        await store.commit([a_change(a_row(str(index), index=index))])
        print(index, flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_commits_survive_kill_9(store_url: str) -> None:
    url = store_url
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, url, stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert child.stdout is not None
    told = []
    try:
        async for line in child.stdout:
            told.append(line.strip().decode())
            if len(told) == 20:
                break
    finally:
        child.kill()
    told += [line.strip().decode() async for line in child.stdout if line.endswith(b"\n")]
    await child.wait()

    store = await Store.open(url, timeout=PATIENCE, auto_migrate=False)
    assert len(told) >= 20
    assert set(told) <= set(await loaded(store))
    assert (await store.high_water())[0] >= int(told[-1])
    await store.close()
