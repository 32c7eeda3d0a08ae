"""The composition root: everything is made here, started in order, and stopped in the reverse of it.

Time, chance and signals enter here and nowhere else.
"""

import asyncio
import gc
import json
import os
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial

from precall import __version__
from precall.api.server import Server
from precall.api.services import Services
from precall.audit import Audit
from precall.checker import Checker
from precall.config import Config, ProviderConfig, secret
from precall.core.errors import ConfigError, StoreUnavailable
from precall.core.quota import Quota
from precall.demand import Demand
from precall.feed import Feed
from precall.ledger import Ledger
from precall.log import get_logger
from precall.lookup import Lookup
from precall.metrics import Metrics
from precall.provider import Credential, Credentials, Provider, ProviderSettings
from precall.recall import recall_brake, recall_feed, recall_planner, recall_sample, recall_table
from precall.registry import Registry
from precall.retention import retire
from precall.scheduler import Scheduler
from precall.source import Source
from precall.standby import Standby
from precall.store import Lead, Store
from precall.table import Table

log = get_logger(__name__)

TICK = 0.05
SWEEP = 30.0
SWEEP_PAUSE = 0.01
"""Seconds between slices of a sweep: of a million bindings it takes a minute, and a tenth of a core."""
LEARN = 60.0
RETAIN = 3600.0
LEAD = 1.0
GRACE = 5.0
PATIENCE = 3.0


def steady_clock(wall: Callable[[], float], monotonic: Callable[[], float]) -> Callable[[], float]:
    """The later of the wall clock and (wall clock at start + monotonic time): a clock stepped back revives nothing."""
    offset = wall() - monotonic()
    return lambda: max(wall(), offset + monotonic())


def provider_settings(config: ProviderConfig) -> ProviderSettings:
    """What the provider client needs of the configuration."""
    return ProviderSettings(
        endpoint=config.endpoint,
        call_detail_endpoint=config.call_detail_endpoint,
        signature=config.signature,
        format=config.format,
        timeout=config.timeout,
        connect_timeout=min(0.5, config.timeout),
        send_call_no=config.send_call_no,
        max_in_flight=2 * config.max_in_flight,
    )


def credentials(config: ProviderConfig) -> Credentials:
    """The configured access key, or the provider's default chain when there is none."""
    if not config.access_key_id:
        return Credentials(None)
    key = secret(config.access_key_secret, config.access_key_secret_file, "provider.access_key_secret_file")
    token = secret(config.security_token, config.security_token_file, "provider.security_token_file")
    try:
        return Credentials(Credential(config.access_key_id, key, token))
    except ValueError as error:
        raise ConfigError([f"provider.access_key_id, access_key_secret or security_token: {error}"]) from None


