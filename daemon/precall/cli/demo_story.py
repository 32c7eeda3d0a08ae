"""The story of the demonstration: what befalls the simulated provider, and what precall makes of it, in captions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from precall.core.status.finding import FindingCode
from precall.simulator import FaultKind, PlannedFault

_FAULTS: dict[FaultKind, tuple[str, str]] = {
    FaultKind.SILENT: (
        "some X of pool {pool_key} die, but the provider says that they work",
        "the dead X of pool {pool_key} work again",
    ),
    FaultKind.OUTAGE: (
        "pool {pool_key} runs out of temporary numbers",
        "pool {pool_key} has working numbers again",
    ),
    FaultKind.THROTTLE: (
        "the provider throttles every check; precall waits as it is told",
        "the provider takes checks again",
    ),
    FaultKind.RESET: (
        "the provider is out of reach; precall answers from its table",
        "the provider answers again",
    ),
}
"""What a fault of the scenario does, and what its end does."""
_FINDINGS: dict[str, tuple[str, str]] = {
    FindingCode.BRAKE_ENGAGED: (
        "the brake stops {pool_key}: no more real numbers, calls are held",
        "the brake of {pool_key} is off again",
    ),
    FindingCode.CALLS_DISAGREE: (
        "calls fail where the provider sees no fault: precall suspects these X",
        "no call contradicts the provider any more",
    ),
    FindingCode.PROVIDER_FAILING: (
        "precall notices: checks fail, so routes are kept and grow old",
        "precall notices: checks succeed again",
    ),
}
"""What precall says at the start and at the end of a finding; others would repeat these."""


@dataclass(frozen=True, slots=True)
class DemoCaption:
    """What happened `at` seconds after the start. `bad` if it made matters worse."""

    at: float
    text: str
    bad: bool = False

    def __str__(self) -> str:
        """Return the caption with its time, such as "t+10 s: ..."."""
        return f"t+{self.at:.0f} s: {self.text}"


class Story:
    """Tell what has happened since the last time, in the order in which it happened."""

    def __init__(self, faults: Iterable[PlannedFault]) -> None:
        """The times of the faults, and all times given later, are in Unix seconds."""
        self._coming = sorted(
            (at, _FAULTS[one.fault.kind][end].format(pool_key=one.fault.pool_key), not end)
            for one in faults
            for end, at in enumerate((one.starts, one.ends))
            if one.fault.kind in _FAULTS
        )
        self._found: dict[tuple[str, str], str] = {}

    def due(self, now: float, elapsed: float) -> list[DemoCaption]:
        """Return what befell the provider. `elapsed` is how many seconds the demonstration runs."""
        captions = []
        while self._coming and self._coming[0][0] <= now:
            _, text, bad = self._coming.pop(0)
            captions.append(DemoCaption(elapsed, text, bad))
        return captions

    def noticed(self, findings: Iterable[Mapping[str, Any]], elapsed: float) -> list[DemoCaption]:
        """Return what precall found out, or found to be over, by the findings of `GET /v1/status`."""
        found = {
            (one["code"], one["pool_key"]): _FINDINGS[one["code"]][1].format(pool_key=one["pool_key"])
            for one in findings
            if one["code"] in _FINDINGS
        }
        new, over = found.keys() - self._found.keys(), self._found.keys() - found.keys()
        captions = [
            DemoCaption(elapsed, _FINDINGS[code][0].format(pool_key=pool_key), bad=True)
            for code, pool_key in sorted(new)
        ]
        captions += [DemoCaption(elapsed, self._found[key]) for key in sorted(over)]
        self._found = found
        return captions
