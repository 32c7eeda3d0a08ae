"""Which faults are at work now, and whom they strike.

Belongs here: the time line of faults and the draw of their shares. Does not belong here: what a fault does to a call
(service.py) or to a binding (world.py).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from precall.simulator.chance import uniform
from precall.simulator.scenario import Fault, FaultKind

_STRIKES_BINDINGS = (FaultKind.GONE, FaultKind.OUTAGE, FaultKind.SILENT)


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault on the real clock: at work from `starts` until before `ends`."""

    fault: Fault
    number: int
    starts: float
    ends: float

    def matches(self, subs_id: str, pool_key: str, now: float) -> bool:
        fault = self.fault
        return (
            self.starts <= now < self.ends
            and fault.pool_key in ("", pool_key)
            and fault.subs_id in ("", subs_id)
        )


class FaultPlan:
    """Faults in the order they were planned; the first one that strikes wins."""

    def __init__(self, seed: int, speed: float) -> None:
        self._seed = seed
        self._speed = speed
        self._draw = random.Random(seed)
        self._count = 0
        self._calls: list[PlannedFault] = []
        self._bindings: list[PlannedFault] = []

    def add(self, fault: Fault, origin: float) -> PlannedFault:
        """`at` counts from `origin` (Unix seconds)."""
        starts = origin + fault.at / self._speed
        ends = starts + fault.for_ / self._speed if fault.for_ else math.inf
        planned = PlannedFault(fault, self._count, starts, ends)
        self._count += 1
        (self._bindings if fault.kind in _STRIKES_BINDINGS else self._calls).append(planned)
        return planned

    def clear(self) -> None:
        self._calls.clear()
        self._bindings.clear()

    def planned(self) -> list[PlannedFault]:
        return sorted(self._calls + self._bindings, key=lambda planned: planned.number)

    def strike_call(self, action: str, subs_id: str, pool_key: str, now: float) -> Fault | None:
        """The fault that hits this call; each call draws anew."""
        for planned in self._calls:
            fault = planned.fault
            if fault.action not in ("", action) or not planned.matches(subs_id, pool_key, now):
                continue
            if fault.share >= 1 or self._draw.random() < fault.share:
                return fault
        return None

    def striking(self, subs_id: str, pool_key: str, now: float) -> Iterator[PlannedFault]:
        """The faults that hit this binding; the same bindings as long as a fault lasts."""
        for planned in self._bindings:
            if planned.matches(subs_id, pool_key, now) and (
                planned.fault.share >= 1
                or uniform(self._seed, "fault", planned.number, subs_id) < planned.fault.share
            ):
                yield planned

    def noise(self) -> bytes:
        """What a garbage answer holds."""
        return self._draw.randbytes(40)