@contextmanager
def _without_collections() -> Iterator[None]:
    """While much that will stay is made: a full collection over a million objects stalls readers for 0.3 s. What was
    made is set apart, so that later collections pass it by."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class Daemon:
    """The daemon: `start`, then reads are answered and bindings checked, until `stop`."""

    table: Table
    metrics: Metrics
    checker: Checker
    demand: Demand
    ledger: Ledger
    feed: Feed
    registry: Registry
    source: Source | None
    store: Store

    def __init__(
        self,
        config: Config,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.config = config
        self._wall, self._monotonic, self._chance = wall, monotonic, chance
        self._clock = steady_clock(wall, monotonic)
        self._stopped = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    # -- start and stop: mirror images -----------------------------------------------------------------

    async def start(self) -> list[str]:
        """Bring everything up; the URLs it listens on. ConfigError, StoreError or ListenError when it cannot."""
        async with AsyncExitStack() as stack:
            urls = await self._start(stack)
            self._stack = stack.pop_all()
        self.metrics.reload_ok.set(1)
        self.metrics.reload_at.set(self._wall())
        log.info("precall.started", version=__version__, bindings=len(self.table), listen=urls)
        return urls

    async def stop(self) -> None:
        """Stop asking, let what is under way end, write what is queued, close: `_start` backwards."""
        await self._stack.aclose()
        log.info("precall.stopped")

    async def _start(self, stack: AsyncExitStack) -> list[str]:
        """Each step leaves on the stack what undoes it."""
        config = self.config
        self.metrics = Metrics()
        self._credentials = credentials(config.provider)
        self._server = Server(config.api, __version__, self.metrics, self._monotonic)
        urls = await self._server.start()
        stack.push_async_callback(self._server.stop, GRACE)
        self._provider = self._make_provider()
        await self._provider.start()
        stack.push_async_callback(self._provider.close)
        await self._credentials.start(patience=PATIENCE)
        stack.push_async_callback(self._credentials.stop)
        self._lead = Lead(config.store.database, config.store.timeout)
        stack.push_async_callback(self._lead.leave)
        standby = Standby(self._lead, self._server, urls, self._monotonic)
        async with AsyncExitStack() as mirror:
            await standby.take_lead(mirror, partial(self._open_store, auto_migrate=False), self._mirror)
            await standby.insist(partial(self._brought_up, stack))
        return urls

    async def _brought_up(self, stack: AsyncExitStack) -> None:
        async with AsyncExitStack() as attempt:
            await self._bring_up(attempt)
            stack.push_async_exit(attempt.pop_all())

    async def _bring_up(self, stack: AsyncExitStack) -> None:
        config = self.config
        self.store = await self._open_store(auto_migrate=config.store.migrates)
        stack.push_async_callback(self.store.close)
        with _without_collections():
            self.table, index, seq = await recall_table(self.store, self._clock())
        await self.store.state_policy(config.policies())
        self.feed = await recall_feed(self.store, index)
        self.ledger = self._make_ledger(self.feed.newest)
        self._writer = asyncio.create_task(self.ledger.run(), name="ledger")
        self._writer.add_done_callback(self._guard)
        stack.push_async_callback(self._finish_writing)
        self.checker = await self._make_checker(seq, logged=config.store.dial_log)
        self.demand = self._make_demand()
        self.registry = Registry(self.ledger, self.table, config.policies(), self._clock)
        self.source = self._make_source()
        self._show()
        self._server.services = self._services(
            await self.store.secret("number_hash_key", secrets.token_hex(32))
        )
        stack.push_async_callback(self._server.stop, GRACE)
        await self._adopt()
        stack.push_async_callback(self._keep_learned)
        scheduler = self._schedule()
        stack.callback(scheduler.stop)
        stack.push_async_callback(self.checker.drain, GRACE)
        stack.callback(scheduler.pause)

    async def _keep_lead(self) -> None:
        """Stop where another leads: its session outlived ours. While the database is away nobody can take the lead."""
        try:
            kept = await self._lead.take()
        except StoreUnavailable:
            return
        if not kept:
            log.critical("precall.deposed", hint="another precall leads on this database")
            self._stopped.set()

    async def _mirror(self, store: Store) -> None:
        """The parts as for a leading daemon, none of them running."""
        self.store = store
        self.table, index, seq = await recall_table(store, self._clock())
        self.feed = Feed(index)
        self.ledger = self._make_ledger(index)
        self.ledger.saving = False
        self.checker = await self._make_checker(seq, logged=0.0)
        self.checker.asks = False
        self.demand = self._make_demand()
        self.registry = Registry(self.ledger, self.table, self.config.policies(), self._clock)
        self.source = None
        self._show()
        self._server.services = replace(self._services(), standby=True)

    async def _open_store(self, *, auto_migrate: bool) -> Store:
        store = self.config.store
        return await Store.open(
            store.database,
            timeout=store.timeout,
            history=store.history,
            key_file=store.key_file,
            auto_migrate=auto_migrate,
        )

    async def _finish_writing(self) -> None:
        self.ledger.close()
        if self._writer is not None:
            await asyncio.wait({self._writer})

    async def serve(self, announce: Callable[[list[str]], None] = lambda _urls: None) -> None:
        """Run until SIGTERM or SIGINT, then drain; a second one ends the process at once."""
        loop = asyncio.get_running_loop()

        def asked_to_stop(number: int) -> None:
            if self._stopped.is_set():
                os._exit(128 + number)
            log.info("precall.stopping", signal=signal.Signals(number).name)
            self._stopped.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked_to_stop, number)
        starting = asyncio.create_task(self.start(), name="start")
        stopping = asyncio.create_task(self._stopped.wait(), name="stop")
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            log.info("precall.stopped")
            return
        stopping.cancel()
        announce(starting.result())
        await self._stopped.wait()
        await self.stop()
        if self._writer is not None and not self._writer.cancelled() and (broken := self._writer.exception()):
            raise broken

    @asynccontextmanager
    async def running(self) -> AsyncIterator[list[str]]:
        """Started inside, stopped after."""
        urls = await self.start()
        try:
            yield urls
        finally:
            await self.stop()

    # -- the parts ---------------------------------------------------------------------------------------

    def _make_provider(self) -> Provider:
        return Provider(
            provider_settings(self.config.provider),
            self._credentials,
            wall=self._wall,
            monotonic=self._monotonic,
            # Unique, not secret: the system's own randomness costs a turn of the interpreter's lock each time.
            nonce=lambda: f"{random.getrandbits(128):032x}",
        )

    def _make_ledger(self, index: int) -> Ledger:
        return Ledger(
            self.store,
            self.table,
            self.feed,
            self.config.policies(),
            self.metrics,
            clock=self._clock,
            monotonic=self._monotonic,
            index=index,
        )

    async def _adopt(self) -> None:
        """Plan the checks of all that was loaded, in slices: readers are answered already."""
        with _without_collections():
            await self.checker.sweep()

    async def _make_checker(self, seq: int, *, logged: float) -> Checker:
        """The checker; `logged` is the share of bindings whose dials and answers it logs."""
        config, store, now = self.config, self.store, self._clock()
        rate, marks = config.provider.rate, await store.marks()
        checker = Checker(
            provider=self._provider,
            ledger=self.ledger,
            table=self.table,
            planner=recall_planner(marks.get("learned", "{}"), rate, config.freshness),
            quota=Quota(rate, config.provider.burst or max(1.0, rate), now),
            brake=await recall_brake(store, config.brake, now),
            policy=config.policies(),
            metrics=self.metrics,
            sample=await recall_sample(store, logged, partial(secrets.token_hex, 16)),
            max_in_flight=config.provider.max_in_flight,
            seq=seq,
            clock=self._clock,
            monotonic=self._monotonic,
            chance=self._chance,
        )
        for pool_key in await store.pauses():
            checker.pause(pool_key)
        return checker

    def _make_demand(self) -> Demand:
        return Demand(self.checker, self.table, self.metrics, clock=self._clock, monotonic=self._monotonic)

    def _make_source(self) -> Source | None:
        if not self.config.source.configured:
            return None
        return Source(
            self.config.source,
            self.registry,
            self.table,
            self.metrics,
            clock=self._clock,
            monotonic=self._monotonic,
        )

    def _services(self, number_hash_key: str = "") -> Services:
        config = self.config
        policy = config.policies()
        audit = Audit(self.store, self.ledger, self.metrics, self._clock, bytes.fromhex(number_hash_key))
        return Services(
            config=config.api,
            table=self.table,
            feed=self.feed,
            ledger=self.ledger,
            lookup=Lookup(
                table=self.table,
                checker=self.checker,
                demand=self.demand,
                audit=audit,
                policy=policy,
                clock=self._clock,
            ),
            audit=audit,
            registry=self.registry,
            source=self.source,
            checker=self.checker,
            demand=self.demand,
            store=self.store,
            metrics=self.metrics,
            clock=self._clock,
            monotonic=self._monotonic,
            chance=self._chance,
            version=__version__,
        )

    def _schedule(self) -> Scheduler:
        scheduler = Scheduler()
        scheduler.every(TICK, self._tick, "check tick")
        scheduler.every(LEAD, self._keep_lead, "lead")
        scheduler.every(SWEEP, self._sweep, "sweep")
        scheduler.every(LEARN, self._keep_learned, "keep what was learned")
        scheduler.every(RETAIN, self._retain, "retention")
        if self.source is not None:
            scheduler.once(self._first_sync, "first source sync")
            scheduler.every(self.config.source.every, self._sync, "source sync")
        scheduler.start()
        return scheduler

    async def _tick(self) -> None:
        self.metrics.scheduler_lag.set(max(0.0, self._monotonic() - self.checker.ticked_at - TICK))
        await self.checker.tick()
        self.checker.look_at_brakes()

    async def _sweep(self) -> None:
        self.demand.forget_hints()
        await self.checker.sweep(SWEEP_PAUSE)

    async def _first_sync(self) -> None:
        """What it takes in will stay."""
        with _without_collections():
            await self._sync()

    async def _sync(self) -> None:
        if self.source is not None:
            # Only the end of the daemon cancels it; the next start goes on.
            with suppress(asyncio.CancelledError):
                await self.source.sync()

    async def _keep_learned(self) -> None:
        try:
            await self.store.mark({"learned": json.dumps(self.checker.planner.export())})
        except StoreUnavailable as error:
            log.warning("learned.not_kept", error=str(error))

    async def _retain(self) -> None:
        config = self.config
        await retire(
            self.store,
            self.table,
            self.ledger,
            config.policies(),
            now=self._clock(),
            retention=config.store.retention,
        )

    def _show(self) -> None:
        """Gauges that are asked for at scrape time."""
        metrics, checker = self.metrics, self.checker
        metrics.show_states(self.table.count)
        metrics.show(metrics.rate_limit, lambda: checker.quota.rate)
        metrics.show(metrics.oldest_age, lambda: checker.planner.oldest(self._clock()))
        metrics.show(metrics.wrong_at_dial, lambda: checker.wrong_at_dial)
        metrics.show(metrics.budget_short, lambda: float(checker.short_of_budget))
        metrics.show(metrics.degraded, lambda: float(checker.outage.degraded))
        metrics.show(metrics.circuit_open, lambda: float(checker.circuit.is_open))
        metrics.show(metrics.paused, lambda: float(len(checker.paused)))
        metrics.show(metrics.store_pending, lambda: float(self.ledger.pending))

    def _guard(self, task: "asyncio.Task[None]") -> None:
        """The writer must not end by itself: without it nothing is true any more."""
        if not task.cancelled() and (error := task.exception()):
            log.critical("ledger.broken", exc_info=error)
            self._stopped.set()
