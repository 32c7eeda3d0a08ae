"""The composition root: creates all parts, starts them in order, and stops them in reverse order.

It owns the process: server, signals, leader lock, reload, scheduler. `account` owns what belongs to a cloud account.
Time, randomness and signals enter here and nowhere else.
"""

import asyncio
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from precall import __version__
from precall.api.server import Server
from precall.clocks import Clocks, boottime
from precall.concurrency import cancel_and_wait, guarded
from precall.config.schema import Config
from precall.config.settings import Settings
from precall.console.mount import mount
from precall.core.errors import ConfigError, LeadershipLost
from precall.core.role import CurrentRole, Member, Role
from precall.engine.process_state import ProcessState
from precall.engine.services import Services
from precall.runtime.account import GRACE, CloudAccount
from precall.runtime.assembly import Assembly, Surroundings
from precall.runtime.gc import collect_young
from precall.runtime.membership import Membership
from precall.runtime.reload import Reloader
from precall.runtime.scheduler import Scheduler, beat
from precall.runtime.standby import Standby
from precall.runtime.systemd import SystemdNotifier
from precall.store import LeaderLock, MemberBook, Store
from precall.telemetry.logging import get_logger, tell_folded
from precall.telemetry.metrics import Metrics

log = get_logger(__name__)

TICK = 0.05
MINUTE = 60.0
YOUNG = 1.0
CLOCK = 1.0


