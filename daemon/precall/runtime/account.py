"""Everything that belongs to one cloud account: its provider, and the parts that check and answer from one database.

The process around it (server, signals, leader lock, scheduler) is in `daemon`. This module does not depend on it, so
that a process can run several accounts.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from math import inf

from precall.clocks import Clocks
from precall.concurrency import cancel_and_wait, guarded
from precall.config.schema import Config
from precall.config.settings import Settings
from precall.core.errors import ConfigError, StoreUnavailable
from precall.core.model import Policy, Row
from precall.engine.call_gate import CallGate
from precall.engine.ended_bindings import EndedBindings
from precall.engine.notifier import Notifier
from precall.engine.notify_targets import NotifyTarget, configured_targets
from precall.engine.receipt_queue import ReceiptQueueReader
from precall.engine.recorder import Recorder
from precall.engine.retention import ROUND, Retention
from precall.engine.services import Services
from precall.engine.unusable_numbers import mark_unusable
from precall.provider import Credential, Credentials, MessageQueue, Provider, configured_credentials
from precall.runtime.assembly import Assembly
from precall.runtime.gc import without_collections
from precall.runtime.restore import learned_of, restore_turns
from precall.runtime.scheduler import Scheduler
from precall.store import LeaderLock, Store
from precall.telemetry.logging import get_logger
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

SWEEP = 30.0
SWEEP_PAUSE = 0.01
"""Seconds between slices of a sweep. A million bindings take a minute then, and a tenth of a core."""
CALLS = 1.0
LOOK = 1.0
SYNC, RECONCILE, SWEEPING = "source sync", "source reconcile", "sweep"
GRACE = 5.0
PATIENCE = 3.0
"""Seconds to wait for the first credential of a key."""


@dataclass(frozen=True, slots=True)
class Retuning:
    """What has to be read before another configuration of an account can be put in force.

    `turns` are (pool key, tick) of earlier turns to the real number, for a longer window of the brake.
    """

    before: Config
    policy: Policy
    key: Credentials
    turns: list[tuple[str, float]]
    targets: list[NotifyTarget]


class CloudAccount:
    """One cloud account. Call `start` first; `mirror` or `load` then make its parts."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        clocks: Clocks,
        *,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        nonce: Callable[[], str],
        broken: Callable[[BaseException], None],
    ) -> None:
        """Raise ConfigError for a key or a target that cannot be used.

        `wall` gives Unix seconds; `nonce` makes requests unique.
        `broken` is called with the error if the background refresh of the key fails.
        """
        self._settings, self._metrics, self._clocks = settings, metrics, clocks
        self._parts: Services | None = None
        self._retention: Retention | None = None
        self._ended: EndedBindings | None = None
        self._scheduler: Scheduler | None = None
        self._policy_unsaved = False
        self._policy_since = 0.0
        self._broken = broken
        self.recorder = Recorder(metrics, clocks)
        targets = configured_targets(settings.config.notify)
        self.notifier = Notifier(settings, metrics, targets, host=socket.gethostname())
        config = settings.config.provider
        self.provider = Provider(
            config,
            configured_credentials(config),
            wall=wall,
            monotonic=monotonic,
            nonce=nonce,
        )
        self._queues = [
            MessageQueue(
                name,
                settings,
                self._credential,
                wall=wall,
                monotonic=monotonic,
                nonce=nonce,
            )
            for name in settings.config.receipts.queue
        ]

    def _credential(self) -> Credential | None:
        return self.provider.credentials.current()

    @property
    def parts(self) -> Services:
        """The parts in use. Raises AssertionError before there are any."""
        if self._parts is None:
            raise AssertionError("the account has no parts yet")
        return self._parts

    # -- start and stop ----------------------------------------------------------------------------------

    async def start(self, stack: AsyncExitStack) -> None:
        """Be ready to make calls; `stack` closes the connections and stops the refresh of the key."""
        await self.provider.start()
        stack.push_async_callback(self._close)
        await self.provider.credentials.start(PATIENCE, self._broken)

    async def _close(self) -> None:
        await self.provider.close()
        await self.provider.credentials.stop()

    async def mirror(self, store: Store, assembly: Assembly) -> Services:
        """Make the parts that answer from what the leader has stored. None of them runs."""
        self._parts = await assembly.mirroring(store)
        self._parts.status.look()
        await self.recorder.follow(store)
        return self._parts

    async def load(
        self, store: Store, assembly: Assembly, lead: LeaderLock, boottime: Callable[[], float]
    ) -> Services:
        """Make the parts that check and write."""
        parts = self._parts = await assembly.leading(store)
        await self.recorder.restore(store)
        self._ended = EndedBindings(store, parts.table, parts.writer, self._settings, self._clocks)
        self._retention = Retention(store, parts.table, self._ended, self._settings)
        quotas = (parts.checker.quota, parts.calls.quota)
        parts.checker.queries.gate = CallGate(lead, quotas, self._clocks.tick, boottime)
        return parts

    def write(self, stack: AsyncExitStack, broken: Callable[[BaseException], None]) -> None:
        """Run the writer, without which nothing is true; `stack` lets it write what is queued, and end."""
        parts = self.parts
        writing = guarded(parts.writer.run(), "ledger", broken)

        async def finish() -> None:
            parts.writer.close()
            await asyncio.wait({writing})

        stack.push_async_callback(finish)
        stack.push_async_callback(parts.call_results.close)

    def notify(self, stack: AsyncExitStack, broken: Callable[[BaseException], None]) -> None:
        """Tell people what is wrong, while this daemon leads."""
        role = self.parts.role
        self.notifier.start(lambda: role.leads, broken)
        stack.push_async_callback(self.notifier.close)

    def read_queues(self, stack: AsyncExitStack, broken: Callable[[BaseException], None]) -> None:
        """Read the provider's queues while this daemon leads; another reader would take messages away."""
        readers = [
            ReceiptQueueReader(
                queue,
                self.parts.call_results,
                self._metrics,
                clock=self._clocks.now,
                monotonic=self._clocks.tick,
            )
            for queue in self._queues
        ]
        self.parts.status.process.failing_queues = lambda: {
            reader.kind: reader.error for reader in readers if reader.error
        }
        for reader in readers:
            stack.push_async_callback(cancel_and_wait, guarded(reader.run(), "receipt queue", broken))

    async def plan(self) -> None:
        """Hold what may not be dialled, and plan the checks of all bindings, in slices: reads are answered already."""
        parts = self.parts
        await mark_unusable(parts.table, parts.writer)
        with without_collections():
            await parts.checker.plan.sweep()
        if self._retention is not None:
            await self._retention.begin()
        await parts.call_results.restore()

    def schedule(self, scheduler: Scheduler, stack: AsyncExitStack) -> None:
        """Begin the jobs of this account; `stack` drains what is in flight."""
        parts = self.parts
        self._scheduler = scheduler
        self.recorder.begin(parts.status, parts.checker)
        scheduler.every(CALLS, parts.calls.tick, "call details")
        scheduler.beat(LOOK, self.look, "status")
        scheduler.every(SWEEP, self.sweep, SWEEPING)
        scheduler.every(ROUND, self.retire, "retention")
        if parts.source is not None:
            scheduler.once(self._first_sync, "first source sync")
            scheduler.every(self._settings.config.source.every, self._sync, SYNC)
            if parts.source.incremental:
                scheduler.every(self._settings.config.source.reconcile, self._reconcile, RECONCILE)
        stack.push_async_callback(parts.calls.drain, GRACE)
        stack.push_async_callback(parts.checker.drain, GRACE)

    # -- jobs --------------------------------------------------------------------------------------------

    def keep_alive(self) -> None:
        """Count as alive while no check is made."""
        if self._parts is not None:
            self._parts.checker.ticked_at = self._clocks.tick()

    async def tick(self) -> None:
        """Choose the freshness promise, start the checks that are due, and release bindings of brakes that opened."""
        self.parts.promise.look()
        await self.parts.checker.tick()
        self.parts.checker.braking.look()

    def doubt_dates(self) -> None:
        """Re-evaluate everything that depends on the wall clock, because it was set."""
        if self._scheduler is None:
            return
        parts = self.parts
        parts.calls.doubt_dates()
        # A provider refuses calls that are signed at another time than its own.
        parts.checker.circuit.probe_soon()
        parts.calls.circuit.probe_soon()
        self._scheduler.hasten(SWEEPING)

    async def each_minute(self) -> None:
        """Keep what was learned and recorded, and the policy that SQL readers lack. Put stored orders in force."""
        await self.keep()
        await self.parts.orders.settle()
        await self.store_policy()

    async def keep(self) -> None:
        """Store what the planner has learned, and the history of the last hours, for the next start."""
        await self._keep_learned()
        await self.recorder.keep(self.parts.store)

    async def _keep_learned(self) -> None:
        try:
            await self.parts.store.mark({"learned": learned_of(self.parts.checker.planner, self._clocks)})
        except StoreUnavailable as error:
            log.warning("learned.not_kept", error=str(error))

    async def retire(self) -> None:
        """Drop what is older than the configured periods."""
        if self._retention is not None:
            await self._retention.retire(now=self._clocks.now())

    async def look(self) -> None:
        """Find what is wrong now, whether or not anybody asks, tell people what is due, and record it."""
        found = self.parts.status.look()
        self.recorder.look(self.parts.status, self.parts.checker)
        self.notifier.observe(found.findings, found.at)

    async def sweep(self) -> None:
        """Repair the plan from the table, and remove the ended bindings beyond the limit."""
        self.parts.on_demand.forget_hints()
        if (ended := self._ended) is None:
            raise AssertionError("swept before it was loaded")
        surplus = ended.surplus()

        def see(row: Row) -> None:
            if (end := ended.end_of(row)) < inf:
                surplus.add(row.binding.subs_id, end)

        await self.parts.checker.plan.sweep(SWEEP_PAUSE, see)
        try:
            await ended.remove(surplus)
        except StoreUnavailable as error:
            log.warning("ended.kept", error=str(error))

    async def _first_sync(self) -> None:
        with without_collections():  # what the first one brings will stay
            await self._sync()

    async def _sync(self) -> None:
        if (source := self.parts.source) is not None:
            # Cancelled only when the daemon stops. The next start continues.
            with suppress(asyncio.CancelledError):
                await source.advance()
            if source.incremental and source.overdue and self._scheduler is not None:
                self._scheduler.hasten(RECONCILE)

    async def _reconcile(self) -> None:
        if (source := self.parts.source) is not None:
            with suppress(asyncio.CancelledError):
                await source.sync()

    # -- another configuration ---------------------------------------------------------------------------

    async def prepare(self, config: Config) -> Retuning:
        """Read what `config` names, before it is put in force. Raises ConfigError with every mistake."""
        mistakes: list[str] = []
        turns: list[tuple[str, float]] = []
        try:
            fresh = configured_credentials(config.provider)
        except ConfigError as error:
            mistakes += error.mistakes
        targets: list[NotifyTarget] = []
        try:
            if config.notify.configured:
                targets = await asyncio.to_thread(configured_targets, config.notify)
        except ConfigError as error:
            mistakes += error.mistakes
        try:
            turns = await self._turns(config)
        except StoreUnavailable:
            mistakes.append("brake.window: a longer one needs the database, which is out of reach; try again")
        if mistakes:
            raise ConfigError(mistakes)
        if fresh.same_as(self.provider.credentials):
            fresh = self.provider.credentials
        else:
            await fresh.start(PATIENCE, self._broken)
        return Retuning(self._settings.config, self._settings.policy, fresh, turns, targets)

    async def _turns(self, config: Config) -> list[tuple[str, float]]:
        window = config.brake.window
        if self._parts is None or window <= self._settings.config.brake.window:
            return []
        return await restore_turns(self._parts.store, self._clocks, window)

    def retune(self, prepared: Retuning) -> Credentials:
        """Put the configuration of the settings in force. Returns the key that was in use, for `close_replaced`."""
        config, before = self._settings.config, prepared.before
        replaced = self.provider.credentials
        self.provider.retune(config.provider, prepared.key)
        if self._settings.policy != prepared.policy:
            self._policy_unsaved, self._policy_since = True, self._clocks.now()
        if (parts := self._parts) is None:
            return replaced
        provider, freshness, brake = config.provider, config.freshness, config.brake
        parts.checker.quota.retune(provider.rate, provider.calls_at_once, self._clocks.tick())
        parts.checker.planner.retune(
            provider.rate,
            max_age=freshness.max_age,
            abnormal_max_age=freshness.abnormal_max_age,
            min_interval=freshness.min_interval,
            abnormal_min_interval=freshness.abnormal_min_interval,
        )
        parts.promise.look()
        parts.checker.brake.retune(brake.share, brake.floor, brake.window, prepared.turns)
        parts.calls.retune(provider.call_detail_rate_per_minute)
        if self._scheduler and self._settings.policy.observe != prepared.policy.observe:
            # What is exposed there must not stay so, and what was only observed waits for the brake.
            self._scheduler.hasten(SWEEPING)
        if self._scheduler and parts.source and config.source.every != before.source.every:
            self._scheduler.every(config.source.every, self._sync, SYNC)
        reconcile = config.source.reconcile
        if (
            self._scheduler
            and parts.source
            and parts.source.incremental
            and reconcile != before.source.reconcile
        ):
            self._scheduler.every(reconcile, self._reconcile, RECONCILE)
        return replaced

    async def close_replaced(self, replaced: Credentials, prepared: Retuning) -> None:
        """Stop what the configuration before still keeps open."""
        await self.notifier.replace(prepared.targets)
        if replaced is not self.provider.credentials:
            await replaced.stop()
        await self.provider.part()

    async def store_policy(self) -> None:
        """Store the policy in force for SQL readers, unless they have it, another leads or the database is away."""
        if not self._policy_unsaved or self._parts is None or not self._parts.role.leads:
            return
        try:
            await self._parts.store.store_policy(self._settings.policy, self._policy_since)
        except StoreUnavailable as error:
            log.warning("policy.not_stated", error=str(error))
            return
        self._policy_unsaved = False
