"""Forecasts ages and the share of wrong dials for a number of bindings and a budget of calls per second.

By default the forecast assumes the planner's prior rates. The metrics of a running daemon show what it achieves.
`cost` forecasts what either freshness promise takes and gives.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from math import exp, expm1, floor, log10

from precall.core.model import Promise
from precall.core.planning.admission_price import SHARE
from precall.core.planning.promise import KAPPA, longest_age
from precall.core.planning.rates import (
    START_ABNORMAL_END_RATE,
    START_FAILURE_RATE,
    START_RECOVERY_RATE,
)

GAINS = ((1000.0, 2.8), (3333.0, 2.5), (10_000.0, 1.8), (30_000.0, 1.3))
"""Pairs of the seconds per round and the planner's gain: how many times fewer wrong dials than oldest-first.

The gains are the lowest measured on simulated traffic.
"""
DIALS_PER_DAY = 2.0
"""Dials of one binding in a day, where the number of dials is not given; as in that traffic."""
CALL_SECONDS = 0.1
"""Assumed duration of one provider call."""
TURNS = 50
"""Iterations in which the share of live checks settles."""


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
    wrong = _wrong_in_turn(round_time, failure_rate, recovery_rate, abnormal_end_rate)
    longest = longest_age(bindings, rate, kappa)
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


@dataclass(frozen=True, slots=True)
class PromiseCost:
    """What a freshness promise takes and gives at a rate. Times are in seconds, rates per second, shares 0 to 1.

    `kept` says whether `rate` suffices; `rate_needed` is the rate that would. Three shares of the dials: `live` are
    checked before the answer and take `wait`; `stale` get a route older than max_age; `wrong` get a wrong route.
    `live_checks` and `background` are calls per second. A binding without dials is checked every `round` on average,
    and after `longest_age` at the latest.
    """

    promise: Promise
    kept: bool
    rate_needed: float
    live: float
    wait: float
    stale: float
    wrong: float
    live_checks: float
    background: float
    round: float
    longest_age: float


def default_dials(bindings: int) -> float:
    """The dials per second that are assumed where none are given."""
    return bindings * DIALS_PER_DAY / 86_400


def cost(promise: Promise, bindings: int, rate: float, *, max_age: float, dials: float) -> PromiseCost:
    """Forecast a promise at `rate` calls and `dials` reads for a dial per second.

    The dials are taken as spread over all bindings evenly. Where a few bindings get most of them, fewer wait.
    """
    live = old = 0.0
    if promise is Promise.DIAL:
        for _ in range(TURNS):
            old = _old(bindings, rate - live, max_age, dials)
            live = min(SHARE * rate, dials * old)
        waiting = min(old, live / dials) if dials else old
        needed = _rate_for_dials(bindings, max_age, dials)
    else:
        old = max(0.0, 1 - max_age * rate / bindings)
        waiting, needed = 0.0, longest_age(bindings, 1.0) / max_age
    background = rate - live
    round_time = bindings / background
    young, stale = 1 - old, old - waiting
    wrong = young * _wrong_between(0.0, min(max_age, round_time))
    if round_time > max_age:
        wrong += stale * _wrong_between(max_age, round_time)
    return PromiseCost(
        promise=promise,
        kept=rate >= needed * (1 - 1e-9),
        rate_needed=needed,
        live=waiting,
        wait=CALL_SECONDS,
        stale=stale,
        wrong=wrong / gain(round_time),
        live_checks=live,
        background=background,
        round=round_time,
        longest_age=longest_age(bindings, background),
    )


def curve_rates(bindings: int, *, max_age: float, dials: float) -> list[float]:
    """Rates (calls per second) in steps of 1, 2 and 5, from less than either promise needs to enough for both."""
    every = longest_age(bindings, 1.0) / max_age
    enough = max(every, 1e-3)
    least = max(min(_rate_for_dials(bindings, max_age, dials), enough) / 2, enough / 1e4)
    rates: list[float] = []
    for rate in _steps(least):
        rates.append(rate)
        if rate >= enough:
            return rates
    raise AssertionError("the steps have no end")


def _steps(start: float) -> Iterator[float]:
    for power in count(floor(log10(start))):
        for digit in (1, 2, 5):
            if (rate := float(f"{digit}e{power}")) >= start:
                yield rate


def _old(bindings: int, background: float, max_age: float, dials: float) -> float:
    """Share of the dials whose route was checked more than `max_age` ago, by the background and for earlier dials."""
    return exp(-max_age * dials / bindings) * max(0.0, 1 - max_age * background / bindings)


def _rate_for_dials(bindings: int, max_age: float, dials: float) -> float:
    """The least rate at which the readers' share of the calls suffices to check every dial that needs it."""
    checked = dials * exp(-max_age * dials / bindings)
    return checked / (SHARE + (1 - SHARE) * max_age * checked / bindings)


def gain(round_time: float) -> float:
    """How many times fewer wrong dials than oldest-first at `round_time` seconds, interpolated between `GAINS`."""
    (first, best), (last, least) = GAINS[0], GAINS[-1]
    if round_time <= first:
        return best
    for (left, high), (right, low) in pairwise(GAINS):
        if round_time <= right:
            return high + (low - high) * (round_time - left) / (right - left)
    return max(1.0, least * last / round_time)


def _wrong_in_turn(
    round_time: float,
    failure_rate: float = START_FAILURE_RATE[0],
    recovery_rate: float = START_RECOVERY_RATE,
    abnormal_end_rate: float = START_ABNORMAL_END_RATE,
) -> float:
    """P(a route is wrong) at ages spread evenly from 0 to `round_time`."""
    abnormal = failure_rate / (failure_rate + recovery_rate)
    failed = min(1.0, failure_rate / recovery_rate) * _mean_chance(recovery_rate * round_time)
    return (1 - abnormal) * failed + abnormal * _mean_chance(abnormal_end_rate * round_time)


def _wrong_between(youngest: float, oldest: float) -> float:
    """P(a route is wrong) at ages spread evenly between two."""
    if oldest <= youngest:
        return _wrong_in_turn(oldest)
    whole, first = oldest * _wrong_in_turn(oldest), youngest * _wrong_in_turn(youngest)
    return (whole - first) / (oldest - youngest)


def _mean_chance(x: float) -> float:
    """The mean of 1 - e^-u for u in [0, x]: P(changed since the last check) at a random moment of a round."""
    return 1 + expm1(-x) / x if x > 1e-9 else x / 2
