"""The store keeps nothing in memory of what it has written, however often."""

import gc
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import UpdateBase

from precall.core.model import Exposure, WriteCause
from precall.core.orders import OrderKind
from precall.core.planning.sample import DialRecord, LogEvent
from precall.store import Store
from tests.integration.store.test_store import a_change, a_check, a_removal, a_row
from tests.support.builders import brake, pause


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(store_url, timeout=20.0, auto_migrate=True)
    yield opened
    await opened.close()


def statements() -> int:
    gc.collect()
    return sum(isinstance(each, UpdateBase) for each in gc.get_objects())


async def written(store: Store, turn: int) -> None:
    """Some of everything."""
    first, seq = 10 * turn, 2 * turn
    row, gone = a_row("1", index=first + 1, seq=seq), a_row("2", index=first + 3)
    dial = DialRecord("b1", "p1", "x1", LogEvent.DIAL, "", 100.0, verified=False)
    await store.commit([a_change(row), a_change(gone)], [a_check(seq)], dials=[dial])
    answered = a_change(a_row("1", index=first + 4, seq=seq + 1), WriteCause.CHECKED)
    await store.commit([answered, a_removal(gone, first + 5)], refreshed=[answered.row or row])
    await store.expose(Exposure("1", 1, "FC1", "me", "b", "status_3", "R1", 100.0 + 60 * turn))
    await store.mark({"learned": str(turn)})
    for order in (pause(), brake(), brake("", "release"), pause("", "resume")):
        await store.orders.give(order)
    await store.orders.newest(OrderKind.PAUSE, OrderKind.BRAKE)
    await store.orders.retire(50.0)
    await store.retire(50.0)


async def test_writing_often_keeps_no_more_than_writing_once(store: Store) -> None:
    for turn in range(1, 3):
        await written(store, turn)
    before = statements()
    for turn in range(3, 23):
        await written(store, turn)
    assert statements() - before < 10
