"""Which of several daemons on one database leads: checks, and writes. The others stand by until it is gone.

On SQLite the leader holds the lock on the file `<database>.lock` beside the database. The kernel releases it with the
process, however that ends; the file itself stays and means nothing. A process that is stopped (SIGSTOP, a debugger)
still holds it: nothing can take over until it goes on or is killed.

On PostgreSQL the leader's session holds an advisory lock, and asks something every `PING` seconds. The server ends a
session that is silent for `LIMIT` seconds, and the lock with it: so a leader that hangs, stands still or is parted from
the server is replaced. The process would be too late to do this itself, and the kernel answers TCP keepalives for
one that is stopped. The clock is the server's alone.

A session can also be lost while its daemon lives. Until that is known, the daemon may believe that it leads: `fencing`
keeps it from writing. (A pooler that shares sessions between transactions would break this: connect to the server
itself, or in session mode.) A lock taken on a read-only standby server is no lead: nothing can be written there.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from precall.concurrency import cancel_and_wait, guarded
from precall.core.errors import StoreError, StoreUnavailable
from precall.store.connection import DatabaseAddress, close, failures_of
from precall.store.fencing import END_SILENT, HELD, RAISE, SILENCE, count_up

KEY = int.from_bytes(b"pc_lead", "big")
LIMIT = 4.0
"""Seconds of silence after which PostgreSQL ends the session of a leader. Loading, migrating and draining yield to the
event loop far more often."""
PING = 0.5
BREATH = 0.05
"""Least seconds between two questions to a server that ends every session."""
WATCH = {"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "2"}
WRITABLE = "current_setting('transaction_read_only') = 'off'"


class LeaderLock:
    """The lead over the database at `url`, held or not. `timeout` (seconds) bounds the way to a server.

    From `take` until `leave` a task of its own asks for it again and again. `when_lost` is called once, when another
    daemon leads instead; `when_broken` with the error, should that task end by one.
    """

    def __init__(
        self,
        url: str,
        timeout: float = 1.0,
        *,
        limit: float = LIMIT,
        when_lost: Callable[[], None] = lambda: None,
        when_broken: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        place = DatabaseAddress(url)
        timeout = min(timeout, limit / 2)
        self._lock = _File(place, timeout) if place.is_sqlite else _Session(place, timeout, limit, self.doubt)
        self._ping = min(PING, limit / 8)
        self._when_lost, self._when_broken = when_lost, when_broken
        self._turn, self._wake = asyncio.Lock(), asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._is_lost = self._is_known = False
        self._doubts = 0

    @property
    def is_known(self) -> bool:
        """Whether nothing has put the lead in doubt since it was last confirmed, or the server found out of reach."""
        return self._is_known

    async def take(self) -> bool:
        """Take it if it is free; whether it is ours now.

        Raises StoreError when that cannot be found out, StoreUnavailable when it cannot be found out now.
        """
        async with self._turn:
            taken = not self._is_lost and await self._lock.take()
        if taken and self._keeping is None:
            self._is_known = True
            self._keeping = guarded(self._keep(), "lead", self._broken)
        return taken

    async def fence(self) -> int:
        """Shut out all who led before, once the tables are there: the fencing token by which a store may write from now
        on. To be done before anything is read that is to be gone on from.

        Raises StoreUnavailable when another leads by now, or an earlier leader's transaction does not end.
        """
        async with self._turn:
            if self._is_lost or not await self._lock.take():
                raise StoreUnavailable("another precall leads on this database")
            return await self._lock.fence()

    def doubt(self) -> None:
        """Ask at once: something may have happened to it."""
        self._is_known = False
        self._doubts += 1
        self._wake.set()

    def lose(self) -> None:
        """Another daemon leads: a write was refused for that."""
        self._is_known = False
        if not self._is_lost:
            self._is_lost = True
            self._when_lost()
        self._wake.set()

    async def leave(self) -> None:
        """Let another have it."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            await cancel_and_wait(keeping)
        await self._lock.leave()

    async def _keep(self) -> None:
        while not self._is_lost:
            self._wake.clear()
            doubts, kept = self._doubts, True
            async with self._turn:
                # Out of reach: who leads cannot be told, and nobody else can be.
                with suppress(StoreError):
                    kept = await self._lock.take()
            if not kept:
                self.lose()
                return
            # What was asked before a doubt does not answer it.
            self._is_known = doubts == self._doubts
            if not self._is_known:
                await asyncio.sleep(BREATH)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._ping):
                    await self._wake.wait()

    def _broken(self, error: BaseException) -> None:
        self._is_known = False
        self._when_broken(error)


