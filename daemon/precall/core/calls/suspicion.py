"""Suspicion raised by failed calls: a binding with enough recent failures on its current route is suspect.

Only failures that can be the number's fault count (see `causes`). A binding is suspect while at least `MIN_FAILURES` of
its `LATEST_CALLS` latest calls failed and the score of these failures reaches `MIN_SCORE`. The score of a failure is 1
at first and halves every `HALF_LIFE`. A single statement of the provider is enough: the number was reclaimed (cause
476) or is reported abnormal. Suspicion causes a check and shows a flag; it never changes a route.

Calls are ordered by when they were placed and identified by their ids, so reports may arrive in any order and more than
once. Calls placed on an earlier route (`RouteKey`) do not count. Records are forgotten after `FORGET_AFTER`. At most
`MAX_BINDINGS` with failures are remembered, and as many without.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from math import inf, log2
from operator import attrgetter

from precall.core.ages import age_of
from precall.core.model import Flag, Row, State, Status

LATEST_CALLS = 5
MIN_FAILURES = 3
HALF_LIFE = 1800.0
MIN_SCORE = 1.5
FORGET_AFTER = 2 * HALF_LIFE
"""Seconds after which even `LATEST_CALLS` failures score less than `MIN_SCORE`."""
MAX_BINDINGS = 100_000

RouteKey = tuple[int, str]
"""What calls on a binding are placed to: its generation, and "x", "temporary" or "real"."""


@dataclass(frozen=True, slots=True)
class CallVerdict:
    """A call that ended; `failed` for a reason that can be the number's fault, `damning` if it certainly is."""

    call_id: str
    called_at: float
    failed: bool
    damning: bool = False


@dataclass(frozen=True, slots=True)
class _Record:
    """The latest verdicts on one target, and the period for which they make it suspect."""

    target: RouteKey
    verdicts: tuple[CallVerdict, ...] = ()
    since: float = 0.0
    until: float = 0.0
    accused_until: float = 0.0
    reported_at: float = 0.0
    touched_at: float = 0.0

    def suspect(self, now: float) -> bool:
        """Whether the target is suspect. A record from the future was dated by a wrong clock and does not count."""
        return age_of(self.touched_at, now) < inf and now < max(self.until, self.accused_until)


class CallSuspicion:
    """The call records of all bindings. Times are in Unix seconds."""

    def __init__(self) -> None:
        self._failing: OrderedDict[str, _Record] = OrderedDict()
        self._working: OrderedDict[str, _Record] = OrderedDict()
        self._suspects: set[str] = set()

    def __len__(self) -> int:
        return len(self._failing) + len(self._working)

    def record(self, row: Row, verdict: CallVerdict, dialled: str, now: float) -> bool:
        """Record how a call ended, and return whether the binding should be checked.

        `dialled` is the state of the route when the call was placed ("": unknown).
        """
        target = target_of(row)
        if dialled and _number_kind(dialled) != target[1]:
            return False
        known = self._find(row.binding.subs_id, target) or _Record(target)
        verdicts = [*(other for other in known.verdicts if other.call_id != verdict.call_id), verdict]
        latest = tuple(sorted(verdicts, key=attrgetter("called_at", "call_id"))[-LATEST_CALLS:])
        record = replace(known, verdicts=latest, until=_suspect_until(latest, now))
        if verdict.failed and verdict.damning and now - verdict.called_at < FORGET_AFTER:
            record = replace(record, accused_until=max(known.accused_until, verdict.called_at + HALF_LIFE))
        self._store(row.binding.subs_id, record, now)
        return verdict.failed and verdict in latest and self.is_suspect(row, now)

    def report(self, row: Row, *, abnormal: bool, at: float, now: float) -> None:
        """Record a report of the provider that the binding's number is abnormal, or normal again, since `at`.

        The latest report counts.
        """
        target = target_of(row)
        known = self._find(row.binding.subs_id, target) or _Record(target)
        if at >= known.reported_at:
            accused_until = at + HALF_LIFE if abnormal else 0.0
            self._store(row.binding.subs_id, replace(known, accused_until=accused_until, reported_at=at), now)

    def is_suspect(self, row: Row, now: float) -> bool:
        """Whether calls suggest that the current route of this binding is wrong."""
        known = self._find(row.binding.subs_id, target_of(row))
        return known is not None and known.suspect(now)

    def flags(self, row: Row, now: float) -> tuple[Flag, ...]:
        """The flags for readers: `suspect`, and `api_disagrees` if the provider has answered Status 1 since."""
        if not self._failing or not self.is_suspect(row, now):
            return ()
        since = self._failing[row.binding.subs_id].since
        normal = row.state.status == Status.NORMAL and row.state.checked_at >= since
        return (Flag.SUSPECT, Flag.API_DISAGREES) if normal else (Flag.SUSPECT,)

    def suspects(self, now: float) -> list[str]:
        """The ids of all bindings with a suspect target. The route of some may have changed since."""
        self._expire(now)
        self._suspects = {subs_id for subs_id in self._suspects if self._failing[subs_id].suspect(now)}
        return sorted(self._suspects)

    def _find(self, subs_id: str, target: RouteKey) -> _Record | None:
        known = self._failing.get(subs_id) or self._working.get(subs_id)
        return known if known is not None and known.target == target else None

    def _store(self, subs_id: str, record: _Record, now: float) -> None:
        before = self._find(subs_id, record.target)
        since = before.since if before is not None and before.suspect(now) else now
        self._forget(subs_id)
        working = not record.reported_at and not any(verdict.failed for verdict in record.verdicts)
        records = self._working if working else self._failing
        records[subs_id] = replace(record, since=since, touched_at=now)
        if record.suspect(now):
            self._suspects.add(subs_id)
        self._expire(now)
        if len(records) > MAX_BINDINGS:
            self._forget(next(iter(records)))

    def _expire(self, now: float) -> None:
        """Forget the bindings without a report for `FORGET_AFTER`."""
        for records in (self._failing, self._working):
            while records:
                subs_id, record = next(iter(records.items()))
                if age_of(record.touched_at, now) < FORGET_AFTER:
                    break
                self._forget(subs_id)

    def _forget(self, subs_id: str) -> None:
        self._failing.pop(subs_id, None)
        self._working.pop(subs_id, None)
        self._suspects.discard(subs_id)


def target_of(row: Row) -> RouteKey:
    """The target of a call placed now."""
    return row.binding.generation, _number_kind(row.state.state)


def _number_kind(state: str) -> str:
    """The kind of number that is dialled in a state. Unverified, normal and ended bindings all lead to X."""
    match state:
        case State.TEMPORARY:
            return "temporary"
        case State.FALLBACK:
            return "real"
        case _:
            return "x"


def _suspect_until(verdicts: tuple[CallVerdict, ...], now: float) -> float:
    """The time until which these verdicts alone make a target suspect; 0 when they do not."""
    failed = [verdict for verdict in verdicts if verdict.failed]
    if len(failed) < MIN_FAILURES:
        return 0.0
    # Clocks may differ: a call slightly in the future counts as placed now.
    score = sum(2.0 ** -(max(0.0, now - verdict.called_at) / HALF_LIFE) for verdict in failed)
    return now + HALF_LIFE * log2(score / MIN_SCORE) if score > MIN_SCORE else 0.0
