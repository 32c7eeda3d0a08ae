"""What traffic teaches the planner: how often routes break, how long that lasts, who is dialled when.

Counters and their means only. What to check next is decided in `planner`; nothing here knows of queues. All rates
are per second. Every counter is halved once a day, so that a change of habits is believed within days. A mean
is that of a Gamma posterior: a pool starts from what all pools show, all pools from `START_*`.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from math import exp, expm1, log
from typing import Any

from precall.core.rounding import micro

DAY = 86_400.0
BANDS = (600.0, 1800.0, 3600.0, 10_800.0, 43_200.0, 172_800.0)
"""Ages of a binding (s) at which its dial rate is taken to change."""
CLASSES = 6
"""Reads so far, in classes: none, one, 2-3, 4-7, 8-15, more."""
START_MU = (3e-4, 2e-4, 1.5e-4, 5e-5, 1e-5, 3e-6, 2e-6)
START_LAM = (1 / (3 * DAY), 4 / (3 * DAY))
START_NU = 1 / 1200.0
START_RHO = 1 / 1800.0
STRENGTH = 2.0
"""How many events a prior counts for."""
KIN_ASKED = 4.0
KIN_AGREED = 0.6
"""A sibling's clean answer counts once so many were asked after a surprise, and this share agreed."""
WAVE = 0.3
"""Share of checks that surprise while a whole pool is in trouble."""
ALARM = 4.5
"""Log-likelihood at which a pool is believed to be in trouble."""


class Rate:
    """Events seen in so many seconds of watching."""

    __slots__ = ("events", "seconds")

    def __init__(self, events: float = 0.0, seconds: float = 0.0) -> None:
        self.events = events
        self.seconds = seconds

    def mean(self, prior: float) -> float:
        """Events per second, starting from `prior`."""
        return (self.events + STRENGTH) / (self.seconds + STRENGTH / prior)

    def export(self) -> list[float]:
        """The two as plain numbers."""
        return [micro(self.events), micro(self.seconds)]


class Ratio:
    """How many of those asked said yes."""

    __slots__ = ("asked", "yes")

    def __init__(self, yes: float = 0.0, asked: float = 0.0) -> None:
        self.yes = yes
        self.asked = asked

    def record(self, yes: bool) -> None:
        """Count one more."""
        self.asked += 1.0
        self.yes += yes

    def mean(self, prior: float = 0.5) -> float:
        """Share of yes, starting from `prior`."""
        return (self.yes + STRENGTH * prior) / (self.asked + STRENGTH)


class PoolRates:
    """What was learned of one pool, or of all. `lam` is by "was abnormal before", `mu` by age band and reads."""

    __slots__ = ("kin", "lam", "mu")

    def __init__(self) -> None:
        self.lam = [Rate(), Rate()]
        self.mu = [Rate() for _ in range(CLASSES * len(START_MU))]
        self.kin = Ratio()

    def vouches(self) -> bool:
        """Whether trouble belongs to the X number here, so that one clean answer speaks for its siblings."""
        return self.kin.asked >= KIN_ASKED and self.kin.mean() >= KIN_AGREED

    def halve(self) -> None:
        """Believe the past half as much."""
        for rate in (*self.lam, *self.mu):
            rate.events /= 2
            rate.seconds /= 2
        self.kin.yes /= 2
        self.kin.asked /= 2

    def export(self) -> dict[str, Any]:
        """Plain lists of numbers."""
        return {
            "lam": [r.export() for r in self.lam],
            "mu": [r.export() for r in self.mu],
            "kin": [micro(self.kin.yes), micro(self.kin.asked)],
        }

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> "PoolRates":
        """The reverse of `export`. Raises KeyError, TypeError or ValueError for anything else."""
        self = cls()
        self.lam = [Rate(float(n), float(t)) for n, t in plain["lam"]]
        self.mu = [Rate(float(n), float(t)) for n, t in plain["mu"]]
        if len(self.lam) != 2 or len(self.mu) != CLASSES * len(START_MU):
            raise ValueError("learned tables of another shape")
        self.kin = Ratio(*map(float, plain["kin"]))
        return self


class CusumDetector:
    """CUSUM of the answers that were not expected, in one direction of one pool."""

    __slots__ = ("level",)

    def __init__(self) -> None:
        self.level = 0.0

    def rises(self, expected: float, surprised: bool) -> bool:
        """Weigh one answer, a surprise having had probability `expected`; True when the alarm goes off."""
        p = min(max(expected, 0.01), WAVE)
        ratio = WAVE / p if surprised else (1 - WAVE) / (1 - p)
        self.level = max(0.0, self.level + log(ratio))
        if self.level < ALARM:
            return False
        self.level = 0.0
        return True


