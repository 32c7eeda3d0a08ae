"""Whether a connection of PostgreSQL's driver is a session of its own.

A pooler that shares sessions between transactions would break two promises: the lead is a lock that lasts as long as a
session, and the limits of each session are settings of it. What such a pooler gives away is the server process that
answers: it changes between two transactions, or two connections share one.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from precall.core.errors import StoreError

PROCESS = "SELECT pg_backend_pid()"
ROUNDS = 3
LOST_STATEMENTS = ("26000", "42P05")
"""Conditions of a prepared statement that is missing, or is there already: another session answers than was asked."""


async def require_session(
    connection: Any, connect: Callable[[], Awaitable[Any]], name: str, timeout: float
) -> None:
    """Raise StoreError when the database called `name` is behind a transaction pooler.

    `connection` has begun no transaction, `connect` makes another one. A server that is reached directly costs one
    question. Where it does not answer within `timeout` (seconds), or lets no second connection in, all is taken to be
    well: a pooler of sessions that has none left does just that.
    """
    try:
        own = await connection.fetchval(PROCESS, timeout=timeout)
        # What the server said at the start of the session; a pooler says something of its own.
        if own == connection.get_server_pid() or await _keeps(connection, own, connect, timeout):
            return
    except Exception as error:
        if getattr(error, "sqlstate", None) not in LOST_STATEMENTS:
            raise
    raise StoreError(shared(name))


def shared(name: str) -> str:
    """What to do about a transaction pooler."""
    return (
        f"{name} is behind a pooler that shares sessions between transactions (PgBouncer: pool_mode = transaction):"
        " name the server itself in store.url, or a pool in session mode"
    )


async def _keeps(connection: Any, own: int, connect: Callable[[], Awaitable[Any]], timeout: float) -> bool:
    """Whether `connection` is always answered by the process `own`, and another connection by another one."""
    try:
        other = await connect()
    except Exception:  # noqa: BLE001  no room for a second one: who has the first keeps it
        return True
    try:
        with suppress(TimeoutError):
            others: list[int] = []
            answers: list[int] = []
            for _ in range(ROUNDS):
                # Twice each: whether the connection used last is lent, or the one used longest ago.
                answers += [await connection.fetchval(PROCESS, timeout=timeout) for _ in range(2)]
                others += [await other.fetchval(PROCESS, timeout=timeout) for _ in range(2)]
            return set(answers) == {own} and len(set(others)) == 1 and own not in others
        return True
    finally:
        other.terminate()
