"""Leader election among the daemons on one database. The leader checks bindings and writes; the others stand by.

On SQLite the leader holds a lock on the file `<database>.lock`. The kernel releases the lock when the process ends for
any reason; the file itself remains and has no meaning. A stopped process (SIGSTOP, a debugger) keeps the lock, so no
other can take over until it continues or is killed.

On PostgreSQL the leader's session holds an advisory lock and sends a query every `PING` seconds. The server ends a
session that is silent for `LIMIT` seconds, which releases the lock. A leader that hangs, is suspended or loses the
network is thus replaced. The process itself would notice too late, and the kernel answers TCP keepalives even for a
stopped process. Only the server's clock matters.

A daemon can lose its session without noticing and still believe that it leads; `fencing` then keeps it from writing. A
transaction pooler would break this scheme: connect directly or in session mode. A lock taken on a read-only standby
server does not count, because nothing can be written there.
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
"""Seconds of silence after which PostgreSQL ends the leader's session. Loading, migrating and draining yield to the
event loop far more often."""
PING = 0.5
MIN_PAUSE = 0.05
"""Minimum seconds between two queries to a server that ends every session."""
WATCH = {"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "2"}
WRITABLE = "current_setting('transaction_read_only') = 'off'"


class LeaderLock:
    """The leader lock of the database at `url`. `timeout` (seconds) bounds each round trip to a server.

    Between `take` and `leave` a background task keeps confirming the lock. `when_lost` is called once, when another
    daemon has become the leader; `when_broken` is called with the error if that task fails.
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
        address = DatabaseAddress(url)
        timeout = min(timeout, limit / 2)
        self._lock = (
            _FileLock(address, timeout)
            if address.is_sqlite
            else _SessionLock(address, timeout, limit, self.doubt)
        )
        self._ping = min(PING, limit / 8)
        self._when_lost, self._when_broken = when_lost, when_broken
        self._turn, self._wake = asyncio.Lock(), asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._is_lost = self._is_known = False
        self._doubts = 0

    @property
    def is_known(self) -> bool:
        """Whether no doubt has arisen since the lead was last confirmed, or the server was found unreachable."""
        return self._is_known

    async def take(self) -> bool:
        """Take the lock if it is free. Return whether this daemon holds it.

        Raises StoreUnavailable if that cannot be determined now, StoreError if it cannot be determined at all.
        """
        async with self._turn:
            taken = not self._is_lost and await self._lock.take()
        if taken and self._keeping is None:
            self._is_known = True
            self._keeping = guarded(self._keep(), "lead", self._broken)
        return taken

    async def fence(self) -> int:
        """Exclude all former leaders and return the fencing token for this one's writes.

        The schema must exist. Call this before reading any state that the leader will build on.

        Raises StoreUnavailable if another daemon leads by now, or a former leader's transaction does not end.
        """
        async with self._turn:
            if self._is_lost or not await self._lock.take():
                raise StoreUnavailable("another precall leads on this database")
            return await self._lock.fence()

    def doubt(self) -> None:
        """Confirm the lock at once, because it may have been lost."""
        self._is_known = False
        self._doubts += 1
        self._wake.set()

    def lose(self) -> None:
        """Note that another daemon leads, as a refused write has shown."""
        self._is_known = False
        if not self._is_lost:
            self._is_lost = True
            self._when_lost()
        self._wake.set()

    async def leave(self) -> None:
        """Release the lock."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            await cancel_and_wait(keeping)
        await self._lock.leave()

    async def _keep(self) -> None:
        while not self._is_lost:
            self._wake.clear()
            doubts, held = self._doubts, True
            async with self._turn:
                # An unreachable server: the leader is unknown, but no other daemon can take the lock either.
                with suppress(StoreError):
                    held = await self._lock.take()
            if not held:
                self.lose()
                return
            # An answer to a query sent before a doubt arose does not settle it.
            self._is_known = doubts == self._doubts
            if not self._is_known:
                await asyncio.sleep(MIN_PAUSE)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._ping):
                    await self._wake.wait()

    def _broken(self, error: BaseException) -> None:
        self._is_known = False
        self._when_broken(error)


class _FileLock:
    def __init__(self, address: DatabaseAddress, timeout: float) -> None:
        self._address, self._timeout = address, timeout
        self._path, self._file = f"{address.name}.lock", -1

    async def take(self) -> bool:
        if self._file >= 0:
            if self._is_in_place():
                return True
            # Deleted or replaced: another daemon may have locked the new file.
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

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), Path(self._path).stat())
        except OSError:
            return False

    async def fence(self) -> int:
        engine = self._address.engine(self._timeout, writes=True)
        try:
            with failures_of(self._address.name):
                async with engine.begin() as connection:
                    return await count_up(connection)
        finally:
            await close(engine, self._timeout)

    async def leave(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _SessionLock:
    """An advisory lock. `on_session_end` is called when the session that holds it ends."""

    def __init__(
        self, address: DatabaseAddress, timeout: float, limit: float, on_session_end: Callable[[], None]
    ) -> None:
        self._address, self._timeout, self._limit = address, timeout, limit
        self._on_session_end = on_session_end
        self._session: Any = None
        self._holds = self._has_led = False
        self._token = 0

    async def take(self) -> bool:
        if self._session is not None and self._session.is_closed():
            self._drop()
            if not self._has_led:
                # The server was away. The previous leader gets the first chance to reconnect.
                raise StoreUnavailable(f"{self._address.name} broke the connection")
        if self._session is not None and self._holds:
            # A lost session says nothing about the server; only a new one can.
            with suppress(StoreUnavailable):
                if await self._ask(WRITABLE):
                    return True
            self._drop()
        if self._session is None:
            self._session = await self._address.session(self._timeout, WATCH)
        return await self._try_lock()

    async def _try_lock(self) -> bool:
        # One statement: a process stopped between two would hold the lock without the idle timeout.
        limited = f"set_config('idle_session_timeout', '{self._limit * 1000:.0f}', false) <> ''"
        locked = f"WHEN pg_try_advisory_lock({KEY}) THEN {limited}"
        if not await self._ask(f"CASE WHEN {WRITABLE} THEN CASE {locked} ELSE false END ELSE false END"):
            if not await self._ask(WRITABLE):
                self._drop()
                raise StoreUnavailable(
                    f"{self._address.name} is read-only, a standby perhaps: name its primary"
                )
            return False
        if self._token and not await self._ask(HELD.format(self._token)):
            self._drop()
            return False  # another daemon has led in the meantime
        self._holds = self._has_led = True
        self._session.add_termination_listener(self._ended)
        return True

    async def fence(self) -> int:
        output = bytearray()

        async def append(content: bytes) -> None:
            output.extend(content)

        with failures_of(self._address.name):
            await self._session.execute(END_SILENT, timeout=self._timeout)
            # In the session that holds the lock, so that losing the lock also aborts this.
            await self._session.copy_from_query(RAISE, output=append, timeout=self._timeout + SILENCE)
        self._token = int(output)
        return self._token

    async def leave(self) -> None:
        session, self._session = self._session, None
        self._holds, self._has_led, self._token = False, False, 0
        if session is not None and not session.is_closed():
            try:
                # Wait for the server to close it: only then is the lock certainly free.
                await session.close(timeout=self._timeout)
            except Exception:  # noqa: BLE001  a server that is gone or hangs ends the session by itself
                session.terminate()

    async def _ask(self, condition: str) -> bool:
        """Return whether a condition holds.

        Every query of this session is a single message, never a prepared statement. Between preparation and execution
        the server does not count a session as idle, and would never end that of a silent leader.
        """
        try:
            with failures_of(self._address.name):
                query = f"SELECT 1 WHERE {condition}"
                return bool(await self._session.execute(query, timeout=self._limit / 2) == "SELECT 1")
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        session, self._session, self._holds = self._session, None, False
        if session is not None and not session.is_closed():
            session.terminate()

    def _ended(self, session: Any) -> None:
        if session is self._session:
            self._on_session_end()
