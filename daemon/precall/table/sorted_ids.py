"""Many ids in order, in blocks: adding one, dropping one, or reading on from any of them moves one block at most.

A single sorted list of a million would have to be sorted, or copied, whenever somebody walks it while it changes: that
holds the loop for 100 ms, which readers share.
"""

from bisect import bisect_left, bisect_right, insort

BLOCK = 1000


class SortedIds:
    """Distinct ids. Adding in order is cheapest."""

    def __init__(self) -> None:
        self._blocks: list[list[str]] = []
        self._lasts: list[str] = []

    def add(self, subs_id: str) -> None:
        """Take one in that is not there."""
        if not self._blocks:
            self._blocks, self._lasts = [[subs_id]], [subs_id]
            return
        place = min(bisect_left(self._lasts, subs_id), len(self._lasts) - 1)
        block = self._blocks[place]
        if subs_id > block[-1]:
            block.append(subs_id)
            self._lasts[place] = subs_id
        else:
            insort(block, subs_id)
        if len(block) > 2 * BLOCK:
            self._blocks[place : place + 1] = block[:BLOCK], block[BLOCK:]
            self._lasts.insert(place, block[BLOCK - 1])

    def drop(self, subs_id: str) -> None:
        """Let one go that is there."""
        place = bisect_left(self._lasts, subs_id)
        block = self._blocks[place]
        del block[bisect_left(block, subs_id)]
        if block:
            self._lasts[place] = block[-1]
        else:
            del self._blocks[place], self._lasts[place]

    def after(self, subs_id: str, limit: int) -> list[str]:
        """Some of those that come next, at most `limit`; none at the end. "" comes before all."""
        place = bisect_right(self._lasts, subs_id)
        if place == len(self._blocks):
            return []
        block = self._blocks[place]
        start = bisect_right(block, subs_id)
        return block[start : start + limit]
