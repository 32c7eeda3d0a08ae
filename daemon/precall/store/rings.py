"""The rings in the database: the history of the last hours, in a table that does not grow.

`core.rings` says which slot a moment has. The content of a slot is opaque here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.store.bulk import execute_many, upsert
from precall.store.calls import Transact
from precall.store.schema import rings


@dataclass(frozen=True, slots=True)
class RingRow:
    """What lies in one slot of a ring: `content` is JSON, `at` its moment (Unix seconds)."""

    ring: str
    slot: int
    at: float
    content: str


class RingBook:
    """The table of the rings. Methods raise StoreError, like those of `Store`."""

    def __init__(self, write: Transact, read: Transact) -> None:
        self._write, self._read = write, read

    async def keep(self, rows: Sequence[RingRow], newest: float) -> None:
        """Store `rows`, each in place of what was in its slot.

        What is later than `newest` (Unix seconds) was written by a clock that was ahead, and is deleted.
        """

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(rings).where(rings.c.at > newest))
            await execute_many(connection, upsert(connection.dialect.name, rings), map(asdict, rows))

        await self._write(work, len(rows))

    async def read(self, oldest: Mapping[str, float], newest: float) -> list[RingRow]:
        """Return the rows up to `newest`, by moment: of each ring in `oldest` those later than that moment."""

        async def work(connection: AsyncConnection) -> list[RingRow]:
            found: list[RingRow] = []
            for ring, since in oldest.items():
                wanted = select(rings).where(rings.c.ring == ring, rings.c.at > since, rings.c.at <= newest)
                rows = await connection.execute(wanted.order_by(rings.c.at))
                found += [RingRow(*row) for row in rows]
            return found

        return await self._read(work, len(oldest))
