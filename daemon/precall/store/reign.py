"""The fence around a PostgreSQL database: who led before cannot write any more, whatever it still believes.

The lock that makes a leader (`lead`) is lost with its session, and one who was parted from the server learns of that
only when it is whole again. So each reign has a name, which nobody had before and which stands among the marks. Every
transaction of a leader begins with locking that row and looking whether the name is still its own: a new reign waits
for what is under way, and whatever comes later is refused whole. The same lock lets no write begin before the server
is done with an earlier one of ours that we have given up.

SQLite needs none of it: the kernel takes the lock from a process only together with its files.
"""

from sqlalchemy import func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.errors import Deposed
from precall.store.schema import marks

REIGN = "reign"
SILENCE = 3.0
"""Seconds a leader may be silent amid a transaction. Then the server ends it: one that was parted holds nobody up."""

BEGIN = """
INSERT INTO marks (name, value) VALUES ('reign', gen_random_uuid()::text)
ON CONFLICT (name) DO UPDATE SET value = excluded.value RETURNING value
"""

_silence = func.set_config("idle_in_transaction_session_timeout", f"{SILENCE:g}s", true())


async def confirm(connection: AsyncConnection, reign: str, name: str) -> None:
    """Let nobody else write to the database called `name` until this transaction ends. Deposed if the reign is over."""
    wanted = select(_silence).where(marks.c.name == REIGN, marks.c.value == reign).with_for_update()
    if await connection.scalar(wanted) is None:
        raise Deposed(f"{name}: another precall has taken the lead")
