"""Make the parts of an account from the configuration in force and from what earlier runs stored.

`daemon` and `account` start and stop them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from precall import __version__
from precall.clocks import Clocks
from precall.config.settings import Settings
from precall.core.limits.quota import Quota
from precall.core.orders import OrderKind, in_force
from precall.core.role import Member
from precall.engine.brake_release import BrakeRelease
from precall.engine.call_poller import CallPoller
from precall.engine.call_results import CallResults
from precall.engine.checker import Checker
from precall.engine.dial_log import DialLog
from precall.engine.exposure_audit import ExposureAudit
from precall.engine.lookup import Lookup
from precall.engine.on_demand import OnDemandChecks
from precall.engine.orders import OperatorOrders
from precall.engine.persons import Persons
from precall.engine.plan_keeper import PlanKeeper
from precall.engine.process_state import ProcessState
from precall.engine.promise_keeper import PromiseKeeper
from precall.engine.recorder import Recorder
from precall.engine.registry import Registry
from precall.engine.services import Services
from precall.engine.source_sync import SourceSync
from precall.engine.status_board import StatusBoard
from precall.engine.status_queries import StatusQueries
from precall.provider import Provider
from precall.runtime.gc import without_collections
from precall.runtime.restore import (
    restore_brake,
    restore_feed,
    restore_pauses,
    restore_planner,
    restore_sample,
    restore_table,
)
from precall.store import Store
from precall.table.feed import Feed
from precall.table.publisher import Publisher
from precall.table.table import Table
from precall.table.unsaved import UnsavedChanges
from precall.table.writer import Writer
from precall.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the parts get from the process around them.

    `members` returns the daemons on this database, `recorder` has the history of the last hours.
    `broken` is called with the error that ends a background task of a part.
    """

    process: ProcessState
    members: Callable[[], Sequence[Member]]
    recorder: Recorder
    broken: Callable[[BaseException], None]


