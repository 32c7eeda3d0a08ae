"""The stored rows, read once by who is not the daemon: no lock, no write, no schema brought to head."""

from collections.abc import AsyncIterator
from pathlib import Path

from precall.core.packing import Packed
from precall.store import key_registry, migration, rows
from precall.store.cipher import Cipher
from precall.store.connection import DatabaseAddress, close, failures_of


async def snapshot(url: str, timeout: float, key_file: Path | None = None) -> AsyncIterator[list[Packed]]:
    """All rows of the database at `url`, in batches; none when there is no such SQLite file yet.

    Raises SchemaOutdated, StoreError, StoreUnavailable, ConfigError for a `key_file` that cannot be used.
    """
    place, seals = DatabaseAddress(url), Cipher.of(key_file)
    if _absent(place):
        return
    await migration.check(url, timeout)
    engine = place.engine(timeout, writes=False)
    try:
        with failures_of(place.name):
            async with engine.connect() as connection:
                await key_registry.admit(connection, seals, place.name)
                async for batch in rows.read(connection, seals):
                    yield batch
    finally:
        await close(engine, timeout)


def _absent(place: DatabaseAddress) -> bool:
    """Whether looking would make a file."""
    return place.is_sqlite and not Path(place.name).exists()
