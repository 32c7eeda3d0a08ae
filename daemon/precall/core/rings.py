"""Rings: figures at regular moments of the last hours, each in a slot that follows from its moment.

A moment is in Unix seconds. A later one takes the slot of one that is a whole ring older, so a ring has a fixed size,
and whatever is done to the clock there are never two values for one moment. What is missing is a gap.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

Figures = Mapping[str, float]
"""Figures by name. What was not known at that moment is missing."""

Merge = Callable[[Sequence[float]], float]
"""Makes one figure of those of several moments."""


class Ring(Generic[T]):
    """A value for each `step` seconds of the last `size` steps."""

    def __init__(self, name: str, step: int, size: int) -> None:
        self.name, self.step, self.size = name, step, size
        self._slots: dict[int, tuple[float, T]] = {}

    @property
    def span(self) -> int:
        """The seconds that the ring covers."""
        return self.step * self.size

    def moment(self, now: float) -> float:
        """Return the latest moment of the ring that is not after `now`."""
        return float(now // self.step * self.step)

    def slot(self, moment: float) -> int:
        """Return the slot of a moment, from 0."""
        return int(moment // self.step) % self.size

    def put(self, moment: float, value: T) -> None:
        """Keep the value of a moment of the ring."""
        self._slots[self.slot(moment)] = (moment, value)

    def get(self, moment: float) -> T | None:
        """Return the value of a moment, or None."""
        found = self._slots.get(self.slot(moment))
        return found[1] if found is not None and found[0] == moment else None

    def since(self, now: float) -> float:
        """Return the moment after which values still count at `now`."""
        return self.moment(now) - self.span

    def recent(self, now: float) -> dict[float, T]:
        """Return the values that count at `now` by moment, the oldest first."""
        oldest = self.since(now)
        return {at: value for at, value in sorted(self._slots.values(), key=_moment) if oldest < at <= now}

    def forget_after(self, now: float) -> None:
        """Drop the values of moments that have not come: the clock was ahead."""
        self._slots = {slot: held for slot, held in self._slots.items() if held[0] <= now}


class Increases:
    """How much counters have grown since the last look."""

    def __init__(self) -> None:
        self._before: tuple[float, Figures] | None = None

    def forget(self) -> None:
        """Begin again: the next look has nothing to compare with."""
        self._before = None

    def look(self, totals: Figures, tick: float) -> tuple[float, dict[str, float]]:
        """Return the seconds since the last look (0.0: there was none), and by how much each counter has grown.

        A counter that is new, or began again from zero, is missing.
        """
        before, self._before = self._before, (tick, totals)
        if before is None or tick <= before[0]:
            return 0.0, {}
        grown = {name: total - before[1][name] for name, total in totals.items() if name in before[1]}
        return tick - before[0], {name: growth for name, growth in grown.items() if growth >= 0}


def columns(
    found: Mapping[float, Figures], names: Iterable[str], moments: Sequence[float], merge: Mapping[str, Merge]
) -> dict[str, list[float | None]]:
    """Return the figures of each name, one for each of the evenly spaced `moments`; None for a gap.

    A moment stands for the time since the one before: figures of several are merged, by their mean unless `merge` has
    another way for the name.
    """
    if len(moments) < 2:
        return {name: [None] * len(moments) for name in names}
    step, first = moments[1] - moments[0], moments[0]
    groups: list[list[Figures]] = [[] for _ in moments]
    for at, figures in found.items():
        place = -int((first - at) // step)
        if 0 <= place < len(groups):
            groups[place].append(figures)
    shown: dict[str, list[float | None]] = {}
    for name in names:
        how = merge.get(name, _mean)
        known = ([figures[name] for figures in group if name in figures] for group in groups)
        shown[name] = [how(values) if values else None for values in known]
    return shown


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _moment(held: tuple[float, T]) -> float:
    return held[0]
