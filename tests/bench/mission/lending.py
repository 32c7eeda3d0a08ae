"""Bindings, and the temporary numbers that a pool lends them while their X fails."""

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heappop, heappush
from math import inf
from random import Random

from tests.bench.mission.assumptions import Assumptions


@dataclass(slots=True)
class WorldBinding:
    """A binding, and what the provider would answer: `says` are (since, status, number), in order of time."""

    index: int
    pool: int
    x: int
    created: float
    expires: float
    ended: float
    rebound: float
    gone: bool
    long_lived: bool
    says: list[tuple[float, int, str]] = field(default_factory=list)

    @property
    def subs_id(self) -> str:
        return str(10**15 + self.index)

    @property
    def pool_key(self) -> str:
        return f"FC{self.pool}"

    @property
    def number_x(self) -> str:
        return f"170{self.x:08d}"

    @property
    def number_a(self) -> str:
        return f"138{self.index:08d}"

    @property
    def number_b(self) -> str:
        return f"139{self.index:08d}"


class LendingEvent(IntEnum):
    """What happens to a binding; at one moment, in this order."""

    RECOVERS = 0
    CHANGES = 1
    FAILS = 2
    RETURNED = 3


class Lending:
    """The temporary numbers of one pool, in order of time.

    The binding that has waited longest gets the next free number. `holders` are, for each number, (since, index of
    the binding or -1).
    """

    def __init__(
        self, numbers: list[str], members: list[WorldBinding], given: Assumptions, draw: Random
    ) -> None:
        self.holders: dict[str, list[tuple[float, int]]] = {number: [(-inf, -1)] for number in numbers}
        self._given, self._draw = given, draw
        self._members = {each.index: each for each in members}
        self._free = deque(numbers)
        self._waiting: deque[tuple[int, float]] = deque()
        self._held: dict[int, tuple[str, float]] = {}
        self._events: list[tuple[float, LendingEvent, int, float, str]] = []
        for each in members:
            each.says.append((-inf, 1, each.number_x))

    def fails(self, each: WorldBinding, begin: float, end: float) -> None:
        """The provider knows that X of this binding fails, from `begin` to `end`."""
        if begin < end:
            heappush(self._events, (begin, LendingEvent.FAILS, each.index, end, ""))

    def run(self) -> None:
        """Write down what the provider says of each binding, and who holds each number."""
        while self._events:
            now, kind, index, end, number = heappop(self._events)
            match kind:
                case LendingEvent.FAILS:
                    self._lend(index, now, end)
                    heappush(self._events, (end, LendingEvent.RECOVERS, index, end, ""))
                case LendingEvent.CHANGES:
                    if self._held.get(index) == (number, end) and self._free:
                        self._take_back(index, now)
                        self._lend(index, now, end)
                case LendingEvent.RECOVERS:
                    if index in self._held:
                        self._take_back(index, now)
                    self._members[index].says.append((now, 1, self._members[index].number_x))
                case LendingEvent.RETURNED:
                    self._free.append(number)
                    self._serve(now)

    def _lend(self, index: int, now: float, end: float) -> None:
        if not self._free:
            self._members[index].says.append((now, 3, ""))
            self._waiting.append((index, end))
            return
        number = self._free.popleft()
        self._held[index] = number, end
        self.holders[number].append((now, index))
        self._members[index].says.append((now, 2, number))
        if (at := now + self._draw.expovariate(1 / self._given.temporary_life)) < end:
            heappush(self._events, (at, LendingEvent.CHANGES, index, end, number))

    def _take_back(self, index: int, now: float) -> None:
        number, _ = self._held.pop(index)
        self.holders[number].append((now, -1))
        heappush(self._events, (now + self._given.quarantine, LendingEvent.RETURNED, index, inf, number))

    def _serve(self, now: float) -> None:
        """Lend the free number to the binding that has waited longest and still needs it."""
        while self._waiting:
            index, end = self._waiting.popleft()
            if end > now:
                self._lend(index, now, end)
                return
