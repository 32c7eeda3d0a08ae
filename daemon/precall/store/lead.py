"""Which of several daemons on one database leads: checks, and writes. The others stand by until it is gone.

For SQLite it is who holds the lock on the file `<database>.lock` beside the database. The kernel lets go of it with
the process, however that ends; the file itself stays and means nothing.

For PostgreSQL it is whose session holds an advisory lock. The server lets go of it with the session: at once when the
process ends, after some four seconds when its machine does. A session can also be lost while its daemon lives: the
lead must be asked for again and again, also by who has it. Until it is told, it may believe that it leads: `reign`
keeps it from writing. (A pooler that shares sessions between transactions would break this: connect to the server
itself.)
"""

import fcntl
import os
from typing import Any

from precall.core.errors import StoreError, StoreUnavailable
from precall.store.connection import Place, failures_of
from precall.store.reign import BEGIN, SILENCE

KEY = int.from_bytes(b"pc_lead", "big")
WATCH = {"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "2"}


class Lead:
    """The lead over the database at `url`, held or not. `timeout` (seconds) bounds one question to a server."""

    def __init__(self, url: str, timeout: float = 1.0) -> None:
        place = Place(url)
        self._lock = _File(f"{place.name}.lock") if place.is_sqlite else _Session(place, timeout)

    async def take(self) -> bool:
        """Take it if nobody has it; whether it is ours now.

        Raises StoreError when that cannot be told, StoreUnavailable when it cannot be told now.
        """
        return await self._lock.take()

    async def begin_reign(self) -> str:
        """Shut out everybody who led before, once the tables are there. The name by which a store may write from now
        on; "" where it needs none. To be done before anything is read that is to be gone on from.

        Raises StoreUnavailable when another leads by now, or an earlier leader's transaction does not end.
        """
        return await self._lock.begin_reign()

    async def leave(self) -> None:
        """Let another have it."""
        await self._lock.leave()


class _File:
    def __init__(self, path: str) -> None:
        self._path, self._file = path, -1

    async def take(self) -> bool:
        if self._file >= 0:
            return True
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

    async def begin_reign(self) -> str:
        return ""

    async def leave(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _Session:
    def __init__(self, place: Place, timeout: float) -> None:
        self._place, self._timeout = place, timeout
        self._session: Any = None
        self._held = False

    async def take(self) -> bool:
        if self._session is not None and self._session.is_closed():
            self._session = None
            if not self._held:
                # The server was away: whoever led is let go first.
                raise StoreUnavailable(f"{self._place.name} broke the connection")
        if self._session is None:
            self._held = False
            self._session = await self._place.session(self._timeout, WATCH)
        # A session takes its own lock as often as it likes; once is enough.
        question = "SELECT true" if self._held else f"SELECT pg_try_advisory_lock({KEY})"
        try:
            with failures_of(self._place.name):
                self._held = await self._session.fetchval(question, timeout=self._timeout)
        except BaseException:
            self._session.terminate()
            raise
        return self._held

    async def begin_reign(self) -> str:
        if not await self.take():
            raise StoreUnavailable(f"{self._place.name}: another precall leads")
        with failures_of(self._place.name):
            # In the session that holds the lock: when that is lost, so is this.
            return str(await self._session.fetchval(BEGIN, timeout=self._timeout + SILENCE))

    async def leave(self) -> None:
        session, self._session, self._held = self._session, None, False
        if session is not None and not session.is_closed():
            try:
                # Once the server has closed it, the lock is surely free.
                await session.close(timeout=self._timeout)
            except Exception:  # noqa: BLE001  a server that is gone, or hangs, ends the session by itself
                session.terminate()
