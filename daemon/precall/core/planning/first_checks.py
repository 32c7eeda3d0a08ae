"""The first checks of new bindings: the newest first, and only for a while.

New bindings are dialled most. If more are registered than can be checked, serving them in order would make each wait
as long as the backlog lasts, possibly until it ends. So the newest is checked first. A binding that has waited for
`PATIENCE` competes with all others: the sweep finds it among the longest unchecked.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from precall.core.planning.entries import CheckKind, PlanEntry, TimerLane

PATIENCE, FEW, LONG_PATIENCE = 60.0, 20, 600.0
"""Seconds that a first check waits in its lane; where only a few wait, the second."""


class FirstChecks(TimerLane):
    """The lane of the first checks. Each is due when it is added, and they are added in order of time."""

    __slots__ = ("_waiting",)

    def __init__(self, share: float) -> None:
        super().__init__(share)
        self._waiting: deque[tuple[float, CheckKind, PlanEntry]] = deque()

    def push(self, at: float, kind: CheckKind, entry: PlanEntry) -> None:
        self._waiting.append((at, kind, entry))

    def pop(self, now: float) -> tuple[float, CheckKind, PlanEntry] | None:
        return self._waiting.pop() if self._waiting and self._waiting[-1][0] <= now else None

    def waiting(self) -> Iterable[tuple[float, CheckKind, PlanEntry]]:
        return self._waiting

    def give_up(self, now: float, most: int) -> Iterator[PlanEntry]:
        """Remove at most `most` of those that waited too long, and yield those that were not checked meanwhile."""
        for _ in range(most):
            patience = PATIENCE if len(self._waiting) > FEW else LONG_PATIENCE
            if not self._waiting or self._waiting[0][0] > now - patience:
                return
            at, kind, entry = self._waiting.popleft()
            if entry.held_until == at and entry.kind is kind and not entry.in_flight_until:
                yield entry
