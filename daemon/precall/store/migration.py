"""Schema migrations: the revision of a database, the one this version needs, and the upgrade to it.

All use of Alembic is in this module.
"""

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
"""Default seconds to wait for a lock or a reply. Another process may be migrating."""

LONGEST = 86_400.0
"""Upper limit, in seconds, for a migration of many rows."""

LOCK = text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=int.from_bytes(b"precall", "big"))
"""Serializes migrations on PostgreSQL: a second process waits and finds nothing to do. SQLite has one writer anyway."""


def scripts() -> Path:
    """Return the folder of migrations: in the package when installed, beside `daemon/` in a source checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent.parent / "migrations"


def head() -> str:
    """Return the revision that this version needs."""
    revision = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if revision is None:
        raise AssertionError("there are no migrations")
    return revision


async def current(url: str, timeout: float = PATIENCE) -> str:
    """Return the revision of the database at `url`, or "" if it has none."""
    return await run(url, _revision, timeout, writes=False)


async def upgrade(url: str, timeout: float = PATIENCE) -> None:
    """Migrate the database at `url` to `head` in one transaction, creating it if needed.

    Raises StoreUnavailable, StoreError, or SchemaOutdated if a newer precall wrote the database.
    """
    revision = await current(url, timeout)
    if revision == head():
        return
    _refuse_newer(revision, url)
    await run(url, _upgrade, timeout, writes=True)


async def check(url: str, timeout: float = PATIENCE) -> None:
    """Raise SchemaOutdated, with a remedy, unless the database at `url` has the schema of this version."""
    revision = await current(url, timeout)
    if revision == head():
        return
    _refuse_newer(revision, url)
    raise SchemaOutdated(
        f"{DatabaseAddress(url).name} has schema {revision or 'none'}, this version needs {head()}:"
        " run `precall migrate --config FILE`"
    )


def _refuse_newer(revision: str, url: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if revision and revision not in known:
        raise SchemaOutdated(
            f"{DatabaseAddress(url).name} has schema {revision}, which this version does not know:"
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
    address = DatabaseAddress(url)
    engine = address.engine(timeout, writes=writes, patience=LONGEST if writes else 0.0)
    try:
        with failures_of(address.name):
            async with asyncio.timeout(None if writes else 2 * timeout), engine.begin() as connection:
                return await connection.run_sync(work)
    finally:
        await close(engine, timeout)
