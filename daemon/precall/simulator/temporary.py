"""The temporary numbers of a pool: a finite set, lent to abnormal bindings and taken back afterwards."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable


class TemporaryNumbers:
    """Lend numbers until a given time.

    By default a binding keeps its number; with `rotating` each query gets another one.
    """

    def __init__(self, numbers: Iterable[str], *, rotating: bool) -> None:
        self._free = deque(numbers)
        self._rotating = rotating
        self._held: dict[str, str] = {}
        self._until: dict[str, float] = {}
        self._returns: list[tuple[float, str]] = []

    def lend(self, subs_id: str, until: float, now: float) -> str:
        """Return a number for this binding, or "" if none is free."""
        self._take_back(now)
        held = self._held.get(subs_id, "")
        if not held and not self._free:
            return ""
        if not held or (self._rotating and self._free):
            number = self._free.popleft()
            if held:
                self._free.append(held)
            self._held[subs_id] = held = number
        if until < self._until.get(subs_id, math.inf):
            heapq.heappush(self._returns, (until, subs_id))
        self._until[subs_id] = until
        return held

    def held_by(self, subs_id: str, now: float) -> str:
        """Return the number the binding holds, or "". Lends nothing."""
        self._take_back(now)
        return self._held.get(subs_id, "")

    def has_free(self, now: float) -> bool:
        self._take_back(now)
        return bool(self._free)

    def give_back(self, subs_id: str) -> None:
        """Free the number of a binding that recovered or ended, if it holds one."""
        self._until.pop(subs_id, None)
        number = self._held.pop(subs_id, None)
        if number is not None:
            self._free.append(number)

    def _take_back(self, now: float) -> None:
        while self._returns and self._returns[0][0] <= now:
            _, subs_id = heapq.heappop(self._returns)
            until = self._until.get(subs_id)
            if until is None:
                continue  # given back early
            if until > now:
                heapq.heappush(self._returns, (until, subs_id))  # extended since
            else:
                self.give_back(subs_id)
