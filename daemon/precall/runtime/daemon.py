"""The composition root: everything is made here, started in order, and stopped in the reverse of it.

Time, chance and signals enter here and nowhere else.
"""

import asyncio
import os
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from precall import __version__
from precall.api.server import Server
from precall.clocks import Clocks, boottime
from precall.config.schema import Config
from precall.config.settings import Settings
from precall.core.errors import ConfigError, LeadershipLost, StoreUnavailable
from precall.core.role import CurrentRole, Role
from precall.engine.call_gate import CallGate
from precall.engine.call_poller import CallPoller
from precall.engine.call_results import CallResults
from precall.engine.checker import Checker
from precall.engine.on_demand import OnDemandChecks
from precall.engine.registry import Registry
from precall.engine.retention import ROUND, Retention
from precall.engine.services import Services
from precall.engine.soundness import enforce
from precall.engine.source_sync import SourceSync
from precall.provider import Credentials, Provider
from precall.provider.account import credentials, provider_settings
from precall.runtime.assembly import Assembly
from precall.runtime.gc import collect_young, without_collections
from precall.runtime.reload import PATIENCE, Reloader
from precall.runtime.restore import learned_of
from precall.runtime.scheduler import Scheduler, beat
from precall.runtime.standby import Standby
from precall.runtime.systemd import SystemdNotifier
from precall.store import LeaderLock, Store
from precall.table.feed import Feed
from precall.table.table import Table
from precall.table.writer import Writer
from precall.telemetry.logging import get_logger, tell_folded
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

TICK = 0.05
SWEEP = 30.0
SWEEP_PAUSE = 0.01
"""Seconds between slices of a sweep: of a million bindings it takes a minute, and a tenth of a core."""
MINUTE = 60.0
CALLS = 1.0
YOUNG = 1.0
CLOCK = 1.0
SYNC, SWEEPING = "source sync", "sweep"
GRACE = 5.0


