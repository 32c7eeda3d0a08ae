"""Forecasts ages and the share of wrong dials for a number of bindings and a budget of calls per second.

By default the forecast assumes the planner's prior rates. The metrics of a running daemon show what it achieves.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import expm1

from precall.core.planning.admission_price import SHARE
from precall.core.planning.rates import (
    START_ABNORMAL_END_RATE,
    START_FAILURE_RATE,
    START_RECOVERY_RATE,
)

KAPPA = 4.0
GAINS = ((1000.0, 2.8), (3333.0, 2.5), (10_000.0, 1.8), (30_000.0, 1.3))
"""Pairs of the seconds per round and the planner's gain: how many times fewer wrong dials than oldest-first.

The gains are the lowest measured on simulated traffic.
"""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The forecast. Times are in seconds, rates per second.

    `round` is the time it takes to check every binding once. `wrong` is the share of dials that meet a wrong route,
    `wrong_in_turn` the same if bindings were checked in turn. `verifiable` is the number of dials per second that can
    be checked live within the same budget.
    """

    bindings: int
    rate: float
    round: float
    mean_age: float
    longest_age: float
    holds_max_age: bool
    rate_needed: float
    wrong_in_turn: float
    wrong: float
    verifiable: float
    calls_per_day: float


def forecast(
    bindings: int,
    rate: float,
    *,
    max_age: float,
    failure_rate: float = START_FAILURE_RATE[0],
    recovery_rate: float = START_RECOVERY_RATE,
    abnormal_end_rate: float = START_ABNORMAL_END_RATE,
    kappa: float = KAPPA,
) -> Forecast:
    """Forecast the effect of `rate` calls per second on `bindings` active bindings.

    Per second, a normal route fails at `failure_rate`, trouble ends at `recovery_rate`, and an abnormal route changes
    or ends at `abnormal_end_rate`.
    """
    round_time = bindings / rate
    abnormal = failure_rate / (failure_rate + recovery_rate)
    failed = min(1.0, failure_rate / recovery_rate) * _mean_chance(recovery_rate * round_time)
    wrong = (1 - abnormal) * failed + abnormal * _mean_chance(abnormal_end_rate * round_time)
    longest = (kappa + 2) * round_time
    return Forecast(
        bindings=bindings,
        rate=rate,
        round=round_time,
        mean_age=round_time / 2,
        longest_age=longest,
        holds_max_age=longest <= max_age,
        rate_needed=(kappa + 2) * bindings / max_age,
        wrong_in_turn=wrong,
        wrong=wrong / gain(round_time),
        verifiable=SHARE * rate,
        calls_per_day=rate * 86_400,
    )


def gain(round_time: float) -> float:
    """How many times fewer wrong dials than oldest-first at `round_time` seconds, interpolated between `GAINS`."""
    (first, best), (last, least) = GAINS[0], GAINS[-1]
    if round_time <= first:
        return best
    for (left, high), (right, low) in pairwise(GAINS):
        if round_time <= right:
            return high + (low - high) * (round_time - left) / (right - left)
    return max(1.0, least * last / round_time)


def _mean_chance(x: float) -> float:
    """The mean of 1 - e^-u for u in [0, x]: P(changed since the last check) at a random moment of a round."""
    return 1 + expm1(-x) / x if x > 1e-9 else x / 2
