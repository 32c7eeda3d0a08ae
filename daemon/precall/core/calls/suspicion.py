"""What failed calls say about a binding: enough of them, lately and on the route that is served, make it suspect.

A call can fail by the number's fault or by its callee's; only the former count (`causes`). A binding is suspect while
at least `NEEDED` of its `LAST` latest calls failed so and the failures, each worth half as much after `HALF_LIFE`, add
up to `LEAST`. One word of the provider's own is enough: the number was reclaimed (cause 476), or is reported abnormal.
Suspicion asks for a check and shows a flag. It never changes a route.

Calls are ordered by when they were placed, not by when their end became known, and each is known by its id: the same
reports in another order, or twice, come to the same. Once the route is another one (`Aim`), calls placed upon the old
one say nothing. What was heard is forgotten when it has faded; of `MOST` bindings in doubt it is kept, and of as many
whose calls work.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from math import inf, log2

from precall.core.ages import age_of
from precall.core.model import Flag, Row, State, Status

LAST = 5
NEEDED = 3
HALF_LIFE = 1800.0
LEAST = 1.5
FADED = 2 * HALF_LIFE
"""Seconds after which even `LAST` failures do not add up to `LEAST`."""
MOST = 100_000

Aim = tuple[int, str]
"""What calls of a binding were dialled upon: its generation, and "x", "temporary" or "real"."""


@dataclass(frozen=True, slots=True)
class CallVerdict:
    """A call that ended: whether it failed by what can be the number's fault; `damning`: by its certain end."""

    call_id: str
    called_at: float
    failed: bool
    damning: bool = False


@dataclass(frozen=True, slots=True)
class _Doubt:
    """The latest verdicts on one aim, and the time in which they make it suspect."""

    aim: Aim
    verdicts: tuple[CallVerdict, ...] = ()
    since: float = 0.0
    until: float = 0.0
    accused_until: float = 0.0
    reported_at: float = 0.0
    touched_at: float = 0.0

    def holds(self, now: float) -> bool:
        """Whether it makes suspect. What was heard at a time yet to come was dated by a clock that was wrong."""
        return age_of(self.touched_at, now) < inf and now < max(self.until, self.accused_until)


class CallSuspicion:
    """The bindings in doubt. `now` is in Unix seconds, as the times of calls are."""

    def __init__(self) -> None:
        self._doubts: OrderedDict[str, _Doubt] = OrderedDict()
        self._calm: OrderedDict[str, _Doubt] = OrderedDict()
        self._suspects: set[str] = set()

    def __len__(self) -> int:
        return len(self._doubts) + len(self._calm)

    def hear(self, row: Row, verdict: CallVerdict, dialled: str, now: float) -> bool:
        """Take in how a call ended that was dialled in state `dialled` ("": not known). Whether a check is due."""
        aim = aim_of(row)
        if dialled and _way(dialled) != aim[1]:
            return False
        known = self._known(row.binding.subs_id, aim) or _Doubt(aim)
        others = [one for one in known.verdicts if one.call_id != verdict.call_id]
        latest = tuple(sorted([*others, verdict], key=lambda one: (one.called_at, one.call_id))[-LAST:])
        doubt = replace(known, verdicts=latest, until=_until(latest, now))
        if verdict.failed and verdict.damning and now - verdict.called_at < FADED:
            doubt = replace(doubt, accused_until=max(known.accused_until, verdict.called_at + HALF_LIFE))
        self._keep(row.binding.subs_id, doubt, now)
        return verdict.failed and verdict in latest and self.doubts(row, now)

    def report(self, row: Row, *, abnormal: bool, at: float, now: float) -> None:
        """The provider itself says of the number of this binding that it is abnormal, or normal again, since `at`. The
        latest such word counts."""
        aim = aim_of(row)
        known = self._known(row.binding.subs_id, aim) or _Doubt(aim)
        if at >= known.reported_at:
            accused_until = at + HALF_LIFE if abnormal else 0.0
            self._keep(row.binding.subs_id, replace(known, accused_until=accused_until, reported_at=at), now)

    def doubts(self, row: Row, now: float) -> bool:
        """Whether calls say that the route of this binding is wrong."""
        known = self._known(row.binding.subs_id, aim_of(row))
        return known is not None and known.holds(now)

    def flags(self, row: Row, now: float) -> tuple[Flag, ...]:
        """What readers should know: `suspect`; `api_disagrees` too when the provider has answered Status 1 since."""
        if not self._doubts or not self.doubts(row, now):
            return ()
        since = self._doubts[row.binding.subs_id].since
        normal = row.state.status == Status.NORMAL and row.state.checked_at >= since
        return (Flag.SUSPECT, Flag.API_DISAGREES) if normal else (Flag.SUSPECT,)

    def suspects(self, now: float) -> list[str]:
        """The ids of all bindings that were made suspect lately; the route of some may be another one by now."""
        self._fade(now)
        self._suspects = {subs_id for subs_id in self._suspects if self._doubts[subs_id].holds(now)}
        return sorted(self._suspects)

    def _known(self, subs_id: str, aim: Aim) -> _Doubt | None:
        known = self._doubts.get(subs_id) or self._calm.get(subs_id)
        return known if known is not None and known.aim == aim else None

    def _keep(self, subs_id: str, doubt: _Doubt, now: float) -> None:
        before = self._known(subs_id, doubt.aim)
        since = before.since if before is not None and before.holds(now) else now
        self._forget(subs_id)
        calm = not doubt.reported_at and not any(verdict.failed for verdict in doubt.verdicts)
        kept = self._calm if calm else self._doubts
        kept[subs_id] = replace(doubt, since=since, touched_at=now)
        if doubt.holds(now):
            self._suspects.add(subs_id)
        self._fade(now)
        if len(kept) > MOST:
            self._forget(next(iter(kept)))

    def _fade(self, now: float) -> None:
        """Forget those of whom nothing was heard for so long that it matters no more."""
        for kept in (self._doubts, self._calm):
            while kept:
                subs_id, doubt = next(iter(kept.items()))
                if age_of(doubt.touched_at, now) < FADED:
                    break
                self._forget(subs_id)

    def _forget(self, subs_id: str) -> None:
        self._doubts.pop(subs_id, None)
        self._calm.pop(subs_id, None)
        self._suspects.discard(subs_id)


def aim_of(row: Row) -> Aim:
    """What a call would be dialled upon now."""
    return row.binding.generation, _way(row.state.state)


def _way(state: str) -> str:
    """The kind of number a state leads to; unverified, normal and the end of a binding all lead to X."""
    match state:
        case State.TEMPORARY:
            return "temporary"
        case State.FALLBACK:
            return "real"
        case _:
            return "x"


def _until(verdicts: tuple[CallVerdict, ...], now: float) -> float:
    """Until when these make suspect, if nothing else is heard; 0 when they do not."""
    failed = [verdict for verdict in verdicts if verdict.failed]
    if len(failed) < NEEDED:
        return 0.0
    # In the future at most by what clocks differ: such a call counts as one of now.
    score = sum(2.0 ** -(max(0.0, now - verdict.called_at) / HALF_LIFE) for verdict in failed)
    return now + HALF_LIFE * log2(score / LEAST) if score > LEAST else 0.0