class _File:
    def __init__(self, place: DatabaseAddress, timeout: float) -> None:
        self._place, self._timeout = place, timeout
        self._path, self._file = f"{place.name}.lock", -1

    async def take(self) -> bool:
        if self._file >= 0:
            if self._is_there():
                return True
            # Deleted or replaced: another daemon may hold the new one.
            await self.leave()
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"{self._path} cannot be written: give this user write access to it and its directory"
                f" ({error.strerror})"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), Path(self._path).stat())
        except OSError:
            return False

    async def fence(self) -> int:
        engine = self._place.engine(self._timeout, writes=True)
        try:
            with failures_of(self._place.name):
                async with engine.begin() as connection:
                    return await count_up(connection)
        finally:
            await close(engine, self._timeout)

    async def leave(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _Session:
    """`shaken` is called when the session that holds the lock ends."""

    def __init__(
        self, place: DatabaseAddress, timeout: float, limit: float, shaken: Callable[[], None]
    ) -> None:
        self._place, self._timeout, self._limit, self._shaken = place, timeout, limit, shaken
        self._session: Any = None
        self._holds = self._has_led = False
        self._token = 0

    async def take(self) -> bool:
        if self._session is not None and self._session.is_closed():
            self._drop()
            if not self._has_led:
                # The server was away: the daemon that led is let go first.
                raise StoreUnavailable(f"{self._place.name} broke the connection")
        if self._session is not None and self._holds:
            # A session that is lost says nothing of the server: only a new one can.
            with suppress(StoreUnavailable):
                if await self._ask(WRITABLE):
                    return True
            self._drop()
        if self._session is None:
            self._session = await self._place.session(self._timeout, WATCH)
        return await self._try_lock()

    async def _try_lock(self) -> bool:
        # In one statement: a process that is stopped between two would hold the lock without a limit.
        limited = f"set_config('idle_session_timeout', '{self._limit * 1000:.0f}', false) <> ''"
        locked = f"WHEN pg_try_advisory_lock({KEY}) THEN {limited}"
        if not await self._ask(f"CASE WHEN {WRITABLE} THEN CASE {locked} ELSE false END ELSE false END"):
            if not await self._ask(WRITABLE):
                self._drop()
                raise StoreUnavailable(
                    f"{self._place.name} is read-only, a standby perhaps: name its primary"
                )
            return False
        if self._token and not await self._ask(HELD.format(self._token)):
            self._drop()
            return False  # another has led meanwhile
        self._holds = self._has_led = True
        self._session.add_termination_listener(self._ended)
        return True

    async def fence(self) -> int:
        found = bytearray()

        async def keep(content: bytes) -> None:
            found.extend(content)

        with failures_of(self._place.name):
            await self._session.execute(END_SILENT, timeout=self._timeout)
            # In the session that holds the lock: when that is lost, so is this.
            await self._session.copy_from_query(RAISE, output=keep, timeout=self._timeout + SILENCE)
        self._token = int(found)
        return self._token

    async def leave(self) -> None:
        session, self._session = self._session, None
        self._holds, self._has_led, self._token = False, False, 0
        if session is not None and not session.is_closed():
            try:
                # Once the server has closed it, the lock is surely free.
                await session.close(timeout=self._timeout)
            except Exception:  # noqa: BLE001  a server that is gone, or hangs, ends the session by itself
                session.terminate()

    async def _ask(self, question: str) -> bool:
        """Whether it is true. Whatever this session asks is one message, and no prepared statement: between preparation
        and execution the server does not take a session for idle, and would wait for a silent leader for ever."""
        try:
            with failures_of(self._place.name):
                asked = f"SELECT 1 WHERE {question}"
                return bool(await self._session.execute(asked, timeout=self._limit / 2) == "SELECT 1")
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        session, self._session, self._holds = self._session, None, False
        if session is not None and not session.is_closed():
            session.terminate()

    def _ended(self, session: Any) -> None:
        if session is self._session:
            self._shaken()
