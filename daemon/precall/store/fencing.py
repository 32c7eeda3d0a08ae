"""The fence around a database: a daemon that led before cannot write any more, whatever it still believes.

The lock that makes a leader (`lead`) can be lost without its daemon noticing: a session ends while its process stands
still or is parted from the server, a lock file is deleted. So each lead has a fencing token, a number that only rises
and stands among the marks. Every transaction of a leader begins with locking that row and comparing the token with its
own. A new token waits for transactions under way; those that begin later under the old one are refused whole. The same
lock lets no write begin before the server is done with an earlier one that was given up.

On PostgreSQL a token is never below the milliseconds since 2020 by the server's clock: a failover that loses the last
commit cannot lead to the same token twice. On SQLite it is counted. A stored value that is not a number counts as 0.
"""

import re

from sqlalchemy import func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.errors import LeadershipLost
from precall.store.bulk import upsert
from precall.store.schema import marks

MARK = "reign"
"""The name of the token among the marks. It stays as it was first written: databases in use have it."""
SILENCE = 3.0
"""Seconds a leader may be silent in the middle of a transaction before the server ends it: one that was parted from the
server holds up no successor."""

RAISE = """
INSERT INTO marks AS m (name, value)
VALUES ('reign', floor(1000 * extract(epoch FROM clock_timestamp() - timestamptz '2020-01-01 00:00:00Z'))::bigint::text)
ON CONFLICT (name) DO UPDATE SET value = greatest(
    CASE WHEN m.value ~ '^[0-9]{1,18}$' THEN m.value::bigint ELSE 0 END + 1, excluded.value::bigint)::text
RETURNING value
"""
"""For PostgreSQL, in the session that holds the lock."""
HELD = "'{}' = (SELECT value FROM marks WHERE name = 'reign')"
END_SILENT = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE relation = 'marks'::regclass AND database = datid AND mode = 'RowShareLock' AND pid <> pg_backend_pid()
AND usename = current_user AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - interval '3 s'
"""
"""Ends transactions of an earlier leader that has been silent for `SILENCE` between the preparation of a statement and
its execution: the server does not take them for idle."""

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_silence = func.set_config("idle_in_transaction_session_timeout", f"{SILENCE:g}s", true())


async def count_up(connection: AsyncConnection) -> int:
    """Store the next token, in a transaction on SQLite, and return it."""
    stored = await connection.scalar(select(marks.c.value).where(marks.c.name == MARK)) or ""
    token = (int(stored) if _NUMBER.fullmatch(stored) else 0) + 1
    await connection.execute(upsert(connection.dialect.name, marks), [{"name": MARK, "value": str(token)}])
    return token


async def confirm(connection: AsyncConnection, token: int, name: str) -> None:
    """Let nobody else write to the database called `name` until this transaction ends. Raises Deposed unless `token` is
    the one that is stored."""
    held = select(marks.c.value).where(marks.c.name == MARK, marks.c.value == str(token))
    if connection.dialect.name == "postgresql":
        held = held.add_columns(_silence).with_for_update()
    if await connection.scalar(held) is None:
        raise LeadershipLost(f"{name}: another precall has taken the lead")
