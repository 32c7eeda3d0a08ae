"""Read-only access to the stored rows for commands outside the daemon, without lock, write or migration."""

from collections.abc import AsyncIterator
from pathlib import Path

from precall.core.packing import Packed
from precall.store import key_registry, migration, rows
from precall.store.cipher import Cipher
from precall.store.connection import DatabaseAddress, close, failures_of


async def snapshot(url: str, timeout: float, key_file: Path | None = None) -> AsyncIterator[list[Packed]]:
    """Yield all rows of the database at `url` in batches; nothing if its SQLite file does not exist yet.

    Raises SchemaOutdated, StoreError, StoreUnavailable, or ConfigError for an unusable `key_file`.
    """
    address, cipher = DatabaseAddress(url), Cipher.of(key_file)
    if _absent(address):
        return
    await migration.check(url, timeout)
    engine = address.engine(timeout, writes=False)
    try:
        with failures_of(address.name):
            async with engine.connect() as connection:
                await key_registry.admit(connection, cipher, address.name)
                async for batch in rows.read(connection, cipher):
                    yield batch
    finally:
        await close(engine, timeout)


def _absent(address: DatabaseAddress) -> bool:
    """Return whether opening the database would create a file."""
    return address.is_sqlite and not Path(address.name).exists()
