"""A calendar queue: items lie unsorted on a page for their time slot, and only the current page is sorted.

A heap of (time, item) takes 64 bytes per item; a page takes 8. The order is by time, with one exception: a page with
more than `CHUNK` items is sorted in chunks of that size, in the order of insertion.
"""

from heapq import heapify, heappop, heappush
from math import inf
from operator import attrgetter
from typing import Generic, TypeVar

T = TypeVar("T")
Page = list[T]

SLOT = 10.0
"""Seconds per page. At a million bindings in some fifty queues, a page still holds several items."""
CHUNK, MAX_PAGES, MAX_STEPS = 250, 4, 50
"""Limits of one `first` call: items read from a page, pages read, and sorted items dropped."""
MAX_CLEANED, MAX_LOOKED = 3, 12
"""Limits of one `clean` call: pages, and items looked at. At 300 decisions a second, a million items take minutes."""
PAUSE = 10
"""Calls between two rounds of `clean`, which begin with a look at everything that is sorted already."""


class CalendarQueue(Generic[T]):
    """A priority queue that drops stale entries lazily.

    Each item has its time (s) in one attribute and its page in another (None: not queued). Times only rise. Nothing is
    removed in place: an item that has left or moved refers to another page, so its old entry is recognised and
    dropped. An item whose time has risen is moved to its new page when its old entry is reached.
    """

    __slots__ = (
        "_cleaned",
        "_cleaned_up_to",
        "_current",
        "_get_page",
        "_get_time",
        "_heap",
        "_page_attribute",
        "_pages",
        "_pause",
        "_slot",
        "_upcoming",
    )

    def __init__(self, time: str, page: str) -> None:
        self._get_time, self._get_page, self._page_attribute = attrgetter(time), attrgetter(page), page
        self._pages: dict[int, Page[T]] = {}
        self._upcoming: list[int] = []
        self._slot: float = -inf
        self._current: Page[T] = []
        self._heap: list[tuple[float, T]] = []
        self._cleaned: list[int] = []
        self._cleaned_up_to = 0
        self._pause = 0

    def put(self, item: T) -> None:
        """Queue an item here; its entry in any other queue becomes stale."""
        at = self._get_time(item)
        slot = int(at // SLOT)
        if slot <= self._slot:
            page = self._current
            heappush(self._heap, (at, item))
        else:
            if slot not in self._pages:
                self._pages[slot] = []
                heappush(self._upcoming, slot)
            page = self._pages[slot]
            page.append(item)
        setattr(item, self._page_attribute, page)

    def first(self) -> T | None:
        """The earliest item; None when the queue is empty, or when finding it takes too long."""
        pages = 0
        for _ in range(MAX_STEPS):
            if not self._heap:
                pages += 1
                if pages > MAX_PAGES or not self._sort_next():
                    break
                continue
            at, item = self._heap[0]
            if self._get_page(item) is self._current:
                if self._get_time(item) == at:
                    return item
                self.put(item)
            heappop(self._heap)
        return None

    def pop(self) -> T:
        """Remove and return the item that `first` has just returned."""
        item = heappop(self._heap)[1]
        setattr(item, self._page_attribute, None)
        return item

    def clean(self) -> bool:
        """Drop stale entries from the next few items; False at the end of a round over all pages, and between rounds.

        Without it, an item that left would stay in memory until its page is reached, which may be never.
        """
        if not self._cleaned:
            self._pause -= 1
            if self._pause > 0:
                return False
            self._pause = PAUSE
            self._upcoming = sorted(self._pages)
            self._cleaned = list(self._upcoming)
            self._heap = [entry for entry in self._heap if self._get_page(entry[1]) is self._current]
            heapify(self._heap)
        left = MAX_LOOKED
        for _ in range(MAX_CLEANED):
            if not self._cleaned or left <= 0:
                break
            left -= self._clean_part(self._cleaned[-1], left)
        return bool(self._cleaned)

    def _clean_part(self, slot: int, most: int) -> int:
        """Drop stale entries from the next `most` items of this page; returns how many were looked at."""
        page, at, looked = self._pages.get(slot, []), self._cleaned_up_to, 0
        while looked < most and at < len(page):
            looked += 1
            if self._get_page(page[at]) is page:
                at += 1
                continue
            # Within a page the order means nothing, and filling the gap from the end moves no other item.
            last = page.pop()
            if at < len(page):
                page[at] = last
        if at < len(page):
            self._cleaned_up_to = at
            return looked
        self._cleaned_up_to = 0
        self._cleaned.pop()
        if not page:
            self._pages.pop(slot, None)
        return looked

    def _sort_next(self) -> bool:
        """Sort the next chunk, of this page or the next one; False when there is none."""
        while self._upcoming and self._upcoming[0] not in self._pages:
            heappop(self._upcoming)
        if not self._upcoming:
            return False
        slot = self._upcoming[0]
        page = self._pages[slot]
        chunk = page[:CHUNK]
        del page[:CHUNK]
        if not page:
            heappop(self._upcoming)
            del self._pages[slot]
        self._slot, self._current = slot, page
        end, valid = (slot + 1) * SLOT, [item for item in chunk if self._get_page(item) is page]
        self._heap = [(at, item) for item in valid if (at := self._get_time(item)) < end]
        heapify(self._heap)
        for item in valid:
            if self._get_time(item) >= end:
                self.put(item)
        return True
