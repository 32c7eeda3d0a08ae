"""Fencing tokens: a former leader cannot write any more, even while it still believes that it leads.

A leader can lose its lock (`leader_lock`) without noticing: its session ends while the process is suspended or cut off
from the server, or its lock file is deleted. Each term therefore has a fencing token, an increasing number stored in
`marks`. Every write transaction first locks that row and compares the stored token with its own.

Issuing a new token waits for transactions in progress; later ones under the old token are refused. The same row lock
keeps a write from starting before the server has finished an earlier one that was given up.

On PostgreSQL a token is at least the number of milliseconds since 2020 by the server's clock. A failover that loses the
last commit therefore cannot issue the same token twice. On SQLite tokens are counted. An invalid stored value counts
as 0.
"""

import re

from sqlalchemy import func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.errors import LeadershipLost
from precall.store.bulk import upsert
from precall.store.schema import marks

MARK = "reign"
"""The name of the token in `marks`. Existing databases have it, so it must not change."""
SILENCE = 3.0
"""Seconds a leader may be idle inside a transaction before the server ends it. A leader that was cut off must not block
its successor."""

RAISE = """
INSERT INTO marks AS m (name, value)
VALUES ('reign', floor(1000 * extract(epoch FROM clock_timestamp() - timestamptz '2020-01-01 00:00:00Z'))::bigint::text)
ON CONFLICT (name) DO UPDATE SET value = greatest(
    CASE WHEN m.value ~ '^[0-9]{1,18}$' THEN m.value::bigint ELSE 0 END + 1, excluded.value::bigint)::text
RETURNING value
"""
"""Issues the next token on PostgreSQL. It runs in the session that holds the leader lock."""
HELD = "'{}' = (SELECT value FROM marks WHERE name = 'reign')"
END_SILENT = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE relation = 'marks'::regclass AND database = datid AND mode = 'RowShareLock' AND pid <> pg_backend_pid()
AND usename = current_user AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - interval '3 s'
"""
"""Ends transactions of a former leader that has been silent for `SILENCE` between preparing and executing a statement.
The server does not regard these as idle."""

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_silence = func.set_config("idle_in_transaction_session_timeout", f"{SILENCE:g}s", true())


async def count_up(connection: AsyncConnection) -> int:
    """Store and return the next token, inside a transaction on SQLite."""
    stored = await connection.scalar(select(marks.c.value).where(marks.c.name == MARK)) or ""
    token = (int(stored) if _NUMBER.fullmatch(stored) else 0) + 1
    await connection.execute(upsert(connection.dialect.name, marks), [{"name": MARK, "value": str(token)}])
    return token


async def confirm(connection: AsyncConnection, token: int, name: str) -> None:
    """Lock the token until this transaction ends, so that no other leader can write to the database called `name`.

    Raises LeadershipLost unless `token` is the stored one.
    """
    held = select(marks.c.value).where(marks.c.name == MARK, marks.c.value == str(token))
    if connection.dialect.name == "postgresql":
        held = held.add_columns(_silence).with_for_update()
    if await connection.scalar(held) is None:
        raise LeadershipLost(f"{name}: another precall has taken the lead")