class Assembly:
    """Makes the parts.

    `chance` returns a random number in [0, 1), `secret` that many unguessable bytes as hex digits.
    """

    def __init__(
        self,
        settings: Settings,
        provider: Provider,
        metrics: Metrics,
        surroundings: Surroundings,
        *,
        clocks: Clocks,
        chance: Callable[[], float],
        secret: Callable[[int], str],
    ) -> None:
        self._settings, self._provider, self._metrics = settings, provider, metrics
        self._surroundings = surroundings
        self._clocks, self._chance, self._secret = clocks, chance, secret

    async def leading(self, store: Store) -> Services:
        """The parts of a leading daemon."""
        with without_collections():
            table, index, seq = await restore_table(store, self._clocks)
        await store.store_policy(self._settings.policy, self._clocks.now())
        feed = await restore_feed(store, index)
        writer = self._writer(store, table, feed, feed.newest)
        checker = await self._checker(store, table, writer, seq, logged=self._settings.config.store.dial_log)
        hash_key = await store.secret("number_hash_key", self._secret(32))
        return await self._with_orders(self._services(store, table, feed, writer, checker, hash_key))

    async def mirroring(self, store: Store) -> Services:
        """The parts of a daemon on standby: they answer, but neither check nor write."""
        table, index, seq = await restore_table(store, self._clocks)
        feed = Feed(index)
        writer = self._writer(store, table, feed, index)
        checker = await self._checker(store, table, writer, seq, logged=0.0)
        return await self._with_orders(self._services(store, table, feed, writer, checker))

    async def _with_orders(self, services: Services) -> Services:
        """Let the status tell since when the stored orders are in force."""
        newest = await services.store.orders.newest(OrderKind.PAUSE, OrderKind.BRAKE)
        services.status.orders.restore(in_force(newest, {}, self._clocks.now()))
        return services

    def _writer(self, store: Store, table: Table, feed: Feed, index: int) -> Writer:
        return Writer(
            store,
            table,
            Publisher(table, feed, UnsavedChanges(), self._metrics),
            self._settings,
            self._metrics,
            self._clocks,
            index,
        )

    async def _checker(
        self, store: Store, table: Table, writer: Writer, seq: int, *, logged: float
    ) -> Checker:
        """The checker. `logged` is the share of bindings (0 to 1) whose dials and answers it logs."""
        config, marks, clocks = self._settings.config, await store.marks(), self._clocks
        rate = config.provider.rate
        queries = StatusQueries(
            self._provider,
            Quota(rate, config.provider.calls_at_once, clocks.tick()),
            self._metrics,
            clocks,
            seq,
            self._chance,
        )
        braking = BrakeRelease(
            await restore_brake(store, config.brake, clocks),
            writer,
            table,
            self._settings,
            self._metrics,
            clocks,
        )
        plan = PlanKeeper(
            restore_planner(marks.get("learned", "{}"), rate, config.freshness, clocks),
            table,
            writer,
            braking,
            DialLog(await restore_sample(store, logged, partial(self._secret, 16)), writer, table, clocks),
            self._settings,
            self._metrics,
            clocks,
        )
        for pool_key in await restore_pauses(store, clocks):
            plan.pause(pool_key)
        checker = Checker(queries, plan, braking, table, writer, self._settings, self._metrics, clocks)
        table.listeners.append(braking.follow)
        return checker

    def _promise(self, table: Table, checker: Checker) -> PromiseKeeper:
        return PromiseKeeper(
            table,
            checker.planner,
            checker.quota,
            self._settings,
            self._metrics,
            tick=self._clocks.tick,
            provider_fails=lambda: checker.outage.degraded or checker.circuit.is_open,
        )

    def _calls(self, store: Store, table: Table, checker: Checker, call_results: CallResults) -> CallPoller:
        return CallPoller(
            provider=self._provider,
            store=store,
            table=table,
            checker=checker,
            call_results=call_results,
            metrics=self._metrics,
            per_minute=self._settings.config.provider.call_detail_rate_per_minute,
            clocks=self._clocks,
        )

    def _source(self, registry: Registry, table: Table) -> SourceSync | None:
        if not self._settings.config.source.configured:
            return None
        source = SourceSync(
            self._settings,
            registry,
            table,
            self._metrics,
            clock=self._clocks.now,
            monotonic=self._clocks.tick,
        )
        self._metrics.show(self._metrics.source_age, lambda: source.age)
        self._metrics.show(self._metrics.source_every, lambda: source.every)
        return source

    def _lookup(
        self, table: Table, checker: Checker, on_demand: OnDemandChecks, audit: ExposureAudit
    ) -> Lookup:
        return Lookup(
            table=table,
            checker=checker,
            on_demand=on_demand,
            audit=audit,
            settings=self._settings,
            metrics=self._metrics,
            clock=self._clocks.now,
        )

    def _services(
        self,
        store: Store,
        table: Table,
        feed: Feed,
        writer: Writer,
        checker: Checker,
        hash_key: str = "",
    ) -> Services:
        audit = ExposureAudit(store, writer, self._metrics, self._clocks.now, bytes.fromhex(hash_key))
        registry = Registry(writer, table, self._settings, self._clocks.now)
        on_demand = OnDemandChecks(checker, table, self._metrics, clocks=self._clocks)
        call_results = CallResults(
            store=store,
            writer=writer,
            table=table,
            checker=checker,
            settings=self._settings,
            metrics=self._metrics,
            clock=self._clocks.now,
            broken=self._surroundings.broken,
        )
        promise = self._promise(table, checker)
        calls = self._calls(store, table, checker, call_results)
        source = self._source(registry, table) if checker.leads else None
        given = self._surroundings
        status = StatusBoard(checker, table, writer, promise, calls, source, given.process, self._clocks)
        self._show(store, table, writer, checker, promise)
        self._metrics.show_findings(status.has)
        return Services(
            settings=self._settings,
            table=table,
            feed=feed,
            writer=writer,
            lookup=self._lookup(table, checker, on_demand, audit),
            audit=audit,
            registry=registry,
            orders=OperatorOrders(store, checker.plan, checker.braking, status.orders, self._clocks.now),
            members=self._surroundings.members,
            persons=Persons(store, table, writer, audit),
            source=source,
            checker=checker,
            on_demand=on_demand,
            promise=promise,
            call_results=call_results,
            calls=calls,
            status=status,
            recorder=given.recorder,
            store=store,
            metrics=self._metrics,
            clock=self._clocks.now,
            monotonic=self._clocks.tick,
            chance=self._chance,
            version=__version__,
        )

    def _show(
        self, store: Store, table: Table, writer: Writer, checker: Checker, promise: PromiseKeeper
    ) -> None:
        """Register the gauges that are computed at scrape time."""
        metrics = self._metrics
        metrics.show_states(table.count)
        metrics.show_pools(table.pools, table.count)
        metrics.show(metrics.max_age, lambda: self._settings.policy.max_age)
        metrics.show(metrics.unusable, lambda: float(len(table.unusable)))
        metrics.show(metrics.leading, lambda: float(store.role.leads))
        metrics.show(metrics.store_up, lambda: float(writer.saving))
        metrics.show(metrics.rate_limit, lambda: checker.quota.rate)
        metrics.show(metrics.clock_behind, lambda: self._clocks.behind)
        metrics.show(metrics.oldest_age, lambda: checker.planner.oldest(self._clocks.tick()))
        metrics.show(metrics.budget_short, lambda: float(promise.short_of_budget))
        metrics.show(metrics.age_limit, lambda: promise.age_limit)
        metrics.show(metrics.degraded, lambda: float(checker.outage.degraded))
        metrics.show(metrics.circuit_open, lambda: float(checker.circuit.is_open))
        metrics.show(metrics.paused, lambda: float(len(checker.plan.paused)))
        metrics.show(metrics.store_pending, lambda: float(writer.pending))
