"""What a check of a binding is worth, in dials saved, and what its answer teaches about that.

`worth = weight * shape(x)` with `shape(x) = 1 - e^-x (1 + x)`. Published normal: `x = rho age` and
`weight = mu lam / (rho nu)`; published abnormal: `x = nu age` and `weight = mu / nu`. In doubt, because a sibling on
the same X, many of the pool or a failed call surprised: `mu P(wrong) / nu`, whatever the age. What a check sets right
stays right for `1 / nu` only, also where trouble lasts longer: the abnormal route it publishes ends like any other.
`mu` counts dials no live check covers. That shape supposes that a check can wait for its best moment; where checks are
too scarce for that, it leans to `1 - e^-x`, the chance that the route is wrong now.

The rates are those of `learning`; who waits where is `queues`.
"""

from math import exp, expm1

from precall.core.planning.entries import Face, PlanEntry, PlanSuspicion, SuspicionCause, ValuePhase
from precall.core.planning.rates import RateModel

WAVE_PRIOR = 0.5
"""P(wrong) of those last checked before their pool surprised, until some were asked."""

LAPS = 8.0
"""Of the mean length of trouble: how long checking all once takes where checks are scarce."""
REPORT_ODDS = 10.0
"""A call is reported as failed so many times more often when its route was wrong."""


def shape(x: float, eager: float) -> float:
    """How the worth of a check grows with scaled age, from 0 to 1."""
    left = exp(-x)
    return 1 - left * (1 + (1 - eager) * x)


class CheckValue:
    """The tables of `learning`, applied to entries. Ages and times in seconds."""

    def __init__(self, learned: RateModel) -> None:
        self.learned = learned
        self.eager = 0.0

    def pace(self, lap: float) -> None:
        """Checking all once takes `lap` seconds by now."""
        self.eager = -expm1(-lap * self.learned.rho / LAPS)

    def weigh(self, entry: PlanEntry, now: float) -> tuple[ValuePhase, float]:
        """How its worth grows, and the factor before the shape. Forgets a doubt that is none any more."""
        learned, habits, abnormal = self.learned, entry.pool.habits, bool(entry.face)
        mu = learned.mu(habits, now - entry.born, entry.reads) * learned.unverified(abnormal)
        saved = mu / learned.nu
        if entry.doubt is not None:
            wrong = self._doubted(entry.doubt, now)
            if wrong > self._calm(entry, now):
                return ValuePhase.DOUBTED, saved * wrong
            entry.doubt = None
        if abnormal:
            return ValuePhase.ABNORMAL, saved
        return ValuePhase.NORMAL, saved * learned.lam(habits, entry.scarred) / learned.rho

    def of(self, entry: PlanEntry, now: float) -> float:
        """Dials a check saves now."""
        phase, weight = self.weigh(entry, now)
        if phase is ValuePhase.DOUBTED:
            return weight
        x = (now - entry.since) * (self.learned.nu if entry.face else self.learned.rho)
        return weight * shape(x, self.eager)

    def wrong(self, entry: PlanEntry, now: float) -> float:
        """P(what is published is wrong now)."""
        wrong = self._calm(entry, now)
        return wrong if entry.doubt is None else max(wrong, self._doubted(entry.doubt, now))

    def _calm(self, entry: PlanEntry, now: float) -> float:
        """The same, were there no doubt."""
        age = now - entry.since
        return -expm1(-self.learned.nu * age) if entry.face else self._turned(entry, abnormal=False, age=age)

    def reported(self, entry: PlanEntry, at: float) -> PlanSuspicion:
        """What a report of a failed call makes of it: little when it was checked just before."""
        wrong = self.wrong(entry, at) * REPORT_ODDS
        return PlanSuspicion(SuspicionCause.REPORT, at, wrong / (wrong + 1 - wrong / REPORT_ODDS))

    def _doubted(self, doubt: PlanSuspicion, now: float) -> float:
        return doubt.wrong() * exp(-self.learned.rho * (now - doubt.since))

    def _turned(self, entry: PlanEntry, *, abnormal: bool, age: float) -> float:
        """P(what was right `age` ago has turned normal or abnormal since)."""
        learned = self.learned
        seen = -expm1(-learned.rho * age)
        return (
            seen if abnormal else seen * min(1.0, learned.lam(entry.pool.habits, entry.scarred) / learned.rho)
        )

    def learn(self, entry: PlanEntry, before: Face, age: float) -> bool:
        """A check found `entry.face` where `before` was published for `age`; True when its pool is in trouble (or out
        of it again) by now. What a pool-wide surprise explains says nothing of the pool's usual hazard."""
        learned, pool, abnormal = self.learned, entry.pool, bool(before)
        changed = entry.face != before
        cause = None
        if entry.doubt is not None:
            cause = entry.doubt.cause
            if cause is SuspicionCause.KIN:
                pool.habits.kin.record(changed)
        alarm = False
        if cause in (None, SuspicionCause.REPORT) and entry.last >= pool.waves[abnormal]:
            chance = self._turned(entry, abnormal=abnormal, age=age)
            alarm = pool.surprises[abnormal].rises(chance, bool(entry.face) != abnormal)
        if abnormal:
            learned.answer_of_abnormal(age, changed, not entry.face)
        else:
            learned.answer_of_normal(
                pool.habits, entry.scarred, age, changed, common=cause is SuspicionCause.WAVE
            )
        entry.scarred = entry.scarred or (bool(entry.face) and cause is not SuspicionCause.WAVE)
        return alarm
