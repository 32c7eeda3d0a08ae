"""The value of a check, in wrong dials avoided, and learning the rates from its answer.

`value = weight * shape(x)` with `shape(x) = 1 - e^-x (1 + x)`:

- published as normal: `x = recovery_rate * age`, `weight = dial_rate * failure_rate / (recovery_rate *
  abnormal_end_rate)`;
- published as abnormal: `x = abnormal_end_rate * age`, `weight = dial_rate / abnormal_end_rate`;
- suspect: `dial_rate * P(wrong) / abnormal_end_rate`, whatever the age.

A corrected route stays right for `1 / abnormal_end_rate` seconds only, even if the trouble lasts longer, because the
abnormal route also changes. `dial_rate` counts only dials without a live check. The shape assumes that a check can wait
for its best moment. Where checks are too scarce for that, it approaches `1 - e^-x`, the probability that the route is
wrong now.

The rates come from `rates`; the queues are in `ranking`.
"""

from math import exp, expm1

from precall.core.planning.entries import PlanEntry, PlanSuspicion, SuspicionCause, ValuePhase, Variant
from precall.core.planning.rates import RateModel

POOL_PRIOR = 0.5
"""P(wrong) of the suspects of a pool in trouble, before any of them is checked."""

SCARCE_ROUNDS = 8.0
"""Checks are scarce when a round takes this many times the mean length of trouble."""
REPORT_ODDS = 10.0
"""How many times likelier a call is to be reported as failed when its route was wrong."""


def shape(x: float, scarcity: float) -> float:
    """The growth of a check's value with scaled age, from 0 to 1. `scarcity` is between 0 and 1."""
    return 1 - exp(-x) * (1 + (1 - scarcity) * x)


class CheckValue:
    """Applies the learned rates to entries. Ages and times are in seconds."""

    def __init__(self, learned: RateModel) -> None:
        self.learned = learned
        self.scarcity = 0.0

    def set_round_time(self, round_time: float) -> None:
        """Update the scarcity of checks from the time (s) that checking every binding once takes."""
        self.scarcity = -expm1(-round_time * self.learned.recovery_rate / SCARCE_ROUNDS)

    def weigh(self, entry: PlanEntry, now: float) -> tuple[ValuePhase, float]:
        """The phase and the weight (the factor before the shape) of an entry. Clears a suspicion that has faded."""
        learned, rates, abnormal = self.learned, entry.pool.rates, bool(entry.variant)
        dial_rate = learned.dial_rate(rates, now - entry.registered_at, entry.reads)
        saved = dial_rate * learned.unverified(abnormal) / learned.abnormal_end_rate
        if entry.suspicion is not None:
            wrong = self._wrong_if_suspect(entry.suspicion, now)
            if wrong > self._wrong_by_age(entry, now):
                return ValuePhase.DOUBTED, saved * wrong
            entry.suspicion = None
        if abnormal:
            return ValuePhase.ABNORMAL, saved
        failure_rate = learned.failure_rate(rates, entry.was_abnormal)
        return ValuePhase.NORMAL, saved * failure_rate / learned.recovery_rate

    def of(self, entry: PlanEntry, now: float) -> float:
        """Dials saved by a check now."""
        phase, weight = self.weigh(entry, now)
        if phase is ValuePhase.DOUBTED:
            return weight
        rate = self.learned.abnormal_end_rate if entry.variant else self.learned.recovery_rate
        return weight * shape((now - entry.confirmed_at) * rate, self.scarcity)

    def wrong(self, entry: PlanEntry, now: float) -> float:
        """P(the published route is wrong now)."""
        wrong = self._wrong_by_age(entry, now)
        return wrong if entry.suspicion is None else max(wrong, self._wrong_if_suspect(entry.suspicion, now))

    def _wrong_by_age(self, entry: PlanEntry, now: float) -> float:
        """P(wrong) without regard to any suspicion."""
        age = now - entry.confirmed_at
        if entry.variant:
            return -expm1(-self.learned.abnormal_end_rate * age)
        return self._crossed(entry, abnormal=False, age=age)

    def reported(self, entry: PlanEntry, at: float) -> PlanSuspicion:
        """The suspicion raised by a report of a failed call; weak when the route was checked just before."""
        wrong = self.wrong(entry, at) * REPORT_ODDS
        return PlanSuspicion(SuspicionCause.REPORT, at, wrong / (wrong + 1 - wrong / REPORT_ODDS))

    def _wrong_if_suspect(self, suspicion: PlanSuspicion, now: float) -> float:
        return suspicion.wrong() * exp(-self.learned.recovery_rate * (now - suspicion.since))

    def _crossed(self, entry: PlanEntry, *, abnormal: bool, age: float) -> float:
        """P(a route right `age` seconds ago has since recovered, if `abnormal`, or else has become abnormal)."""
        learned = self.learned
        settled = -expm1(-learned.recovery_rate * age)
        if abnormal:
            return settled
        failure_rate = learned.failure_rate(entry.pool.rates, entry.was_abnormal)
        return settled * min(1.0, failure_rate / learned.recovery_rate)

    def learn(self, entry: PlanEntry, before: Variant, age: float) -> bool:
        """Learn from an answer: `entry.variant` was found where `before` was published for `age` seconds.

        True when this answer sets off the pool's alarm, into trouble or out of it. A change explained by trouble of the
        whole pool does not count towards the pool's usual failure rate.
        """
        learned, pool, abnormal = self.learned, entry.pool, bool(before)
        changed = entry.variant != before
        cause = None
        if entry.suspicion is not None:
            cause = entry.suspicion.cause
            if cause is SuspicionCause.SIBLING:
                pool.rates.siblings.record(changed)
        alarm = False
        if cause in (None, SuspicionCause.REPORT) and entry.checked_at >= pool.alarmed_at[abnormal]:
            expected = self._crossed(entry, abnormal=abnormal, age=age)
            alarm = pool.detectors[abnormal].rises(
                expected, unexpected=bool(entry.variant) != abnormal, bindings=pool.size
            )
        pool_wide = cause is SuspicionCause.POOL
        if abnormal:
            learned.observe_abnormal(age, changed, not entry.variant)
        else:
            learned.observe_normal(pool.rates, entry.was_abnormal, age, changed, pool_wide=pool_wide)
        entry.was_abnormal = entry.was_abnormal or (bool(entry.variant) and not pool_wide)
        return alarm
