"""What a database remembers of its seals, among its marks: which keys it needs, and secrets of its own.

A key is noted in the transaction that first seals with it, and forgotten when nothing is sealed with it any more. The
note itself is sealed, so that it tells a wrong key from the right one.
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
"""The marks that are secrets: whoever knows one can tell by trial which number is behind a pseudonym or a hash."""

_PROOF = "precall"


async def admit(connection: AsyncConnection, seals: Cipher, name: str) -> None:
    """See that all that is sealed in the database called `name` can be opened. Writes nothing.

    Raises StoreError, which says what to do, when a key is missing.
    """
    if not await connection.run_sync(lambda sync: inspect(sync).has_table(marks.name)):
        return
    for key, proof in (await needed(connection)).items():
        if not seals:
            raise StoreError(
                f"{name} holds sealed numbers: set store.number_key_file to the file with key {key}"
            )
        if key not in seals.names:
            raise StoreError(
                f"{name} holds numbers sealed with key {key}, which is not in {seals.file}: restore that file from"
                " its copy, or put the line of that key back"
            )
        seals.open(MARKS.of("value", NEEDS + key), proof)


async def needed(connection: AsyncConnection) -> dict[str, str]:
    """The keys that the database needs, with the proofs of them."""
    found = await connection.execute(
        select(marks.c.name, marks.c.value).where(marks.c.name.startswith(NEEDS, autoescape=True))
    )
    return {name.removeprefix(NEEDS): value for name, value in found}


async def begin(connection: AsyncConnection, seals: Cipher) -> None:
    """Note that the newest key is needed from now on. With the first of all the view for SQL readers goes, which could
    not read a number any more; and a database without a number in it holds none but sealed ones from then on."""
    name = NEEDS + seals.newest
    known = await needed(connection)
    if seals.newest in known:
        return
    noted = {name: seals.seal(MARKS.of("value", name), _PROOF)}
    if not known:
        await connection.execute(text("DROP VIEW IF EXISTS routing_table"))
        if not await _holds_numbers(connection):
            noted[STRICT] = "1"
    await _note(connection, noted)


async def is_strict(connection: AsyncConnection) -> bool:
    """Whether a number that is not sealed is none of ours."""
    return await connection.scalar(select(marks.c.value).where(marks.c.name == STRICT)) is not None


async def complete(connection: AsyncConnection, seals: Cipher) -> list[str]:
    """Everything is sealed with the newest key: forget the others. Gives the names of those that were needed before."""
    earlier = [key for key in await needed(connection) if key != seals.newest]
    await connection.execute(delete(marks).where(marks.c.name.in_([NEEDS + key for key in earlier])))
    await _note(connection, {STRICT: "1"})
    return earlier


async def secret(connection: AsyncConnection, seals: Cipher, name: str, fresh: str) -> str:
    """The database's own secret of this name, `fresh` if it has none yet. One that has lain there in plain is replaced
    where numbers are sealed: copies of the database know it."""
    place = MARKS.of("value", name)
    kept = await connection.scalar(select(marks.c.value).where(marks.c.name == name)) or ""
    if kept and (is_sealed(kept) or not seals):
        opened = seals.open(place, kept)
        if not is_sealed(kept) or key_of(kept) == seals.newest:
            return opened
        fresh = opened
    await _note(connection, {name: seals.seal(place, fresh)})
    return fresh


async def _note(connection: AsyncConnection, values: dict[str, str]) -> None:
    rows = ({"name": name, "value": value} for name, value in values.items())
    await execute_many(connection, upsert(connection.dialect.name, marks), rows)


async def _holds_numbers(connection: AsyncConnection) -> bool:
    one = union_all(*(select(literal(1)).select_from(places.table) for places in EVERYWHERE)).limit(1)
    return await connection.scalar(one) is not None
