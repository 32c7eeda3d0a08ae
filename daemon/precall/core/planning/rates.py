"""Rates learned from traffic: how often routes fail, how long that lasts, and when bindings are dialled.

This module holds counters and their means; `planner` decides what to check. All rates are per second. Each mean is
that of a Gamma posterior: a pool's prior is the rate over all pools, whose own prior is one of the `START_*` constants.
All counters are halved once a day, so that a change in traffic shows within days.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from math import exp, expm1, log
from typing import Any

from precall.core.rounding import micro

DAY = 86_400.0
BANDS = (600.0, 1800.0, 3600.0, 10_800.0, 43_200.0, 172_800.0)
"""Boundaries (s) between the age bands of a binding; each band has its own dial rate."""
CLASSES = 6
"""Number of classes by reads so far: none, one, 2-3, 4-7, 8-15, more."""
START_DIAL_RATE = (3e-4, 2e-4, 1.5e-4, 5e-5, 1e-5, 3e-6, 2e-6)
"""Prior dial rate for each age band."""
START_FAILURE_RATE = (1 / (3 * DAY), 4 / (3 * DAY))
"""Prior failure rate of a normal route: never abnormal so far, and abnormal before."""
START_ABNORMAL_END_RATE = 1 / 1200.0
START_RECOVERY_RATE = 1 / 1800.0
STRENGTH = 2.0
"""Events that a prior counts for."""
MIN_SIBLING_CHECKS = 4.0
MIN_SIBLING_AGREEMENT = 0.6
"""A sibling's unchanged answer counts for the others once enough were checked and this share of them agreed."""
OUTAGE_SHARE = 0.3
"""Share of unexpected answers while a whole pool is in trouble."""
ALARM, LARGE_POOL = 4.5, 1000
"""Log-likelihood ratio at which a pool of at most so many bindings is taken to be in trouble.

A larger pool gives more answers and so more chances of a false alarm, each of which costs a look at every binding. With
the logarithm of its size added, false alarms are as rare by the hour as in a small one; trouble of the whole pool
then takes one or two more unexpected answers.
"""


class Rate:
    """A number of events and the seconds of observation they occurred in."""

    __slots__ = ("events", "seconds")

    def __init__(self, events: float = 0.0, seconds: float = 0.0) -> None:
        self.events = events
        self.seconds = seconds

    def mean(self, prior: float) -> float:
        """Events per second, starting from `prior`."""
        return (self.events + STRENGTH) / (self.seconds + STRENGTH / prior)

    def export(self) -> list[float]:
        """Events and seconds as plain numbers."""
        return [micro(self.events), micro(self.seconds)]


class Ratio:
    """The share of trials that came out "yes"."""

    __slots__ = ("trials", "yes")

    def __init__(self, yes: float = 0.0, trials: float = 0.0) -> None:
        self.yes = yes
        self.trials = trials

    def record(self, yes: bool) -> None:
        """Count one trial."""
        self.trials += 1.0
        self.yes += yes

    def mean(self, prior: float = 0.5) -> float:
        """Share of "yes", starting from `prior`."""
        return (self.yes + STRENGTH * prior) / (self.trials + STRENGTH)


class PoolRates:
    """Rates learned in one pool, or over all pools.

    `failure_rates` is indexed by "was abnormal before", `dial_rates` by age band and class of reads. `siblings` is the
    share of siblings that turned out wrong after one of them did.
    """

    __slots__ = ("dial_rates", "failure_rates", "siblings")

    def __init__(self) -> None:
        self.failure_rates = [Rate(), Rate()]
        self.dial_rates = [Rate() for _ in range(CLASSES * len(START_DIAL_RATE))]
        self.siblings = Ratio()

    def siblings_agree(self) -> bool:
        """Whether trouble here belongs to the X number, so that one answer also confirms the siblings."""
        return self.siblings.trials >= MIN_SIBLING_CHECKS and self.siblings.mean() >= MIN_SIBLING_AGREEMENT

    def halve(self) -> None:
        """Halve all counters, so that newer traffic counts for more."""
        for rate in (*self.failure_rates, *self.dial_rates):
            rate.events /= 2
            rate.seconds /= 2
        self.siblings.yes /= 2
        self.siblings.trials /= 2

    def export(self) -> dict[str, Any]:
        """The counters as plain lists of numbers."""
        return {
            "lam": [rate.export() for rate in self.failure_rates],
            "mu": [rate.export() for rate in self.dial_rates],
            "kin": [micro(self.siblings.yes), micro(self.siblings.trials)],
        }

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> "PoolRates":
        """Reverse `export`. Raises KeyError, TypeError or ValueError for anything else."""
        self = cls()
        self.failure_rates = [Rate(float(events), float(seconds)) for events, seconds in plain["lam"]]
        self.dial_rates = [Rate(float(events), float(seconds)) for events, seconds in plain["mu"]]
        if len(self.failure_rates) != 2 or len(self.dial_rates) != CLASSES * len(START_DIAL_RATE):
            raise ValueError("learned tables of another shape")
        self.siblings = Ratio(*map(float, plain["kin"]))
        return self


class CusumDetector:
    """A CUSUM test on unexpected answers, for one pool and one direction of change."""

    __slots__ = ("level",)

    def __init__(self) -> None:
        self.level = 0.0

    def rises(self, expected: float, unexpected: bool, bindings: int) -> bool:
        """Weigh one answer and return whether the alarm goes off.

        `expected` is the prior P(unexpected answer), `bindings` the size of the pool.
        """
        p = min(max(expected, 0.01), OUTAGE_SHARE)
        ratio = OUTAGE_SHARE / p if unexpected else (1 - OUTAGE_SHARE) / (1 - p)
        self.level = max(0.0, self.level + log(ratio))
        if self.level < ALARM + max(0.0, log(bindings / LARGE_POOL)):
            return False
        self.level = 0.0
        return True


