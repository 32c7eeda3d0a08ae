"""What the parts of a daemon know about the process around them. It outlives the parts, which a new role replaces."""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from precall.config.settings import ReloadReport
from precall.core.ages import Tick
from precall.core.status.finding import FindingCode

LATE = 1.0
"""Seconds of delay from which a tick of the check loop is late, as in the alert PrecallLoopStalled."""
LATE_TICKS = 3
LATE_WITHIN = 30.0
"""Seconds within which so many late ticks make the loop late. One alone is a pause of the machine."""
ON_TIME_AFTER = 10.0
"""Seconds without a late tick after which it is on time again."""


@dataclass(frozen=True, slots=True)
class CertificateEnd:
    """When the certificate of the API ends (Unix seconds), and its file."""

    file: str
    ends: float


@dataclass(frozen=True, slots=True)
class RefusedReload:
    """A refused reload of the configuration: when (Unix seconds), and its mistakes."""

    at: float
    mistakes: tuple[str, ...]


class LoopDelay:
    """The late ticks of the check loop."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=100)

    def record(self, tick: Tick, delay: float) -> None:
        """Record that a tick was `delay` seconds late."""
        if delay > LATE:
            self._late.append((tick, delay))

    def worst(self, tick: Tick) -> float | None:
        """Return the longest delay (s) of late while the loop is late, else None."""
        while self._late and tick - self._late[0][0] > LATE_WITHIN:
            self._late.popleft()
        if len(self._late) < LATE_TICKS or tick - self._late[-1][0] > ON_TIME_AFTER:
            return None
        return max(delay for _, delay in self._late)


@dataclass(slots=True)
class ProcessState:
    """The process. `reload` reads the configuration again, `refused_reload` is the latest one if it was refused.

    `certificate` is that of the API, None without TLS. `started_at` is in Unix seconds. On standby, `blind` is the tick
    since when what the leader stores cannot be read, and why. `known` are the findings so far, by code and pool, and
    since when each has been known. `failing_queues` returns why queues of the provider cannot be read, by the type of
    their messages.
    """

    reload: Callable[[], Awaitable[ReloadReport]]
    refused_reload: Callable[[], RefusedReload | None]
    certificate: Callable[[], CertificateEnd | None]
    started_at: float
    delay: LoopDelay = field(default_factory=LoopDelay)
    blind: tuple[Tick, str] | None = None
    failing_queues: Callable[[], Mapping[str, str]] = dict
    known: dict[tuple[FindingCode, str], float] = field(default_factory=dict)
