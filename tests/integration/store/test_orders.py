"""The log of orders in both databases: what is in force, pages, retention, and what a refused change leaves."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from precall.core.model import Action, NumberRole, Override, Row, WriteCause
from precall.core.orders import Order, OrderKind
from precall.store import OrderFilter, Store
from tests.integration.store.test_store import a_change, a_removal, a_row
from tests.support.builders import NOW, brake, order, pause
from tests.support.postgres import sql


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(store_url, timeout=20.0, auto_migrate=True)
    yield opened
    await opened.close()


async def override(store: Store, subs_id: str, index: int, action: str = "hold", **facts: object) -> Row:
    """Store an override, or lift it, as the writer does."""
    given = replace(order("override", subs_id, action, generation=1), **facts)  # type: ignore[arg-type]
    pinned = Override(Action.HOLD, NumberRole.OWN, given.until, given.reason, 1, given.at, given.by)
    row = replace(a_row(subs_id, index=index), override=None if action == "lift" else pinned)
    await store.commit([a_change(row, WriteCause.OVERRIDE, order=given)])
    return row


async def listed(store: Store, *, now: float = NOW, **wanted: object) -> list[str]:
    """Orders in a few words, newest first; those in force are marked."""
    found = await store.orders.page(now=now, limit=99, wanted=OrderFilter(**wanted))  # type: ignore[arg-type]
    return [f"{'*' * one.in_force}{one.order.action} {one.order.target}".strip() for one in found]


async def test_orders_replace_and_end_earlier_ones(store: Store, store_url: str) -> None:
    for given in (pause(), pause("FC2"), brake(""), pause("", "resume"), pause(), brake("FC1", "release")):
        await store.orders.give(given)
    await store.commit([a_change(a_row("1"))])
    await override(store, "1", 2)
    await override(store, "1", 3, "dial_x", until=NOW + 60.0)
    assert await listed(store) == [
        *("*dial_x 1", "hold 1", "release FC1", "*pause FC1", "resume", "*engage", "pause FC2", "pause FC1")
    ]
    assert await listed(store, in_force=True) == ["*dial_x 1", "*pause FC1", "*engage"]
    assert await listed(store, in_force=True, now=NOW + 60.0) == ["*pause FC1", "*engage"]
    assert await listed(store, kind="pause", pool_key="FC1") == ["*pause FC1", "pause FC1"]
    assert await listed(store, subs_id="1") == ["*dial_x 1", "hold 1"]
    assert await listed(store, concerns=("1", "FC2")) == [
        "*dial_x 1",
        "hold 1",
        "resume",
        "*engage",
        "pause FC2",
    ]
    assert sql(store_url, "SELECT pool_key FROM pauses") == [["FC1"]]
    assert sql(store_url, "SELECT pool_key FROM brakes WHERE engaged") == [[""]]


async def test_an_override_ends_with_its_binding(store: Store) -> None:
    rows = [a_row(subs_id, index=n) for n, subs_id in enumerate("123", 1)]
    await store.commit([a_change(row) for row in rows])
    for n, subs_id in enumerate("123", 4):
        await override(store, subs_id, n)
    await store.commit([a_change(a_row("1", generation=7, index=7)), a_removal(rows[1], 8)])
    assert await listed(store) == ["*hold 3", "hold 2", "hold 1"]
    await override(store, "3", 9, "lift")
    assert await listed(store) == ["lift 3", "hold 3", "hold 2", "hold 1"]


async def test_a_change_stored_twice_gives_its_order_once(store: Store) -> None:
    change = a_change(
        a_row("1", index=5), WriteCause.OVERRIDE, order=order("override", "1", "hold", generation=1)
    )
    await store.commit([a_change(a_row("1"))])
    for _ in range(2):
        await store.commit([change])
    assert await listed(store) == ["*hold 1"]


async def test_an_undone_change_leaves_no_order(store: Store) -> None:
    """An override whose commit had an unknown outcome is refused: the one before stays in force."""
    await store.commit([a_change(a_row("1"))])
    kept = await override(store, "1", 2)
    await override(store, "1", 3, "lift")
    await store.commit([a_change(replace(kept, index=4), undoes=(3,))])
    assert await listed(store) == ["*hold 1"]


async def test_pages_of_orders_in_force_are_full(store: Store) -> None:
    for n in range(12):
        await store.orders.give(brake(f"FC{n}"))
    await store.orders.give(brake("", "release"))
    for n in range(3):
        await store.orders.give(pause(f"FC{n}"))
    wanted, found, before = OrderFilter(in_force=True), list[str](), None
    while page := await store.orders.page(now=NOW, limit=2, before_id=before, wanted=wanted):
        found += [one.order.target for one in page]
        before = page[-1].order.id
    assert found == ["FC2", "FC1", "FC0"]


async def test_retention_deletes_what_is_over_and_nothing_in_force(store: Store) -> None:
    old, new = NOW - 100.0, NOW
    await store.commit([a_change(a_row(subs_id, index=n)) for n, subs_id in enumerate("123", 1)])
    for given in (
        *(
            pause("FC1"),
            pause("FC1"),
            pause("FC2"),
            pause("FC2", "resume"),
            brake("FC1"),
            brake("", "release"),
        ),
        *(brake("", "engage"), pause("FC3"), pause("FC4")),
    ):
        await store.orders.give(replace(given, at=old))
    await store.orders.give(pause("FC3", "resume", at=new))
    await override(store, "1", 4, at=old)
    await override(store, "2", 5, at=old, until=old + 1.0)
    await override(store, "3", 6, at=old)
    await override(store, "3", 7, "lift", at=old)
    standing = await listed(store, in_force=True)
    assert standing == ["*hold 1", "*pause FC4", "*engage", "*pause FC1"]
    assert await store.orders.retire(NOW - 50.0) == 8
    assert await listed(store) == [
        *("*hold 1", "resume FC3", "*pause FC4", "pause FC3", "*engage", "*pause FC1")
    ]
    assert await store.orders.retire(NOW - 50.0) == 0


async def test_retention_revives_nothing_if_the_clock_was_set_back(store: Store) -> None:
    """An order that ended others is kept as long as they are, even if it seems to be older."""
    for given in (brake("FC1", at=NOW), brake("", "release", at=NOW - 100.0), brake("", at=NOW - 99.0)):
        await store.orders.give(given)
    await store.orders.retire(NOW - 50.0)
    assert await listed(store) == ["*engage", "release", "engage FC1"]


async def test_the_newest_orders_are_enough_to_know_what_is_in_force(store: Store) -> None:
    for given in (brake("FC1"), brake("", "release", at=NOW + 1.0), brake(""), pause("", reason="why")):
        await store.orders.give(given)
    newest: list[Order] = await store.orders.newest(OrderKind.BRAKE)
    assert [(one.target, one.action) for one in newest] == [
        ("FC1", "engage"),
        ("", "release"),
        ("", "engage"),
    ]
