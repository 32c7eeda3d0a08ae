"""What a budget buys: expected ages and wrong dials for so many bindings at so many calls per second.

A forecast, from the planner's starting rates of trouble unless learned ones are given; what a live system reaches
stands in its metrics.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import expm1

from precall.core.planning.admission_price import SHARE
from precall.core.planning.rates import START_LAM, START_NU, START_RHO

KAPPA = 4.0
GAINS = ((1000.0, 2.8), (3333.0, 2.5), (10_000.0, 1.8), (30_000.0, 1.3))
"""(seconds per round, how many times fewer wrong dials than oldest-first) that the planner reached at least, on
simulated traffic."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds, calls and shares. `round` is how long every binding once takes; `wrong_in_turn` is the share of dials
    that would find a wrong route if bindings were checked in turn, `wrong` what precall's order makes of it;
    `verifiable` is how many dials per second can be checked live within the same budget."""

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
    lam: float = START_LAM[0],
    rho: float = START_RHO,
    nu: float = START_NU,
    kappa: float = KAPPA,
) -> Forecast:
    """What `rate` calls per second do for `bindings`. `lam` is the hazard of a normal route, `rho` the rate at which
    trouble ends, `nu` that at which an abnormal route ends, each per second."""
    lap = bindings / rate
    ill = lam / (lam + rho)
    wrong = (1 - ill) * min(1.0, lam / rho) * _mean_chance(rho * lap) + ill * _mean_chance(nu * lap)
    longest = (kappa + 2) * lap
    return Forecast(
        bindings=bindings,
        rate=rate,
        round=lap,
        mean_age=lap / 2,
        longest_age=longest,
        holds_max_age=longest <= max_age,
        rate_needed=(kappa + 2) * bindings / max_age,
        wrong_in_turn=wrong,
        wrong=wrong / gain(lap),
        verifiable=SHARE * rate,
        calls_per_day=rate * 86_400,
    )


def gain(lap: float) -> float:
    """How many times fewer wrong dials than oldest-first at `lap` seconds per round, between the measured points."""
    (first, best), (last, least) = GAINS[0], GAINS[-1]
    if lap <= first:
        return best
    for (left, high), (right, low) in pairwise(GAINS):
        if lap <= right:
            return high + (low - high) * (lap - left) / (right - left)
    return max(1.0, least * last / lap)


def _mean_chance(x: float) -> float:
    """The mean of 1 - e^-u over u from 0 to x: P(turned since the last check), at a random moment of a round."""
    return 1 + expm1(-x) / x if x > 1e-9 else x / 2