class RateModel:
    """The rates of all pools.

    `recovery_rate` (trouble ends) and `abnormal_end_rate` (an abnormal route changes or ends) are common to all pools.
    """

    def __init__(self, plain: Mapping[str, Any] | None = None) -> None:
        self.overall = PoolRates()
        self.pools: dict[str, PoolRates] = {}
        # Common to all pools, by the names they are stored under: abnormal end, recovery, pool-wide failure.
        self._common = {"nu": Rate(), "rho": Rate(), "waves": Rate()}
        self._unverified = [Ratio(), Ratio()]
        self.halved_at: float | None = None
        if plain is not None:
            self.overall = PoolRates.load(plain["everywhere"])
            self.pools = {name: PoolRates.load(rates) for name, rates in plain["pools"].items()}
            self._common = {name: Rate(*map(float, plain[name])) for name in self._common}
            self.halved_at = plain["halved_at"]
        self.abnormal_end_rate = self.recovery_rate = 0.0
        self._refresh()

    def _refresh(self) -> None:
        self.abnormal_end_rate = self._common["nu"].mean(START_ABNORMAL_END_RATE)
        self.recovery_rate = self._common["rho"].mean(START_RECOVERY_RATE)

    def of_pool(self, pool: str) -> PoolRates:
        """The rates of a pool, created on first use."""
        if pool not in self.pools:
            self.pools[pool] = PoolRates()
        return self.pools[pool]

    def failure_rate(self, rates: PoolRates, was_abnormal: bool) -> float:
        """Hazard of a normal route, by whether it was abnormal before. Includes failures of the whole pool."""
        prior = self.overall.failure_rates[was_abnormal].mean(START_FAILURE_RATE[was_abnormal])
        own = rates.failure_rates[was_abnormal].mean(prior)
        return own + self._common["waves"].mean(START_FAILURE_RATE[0])

    def dial_rate(self, rates: PoolRates, age: float, reads: int) -> float:
        """Dials per second of a binding of this age (s) after `reads` reads, verified or not."""
        band = bisect_right(BANDS, age)
        cell = CLASSES * band + min(reads.bit_length(), CLASSES - 1)
        return rates.dial_rates[cell].mean(self.overall.dial_rates[cell].mean(START_DIAL_RATE[band]))

    def record_read(self, abnormal: bool, verified: bool) -> None:
        """Count a read before a dial, and whether a live check covered it."""
        self._unverified[abnormal].record(not verified)

    def unverified(self, abnormal: bool) -> float:
        """Share of reads without a live check. Only these benefit from background checks."""
        return self._unverified[abnormal].mean()

    def observe(
        self, rates: PoolRates, reads: int, start: float, end: float, *, dialled: bool = False
    ) -> None:
        """Count the observation of a binding from age `start` to age `end` (s), with or without a dial at the end."""
        band = bisect_right(BANDS, start)
        read_class = min(reads.bit_length(), CLASSES - 1)
        while band < len(BANDS) and end > BANDS[band]:
            self._add(rates, CLASSES * band + read_class, BANDS[band] - start, 0)
            start = BANDS[band]
            band += 1
        self._add(rates, CLASSES * band + read_class, end - start, dialled)

    def _add(self, rates: PoolRates, cell: int, seconds: float, events: int) -> None:
        for rate in (rates.dial_rates[cell], self.overall.dial_rates[cell]):
            rate.seconds += seconds
            rate.events += events

    def observe_normal(
        self, rates: PoolRates, was_abnormal: bool, age: float, failed: bool, *, pool_wide: bool
    ) -> None:
        """Learn from a check of a route published as normal for `age` seconds.

        Trouble may begin and end between two checks. To account for it, only the time during which it would still show
        counts as observed. `pool_wide` failures count for all pools, not for this one.
        """
        seconds = -expm1(-self.recovery_rate * age) / self.recovery_rate
        pool_failures = self._common["waves"]
        pool_failures.seconds += seconds
        if pool_wide:
            pool_failures.events += failed
            return
        for rate in (rates.failure_rates[was_abnormal], self.overall.failure_rates[was_abnormal]):
            rate.seconds += seconds
            rate.events += failed

    def observe_abnormal(self, age: float, changed: bool, recovered: bool) -> None:
        """Learn from a check of a route published as abnormal for `age` seconds.

        The moment of a change is not seen. Its expectation counts: the EM step of an interval-censored exponential.
        """
        for name, mean, ended in (
            ("nu", self.abnormal_end_rate, changed),
            ("rho", self.recovery_rate, recovered),
        ):
            rate, x = self._common[name], mean * age
            rate.events += ended
            rate.seconds += 1 / mean - age * exp(-x) / -expm1(-x) if ended and x > 1e-6 else age
        self._refresh()

    def halve_daily(self, now: float) -> None:
        """Halve all counters once a day."""
        if self.halved_at is None or self.halved_at > now:
            self.halved_at = now
        if now - self.halved_at >= DAY:
            self.halved_at = now
            for rates in self._all():
                rates.halve()
            for rate in self._common.values():
                rate.events /= 2
                rate.seconds /= 2
            self._refresh()

    def _all(self) -> Iterator[PoolRates]:
        yield self.overall
        yield from self.pools.values()

    def export(self) -> dict[str, Any]:
        """Everything learned, as JSON-able data for the constructor."""
        return {
            "everywhere": self.overall.export(),
            "pools": {name: rates.export() for name, rates in self.pools.items()},
            **{name: rate.export() for name, rate in self._common.items()},
            "halved_at": self.halved_at,
        }
