"""Replacement of PostgreSQL sessions that have become useless, above all after a failover.

Behind a virtual address or a pooler, a session stays with the server it first reached. If that server is no longer the
primary, the session is dropped, so that the next one can reach the new primary.
"""

import re
from typing import Any

from sqlalchemy import Engine, event, exc

from precall.core.errors import StoreError

OLDEST = 14
"""The oldest supported major version: the first with `idle_session_timeout`, which ends a silent leader's session."""

MOVED_ON = re.compile(r"25006|25P0[34]|57P0[1-5]|08...")
"""SQLSTATEs after which a session is useless. The server is read-only (a standby or demoted primary), shutting down or
starting up; it ended the idle session; or the pooler lost the server."""


def require_version(connection: Any, name: str) -> None:
    """Raise StoreError if the server of the database called `name` is too old."""
    version = connection.get_server_version()
    if version.major < OLDEST:
        raise StoreError(f"{name} is PostgreSQL {version.major}: precall needs {OLDEST} or newer")


def watch_sessions(engine: Engine) -> None:
    """Keep the pool of `engine` from handing out useless sessions."""
    event.listen(engine, "connect", _look_whether_read_only)
    event.listen(engine, "checkout", _refuse_unfit)
    event.listen(engine, "handle_error", _drop_moved_on)


def _look_whether_read_only(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SELECT current_setting('transaction_read_only')")
    record.info["read_only"] = cursor.fetchone()[0] == "on"
    cursor.close()
    connection.rollback()


def _refuse_unfit(connection: Any, record: Any, _proxy: object) -> None:
    # The pool then opens a new session, so a restart of the server goes unnoticed.
    if connection.driver_connection.is_closed():
        raise exc.DisconnectionError
    # A read-only session serves once: reads work, and the next session may reach the primary.
    if record.info.get("read_only") and record.info.get("used"):
        raise exc.DisconnectionError
    record.info["used"] = True


def _drop_moved_on(context: Any) -> None:
    if MOVED_ON.fullmatch(getattr(context.original_exception, "sqlstate", None) or ""):
        context.is_disconnect = True
