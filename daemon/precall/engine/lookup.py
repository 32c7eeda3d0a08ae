"""Route lookups for dispatchers: read > check on demand > decide > audit > decide again.

A lookup is answered from memory in microseconds, unless the reader asks for a fresh check. A real number is handed out
only after its audit row is written, and only if the route still requires it then.
"""

from collections.abc import Callable
from dataclasses import replace

from precall.config.settings import Settings
from precall.core.ages import age_of
from precall.core.errors import StoreUnavailable
from precall.core.model import Action, Reason, Route, Row
from precall.core.routing.route import callee, decide, doubt, hold, too_old_to_dial, withhold
from precall.core.routing.state import CheckResult
from precall.engine.checker import Checker
from precall.engine.exposure_audit import ExposureAudit
from precall.engine.on_demand import OnDemandChecks, OnDemandOutcome
from precall.table.table import Table
from precall.telemetry.metrics import Metrics


class Lookup:
    """Answers route lookups from the table."""

    def __init__(
        self,
        *,
        table: Table,
        checker: Checker,
        on_demand: OnDemandChecks,
        audit: ExposureAudit,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._table, self._checker, self._on_demand, self._audit = table, checker, on_demand, audit
        self._settings, self._metrics, self._clock = settings, metrics, clock

    async def route(
        self,
        subs_id: str,
        caller: str,
        *,
        reader: str,
        real: bool,
        max_age: float | None = None,
        timeout: float = 0.3,
        dial: bool = True,
        counted: bool = True,
    ) -> Route | None:
        """Return the route of a binding, or None if the id is unknown.

        A route older than `max_age` seconds is checked now, within `timeout` seconds. It is marked stale if that check
        was not made, or got no answer in time. With an answer it is fresh, however long the call took. Without
        `max_age`, the freshness promise may ask for the same before a `dial`. The planner learns of it if `counted`.

        If the provider knows no such binding, nothing is dialled until that is confirmed: X may belong to another pair
        by now.
        """
        row = self._table.get(subs_id)
        if row is None:
            return None
        fresh, answered, doubted = self._young(row, max_age, dial=dial), False, False
        if not fresh and self._may_help(row, max_age) and self._on_demand.worth_waiting(subs_id):
            check = await self._on_demand.check_now(subs_id, timeout=timeout, caller=caller)
            row = self._table.get(subs_id)
            if row is None:
                return None
            answered = check.outcome is OnDemandOutcome.ANSWERED
            fresh = answered or self._young(row, max_age, dial=dial)
            doubted = not fresh and check.result == CheckResult.GONE_UNCONFIRMED
        if dial and counted:
            verified = answered or (max_age is not None and fresh)
            self._checker.plan.record_dial(subs_id, row.binding.pool_key, verified=verified)
        if doubted:
            return doubt(self._decide(row, caller))
        route = await self.of(row, caller, reader=reader, real=real)
        return route if fresh or route.action is Action.EXPIRED else replace(route, stale=True)

    async def of(self, row: Row, caller: str, *, reader: str, real: bool) -> Route:
        """Return the route of a row for `caller`. With `real` false, a real number is withheld."""
        route = self._decide(row, caller)
        if route.would is not None:
            pool = self._metrics.pool(row.binding.pool_key)
            self._metrics.observed_reads.labels(pool, route.would.action).inc()
        if route.action is not Action.DIAL_REAL:
            return route
        if not real:
            return withhold(route)
        return await self._expose(row, route, caller, reader)

    def shown(self, row: Row) -> Route:
        """Return the route for use in lists: without a caller, and with a real number withheld."""
        return withhold(self._decide(row, ""))

    def _young(self, row: Row, max_age: float | None, *, dial: bool) -> bool:
        """Whether the route may be given as it is: by the reader's own `max_age`, else by the promise in force."""
        if max_age is None:
            return not (dial and too_old_to_dial(row, self._settings.policy, self._clock()))
        return bool(row.state.checked_at) and age_of(row.state.checked_at, self._clock()) <= max_age

    def _may_help(self, row: Row, max_age: float | None) -> bool:
        """Whether a check can help. If the provider refuses the binding, only a reader's `max_age` causes one."""
        return max_age is not None or not row.state.blocked

    def _decide(self, row: Row, caller: str) -> Route:
        halted = self._checker.brake.halted(row.binding.pool_key)
        return decide(
            row, caller, self._settings.policy, self._clock(), halted=halted, flags=self._checker.flags(row)
        )

    async def _expose(self, row: Row, route: Route, caller: str, reader: str) -> Route:
        """Hand out a real number: write the audit row, then decide again."""
        target = callee(row.binding, caller)
        if isinstance(target, Reason):
            raise AssertionError("a real number without a side")  # noqa: TRY004
        exposure = self._audit.exposure(row, target[0], reader, route.reason, row.state.request_id)
        try:
            await self._audit.write([exposure])
        except StoreUnavailable:
            return hold(route, Reason.AUDIT_UNAVAILABLE)
        latest = self._table.get(row.binding.subs_id)
        if latest is None:
            return hold(route, Reason.AUDIT_UNAVAILABLE)
        again = self._decide(latest, caller)
        if again.action is Action.DIAL_REAL and again.number != route.number:
            # Registered again meanwhile: the new number has no audit row yet.
            return hold(again, Reason.AUDIT_UNAVAILABLE)
        if again.action is Action.DIAL_REAL:
            self._audit.count([exposure])
        return again
