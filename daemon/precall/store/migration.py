"""The one door to Alembic: which schema a database has, which one this version needs, and the way there."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from precall.core.errors import SchemaOutdated
from precall.store.connection import DatabaseAddress, close, failures_of

PATIENCE = 30.0
"""Seconds to wait for a lock or an answer, unless told otherwise: another process may be migrating."""

LONGEST = 86_400.0
"""Seconds a migration of many rows may take."""

LOCK = text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=int.from_bytes(b"precall", "big"))
"""Of two processes that migrate at once the second waits, and finds all done. (SQLite has one writer anyway.)"""


def scripts() -> Path:
    """The folder of the migrations: inside the package when installed, beside `daemon/` in a source checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent.parent / "migrations"


def head() -> str:
    """The revision that this version needs."""
    found = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if found is None:
        raise AssertionError("there are no migrations")
    return found


async def current(url: str, timeout: float = PATIENCE) -> str:
    """The revision that the database at `url` has, "" for none."""
    return await run(url, _revision, timeout, writes=False)


async def upgrade(url: str, timeout: float = PATIENCE) -> None:
    """Bring the database at `url` to `head`, in one transaction; create it when there is none.

    Raises StoreUnavailable, StoreError, and SchemaOutdated when a newer precall has written it.
    """
    found = await current(url, timeout)
    if found == head():
        return
    _refuse_newer(found, url)
    await run(url, _upgrade, timeout, writes=True)


async def check(url: str, timeout: float = PATIENCE) -> None:
    """Raise SchemaOutdated, naming the cure, unless the database at `url` has the schema of this version."""
    found = await current(url, timeout)
    if found == head():
        return
    _refuse_newer(found, url)
    raise SchemaOutdated(
        f"{DatabaseAddress(url).name} has schema {found or 'none'}, this version needs {head()}:"
        " run `precall migrate --config FILE`"
    )


def _refuse_newer(found: str, url: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if found and found not in known:
        raise SchemaOutdated(
            f"{DatabaseAddress(url).name} has schema {found}, which this version does not know:"
            " a newer precall wrote it. Install that version, or restore the copy from before"
        )


def alembic_config(connection: Connection | None = None) -> Config:
    """What Alembic's commands need to find the migrations; they run on `connection` if there is one."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""


def _upgrade(connection: Connection) -> str:
    if connection.dialect.name == "postgresql":
        connection.execute(LOCK)
    command.upgrade(alembic_config(connection), "head")
    return ""


async def run(url: str, work: Callable[[Connection], str], timeout: float, *, writes: bool) -> str:
    """Run `work` in one transaction on a connection of its own and return its result.

    Reads may take twice `timeout` seconds; writes are not bounded, since a migration rewrites whole tables.
    """
    place = DatabaseAddress(url)
    engine = place.engine(timeout, writes=writes, patience=LONGEST if writes else 0.0)
    try:
        with failures_of(place.name):
            async with asyncio.timeout(None if writes else 2 * timeout), engine.begin() as connection:
                return await connection.run_sync(work)
    finally:
        await close(engine, timeout)
