"""Which PostgreSQL sessions are of use, after a failover above all.

Behind a virtual address or a pooler a session says which server it is with only as it begins. One that meets a server
that is no primary any more is dropped, so that the next one finds the primary.
"""

import re
from typing import Any

from sqlalchemy import Engine, event, exc

from precall.core.errors import StoreError

OLDEST = 14
"""The oldest PostgreSQL that ends the session of a leader that is silent (`idle_session_timeout`)."""

MOVED_ON = re.compile(r"25006|25P0[34]|57P0[1-5]|08...")
"""Conditions of PostgreSQL after which a session is of no use: its server is read-only (a standby, or a primary of the
past), shuts down or starts, has ended the session for its silence, or a pooler has lost the server."""


def require_version(connection: Any, name: str) -> None:
    """Raise StoreError when the server of the database called `name` is too old."""
    found = connection.get_server_version()
    if found.major < OLDEST:
        raise StoreError(f"{name} is PostgreSQL {found.major}: precall needs {OLDEST} or newer")


def watch_sessions(engine: Engine) -> None:
    """Let the pool of `engine` hand out no session that is of no use."""
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
    # The pool makes another one then: after a restart of the server nobody notices.
    if connection.driver_connection.is_closed():
        raise exc.DisconnectionError
    # A session with a read-only server serves once: it can be read from, and the next one may find the primary.
    if record.info.get("read_only") and record.info.get("used"):
        raise exc.DisconnectionError
    record.info["used"] = True


def _drop_moved_on(context: Any) -> None:
    if MOVED_ON.fullmatch(getattr(context.original_exception, "sqlstate", None) or ""):
        context.is_disconnect = True
