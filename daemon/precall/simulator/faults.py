"""The schedule of faults: which are active now, and which calls or bindings they hit.

What a fault does to an API call is in service.py, what it does to a binding in world.py.
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
    """A fault in real time, active from `starts` until just before `ends` (Unix seconds)."""

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
    """Faults in the order they were added; of several that hit a call, the first wins."""

    def __init__(self, seed: int, speed: float) -> None:
        self._seed = seed
        self._speed = speed
        self._draw = random.Random(seed)
        self._count = 0
        self._calls: list[PlannedFault] = []
        self._bindings: list[PlannedFault] = []

    def add(self, fault: Fault, origin: float) -> PlannedFault:
        """Schedule `fault`; its `at` counts from `origin` (Unix seconds)."""
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
        """Return the fault that hits this API call. Shares are drawn for each call."""
        for planned in self._calls:
            fault = planned.fault
            if fault.action not in ("", action) or not planned.matches(subs_id, pool_key, now):
                continue
            if fault.share >= 1 or self._draw.random() < fault.share:
                return fault
        return None

    def striking(self, subs_id: str, pool_key: str, now: float) -> Iterator[PlannedFault]:
        """Yield the faults that hit this binding. A fault hits the same bindings for as long as it lasts."""
        for planned in self._bindings:
            if planned.matches(subs_id, pool_key, now) and (
                planned.fault.share >= 1
                or uniform(self._seed, "fault", planned.number, subs_id) < planned.fault.share
            ):
                yield planned

    def noise(self) -> bytes:
        """Return the bytes of a garbage reply."""
        return self._draw.randbytes(40)
