"""The calendar queue against a sorted list: the earliest item comes first after any additions, removals and moves."""

import sys
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from precall.core.planning import calendar_queue
from precall.core.planning.calendar_queue import CalendarQueue

SPAN = 5 * calendar_queue.SLOT


@dataclass(slots=True, eq=False)
class Item:
    """An item that waits."""

    name: int
    since: float
    page: Any = None

    def __lt__(self, other: "Item") -> bool:
        return self.name < other.name


def a_calendar(*times: float) -> tuple[CalendarQueue[Item], list[Item]]:
    queue: CalendarQueue[Item] = CalendarQueue(time="since", page="page")
    items = [Item(name, since) for name, since in enumerate(times)]
    for item in items:
        queue.put(item)
    return queue, items


def first(queue: CalendarQueue[Item]) -> Item | None:
    """The earliest, however many looks that takes."""
    return next((item for _ in range(100) if (item := queue.first()) is not None), None)


def drained(queue: CalendarQueue[Item]) -> list[Item]:
    drained_items = []
    while first(queue) is not None:
        drained_items.append(queue.pop())
    return drained_items


times = st.floats(0.0, SPAN)


@given(st.lists(times, max_size=60))
def test_the_earliest_comes_first(since: list[float]) -> None:
    queue, items = a_calendar(*since)
    drained_items = drained(queue)
    assert [item.since for item in drained_items] == sorted(since)
    assert set(map(id, drained_items)) == set(map(id, items))
    assert all(item.page is None for item in items)


steps = st.lists(st.tuples(st.sampled_from(["put", "pop", "later", "elsewhere"]), st.integers(0, 9), times))


@given(steps)
def test_moves_and_removals_keep_the_earliest_first(acts: list[tuple[str, int, float]]) -> None:
    queue, items = a_calendar(*[0.0] * 10)
    other: CalendarQueue[Item] = CalendarQueue(time="since", page="page")
    here = set(items)
    for act, name, seconds in acts:
        item = items[name]
        match act:
            case "put":
                item.since += seconds / 10
                if item not in here:
                    here.add(item)
                    queue.put(item)
            case "later":
                # The time of a queued item rises in place.
                item.since += seconds
            case "elsewhere" if item in here:
                here.remove(item)
                other.put(item)
            case "pop":
                if (earliest := first(queue)) is not None:
                    assert queue.pop() is earliest
                    assert earliest in here
                    assert earliest.since == min(item.since for item in here)
                    here.remove(earliest)
    assert sorted(item.name for item in drained(queue)) == sorted(item.name for item in here)


def test_a_long_page_is_sorted_in_chunks() -> None:
    queue, items = a_calendar(*[1.0] * (3 * calendar_queue.CHUNK + 1), 2 * calendar_queue.SLOT, 0.5)
    late, early = items[-2:]
    drained_items = drained(queue)
    assert len(drained_items) == len(items)
    assert drained_items[-1] is late
    assert drained_items.index(early) > calendar_queue.CHUNK


def test_a_search_gives_up_after_many_stale_entries() -> None:
    crowd = 2 * calendar_queue.MAX_PAGES * calendar_queue.CHUNK
    queue, items = a_calendar(*[1.0] * crowd, 2.0)
    for item in items[:-1]:
        item.page = None
    assert queue.first() is None
    assert first(queue) is items[-1]


def test_removed_entries_are_dropped_and_the_rest_keeps_its_order() -> None:
    count = 3 * calendar_queue.CHUNK
    queue, items = a_calendar(*[1.0] * count, *[SPAN * n / 100 for n in range(100)])
    assert first(queue) is not None
    gone = [item for item in items if item.name % 3]
    for item in gone:
        item.page = None
    before = [sys.getrefcount(item) for item in gone]
    while queue.clean():
        pass
    after = [sys.getrefcount(item) for item in gone]
    # What is left of the page that is being read is dropped as it is read on.
    assert sum(now < was for now, was in zip(after, before, strict=True)) > 0.6 * len(gone)
    left = drained(queue)
    assert {item.name for item in left} == {item.name for item in items if not item.name % 3}
    assert [item.since for item in left[count // 3 :]] == sorted(item.since for item in left[count // 3 :])
