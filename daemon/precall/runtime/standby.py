"""Wait for the database to be in reach, and for the lead on it to be free.

A daemon on standby answers reads from what the leader stores. It checks and writes nothing until it leads itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from precall.concurrency import cancel_and_wait
from precall.core.ages import Tick
from precall.core.errors import StoreError, StoreUnavailable
from precall.core.role import CurrentRole, WaitingFor
from precall.engine.process_state import ProcessState
from precall.runtime.systemd import SystemdNotifier
from precall.store import LeaderLock, Store
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

T = TypeVar("T")

RETRY = 1.0
TURN = 0.25
POLITE = 3.0
"""Seconds after an outage of the database in which the previous leader may take the lead first."""


class Standby:
    """Waits for the database and the lead, and notes in `role` which of them.

    `urls` is where the daemon listens. `alive` is called at least every second. `process` is told while the database
    cannot be read.
    """

    def __init__(
        self,
        lead: LeaderLock,
        role: CurrentRole,
        urls: list[str],
        supervisor: SystemdNotifier,
        monotonic: Callable[[], float],
        alive: Callable[[], None],
        process: ProcessState,
    ) -> None:
        self._lead, self._role, self._urls, self._monotonic = lead, role, urls, monotonic
        self._supervisor, self._alive = supervisor, alive
        self._polite_until = 0.0
        self._process = process

    async def insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Retry `work` every second until the database is in reach; return its result."""
        since = None
        while True:
            try:
                result = await work()
            except StoreUnavailable as error:
                if since is None:
                    since = self._monotonic()
                    log.error("store.down", error=str(error), retry_every=RETRY, listen=self._urls)
                    self._supervisor.ready("waits for the database")
                self._role.waiting_for = WaitingFor.DATABASE
            else:
                if since is not None:
                    log.warning("store.back", seconds=round(self._monotonic() - since, 1))
                return result
            self._alive()
            await asyncio.sleep(RETRY)

    async def take_lead(
        self,
        stack: AsyncExitStack,
        open_store: Callable[[], Awaitable[Store]],
        mirror: Callable[[Store], Awaitable[None]],
    ) -> None:
        """Return once this daemon leads.

        Until then `mirror` loads what the leader has stored: every second, or every four times as long as a load takes.
        The store that it reads is closed by `stack`.
        """
        if await self.insist(self._lead.take):
            return
        log.warning("precall.standby", listen=self._urls)
        self._supervisor.ready("stands by: another precall leads on this database")
        self._role.waiting_for = WaitingFor.LEADER
        # Loading many rows must not delay a takeover, so it runs in a task of its own.
        mirroring = asyncio.create_task(self._keep_mirroring(stack, open_store, mirror), name="mirror")
        try:
            while not await self._take_over():
                if mirroring.done():
                    mirroring.result()
                await asyncio.sleep(TURN)
                self._alive()
        finally:
            await cancel_and_wait(mirroring)
        log.warning("precall.takes_over", listen=self._urls)

    async def _keep_mirroring(
        self,
        stack: AsyncExitStack,
        open_store: Callable[[], Awaitable[Store]],
        mirror: Callable[[Store], Awaitable[None]],
    ) -> None:
        store = None
        while True:
            begun = self._monotonic()
            try:
                if store is None:
                    store = await open_store()
                    stack.push_async_callback(store.close)
                await mirror(store)
            except StoreError as error:
                self._process.blind = self._process.blind or (Tick(self._monotonic()), str(error))
                log.debug("standby.blind", error=str(error))
            else:
                self._process.blind = None
            await asyncio.sleep(max(1.0, 4 * (self._monotonic() - begun)))

    async def _take_over(self) -> bool:
        """Take the lead if it is free. After an outage of the database, the previous leader is given a head start."""
        if self._monotonic() < self._polite_until:
            return False
        try:
            return await self._lead.take()
        except StoreUnavailable:
            self._polite_until = self._monotonic() + POLITE
            return False
