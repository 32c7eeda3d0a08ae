"""Calls of observed pools are compared with precall's route at the time of the call, if there was one."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from precall.core.calls.call import CallResult, CallSource
from precall.core.calls.observed import ObservedExample, Proportion, observed_report
from precall.core.model import Action, Change, Check, Policy, Reason, Row, State, Would, WriteCause
from precall.store import Store
from tests.integration.store.test_calls import a_call
from tests.integration.store.test_store import a_change, a_removal, route_of
from tests.support.builders import NOW, binding, observed

OBSERVING = Policy(observe=frozenset({"FC1"}))


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(store_url, timeout=20.0, auto_migrate=True)
    yield opened
    await opened.close()


def a_row(index: int, state: State = State.UNVERIFIED, **facts: object) -> Row:
    facts = {"subs_id": "1", "expires_at": None} | facts
    return Row(replace(binding(), **facts), observed(state), None, index, index)


def answered(row: Row, at: float, would: Would, request_id: str, *, watched: bool = True) -> Change:
    """A change by an answer, as it is published where the pool is observed, or enforced."""
    told = route_of(row, state=row.state.state)
    if watched:
        told = replace(told, action=Action.DIAL_X, reason=Reason.OBSERVED, would=would)
    else:
        told = replace(told, action=would.action, reason=would.reason)
    check = Check(row.binding.subs_id, 1, row.index, at, 0.1, "status_2", request_id=request_id)
    return a_change(row, WriteCause.CHECKED, at=at, route=told, check=check)


TEMPORARY = Would(Action.DIAL_TEMP_X, Reason.STATUS_2)
NORMAL = Would(Action.DIAL_X, Reason.STATUS_1)


async def placed(store: Store, *calls: tuple[int, float, CallResult], **facts: object) -> list[str]:
    """File calls as (number, seconds after NOW, result), and return what precall had decided about each."""
    reports = [
        replace(a_call(n, called_at=NOW + at, **facts), result=result, source=CallSource.DETAIL, next_at=None)
        for n, at, result in calls
    ]
    return [one.call.route_action for one in await store.calls.file(reports)]


async def test_a_call_is_compared_with_the_route_at_its_time(store: Store) -> None:
    await store.store_policy(OBSERVING, NOW)
    await store.commit(
        [
            a_change(a_row(1), at=NOW + 1),
            answered(a_row(2, State.TEMPORARY), NOW + 10, TEMPORARY, "R-2"),
            answered(a_row(3, State.NORMAL), NOW + 20, NORMAL, "R-3"),
        ]
    )
    failed, good, busy = CallResult.FAILED, CallResult.CONNECTED, CallResult.NOT_CONNECTED
    actions = await placed(
        store,
        (1, 0.5, failed), (2, 5, failed), (3, 10, failed), (4, 15, good), (5, 15, busy), (6, 25, failed), (7, 25, good),
    )  # fmt: skip
    assert actions == ["", "dial_x", "dial_temp_x", "dial_temp_x", "dial_temp_x", "dial_x", "dial_x"]
    pools = observed_report(
        await store.calls.observed_counts(NOW), await store.calls.observed_examples(NOW, each=3)
    )
    found = pools["FC1"]
    assert (found.unknown, found.calls, found.not_connected) == (1, 6, 1)
    assert (found.avoided, found.changed) == (Proportion(1, 3), Proportion(1, 2))
    assert found.examples == [
        ObservedExample("FC1", "c4", "1", NOW + 15, "connected", "dial_temp_x", "status_2", "R-2"),
        ObservedExample("FC1", "c3", "1", NOW + 10, "failed", "dial_temp_x", "status_2", "R-2"),
    ]
    assert sorted(await store.calls.observed_counts(NOW + 21, "FC1")) == [
        ("FC1", "connected", "dial_x", 1),
        ("FC1", "failed", "dial_x", 1),
    ]
    assert await store.calls.observed_counts(NOW, "FC2") == []


async def test_only_calls_made_while_observing_count(store: Store) -> None:
    await store.commit([answered(a_row(1, State.TEMPORARY), NOW, TEMPORARY, "R", watched=False)])
    await store.store_policy(OBSERVING, NOW + 10)
    await store.store_policy(OBSERVING, NOW + 12)
    await store.store_policy(Policy(), NOW + 20)
    await store.store_policy(Policy(observe=frozenset({"*"})), NOW + 30)
    actions = await placed(store, *((n, n, CallResult.FAILED) for n in (5, 10, 15, 20, 25, 30, 35)))
    assert set(actions) == {"dial_temp_x"}, "an enforced change says by itself what was decided"
    assert await store.calls.observed_counts(NOW) == [("FC1", "failed", "dial_temp_x", 4)]


async def test_expiry_and_removal_apply_to_past_routes(store: Store) -> None:
    await store.store_policy(replace(OBSERVING, skew=5.0), NOW)
    ending = a_row(1, State.TEMPORARY, expires_at=NOW + 100)
    change = answered(ending, NOW, TEMPORARY, "R")
    route = replace(change.route, expires_at=NOW + 100)
    await store.commit([replace(change, route=route)])
    assert await placed(store, (1, 94, CallResult.FAILED), (2, 95, CallResult.FAILED)) == [
        "dial_temp_x",
        "expired",
    ]
    gone = replace(a_removal(a_row(2, subs_id="2"), 3), at=NOW + 50)
    await store.commit([a_change(a_row(2, subs_id="2"), at=NOW), gone])
    actions = await placed(store, (3, 40, CallResult.FAILED), (4, 60, CallResult.FAILED), subs_id="2")
    assert actions == ["dial_x", ""], "a read of a removed binding is 404"


async def test_examples_are_limited_for_each_pool_and_result(store: Store) -> None:
    await store.store_policy(Policy(observe=frozenset({"*"})), NOW)
    await store.commit([answered(a_row(1, State.TEMPORARY), NOW, TEMPORARY, "R")])
    for pool in ("FC1", "FC2"):
        base = 100 * int(pool[-1])
        await placed(store, *((base + n, n, CallResult.FAILED) for n in range(5)), pool_key=pool)
        await placed(store, *((base + n, n, CallResult.CONNECTED) for n in range(5, 7)), pool_key=pool)
    found = await store.calls.observed_examples(NOW, each=3)
    assert [(one.pool_key, one.call_id) for one in found] == [
        (pool, f"c{100 * int(pool[-1]) + n}") for pool in ("FC1", "FC2") for n in (6, 5, 4, 3, 2)
    ]
    assert {one.pool_key for one in await store.calls.observed_examples(NOW, "FC2", each=3)} == {"FC2"}


async def test_periods_of_observing_are_deleted_with_the_calls(store: Store) -> None:
    await store.store_policy(OBSERVING, NOW)
    await store.store_policy(Policy(), NOW + 10)
    await store.store_policy(OBSERVING, NOW + 20)
    await store.commit([answered(a_row(1, State.TEMPORARY), NOW, TEMPORARY, "R")])
    await placed(store, (1, 5, CallResult.FAILED), (2, 25, CallResult.FAILED))
    await store.calls.retire(NOW + 15)
    assert await store.calls.observed_counts(0.0) == [("FC1", "failed", "dial_temp_x", 1)]