class RateModel:
    """The tables of all pools. `rho` (trouble ends) and `nu` (an abnormal route ends) are common to all."""

    def __init__(self, plain: Mapping[str, Any] | None = None) -> None:
        self.everywhere = PoolRates()
        self.pools: dict[str, PoolRates] = {}
        self._ends = {"nu": Rate(), "rho": Rate(), "waves": Rate()}
        self._unverified = [Ratio(), Ratio()]
        self.halved_at: float | None = None
        if plain is not None:
            self.everywhere = PoolRates.load(plain["everywhere"])
            self.pools = {name: PoolRates.load(habits) for name, habits in plain["pools"].items()}
            self._ends = {name: Rate(*map(float, plain[name])) for name in self._ends}
            self.halved_at = plain["halved_at"]
        self.nu = self.rho = 0.0
        self._refresh()

    def _refresh(self) -> None:
        self.nu = self._ends["nu"].mean(START_NU)
        self.rho = self._ends["rho"].mean(START_RHO)

    def habits(self, pool: str) -> PoolRates:
        """What is known of a pool; made at first sight."""
        if pool not in self.pools:
            self.pools[pool] = PoolRates()
        return self.pools[pool]

    def lam(self, habits: PoolRates, scarred: bool) -> float:
        """Hazard of a normal route; `scarred` when it was abnormal before."""
        own = habits.lam[scarred].mean(self.everywhere.lam[scarred].mean(START_LAM[scarred]))
        return own + self._ends["waves"].mean(START_LAM[0])

    def mu(self, habits: PoolRates, age: float, reads: int) -> float:
        """Rate of dials nobody verifies, of a binding that old with so many reads."""
        band = bisect_right(BANDS, age)
        cell = CLASSES * band + min(reads.bit_length(), CLASSES - 1)
        return habits.mu[cell].mean(self.everywhere.mu[cell].mean(START_MU[band]))

    def read(self, abnormal: bool, verified: bool) -> None:
        """A read to be dialled was covered by a live check, or was not."""
        self._unverified[abnormal].record(not verified)

    def unverified(self, abnormal: bool) -> float:
        """Share of reads no live check covers: those the background works for."""
        return self._unverified[abnormal].mean()

    def watch(
        self, habits: PoolRates, reads: int, start: float, end: float, *, dialled: bool = False
    ) -> None:
        """A binding was watched from age `start` to age `end`, and was dialled at the end or was not."""
        band = bisect_right(BANDS, start)
        kind = min(reads.bit_length(), CLASSES - 1)
        while band < len(BANDS) and end > BANDS[band]:
            self._expose(habits, CLASSES * band + kind, BANDS[band] - start, 0)
            start = BANDS[band]
            band += 1
        self._expose(habits, CLASSES * band + kind, end - start, dialled)

    def _expose(self, habits: PoolRates, cell: int, seconds: float, events: int) -> None:
        for rate in (habits.mu[cell], self.everywhere.mu[cell]):
            rate.seconds += seconds
            rate.events += events

    def answer_of_normal(
        self, habits: PoolRates, scarred: bool, age: float, broke: bool, *, common: bool
    ) -> None:
        """A route published normal for `age` seconds was checked. Trouble that began and ended unseen is
        accounted for by watching only as long as it would still show."""
        seconds = -expm1(-self.rho * age) / self.rho
        waves = self._ends["waves"]
        waves.seconds += seconds
        if common:
            waves.events += broke
            return
        for rate in (habits.lam[scarred], self.everywhere.lam[scarred]):
            rate.seconds += seconds
            rate.events += broke

    def answer_of_abnormal(self, age: float, changed: bool, over: bool) -> None:
        """A route published abnormal for `age` seconds was checked. When it changed, the time until then is
        not seen: its expectation counts (the EM step of an interval-censored exponential)."""
        for name, mean, ended in (("nu", self.nu, changed), ("rho", self.rho, over)):
            rate, x = self._ends[name], mean * age
            rate.events += ended
            rate.seconds += 1 / mean - age * exp(-x) / -expm1(-x) if ended and x > 1e-6 else age
        self._refresh()

    def fade(self, now: float) -> None:
        """Halve all counters once a day."""
        if self.halved_at is None or self.halved_at > now:
            self.halved_at = now
        if now - self.halved_at >= DAY:
            self.halved_at = now
            for habits in self._all():
                habits.halve()
            for rate in self._ends.values():
                rate.events /= 2
                rate.seconds /= 2
            self._refresh()

    def _all(self) -> Iterator[PoolRates]:
        yield self.everywhere
        yield from self.pools.values()

    def export(self) -> dict[str, Any]:
        """Everything learned as plain JSON-able data; the constructor takes it back."""
        return {
            "everywhere": self.everywhere.export(),
            "pools": {name: habits.export() for name, habits in self.pools.items()},
            **{name: rate.export() for name, rate in self._ends.items()},
            "halved_at": self.halved_at,
        }
