"""A SQLite database that another process has locked."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from tests.support.patience import PATIENCE


@asynccontextmanager
async def locked(file: Path, kind: str = "IMMEDIATE") -> AsyncIterator[sqlite3.Connection]:
    """Hold the lock of a file: `IMMEDIATE` keeps writers out, `EXCLUSIVE` readers, too.

    A daemon in this loop may hold the lock. So it is asked for again and again: to wait for it would block the loop,
    and with it the transaction that is to end.
    """
    with closing(sqlite3.connect(file, isolation_level=None, timeout=0.0)) as other:
        async with asyncio.timeout(PATIENCE):
            while not await _begun(other, kind):
                await asyncio.sleep(0.005)
        try:
            yield other
        finally:
            other.execute("ROLLBACK")


async def _begun(other: sqlite3.Connection, kind: str) -> bool:
    try:
        other.execute(f"BEGIN {kind}")
    except sqlite3.OperationalError:
        return False
    return True