class Daemon:
    """The daemon: `start`, then reads are answered and bindings checked, until `stop`."""

    table: Table
    metrics: Metrics
    checker: Checker
    demand: OnDemandChecks
    ledger: Writer
    feed: Feed
    registry: Registry
    outcomes: CallResults
    calls: CallPoller
    source: SourceSync | None
    store: Store

    def __init__(
        self,
        config: Config,
        *,
        read: Callable[[], Config] | None = None,
        supervisor: SystemdNotifier | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        boottime: Callable[[], float] = boottime,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`read` gives the configuration as it stands when a reload is asked for; without it: this one."""
        self._settings = Settings(config)
        self._read = read or (lambda: config)
        self._supervisor = supervisor or SystemdNotifier()
        self._wall, self._monotonic, self._chance = wall, monotonic, chance
        self._boottime = boottime
        self._clocks = Clocks(wall, monotonic)
        self._role = CurrentRole(Role.WAITING)
        self._stopped, self._told_to_reload = asyncio.Event(), asyncio.Event()
        self._scheduler: Scheduler | None = None
        self._writer: asyncio.Task[None] | None = None
        self._end_by: BaseException | None = None

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._settings.config

    # -- start and stop: mirror images -----------------------------------------------------------------

    async def start(self) -> list[str]:
        """Bring everything up; the URLs it listens on. ConfigError, StoreError or ListenError when it cannot."""
        async with AsyncExitStack() as stack:
            urls = await self._start(stack)
            self._stack = stack.pop_all()
        self.metrics.reload_ok.set(1)
        self.metrics.reload_at.set(self._wall())
        self._supervisor.ready(f"checks {len(self.table)} bindings")
        log.info("precall.started", version=__version__, bindings=len(self.table), listen=urls)
        return urls

    async def stop(self) -> None:
        """Stop asking, let what is under way end, write what is queued, close: `_start` backwards."""
        self._supervisor.stopping()
        await self._stack.aclose()
        log.info("precall.stopped")

    async def _start(self, stack: AsyncExitStack) -> list[str]:
        """Each step leaves on the stack what undoes it."""
        config = self.config
        self.metrics = Metrics()
        watch = asyncio.create_task(beat(CLOCK, self._look_at_clock, "clock"), name="clock")
        stack.push_async_callback(_end, watch)
        key = credentials(config.provider)
        self._server = Server(config.api, __version__, self.metrics, self._monotonic, self._role)
        urls = await self._server.start()
        stack.push_async_callback(self._server.stop, GRACE)
        self._provider = self._make_provider(key)
        await self._provider.start()
        stack.push_async_callback(self._part_with_provider)
        await key.start(patience=PATIENCE)
        self._reloading = self._make_reloading()
        reloads = asyncio.create_task(self._reload_when_told(), name="reloads")
        stack.push_async_callback(_end, reloads)
        self._lead = LeaderLock(
            config.store.database,
            config.store.timeout,
            when_lost=self._lose_lead,
            when_broken=self._lose_sight,
        )
        stack.push_async_callback(self._lead.leave)
        standby = Standby(self._lead, self._role, urls, self._supervisor, self._monotonic, self._alive)
        async with AsyncExitStack() as mirror:
            await standby.take_lead(mirror, partial(self._open_store, Role.STANDBY), self._mirror)
            await standby.insist(partial(self._brought_up, stack))
        return urls

    async def _brought_up(self, stack: AsyncExitStack) -> None:
        async with AsyncExitStack() as attempt, self._reloading.at_work, self._supervisor.pulse():
            await self._bring_up(attempt)
            stack.push_async_exit(attempt.pop_all())

    async def _bring_up(self, stack: AsyncExitStack) -> None:
        self.store = await self._open_store(Role.LEADING)
        self._role = self.store.role
        stack.push_async_callback(self.store.close)
        self.store.when_deposed = self._lead.lose
        self.store.fencing_token = await self._lead.fence()
        self._consist_of(await self._assembly().leading(self.store))
        self._retention = Retention(self.store, self.table, self.ledger, self.config.store.retention)
        quotas = (self.checker.quota, self.calls.quota)
        self.checker.gate = CallGate(self._lead, quotas, self._clocks.tick, self._boottime)
        self._writer = asyncio.create_task(self.ledger.run(), name="ledger")
        self._writer.add_done_callback(self._guard)
        stack.push_async_callback(self._finish_writing)
        stack.push_async_callback(self.outcomes.close)
        stack.push_async_callback(self._server.stop, GRACE)
        await enforce(self.table, self.ledger)
        await self._adopt()
        await self.outcomes.recall()
        stack.push_async_callback(self._keep_learned)
        scheduler = self._scheduler = self._schedule()
        stack.callback(scheduler.stop)
        stack.push_async_callback(self.calls.drain, GRACE)
        stack.push_async_callback(self.checker.drain, GRACE)
        stack.callback(scheduler.pause)

    def _lose_lead(self) -> None:
        """Another daemon leads: neither write nor answer as the leader any more, and end."""
        self._end_by = LeadershipLost(
            "another precall leads on this database: started again, this one stands by"
        )
        log.critical("precall.deposed", hint="another precall leads on this database")
        self._role.fence()
        self._stopped.set()

    def _lose_sight(self, error: BaseException) -> None:
        """Whether we lead is watched no more: without that nothing is true."""
        self._end_by = error
        log.critical("lead.broken", exc_info=error)
        self._stopped.set()

    def _alive(self) -> None:
        """Count as alive while no check is made."""
        self._supervisor.beat()
        if (parts := self._server.services) is not None:
            parts.checker.ticked_at = self._monotonic()

    async def _mirror(self, store: Store) -> None:
        """The parts as for a leading daemon, none of them running."""
        async with self._reloading.at_work, self._supervisor.pulse():
            self._consist_of(await self._assembly().mirroring(store))

    async def _open_store(self, role: Role) -> Store:
        """Open the database for that role. Only a leader migrates it."""
        store = self.config.store
        opened = await Store.open(
            store.database,
            timeout=store.timeout,
            history=store.history,
            key_file=store.key_file,
            auto_migrate=store.migrates and role is Role.LEADING,
        )
        opened.role = CurrentRole(role)
        return opened

    async def _part_with_provider(self) -> None:
        await self._provider.close()
        await self._provider.credentials.stop()

    async def _reload_when_told(self) -> None:
        while True:
            await self._told_to_reload.wait()
            self._told_to_reload.clear()
            with suppress(ConfigError):  # it is told in the log
                await self._reloading.reload()

    async def _finish_writing(self) -> None:
        self.ledger.close()
        if self._writer is not None:
            await asyncio.wait({self._writer})

    async def serve(self, announce: Callable[[list[str]], None] = lambda _urls: None) -> None:
        """Run until SIGTERM or SIGINT, then drain; a second one ends the process at once. Raises Deposed, once drained,
        where another daemon has taken the lead."""
        loop = asyncio.get_running_loop()

        def asked_to_stop(number: int) -> None:
            if self._stopped.is_set():
                os._exit(128 + number)
            log.info("precall.stopping", signal=signal.Signals(number).name)
            self._stopped.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._told_to_reload.set)
        starting = asyncio.create_task(self.start(), name="start")
        stopping = asyncio.create_task(self._stopped.wait(), name="stop")
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            log.info("precall.stopped")
            self._raise_why()
            return
        stopping.cancel()
        announce(starting.result())
        await self._stopped.wait()
        await self.stop()
        if self._writer is not None and not self._writer.cancelled() and (broken := self._writer.exception()):
            raise broken
        self._raise_why()

    def _raise_why(self) -> None:
        """Unless a signal ended it."""
        if self._end_by is not None:
            raise self._end_by

    @asynccontextmanager
    async def running(self) -> AsyncIterator[list[str]]:
        """Started inside, stopped after."""
        urls = await self.start()
        try:
            yield urls
        finally:
            await self.stop()

    # -- the parts ---------------------------------------------------------------------------------------

    def _assembly(self) -> Assembly:
        return Assembly(
            self._settings,
            self._provider,
            self.metrics,
            self._reloading.reload,
            clocks=self._clocks,
            chance=self._chance,
            secret=secrets.token_hex,
        )

    def _consist_of(self, parts: Services) -> None:
        """Answer from these parts from now on."""
        self.store, self.table, self.feed, self.ledger = parts.store, parts.table, parts.feed, parts.ledger
        self.checker, self.demand = parts.checker, parts.demand
        self.registry, self.source = parts.registry, parts.source
        self.outcomes, self.calls = parts.outcomes, parts.calls
        self._server.services = parts

    def _make_provider(self, key: Credentials) -> Provider:
        return Provider(
            provider_settings(self.config.provider),
            key,
            wall=self._wall,
            monotonic=self._monotonic,
            # Unique, not secret: the system's own randomness costs a turn of the interpreter's lock each time.
            nonce=lambda: f"{random.getrandbits(128):032x}",
        )

    def _make_reloading(self) -> Reloader:
        return Reloader(
            self._read,
            self._settings,
            self._server,
            self._provider,
            self.metrics,
            self._supervisor,
            clocks=self._clocks,
            wall=self._wall,
            sync_every=self._sync_every,
        )

    async def _adopt(self) -> None:
        """Plan the checks of all that was loaded, in slices: readers are answered already."""
        with without_collections():
            await self.checker.sweep()

    def _schedule(self) -> Scheduler:
        # APScheduler plans by the clock of the machine, whatever the daemon is given for one.
        scheduler = Scheduler(time.time, lambda _name: self.metrics.job_failures.inc())
        scheduler.beat(TICK, self._tick, "check tick")
        scheduler.every(CALLS, self.calls.tick, "call details")
        scheduler.every(YOUNG, collect_young, "young collection")
        scheduler.every(SWEEP, self._sweep, SWEEPING)
        scheduler.every(MINUTE, self._each_minute, "each minute")
        scheduler.every(ROUND, self._retain, "retention")
        if self.source is not None:
            scheduler.once(self._first_sync, "first source sync")
            scheduler.every(self.config.source.every, self._sync, SYNC)
        scheduler.start()
        return scheduler

    async def _tick(self) -> None:
        self.metrics.scheduler_lag.set(max(0.0, self._monotonic() - self.checker.ticked_at - TICK))
        await self.checker.tick()
        self.checker.braking.look()
        self._supervisor.beat()

    async def _look_at_clock(self) -> None:
        """Say when the wall clock was set, and see at once what that means for everything that goes by it."""
        if not (moved := self._clocks.step()):
            return
        direction = "forward" if moved > 0 else "back"
        self.metrics.clock_steps.labels(direction).inc()
        behind = {"behind": round(self._clocks.behind, 1)} if self._clocks.behind else {}
        log.warning("clock.stepped", direction=direction, seconds=round(abs(moved), 1), **behind)
        if self._scheduler is not None:
            self._scheduler.replan()
            self.calls.doubt_dates()
            # A provider refuses calls that are signed at another time than its own.
            self.checker.circuit.doubt()
            self.calls.circuit.doubt()
            self._scheduler.hasten(SWEEPING)

    async def _sweep(self) -> None:
        self.demand.forget_hints()
        await self.checker.sweep(SWEEP_PAUSE)

    async def _first_sync(self) -> None:
        """What it takes in will stay."""
        with without_collections():
            await self._sync()

    async def _sync(self) -> None:
        if self.source is not None:
            # Only the end of the daemon cancels it; the next start goes on.
            with suppress(asyncio.CancelledError):
                await self.source.sync()

    def _sync_every(self, seconds: float) -> None:
        if self._scheduler is not None and self.source is not None:
            self._scheduler.every(seconds, self._sync, SYNC)

    async def _each_minute(self) -> None:
        await self._keep_learned()
        await self._reloading.state_policy()
        tell_folded(self._wall())

    async def _keep_learned(self) -> None:
        try:
            await self.store.mark({"learned": learned_of(self.checker.planner, self._clocks)})
        except StoreUnavailable as error:
            log.warning("learned.not_kept", error=str(error))

    async def _retain(self) -> None:
        await self._retention.retire(self._settings.policy, now=self._clocks.now())

    def _guard(self, task: "asyncio.Task[None]") -> None:
        """The writer must not end by itself: without it nothing is true any more."""
        if not task.cancelled() and (error := task.exception()):
            log.critical("ledger.broken", exc_info=error)
            self._stopped.set()


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})