class Daemon:
    """The process: `start`, then reads are answered and bindings checked, until `stop`."""

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
        """`read` gives the configuration as it stands when a reload is asked for; without it: this one.

        Raises ConfigError for a file named in `config` that cannot be read.
        """
        settings = self._settings = Settings(config)
        self._supervisor = supervisor or SystemdNotifier()
        self._wall, self._monotonic, self._boottime = wall, monotonic, boottime
        self._chance = chance
        self._stopped, self._reload_asked = asyncio.Event(), asyncio.Event()
        self._stack = AsyncExitStack()
        self._scheduler: Scheduler | None = None
        self._end_by: BaseException | None = None
        self._role = CurrentRole(Role.WAITING)
        self.clocks = Clocks(wall, monotonic)
        self.metrics = Metrics()
        self.account = CloudAccount(
            settings,
            self.metrics,
            self.clocks,
            wall=wall,
            monotonic=monotonic,
            broken=self._ends_without("credentials"),
            # Unique, not secret: `random` avoids the system call that `secrets` makes for every request.
            nonce=lambda: f"{random.getrandbits(128):032x}",
        )
        self.server = self._made_server(config)
        self.lead = LeaderLock(
            config.store.database,
            config.store.timeout,
            when_lost=self._lose_lead,
            when_broken=self._ends_without("lead"),
        )
        self._membership = self._made_member(config)
        self._reloading = Reloader(
            read or (lambda: config),
            settings,
            self.server.admit,
            self.account,
            self.metrics,
            self._supervisor,
            wall=wall,
        )

        reloading, server = self._reloading, self.server
        self._process = ProcessState(
            reloading.reload, lambda: reloading.refused, lambda: server.certificate, started_at=wall()
        )

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._settings.config

    @property
    def parts(self) -> Services:
        """The parts of the account, once it is loaded."""
        return self.account.parts

    # -- start and stop: mirror images -----------------------------------------------------------------

    async def start(self) -> list[str]:
        """Bring everything up; the URLs it listens on. ConfigError, StoreError or ListenError when it cannot."""
        async with AsyncExitStack() as stack:
            urls = await self._start(stack)
            self._stack = stack.pop_all()
        bindings = len(self.parts.table)
        self.metrics.reload_ok.set(1)
        self.metrics.reload_at.set(self._wall())
        self._supervisor.ready(f"checks {bindings} bindings")
        log.info("precall.started", version=__version__, bindings=bindings, listen=urls)
        return urls

    async def stop(self) -> None:
        """Stop asking, let what is in flight end, write what is queued, close: `_start` backwards."""
        self._supervisor.stopping()
        await self._stack.aclose()
        log.info("precall.stopped")

    async def _start(self, stack: AsyncExitStack) -> list[str]:
        """Each step leaves on the stack what undoes it."""
        self._run(stack, beat(CLOCK, self._look_at_clock, "clock"), "clock")
        urls = await self.server.start()
        stack.push_async_callback(self.server.stop, GRACE)
        await self.account.start(stack)
        self._run(stack, self._reload_when_asked(), "reloads")
        stack.push_async_callback(self.lead.leave)
        stack.push_async_callback(self._membership.leave)
        self._run(stack, self._membership.run(urls[0]), "members")
        standby = Standby(
            self.lead, self._role, urls, self._supervisor, self._monotonic, self._alive, self._process
        )
        async with AsyncExitStack() as mirror:
            await standby.take_lead(mirror, partial(self._open_store, Role.STANDBY), self._mirror)
            await standby.insist(partial(self._brought_up, stack))
        return urls

    def _run(self, stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` until the stack is left. If it fails, the daemon ends."""
        task = guarded(work, name, self._ends_without(name))
        stack.push_async_callback(cancel_and_wait, task)

    async def _brought_up(self, stack: AsyncExitStack) -> None:
        async with AsyncExitStack() as attempt, self._reloading.at_work, self._supervisor.pulse():
            await self._bring_up(attempt)
            stack.push_async_exit(attempt.pop_all())

    async def _bring_up(self, stack: AsyncExitStack) -> None:
        store = await self._open_store(Role.LEADING)
        stack.push_async_callback(store.close)
        self._role = store.role
        store.when_deposed = self.lead.lose
        self._membership.token = store.fencing_token = await self.lead.fence()
        self._membership.begin()
        self.server.services = await self.account.load(store, self._assembly(), self.lead, self._boottime)
        self.account.write(stack, self._ends_without("ledger"))
        stack.push_async_callback(self.server.stop, GRACE)
        await self.account.plan()
        stack.push_async_callback(self.account.keep)
        scheduler = self._scheduler = self._schedule()
        stack.callback(scheduler.stop)
        self.account.notify(stack, self._ends_without("notifications"))
        self.account.read_queues(stack, self._ends_without("receipt queue"))
        self.account.schedule(scheduler, stack)
        stack.callback(scheduler.pause)
        scheduler.start()

    def _lose_lead(self) -> None:
        """Another daemon leads: neither write nor answer as the leader any more, and end."""
        self._end_by = LeadershipLost(
            "another precall leads on this database: started again, this one stands by"
        )
        log.critical("precall.deposed", hint="another precall leads on this database")
        self._role.fence()
        self._stopped.set()

    def _ends_without(self, task: str) -> Callable[[BaseException], None]:
        """What ends the daemon for the error that ended this background task."""

        def end(error: BaseException) -> None:
            log.critical(
                {"ledger": "ledger.broken", "lead": "lead.broken", "api watch": "api.unwatched"}.get(
                    task, "task.broken"
                ),
                task=task,
                exc_info=error,
            )
            self._end_by = self._end_by or error
            self._stopped.set()

        return end

    def _alive(self) -> None:
        """Count as alive while no check is made."""
        self._supervisor.beat()
        self.account.keep_alive()

    async def _mirror(self, store: Store) -> None:
        """Answer from what the leader has stored."""
        async with self._reloading.at_work, self._supervisor.pulse():
            self.server.services = await self.account.mirror(store, self._assembly())

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
        self._membership.begin()
        return opened

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            with suppress(ConfigError):  # it is in the log
                await self._reloading.reload()

    async def serve(self, announce: Callable[[list[str]], None] = lambda _urls: None) -> None:
        """Run until SIGTERM or SIGINT, then drain. A second signal ends the process at once.

        Raises LeadershipLost, once drained, where another daemon has taken the lead. Raises the error of a background
        task that has ended by one.
        """
        loop = asyncio.get_running_loop()

        def asked_to_stop(number: int) -> None:
            if self._stopped.is_set():
                os._exit(128 + number)
            log.info("precall.stopping", signal=signal.Signals(number).name)
            self._stopped.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        starting = asyncio.create_task(self.start(), name="start")
        stopping = asyncio.create_task(self._stopped.wait(), name="stop")
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            await cancel_and_wait(starting)
            log.info("precall.stopped")
            self._raise_why()
            return
        stopping.cancel()
        announce(starting.result())
        await self._stopped.wait()
        await self.stop()
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

    def _made_server(self, config: Config) -> Server:
        return Server(
            config.api,
            __version__,
            self.metrics,
            self._monotonic,
            self._role,
            self._ends_without("api watch"),
            partial(mount, secret=secrets.token_hex),
        )

    def _made_member(self, config: Config) -> Membership:
        this = Member(secrets.token_hex(8), socket.gethostname(), os.getpid(), "", __version__, Role.WAITING)
        book = MemberBook(config.store.database, config.store.timeout)
        return Membership(book, this, lambda: self._role.value, self._monotonic)

    def _assembly(self) -> Assembly:
        return Assembly(
            self._settings,
            self.account.provider,
            self.metrics,
            Surroundings(
                self._process,
                self._membership.known,
                self.account.recorder,
                self._ends_without("outcomes"),
            ),
            clocks=self.clocks,
            chance=self._chance,
            secret=secrets.token_hex,
        )

    def _schedule(self) -> Scheduler:
        # APScheduler plans by the clock of the machine, whatever the daemon is given for one.
        scheduler = Scheduler(time.time, lambda _name: self.metrics.job_failures.inc())
        scheduler.beat(TICK, self._tick, "check tick", self._ends_without("check tick"))
        scheduler.every(YOUNG, collect_young, "young collection")
        scheduler.every(MINUTE, self.each_minute, "each minute")
        return scheduler

    async def _tick(self) -> None:
        tick = self.clocks.tick()
        delay = max(0.0, tick - self.parts.checker.ticked_at - TICK)
        self.metrics.scheduler_lag.set(delay)
        self._process.delay.record(tick, delay)
        await self.account.tick()
        self._supervisor.beat()

    async def _look_at_clock(self) -> None:
        """Log when the wall clock was set, and at once re-evaluate everything that depends on it."""
        if not (moved := self.clocks.step()):
            return
        direction = "forward" if moved > 0 else "back"
        self.metrics.clock_steps.labels(direction).inc()
        behind = {"behind": round(self.clocks.behind, 1)} if self.clocks.behind else {}
        log.warning("clock.stepped", direction=direction, seconds=round(abs(moved), 1), **behind)
        if self._scheduler is not None:
            self._scheduler.replan()
            self.account.doubt_dates()

    async def each_minute(self) -> None:
        """Do what need not be done more often: store what was learned, log what was counted."""
        await self.account.each_minute()
        tell_folded(self._wall())
