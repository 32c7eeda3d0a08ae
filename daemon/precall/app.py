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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from precall import __version__
from precall.api.server import Server
from precall.api.services import Services
from precall.audit import Audit
from precall.calls import Calls
from precall.checker import Checker
from precall.config import Config, ProviderConfig, secret
from precall.core.dials import Sample
from precall.core.errors import ConfigError, StoreError, StoreUnavailable
from precall.core.exposure import Brake
from precall.core.model import Cause
from precall.core.planner import Planner
from precall.core.quota import Quota
from precall.core.routing import expired_locally
from precall.feed import Feed
from precall.ledger import Ledger
from precall.log import get_logger
from precall.lookup import Lookup
from precall.metrics import Metrics
from precall.outcomes import Outcomes
from precall.provider import Credential, Credentials, Provider, ProviderSettings
from precall.registry import Registry
from precall.scheduler import Scheduler
from precall.source import Source
from precall.store import Lead, Store
from precall.table import Table

log = get_logger(__name__)

T = TypeVar("T")

TICK = 0.05
SWEEP = 30.0
SWEEP_PAUSE = 0.01
"""Seconds between slices of a sweep: of a million bindings it takes a minute, and a tenth of a core."""
LEARN = 60.0
RETAIN = 3600.0
CALLS = 1.0
RETRY = 1.0
TURN = 0.5
POLITE = 3.0
LEAD = 1.0
GRACE = 5.0
STARTS = 1000  # whose first index is remembered, for readers who were told it
PATIENCE = 3.0
MILLENNIUM = 1_577_836_800  # 2020-01-01T00:00:00Z: change indexes are never below the milliseconds since then


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
    ledger: Ledger
    feed: Feed
    registry: Registry
    outcomes: Outcomes
    calls: Calls
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
        self._polite_until = 0.0

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
        async with AsyncExitStack() as mirror:
            await self._stand_by(self._lead, mirror, urls)
            await self._insist(partial(self._brought_up, stack), urls)
        return urls

    async def _insist(self, work: Callable[[], Awaitable[T]], urls: list[str]) -> T:
        """Do what needs the database, as often as it takes until it is there."""
        since = None
        while True:
            try:
                result = await work()
            except StoreUnavailable as error:
                if since is None:
                    since = self._monotonic()
                    log.error("store.down", error=str(error), retry_every=RETRY, listen=urls)
                self._server.waiting = "store: the database is out of reach; it is tried every second"
            else:
                if since is not None:
                    log.warning("store.back", seconds=round(self._monotonic() - since, 1))
                return result
            await asyncio.sleep(RETRY)

    async def _brought_up(self, stack: AsyncExitStack) -> None:
        async with AsyncExitStack() as attempt:
            await self._bring_up(attempt)
            stack.push_async_exit(attempt.pop_all())

    async def _bring_up(self, stack: AsyncExitStack) -> None:
        config = self.config
        self.store = await self._open_store(auto_migrate=config.store.migrates)
        stack.push_async_callback(self.store.close)
        with _without_collections():
            index, seq = await self._load()
        await self.store.state_policy(config.policies())
        self.feed = await self._open_feed(index)
        self.ledger = self._make_ledger(self.feed.newest)
        self._writer = asyncio.create_task(self.ledger.run(), name="ledger")
        self._writer.add_done_callback(self._guard)
        stack.push_async_callback(self._finish_writing)
        self.checker = await self._make_checker(seq, logged=config.store.dial_log)
        self.registry = Registry(self.ledger, self.table, config.policies(), self._clock)
        self.outcomes = self._make_outcomes()
        stack.push_async_callback(self.outcomes.close)
        self.calls = self._make_calls()
        self.source = self._make_source()
        self._show()
        self._server.services = self._services(
            await self.store.secret("number_hash_key", secrets.token_hex(32))
        )
        stack.push_async_callback(self._server.stop, GRACE)
        await self._adopt()
        await self.outcomes.recall()
        stack.push_async_callback(self._keep_learned)
        scheduler = self._schedule()
        stack.callback(scheduler.stop)
        stack.push_async_callback(self.calls.drain, GRACE)
        stack.push_async_callback(self.checker.drain, GRACE)
        stack.callback(scheduler.pause)

    async def _stand_by(self, lead: Lead, stack: AsyncExitStack, urls: list[str]) -> None:
        """While another daemon leads: answer reads from what that one stores, loaded anew every second, or every few
        times as long as loading takes. Nothing is checked or written, and no real number leaves."""
        if await self._insist(lead.take, urls):
            return
        log.warning("precall.standby", listen=urls)
        self._server.waiting = "standby: another precall leads on this database, which cannot be read yet"
        mirrored, due = False, 0.0
        while not await self._take_over(lead):
            begun = self._monotonic()
            if begun >= due:
                try:
                    if not mirrored:
                        self.store = await self._open_store(auto_migrate=False)
                        stack.push_async_callback(self.store.close)
                        mirrored = True
                    await self._mirror()
                except StoreError as error:
                    log.debug("standby.blind", error=str(error))
                due = self._monotonic() + max(1.0, 4 * (self._monotonic() - begun))
            await asyncio.sleep(TURN)
            if self._server.services is not None:
                self._server.services.checker.ticked_at = self._monotonic()
        log.warning("precall.takes_over", listen=urls)

    async def _take_over(self, lead: Lead) -> bool:
        """Take the lead of one who is gone. After a loss of the database the one who led is let go first."""
        if self._monotonic() < self._polite_until:
            return False
        try:
            return await lead.take()
        except StoreUnavailable:
            self._polite_until = self._monotonic() + POLITE
            return False

    async def _keep_lead(self) -> None:
        """Stop where another leads: its session outlived ours. While the database is away nobody can take the lead."""
        try:
            kept = await self._lead.take()
        except StoreUnavailable:
            return
        if not kept:
            log.critical("precall.deposed", hint="another precall leads on this database")
            self._stopped.set()

    async def _mirror(self) -> None:
        """The parts as for a leading daemon, none of them running."""
        index, seq = await self._load()
        self.feed = Feed(index)
        self.ledger = self._make_ledger(index)
        self.ledger.saving = False
        self.checker = await self._make_checker(seq, logged=0.0)
        self.checker.asks = False
        self.registry = Registry(self.ledger, self.table, self.config.policies(), self._clock)
        self.outcomes = self._make_outcomes()
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

    async def _load(self) -> tuple[int, int]:
        """Fill the table from the database; the index to go on from and the newest sequence number."""
        self.table = Table()
        async for rows in self.store.load():
            self.table.load(rows)
        committed, seq = await self.store.high_water()
        return max(committed + 1, int((self._clock() - MILLENNIUM) * 1000)), seq

    async def _open_feed(self, index: int) -> Feed:
        """The change feed from `index` on, or from above every index an earlier start went on from. Each start's own is
        remembered before a reader is told of it."""
        bases = json.loads((await self.store.marks()).get("bases", "[]"))
        base = max([index, *(earlier + 1 for earlier in bases)])
        await self.store.mark({"bases": json.dumps([*bases, base][-STARTS:])})
        return Feed(base, bases)

    async def _adopt(self) -> None:
        """Plan the checks of all that was loaded, in slices: readers are answered already."""
        with _without_collections():
            await self.checker.sweep()

    async def _make_checker(self, seq: int, *, logged: float) -> Checker:
        """The checker; `logged` is the share of bindings whose dials and answers it logs."""
        config, marks = self.config, await self.store.marks()
        rate = config.provider.rate
        planner = self._make_planner(marks.get("learned", "{}"))
        checker = Checker(
            provider=self._provider,
            ledger=self.ledger,
            table=self.table,
            planner=planner,
            quota=Quota(rate, config.provider.burst or max(1.0, rate), self._clock()),
            brake=await self._recall_brake(),
            policy=config.policies(),
            metrics=self.metrics,
            sample=await self._sample(logged),
            max_in_flight=config.provider.max_in_flight,
            seq=seq,
            clock=self._clock,
            monotonic=self._monotonic,
            chance=self._chance,
        )
        for pool_key in await self.store.pauses():
            checker.pause(pool_key)
        return checker

    async def _sample(self, share: float) -> Sample:
        """Whose dials and answers are logged, under pseudonyms that this database's own secret makes."""
        key = await self.store.secret("dial_key", secrets.token_hex(16)) if share else ""
        return Sample(share, bytes.fromhex(key))

    def _make_planner(self, learned: str) -> Planner:
        """The planner, with what it learned in an earlier life. What cannot be read of it is dropped."""
        freshness = self.config.freshness
        make = partial(
            Planner,
            self.config.provider.rate,
            max_age=freshness.max_age,
            abnormal_max_age=freshness.abnormal_max_age,
            min_interval=freshness.min_interval,
            abnormal_min_interval=freshness.abnormal_min_interval,
        )
        try:
            return make(learned=json.loads(learned) or None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("learned.dropped", error=type(error).__name__)
            return make()

    def _make_outcomes(self) -> Outcomes:
        return Outcomes(
            store=self.store,
            ledger=self.ledger,
            table=self.table,
            checker=self.checker,
            metrics=self.metrics,
            clock=self._clock,
        )

    def _make_calls(self) -> Calls:
        return Calls(
            provider=self._provider,
            store=self.store,
            ledger=self.ledger,
            table=self.table,
            checker=self.checker,
            outcomes=self.outcomes,
            metrics=self.metrics,
            per_minute=self.config.provider.call_detail_rate_per_minute,
            clock=self._clock,
        )

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

    async def _recall_brake(self) -> Brake:
        """The brake as it stood: a restart does not reopen it."""
        settings = self.config.brake
        brake = Brake(settings.share, settings.floor, settings.window)
        orders = await self.store.brakes()
        for pool_key, order in orders.items():
            if order["engaged"]:
                brake.halt(pool_key)
        released = {pool_key: order["at"] for pool_key, order in orders.items() if not order["engaged"]}
        for pool_key, at in await self.store.turned(self._clock() - settings.window):
            if at > max(released.get(pool_key, 0.0), released.get("", 0.0)):
                brake.recall(pool_key, at)
        return brake

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
                audit=audit,
                policy=policy,
                clock=self._clock,
            ),
            audit=audit,
            registry=self.registry,
            source=self.source,
            checker=self.checker,
            outcomes=self.outcomes,
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
        scheduler.every(CALLS, self.calls.tick, "call details")
        scheduler.every(LEAD, self._keep_lead, "lead")
        scheduler.every(SWEEP, partial(self.checker.sweep, SWEEP_PAUSE), "sweep")
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
        """Drop history, and bindings that expired, longer ago than the retention."""
        before = self._clock() - self.config.store.retention
        try:
            await self.store.retire(before)
            await self.store.calls.retire(before)
        except StoreUnavailable as error:
            log.warning("retention.postponed", error=str(error))
            return
        policy = self.config.policies()
        for rows in self.table.slices(500):
            for row in rows:
                end = row.binding.expires_at
                if end is not None and end < before and expired_locally(row.binding, policy, self._clock()):
                    self.ledger.submit(row.binding.subs_id, Cause.REMOVED, lambda _row, _index: None)
            await asyncio.sleep(0)

    def _show(self) -> None:
        """Gauges that are asked for at scrape time."""
        metrics, checker = self.metrics, self.checker
        metrics.show_states(self.table.count)
        metrics.show(metrics.rate_limit, lambda: checker.quota.rate)
        metrics.show(metrics.oldest_age, lambda: checker.planner.oldest(self._clock()))
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
