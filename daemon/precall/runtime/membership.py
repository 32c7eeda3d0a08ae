"""The sign of life that this daemon gives on its database, as leader or on standby, and those of the others.

A database that is away, frozen or read-only keeps the sign from being given, and nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from precall.core.role import Member, Role
from precall.store import MemberBook
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

EVERY = 3.0
"""Seconds between two signs of life."""
FAREWELL = 2.0
"""Seconds that leaving may take where the last sign of life failed."""


class Membership:
    """Keeps the row of this daemon, and the newest list of all. `run` does so once `begin` was called.

    `role` is that of this daemon now. `token` is its fencing token, 0 unless it leads.
    """

    token = 0

    def __init__(
        self, book: MemberBook, this: Member, role: Callable[[], Role], monotonic: Callable[[], float]
    ) -> None:
        self._book, self._this, self._role = book, this, role
        self._monotonic, self._started_at = monotonic, monotonic()
        self._known: Sequence[Member] = ()
        self._is_listed = self._has_signed = False
        self._wake = asyncio.Event()

    def known(self) -> Sequence[Member]:
        """The daemons on this database at the last look, the leader first."""
        return self._known

    def begin(self) -> None:
        """Give a sign of life at once, because the database was opened or this daemon leads now."""
        self._wake.set()

    async def run(self, address: str) -> None:
        """Give signs of life until cancelled. `address` is the URL that this daemon listens at."""
        self._this = replace(self._this, address=address)
        await self._wake.wait()
        while True:
            self._wake.clear()
            self._is_listed = await self._tried(self._sign)
            await self._tried(self._look)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._wake.wait()

    async def leave(self) -> None:
        """Take this daemon off the list, unless the database is away, and close the connection."""
        if self._has_signed:
            with suppress(TimeoutError):
                async with asyncio.timeout(None if self._is_listed else FAREWELL):
                    await self._tried(lambda: self._book.remove(self._this))
        await self._book.close()

    async def _sign(self) -> None:
        self._book.open()
        role = self._role() if self._role() in (Role.LEADING, Role.FENCED) else Role.STANDBY
        this = replace(self._this, role=role, fencing_token=self.token)
        self._has_signed = True
        await self._book.sign(this, self._monotonic() - self._started_at)
        if not self._is_listed:
            await self._book.replace(this)

    async def _look(self) -> None:
        self._known = await self._book.read()

    async def _tried(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do `work`. Return whether it succeeded: nothing depends on it."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001  whatever fails here must not end or disturb the daemon
            log.debug("members.unreachable", error=str(error))
            return False
        return True
