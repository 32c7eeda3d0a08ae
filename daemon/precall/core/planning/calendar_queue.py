"""A calendar queue: who waits stands on the page of its day, and only the page that is read is sorted.

A heap of (time, who) takes 64 bytes per waiting binding beside the place in its list; a page takes 8. The order is by
time all the same, except that a page with more than `CHUNK` on it is read in the order of its writing, so many at once.
"""

from heapq import heapify, heappop, heappush
from math import inf
from operator import attrgetter
from typing import Generic, TypeVar

T = TypeVar("T")
Page = list[T]

DAY = 10.0
"""Seconds a page is for: at a million bindings in some fifty queues a page still has several on it."""
CHUNK, TURNS, STEPS = 250, 4, 50
"""Of one look for the first, at most: places looked at on a page, pages looked at, places dropped that were sorted."""


class CalendarQueue(Generic[T]):
    """Those who wait, the earliest first. Each has its time (s), which only rises, in one attribute and keeps its place
    in another: its page, or None where it does not stand.

    Nobody is struck off. One who has left, or stands elsewhere, keeps another page, and is recognised by that when its
    old place comes up; one whose time has moved on moves on then.
    """

    __slots__ = ("_ahead", "_day", "_heap", "_page", "_pages", "_place", "_place_of", "_time_of")

    def __init__(self, time: str, place: str) -> None:
        self._time_of, self._place_of, self._place = attrgetter(time), attrgetter(place), place
        self._pages: dict[int, Page[T]] = {}
        self._ahead: list[int] = []
        self._day: float = -inf
        self._page: Page[T] = []
        self._heap: list[tuple[float, T]] = []

    def put(self, who: T) -> None:
        """Stand here, and nowhere else."""
        at = self._time_of(who)
        day = int(at // DAY)
        if day <= self._day:
            page = self._page
            heappush(self._heap, (at, who))
        else:
            if day not in self._pages:
                self._pages[day] = []
                heappush(self._ahead, day)
            page = self._pages[day]
            page.append(who)
        setattr(who, self._place, page)

    def first(self) -> T | None:
        """The earliest; None when there is none, or finding it takes too long."""
        turns = 0
        for _ in range(STEPS):
            if not self._heap:
                turns += 1
                if turns > TURNS or not self._turn():
                    break
                continue
            at, who = self._heap[0]
            if self._place_of(who) is self._page:
                if self._time_of(who) == at:
                    return who
                self.put(who)
            heappop(self._heap)
        return None

    def pop(self) -> T:
        """Take out who was `first` just now."""
        who = heappop(self._heap)[1]
        setattr(who, self._place, None)
        return who

    def _turn(self) -> bool:
        """Sort what comes next of this page, or else of the next one; False when that was the last."""
        if not self._ahead:
            return False
        day = self._ahead[0]
        page = self._pages[day]
        chunk = page[:CHUNK]
        del page[:CHUNK]
        if not page:
            heappop(self._ahead)
            del self._pages[day]
        self._day, self._page = day, page
        end, standing = (day + 1) * DAY, [who for who in chunk if self._place_of(who) is page]
        self._heap = [(at, who) for who in standing if (at := self._time_of(who)) < end]
        heapify(self._heap)
        for who in standing:
            if self._time_of(who) >= end:
                self.put(who)
        return True
