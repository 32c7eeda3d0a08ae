"""The keys a database depends on, and its own secrets, both stored in `marks`.

A key is registered in the first transaction that seals a value with it, and removed once no value is sealed with it.
The entry is itself a sealed value, so opening it proves that a key with the right name is the right key.
"""

from sqlalchemy import delete, inspect, literal, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from precall.core.errors import StoreError
from precall.store.bulk import execute_many, upsert
from precall.store.cipher import Cipher, is_sealed, key_of
from precall.store.schema import marks
from precall.store.sealed_columns import EVERYWHERE, MARKS

NEEDS = "sealed_by:"
STRICT = "all_sealed"
SECRETS = ("dial_key", "number_hash_key")
"""Marks that are secrets. With one of them, a pseudonym or hash can be reversed by trying numbers."""

_PROOF = "precall"


async def admit(connection: AsyncConnection, cipher: Cipher, name: str) -> None:
    """Check that `cipher` has every key needed by the database called `name`. Writes nothing.

    Raises StoreError, with a remedy, if a key is missing.
    """
    if not await connection.run_sync(lambda sync: inspect(sync).has_table(marks.name)):
        return
    for key, proof in (await needed(connection)).items():
        if not cipher:
            raise StoreError(
                f"{name} holds sealed numbers: set store.number_key_file to the file with key {key}"
            )
        if key not in cipher.names:
            raise StoreError(
                f"{name} holds numbers sealed with key {key}, which is not in {cipher.file}: restore that file from"
                " its copy, or put the line of that key back"
            )
        cipher.open(MARKS.location("value", NEEDS + key), proof)


async def needed(connection: AsyncConnection) -> dict[str, str]:
    """Return the names of the keys the database needs, each with its proof."""
    entries = await connection.execute(
        select(marks.c.name, marks.c.value).where(marks.c.name.startswith(NEEDS, autoescape=True))
    )
    return {name.removeprefix(NEEDS): value for name, value in entries}


async def begin(connection: AsyncConnection, cipher: Cipher) -> None:
    """Register the newest key as needed from now on.

    The first key also drops the view for SQL readers, which could no longer read any number. If the database holds
    no numbers yet, it is marked strict: from then on every number must be sealed.
    """
    name = NEEDS + cipher.newest
    known = await needed(connection)
    if cipher.newest in known:
        return
    entries = {name: cipher.seal(MARKS.location("value", name), _PROOF)}
    if not known:
        await connection.execute(text("DROP VIEW IF EXISTS routing_table"))
        if not await _holds_numbers(connection):
            entries[STRICT] = "1"
    await _put(connection, entries)


async def is_strict(connection: AsyncConnection) -> bool:
    """Return whether every number in this database must be sealed."""
    return await connection.scalar(select(marks.c.value).where(marks.c.name == STRICT)) is not None


async def complete(connection: AsyncConnection, cipher: Cipher) -> list[str]:
    """Unregister all keys but the newest, now that everything is sealed with it. Return the names removed."""
    earlier = [key for key in await needed(connection) if key != cipher.newest]
    await connection.execute(delete(marks).where(marks.c.name.in_([NEEDS + key for key in earlier])))
    await _put(connection, {STRICT: "1"})
    return earlier


async def secret(connection: AsyncConnection, cipher: Cipher, name: str, fresh: str) -> str:
    """Return the database's secret of this name, storing `fresh` if there is none.

    With keys, a secret stored in plain is replaced by `fresh`: copies of the database contain the old one.
    """
    location = MARKS.location("value", name)
    stored = await connection.scalar(select(marks.c.value).where(marks.c.name == name)) or ""
    if stored and (is_sealed(stored) or not cipher):
        opened = cipher.open(location, stored)
        if not is_sealed(stored) or key_of(stored) == cipher.newest:
            return opened
        fresh = opened
    await _put(connection, {name: cipher.seal(location, fresh)})
    return fresh


async def _put(connection: AsyncConnection, values: dict[str, str]) -> None:
    rows = ({"name": name, "value": value} for name, value in values.items())
    await execute_many(connection, upsert(connection.dialect.name, marks), rows)


async def _holds_numbers(connection: AsyncConnection) -> bool:
    any_row = union_all(*(select(literal(1)).select_from(sealed.table) for sealed in EVERYWHERE)).limit(1)
    return await connection.scalar(any_row) is not None
