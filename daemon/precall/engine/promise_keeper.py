"""Keeps the freshness promise in step with the number of bindings, the rate and the configuration.

It also says whether the promise is kept.
"""

from collections.abc import Callable

from precall.config.settings import Settings
from precall.core.ages import Tick
from precall.core.limits.quota import Quota
from precall.core.model import Promise, State
from precall.core.planning.planner import Planner
from precall.core.planning.promise import age_limit, background_max_age, choose, longest_age
from precall.core.planning.stale_dials import WINDOW, StaleDials
from precall.core.status.facts import FreshnessFacts
from precall.table.table import Table
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

MEANING = {
    Promise.ALL: "every route is checked within max_age",
    Promise.DIAL: "a route older than max_age is checked when it is read for a dial",
}


class PromiseKeeper:
    """Chooses the promise, and puts it in force for readers (the policy) and for the planner."""

    def __init__(
        self,
        table: Table,
        planner: Planner,
        quota: Quota,
        settings: Settings,
        metrics: Metrics,
        *,
        tick: Callable[[], Tick],
        provider_fails: Callable[[], bool],
    ) -> None:
        """`provider_fails` says whether the provider is out of reach or refuses us: no budget would help then."""
        self._table, self._planner, self._quota = table, planner, quota
        self._settings, self._metrics = settings, metrics
        self._tick, self._provider_fails = tick, provider_fails
        self._dials = StaleDials()
        self.look()

    def look(self) -> None:
        """Choose again, and judge the dials so far."""
        self._choose()
        self._judge()

    def dialled(self, *, stale: bool) -> None:
        """Count a read for a dial. `stale`: no route as young as promised could be given."""
        self._dials.count(stale=stale)
        self._metrics.dials.labels("true" if stale else "false").inc()

    def _choose(self) -> None:
        """Choose the promise. The rate is the configured one: throttling, which passes, does not change the promise."""
        freshness, before = self._settings.config.freshness, self._settings.promise
        bindings, rate = self._bindings(), self._quota.configured
        longest = longest_age(bindings, rate, self._planner.kappa)
        promise = choose(freshness.promise, before, longest, freshness.max_age)
        self._planner.max_age = background_max_age(promise, freshness.max_age)
        if promise is before:
            return
        self._settings.keep(promise)
        self._metrics.show_promise(promise)
        log.info(
            "freshness.promise",
            promise=promise,
            means=MEANING[promise],
            configured=freshness.promise,
            bindings=bindings,
            rate=rate,
            max_age=freshness.max_age,
            longest_age=round(longest, 1),
        )

    def _judge(self) -> None:
        """Log when the promise for dialled routes begins to be broken, and when it is kept again."""
        if self._settings.policy.promise is not Promise.DIAL:
            changed = self._dials.forget()
        else:
            changed = self._dials.judge(self._tick(), excused=self._provider_fails())
        if not changed:
            return
        log.warning(
            "freshness.not_kept" if self._dials.short else "freshness.kept_again",
            promise=self._settings.policy.promise,
            stale_share=round(self._dials.share, 3),
            dials=self._dials.dials,
            seconds=WINDOW,
        )

    @property
    def stale_share(self) -> float | None:
        """The share of recent dials that got a stale route, while that is too many; otherwise None."""
        return self._dials.share if self._dials.short else None

    def facts(self) -> FreshnessFacts:
        """Return what is promised, and whether it is kept."""
        policy = self._settings.policy
        return FreshnessFacts(
            promise=policy.promise,
            max_age=policy.max_age,
            longest=self._longest(),
            limit=self.age_limit,
            oldest=self._planner.oldest(self._tick()),
            short=self.short_of_budget,
            rate_needed=longest_age(self._bindings(), 1.0, self._planner.kappa) / policy.max_age,
            stale_share=self.stale_share,
            dial_rate=self._dials.dials / WINDOW,
            window=WINDOW,
        )

    @property
    def short_of_budget(self) -> bool:
        """Whether `max_age` is promised for all routes, and the rate allowed now is too low for that."""
        policy = self._settings.policy
        return policy.promise is Promise.ALL and self._longest() > policy.max_age

    @property
    def age_limit(self) -> float:
        """The age (s) that no active route should exceed, at the rate allowed now."""
        policy = self._settings.policy
        return age_limit(policy.promise, self._longest(), policy.max_age)

    def _longest(self) -> float:
        return longest_age(self._bindings(), self._quota.rate, self._planner.kappa)

    def _bindings(self) -> int:
        """The active bindings, known as soon as the table is."""
        return len(self._table) - self._table.count(State.EXPIRED)
