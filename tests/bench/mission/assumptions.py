"""Everything the mission benchmark assumes, in one place. None of it is measured: replace it by what you know."""

from dataclasses import dataclass, field, fields
from typing import Any

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


def _is(value: Any, meaning: str) -> Any:
    return field(default=value, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True)
class Assumptions:
    """The world, the provider and the dispatcher. Times are in seconds, shares and probabilities between 0 and 1."""

    bindings: int = _is(10_000, "live bindings on average")
    rate: float = _is(1.0, "checks per second")
    burst: float = _is(10.0, "checks that may be made at once after a pause")
    hours: float = _is(5.0, "hours in which calls are counted")
    warm_up: float = _is(2.0, "hours before that, in which precall learns and calls are not counted")

    pools: int = _is(40, "pools, of very different sizes")
    short_share: float = _is(0.5, "share of the live bindings that are short-lived")
    short_life: float = _is(4.8 * HOUR, "mean life of a short-lived binding; at least two hours")
    long_life: float = _is(4 * DAY, "mean life of the others; one to seven days")
    ends_early: float = _is(
        0.02, "share of bindings unbound before their end, without word to the dispatcher"
    )
    gone: float = _is(0.5, "share of these of which the provider says no such binding, in place of Status 4")
    rebound_after: float = _is(HOUR, "mean time from such an end until X belongs to another pair")
    shared_pools: float = _is(0.5, "share of pools in which several bindings share an X")
    per_x: int = _is(10, "bindings on such an X")

    calls: float = _is(2.0, "mean number of calls soon after the registration")
    calls_within: float = _is(45 * MINUTE, "mean age at these calls; four times that for long-lived bindings")
    later_calls: float = _is(
        0.3, "later calls per day, median of the half of the long-lived that is called again"
    )

    x_failures: float = _is(
        0.33, "failures of an X per day, median over pools (spread: lognormal 1.2, Gamma 0.5)"
    )
    short_trouble: float = _is(15 * MINUTE, "mean length of 70 % of the failures")
    long_trouble: float = _is(2 * HOUR, "mean length of the others")
    outages: float = _is(0.5, "outages per pool and day; each hits 50-100 % of its X")
    outage_length: float = _is(40 * MINUTE, "mean length of an outage")
    notice: float = _is(
        30.0, "mean time until the provider knows that an X fails; its answer is Status 1 until then"
    )
    temporaries: float = _is(0.04, "temporary X of a pool, as a share of its bindings; without one, Status 3")
    temporary_life: float = _is(30 * MINUTE, "mean time until a binding gets another temporary X")
    quarantine: float = _is(0.0, "time from taking a temporary X back until another pair may get it")

    api_outages: float = _is(4.0, "outages of the provider's API per day; no call is answered")
    api_outage_length: float = _is(MINUTE, "mean length of an API outage")
    throttles: float = _is(4.0, "periods per day in which the provider allows half the rate")
    throttle_length: float = _is(5 * MINUTE, "mean length of such a period")
    slow: float = _is(0.01, "share of live checks answered too late for their reader")

    max_age: float = _is(5.0, "age of a route from which the dispatcher wants a live check")
    patience: float = _is(0.3, "time for which it waits for one")
    hinted: float = _is(0.5, "share of calls announced 5-30 s before")
    false_hints: float = _is(0.1, "announced calls that are not placed, per announced call that is")
    reported: float = _is(
        0.8, "share of calls whose end precall learns, by a report or a receipt, 5-60 s later"
    )
    false_reports: float = _is(
        0.02, "share of good calls reported as failed for a reason that may be the number's"
    )
    reclaimed: float = _is(0.1, "share of failed calls whose cause is a reclaimed number (476)")
    announced: float = _is(
        0.5, "share of failures of an X that the provider pushes (SecretExceptionPhoneReport)"
    )
    announced_after: float = _is(
        MINUTE, "mean time from the provider's knowledge to the push, at begin and end"
    )
    second_after: float = _is(10.0, "time until the second attempt, or what a hold says if that is longer")
    second_patience: float = _is(2.0, "time for which the second attempt waits for its live check")

    @property
    def end(self) -> float:
        """The end of the run in seconds; counting begins at `counted_from`."""
        return self.counted_from + self.hours * HOUR

    @property
    def counted_from(self) -> float:
        """The end of the warm-up in seconds."""
        return self.warm_up * HOUR

    def lines(self) -> list[str]:
        """Each assumption with its meaning, for print."""
        return [
            f"{each.name:18s} {getattr(self, each.name):<10g} {each.metadata['meaning']}"
            for each in fields(self)
        ]
