"""Detection of transaction poolers in front of PostgreSQL.

A pooler that shares sessions between transactions breaks two assumptions: the leader lock lasts as long as a session,
and timeouts are settings of a session. Such a pooler is recognizable by the server process that answers. It changes
between two transactions, or two connections share one.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from precall.core.errors import StoreError

PROCESS = "SELECT pg_backend_pid()"
ROUNDS = 3
LOST_STATEMENTS = ("26000", "42P05")
"""SQLSTATEs for a prepared statement that is missing or already exists: the query reached a different session."""


async def require_session(
    connection: Any, connect: Callable[[], Awaitable[Any]], name: str, timeout: float
) -> None:
    """Raise StoreError if the database called `name` is behind a transaction pooler.

    `connection` must not be in a transaction; `connect` opens another connection. A direct connection costs one query.
    If the second connection fails, or does not answer within `timeout` seconds, the check passes: a session pooler
    with no free session behaves like that.
    """
    try:
        own = await connection.fetchval(PROCESS, timeout=timeout)
        # The PID reported at session start. A pooler reports one of its own.
        if own == connection.get_server_pid() or await _keeps(connection, own, connect, timeout):
            return
    except Exception as error:
        if getattr(error, "sqlstate", None) not in LOST_STATEMENTS:
            raise
    raise StoreError(shared(name))


def shared(name: str) -> str:
    """Return the error text for a transaction pooler."""
    return (
        f"{name} is behind a pooler that shares sessions between transactions (PgBouncer: pool_mode = transaction):"
        " point store.url at the server itself, or at a pool in session mode"
    )


async def _keeps(connection: Any, own: int, connect: Callable[[], Awaitable[Any]], timeout: float) -> bool:
    """Return whether process `own` alone answers `connection`, and another process a second connection."""
    try:
        other = await connect()
    except Exception:  # noqa: BLE001  no free session left, so the first one is not shared
        return True
    try:
        with suppress(TimeoutError):
            others: list[int] = []
            answers: list[int] = []
            for _ in range(ROUNDS):
                # Two queries each, because a pooler may lend the session used last, or the one idle longest.
                answers += [await connection.fetchval(PROCESS, timeout=timeout) for _ in range(2)]
                others += [await other.fetchval(PROCESS, timeout=timeout) for _ in range(2)]
            return set(answers) == {own} and len(set(others)) == 1 and own not in others
        return True
    finally:
        other.terminate()
