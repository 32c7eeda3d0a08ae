"""Paging through the stored change feed."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from precall.core.model import COLUMNS_OF, Change, WriteCause
from precall.core.routing.route import decide
from precall.store import Store
from precall.store.history import SCAN
from tests.support.builders import NOW, POLICY, row
from tests.support.patience import PATIENCE


def change(index: int, subs_id: str, pool_key: str = "FC1", at: float = NOW) -> Change:
    after = replace(row(subs_id=subs_id, pool_key=pool_key), version=1, index=index)
    route = decide(after, "", POLICY, NOW)
    return Change(
        index,
        at,
        WriteCause.REGISTERED,
        subs_id,
        pool_key,
        None,
        after,
        route,
        columns=COLUMNS_OF[WriteCause.REGISTERED],
    )


async def every(
    store: Store, until: int, limit: int, **wanted: Collection[str]
) -> list[tuple[int, list[int]]]:
    """(position, indexes) of each page."""
    pages: list[tuple[int, list[int]]] = []
    since = 0
    while since < until:
        page = await store.changes(since, until, limit=limit, **wanted)  # type: ignore[arg-type]
        assert page is not None
        changes, position = page
        assert since < position
        assert len(changes) <= limit
        pages.append((position, [one["index"] for one in changes]))
        since = position
    return pages


async def test_changes_are_paged_by_filter(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/precall.db", timeout=PATIENCE, auto_migrate=True)
    try:
        await store.commit(
            [change(10 * place, str(place % 3), f"FC{place % 2}") for place in range(1, 13)], [], []
        )
        assert await every(store, 125, 5) == [
            (50, [10, 20, 30, 40, 50]),
            (100, [60, 70, 80, 90, 100]),
            (120, [110, 120]),
            (125, []),
        ]
        assert await every(store, 100, 2, subs_ids={"1", "9"}, pool_keys={"FC1"}) == [
            (70, [10, 70]),
            (100, []),
        ]
        assert await every(store, 125, 9, pool_keys={"FC0"}) == [
            (120, [20, 40, 60, 80, 100, 120]),
            (125, []),
        ]
        assert [index for index in range(131) if await store.knows(index)] == list(range(10, 121, 10))
    finally:
        await store.close()


async def test_an_index_is_too_old_only_if_later_changes_were_deleted(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/precall.db", timeout=PATIENCE, auto_migrate=True)
    try:
        await store.commit([change(place, str(place), at=NOW + place) for place in range(1, 10)], [], [])
        await store.retire(NOW + 5, batch=3)
        assert await store.changes(3, 9, limit=9) is None
        page = await store.changes(4, 9, limit=9)
        assert page is not None
        assert [one["index"] for one in page[0]] == [5, 6, 7, 8, 9]
        assert await store.knows(5)
        assert not await store.knows(4)
        await store.retire(NOW + 1)
        assert await store.changes(3, 9, limit=9) is None
        assert "compacted" not in await store.marks()
    finally:
        await store.close()


@pytest.mark.slow
async def test_changes_of_a_rare_binding_are_scanned_in_steps(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/precall.db", timeout=5.0, auto_migrate=True)
    try:
        last = SCAN + 10
        for start in range(1, last + 1, 5000):
            many = range(start, min(start + 5000, last + 1))
            await store.commit([change(place, str(place)) for place in many], [], [])
        assert await every(store, last, 100, subs_ids={str(last)}) == [(SCAN, []), (last, [last])]
    finally:
        await store.close()
