"""Reported calls in the database, on each kind of it."""

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from precall.core.calls.call import Call, CallResult, CallSource
from precall.core.model import State, WriteCause
from precall.store import PollBacklog, Store
from tests.integration.store.test_store import a_change, a_row, route_of

NOW = 1_790_000_000.0


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(store_url, timeout=20.0, auto_migrate=True)
    yield opened
    await opened.close()


def a_call(place: int = 1, **facts: Any) -> Call:
    base = Call(f"c{place}", NOW + place, NOW + place, "1", 7, "FC1", "normal", next_at=NOW + place + 180)
    return replace(base, **facts)


def ended(call: Call, result: CallResult = CallResult.FAILED) -> Call:
    return replace(call, result=result, source=CallSource.DETAIL, state="200005", duration=0.0, next_at=None)


async def test_filing_a_call_again_returns_what_changed(store: Store) -> None:
    [filed] = await store.calls.file([a_call()])
    assert (filed.call, filed.before, filed.changed) == (a_call(), None, True)
    [again] = await store.calls.file([a_call()])
    assert (again.before, again.changed) == (CallResult.PENDING, False)
    [over] = await store.calls.file([ended(a_call()), ended(a_call()), a_call()])
    assert (over.call.result, over.before, over.changed) == (CallResult.FAILED, CallResult.PENDING, True)
    assert await store.calls.get("c1") == over.call == ended(a_call())
    assert await store.calls.get("c2") is None


async def test_repeated_and_reordered_reports_give_one_state(store: Store) -> None:
    words = [a_call(n) for n in range(700)] + [ended(a_call(n)) for n in range(350)]
    found = []
    for seed in range(3):
        shuffled = words * 3
        random.Random(seed).shuffle(shuffled)
        await store.calls.file(shuffled)
        found.append(await store.calls.page(before=None, limit=1000))
        await store.calls.retire(NOW + 1e6)
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 700


async def test_a_call_has_the_route_state_at_the_time_it_was_placed(store: Store) -> None:
    row = a_row(index=1)
    changes = [a_change(row, at=NOW)]
    for index, (state, at) in enumerate([(State.NORMAL, 10), (State.TEMPORARY, 20), (State.NORMAL, 30)], 2):
        later = replace(row, index=index, version=index)
        changes.append(a_change(later, WriteCause.CHECKED, at=NOW + at, route=route_of(later, state=state)))
    await store.commit(changes)
    told = [a_call(n, called_at=NOW + n, route_state="normal") for n in (5, 15, 20, 25, 35)]
    told += [a_call(40, called_at=NOW - 5), a_call(41, subs_id="9", route_state="", pool_key="")]
    filed = await store.calls.file(told)
    states = [one.call.route_state for one in filed]
    assert states == ["unverified", "normal", "temporary", "temporary", "normal", "normal", ""]


async def test_a_later_report_does_not_change_the_route_of_the_call(store: Store) -> None:
    row = a_row(index=1)
    await store.commit([a_change(row, WriteCause.CHECKED, at=NOW, route=route_of(row, state=State.NORMAL))])
    await store.calls.file([a_call(route_state="temporary")])
    [again] = await store.calls.file([a_call(route_state="temporary")])
    assert (again.changed, again.call.route_state, again.call.route_action) == (False, "normal", "dial_x")


async def test_due_calls_come_from_both_ends_and_are_postponed(store: Store) -> None:
    await store.calls.file([a_call(n) for n in range(1, 31)])
    assert await store.calls.due(NOW + 180, 5) == ([], [])
    oldest, newest = await store.calls.due(NOW + 190, 5)
    assert [call.call_id for call in oldest] == ["c1", "c2", "c3", "c4", "c5"]
    assert [call.call_id for call in newest] == ["c10", "c9", "c8", "c7", "c6"]
    assert await store.calls.backlog(NOW + 190) == PollBacklog(30, 10, NOW + 181)
    await store.calls.postpone([("c1", NOW + 900), ("c2", None)])
    assert await store.calls.backlog(NOW + 190) == PollBacklog(29, 8, NOW + 183)
    await store.calls.file([ended(a_call(n)) for n in range(3, 31)])
    assert await store.calls.backlog(NOW + 1e6) == PollBacklog(1, 1, NOW + 900)
    await store.calls.postpone([("c3", NOW)])
    assert await store.calls.backlog(NOW + 190) == PollBacklog(1, 0, None)


async def test_calls_are_paged_by_time_with_ties_and_filters(store: Store) -> None:
    calls = [a_call(n, called_at=NOW + n // 3, subs_id=str(n % 2)) for n in range(20)]
    await store.calls.file([*calls, ended(a_call(20))])
    seen: list[str] = []
    before = None
    while page := await store.calls.page(before=before, limit=4):
        seen += [call.call_id for call in page]
        before = page[-1].called_at, page[-1].call_id
    assert len(seen) == len(set(seen)) == 21
    assert seen[0] == "c20"
    assert len(await store.calls.page(before=None, limit=99, result=CallResult.FAILED)) == 1
    assert len(await store.calls.page(before=None, limit=99, subs_id="0")) == 10


async def test_calls_are_counted_by_the_hour_in_which_they_were_placed(store: Store) -> None:
    hour = int(NOW // 3600) + 1
    moments = [
        hour * 3600 - 0.001,
        hour * 3600.0,
        hour * 3600 + 1800.0,
        hour * 3600 + 3599.999,
        (hour + 1) * 3600.0,
    ]
    placed = [ended(a_call(place, called_at=at)) for place, at in enumerate(moments)]
    await store.calls.file([*placed, a_call(9, called_at=moments[2], pool_key="FC2")])
    assert sorted(await store.calls.hourly_counts(NOW)) == [
        (hour - 1, "failed", 1),
        (hour, "failed", 3),
        (hour, "pending", 1),
        (hour + 1, "failed", 1),
    ]
    assert await store.calls.hourly_counts(NOW, "FC2") == [(hour, "pending", 1)]
    assert await store.calls.hourly_counts(moments[-1]) == [(hour + 1, "failed", 1)]


async def test_calls_are_counted_since_a_time(store: Store) -> None:
    await store.calls.file([ended(a_call(1)), ended(a_call(2)), a_call(3), a_call(4, pool_key="FC2")])
    assert sorted(await store.calls.counts(NOW + 2)) == [
        ("FC1", "normal", "failed", "200005", 1),
        ("FC1", "normal", "pending", "", 1),
        ("FC2", "normal", "pending", "", 1),
    ]
    assert [call.call_id for call in await store.calls.ended(NOW, 9)] == ["c2", "c1"]


async def test_a_repeated_number_report_is_stored_once(store: Store) -> None:
    for _ in range(2):
        await store.calls.file_numbers([("1", NOW, True), ("2", NOW - 5, False)], NOW + 1)
    assert await store.calls.numbers(NOW) == [("2", NOW - 5, False), ("1", NOW, True)]
    assert await store.calls.numbers(NOW + 2) == []


async def test_old_calls_are_retired_in_batches(store: Store) -> None:
    await store.calls.file([a_call(n) for n in range(25)])
    await store.calls.file_numbers([("1", NOW, True)], NOW)
    assert await store.calls.retire(NOW + 20, batch=7) == 20
    assert await store.calls.numbers(0.0) == []
    assert await store.calls.retire(NOW + 20, batch=7) == 0
    assert [call.call_id for call in await store.calls.page(before=None, limit=1)] == ["c24"]
