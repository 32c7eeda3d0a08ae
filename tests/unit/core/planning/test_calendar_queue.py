"""The calendar queue beside a sorted list: whoever comes, goes or moves on, the earliest comes first."""

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from precall.core.planning import calendar_queue
from precall.core.planning.calendar_queue import CalendarQueue

SPAN = 5 * calendar_queue.SLOT


@dataclass(slots=True, eq=False)
class Guest:
    """Somebody who waits."""

    name: int
    since: float
    page: Any = None

    def __lt__(self, other: "Guest") -> bool:
        return self.name < other.name


def a_calendar(*times: float) -> tuple[CalendarQueue[Guest], list[Guest]]:
    found: CalendarQueue[Guest] = CalendarQueue(time="since", page="page")
    guests = [Guest(name, since) for name, since in enumerate(times)]
    for guest in guests:
        found.put(guest)
    return found, guests


def first(found: CalendarQueue[Guest]) -> Guest | None:
    """The earliest, however often one has to look."""
    return next((guest for _ in range(100) if (guest := found.first()) is not None), None)


def drained(found: CalendarQueue[Guest]) -> list[Guest]:
    went = []
    while first(found) is not None:
        went.append(found.pop())
    return went


times = st.floats(0.0, SPAN)


@given(st.lists(times, max_size=60))
def test_the_earliest_comes_first(since: list[float]) -> None:
    found, guests = a_calendar(*since)
    went = drained(found)
    assert [guest.since for guest in went] == sorted(since)
    assert set(map(id, went)) == set(map(id, guests))
    assert all(guest.page is None for guest in guests)


steps = st.lists(st.tuples(st.sampled_from(["put", "pop", "later", "elsewhere"]), st.integers(0, 9), times))


@given(steps)
def test_whoever_moves_or_leaves_it_is_the_earliest_who_stands(acts: list[tuple[str, int, float]]) -> None:
    found, guests = a_calendar(*[0.0] * 10)
    other: CalendarQueue[Guest] = CalendarQueue(time="since", page="page")
    here = set(guests)
    for act, name, seconds in acts:
        guest = guests[name]
        match act:
            case "put":
                guest.since += seconds / 10
                if guest not in here:
                    here.add(guest)
                    found.put(guest)
            case "later":
                # Who stands moves on without a word.
                guest.since += seconds
            case "elsewhere" if guest in here:
                here.remove(guest)
                other.put(guest)
            case "pop":
                if (earliest := first(found)) is not None:
                    assert found.pop() is earliest
                    assert earliest in here
                    assert earliest.since == min(one.since for one in here)
                    here.remove(earliest)
    assert sorted(guest.name for guest in drained(found)) == sorted(guest.name for guest in here)


def test_a_page_too_long_to_sort_at_once_is_read_in_parts() -> None:
    found, guests = a_calendar(*[1.0] * (3 * calendar_queue.CHUNK + 1), 2 * calendar_queue.SLOT, 0.5)
    late, early = guests[-2:]
    went = drained(found)
    assert len(went) == len(guests)
    assert went[-1] is late
    assert went.index(early) > calendar_queue.CHUNK


def test_a_look_gives_up_where_many_have_left() -> None:
    crowd = 2 * calendar_queue.MAX_PAGES * calendar_queue.CHUNK
    found, guests = a_calendar(*[1.0] * crowd, 2.0)
    for guest in guests[:-1]:
        guest.page = None
    assert found.first() is None
    assert first(found) is guests[-1]
