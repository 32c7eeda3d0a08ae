"""The rings in the database: a row takes the place of an old one, the table does not grow, only a leader writes."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from precall.core.errors import LeadershipLost, StoreUnavailable
from precall.core.rings import Ring
from precall.core.role import CurrentRole, Role
from precall.store import RingRow, Store
from tests.integration.store.test_members import lead_by
from tests.support.patience import PATIENCE
from tests.support.postgres import sql

RING: Ring[str] = Ring("daemon", 15, 20)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(store_url, timeout=PATIENCE, auto_migrate=True)
    yield opened
    await opened.close()


def row(moment: float, content: str = "{}") -> RingRow:
    return RingRow(RING.name, RING.slot(moment), moment, content)


async def test_the_table_keeps_its_size(store: Store, store_url: str) -> None:
    for now in range(0, 15 * 60, 15):
        await store.rings.keep([row(float(now), str(now)), replace(row(float(now)), ring="pools")], now)
    assert sql(store_url, "SELECT ring, count(*) FROM rings GROUP BY ring ORDER BY ring") == [
        ["daemon", "20"],
        ["pools", "20"],
    ]
    found = await store.rings.read({"daemon": 15 * 57, "pools": 15 * 58}, 15 * 59)
    assert [(one.ring, one.at, one.content) for one in found] == [
        ("daemon", 870.0, "870"),
        ("daemon", 885.0, "885"),
        ("pools", 885.0, "{}"),
    ]


async def test_what_a_clock_that_was_ahead_has_written_is_deleted(store: Store) -> None:
    await store.rings.keep([row(15.0), row(30.0)], 30.0)
    await store.rings.keep([row(90_000.0, "ahead")], 90_000.0)
    assert [one.at for one in await store.rings.read({"daemon": 0.0}, 50.0)] == [15.0, 30.0]
    await store.rings.keep([row(45.0)], 45.0)
    assert [one.at for one in await store.rings.read({"daemon": 0.0}, 1e9)] == [15.0, 30.0, 45.0]


async def test_repeating_a_write_is_safe(store: Store) -> None:
    for content in ("1", "1", "2"):
        await store.rings.keep([row(15.0, content)], 20.0)
    assert await store.rings.read({"daemon": 0.0}, 20.0) == [row(15.0, "2")]


async def test_a_deposed_leader_and_a_fenced_one_write_nothing(store: Store, store_url: str) -> None:
    lead_by(store_url, 7)
    store.fencing_token = 7
    await store.rings.keep([row(15.0)], 20.0)
    lead_by(store_url, 8)
    with pytest.raises(LeadershipLost):
        await store.rings.keep([row(30.0)], 30.0)
    store.fencing_token, store.role = 8, CurrentRole(Role.FENCED)
    with pytest.raises(StoreUnavailable):
        await store.rings.keep([row(30.0)], 30.0)
    assert [one.at for one in await store.rings.read({"daemon": 0.0}, 1e9)] == [15.0]
