"""No statement of every day reads a whole table: by the count of such scans on PostgreSQL, by the plans on SQLite."""

import asyncio
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event

from precall.core.calls.call import Call
from precall.core.model import Exposure
from precall.store import Store
from tests.integration.store.test_store import a_change, a_check, a_removal, a_row
from tests.support.postgres import psql, sql

pytestmark = pytest.mark.slow

ROWS = 20_000
SCANS = """
SELECT relname FROM pg_stat_user_tables WHERE seq_scan > 0
  AND relname IN ('bindings', 'routes', 'overrides', 'check_results', 'route_changes', 'exposures', 'calls')
"""


@pytest.fixture
async def full(store_url: str) -> str:
    """A database with rows in every large table, as it is some days later."""
    store = await Store.open(store_url, timeout=20.0, auto_migrate=True)
    for at in range(1, ROWS, 5000):
        rows = [a_row(str(n), index=n) for n in range(at, at + 5000)]
        checks = [a_check(row.index, row.binding.subs_id) for row in rows]
        await store.commit([a_change(row, at=float(row.index)) for row in rows], checks)
    await store.close()
    sql(
        store_url,
        "INSERT INTO exposures"
        " (subs_id, generation, pool_key, reader, side, reason, request_id, first_at, last_at, count)"
        " SELECT subs_id, 1, 'FC1', 'me', 'b', 'status_3', 'R', first_at, first_at, 1 FROM check_results",
        "INSERT INTO calls (call_id, prod_id, called_at, subs_id, reported_at, state, result, detail, next_at,"
        " pool_key, route_state, source) SELECT subs_id, 1, first_at, subs_id, first_at, '', 'pending', '{}',"
        " first_at + 180, 'FC1', 'normal', '' FROM check_results",
        "INSERT INTO overrides SELECT subs_id, 1, 'hold', '', NULL, '', 1, 'op', '' FROM bindings",
        "ANALYZE",
    )
    if store_url.startswith("postgresql"):
        psql(store_url, "SELECT pg_stat_reset()")
    return store_url


async def every_day(store: Store) -> None:
    """Run the statements that a daemon executes regularly, except for loading."""
    rows = [a_row(str(n), index=n, seq=n) for n in range(15_000, 15_600)]
    checks = [a_check(ROWS + row.index, row.binding.subs_id) for row in rows]
    await store.commit([], checks, rows)
    await store.commit([], [replace(check, seq=check.seq + ROWS, status=2) for check in checks[:300]])
    await store.commit([a_change(replace(row, index=row.index + ROWS)) for row in rows[:20]])
    await store.commit([a_removal(rows[30], 3 * ROWS)])
    await store.expose(Exposure("17000", 1, "FC1", "you", "b", "status_3", "R", 1e6))
    await store.history("15100", limit=10)
    await store.exposures(limit=10)
    await store.changes(ROWS - 10, ROWS + 10, limit=10)
    await store.changes(ROWS - 10, ROWS + 10, pool_keys=["FC1"], limit=10)
    await store.knows(7)
    await store.turned(5.0)
    await store.retire(300.0, batch=100)
    await call_about(store)


async def call_about(store: Store) -> None:
    """Run the statements about calls. Only the report and the backlog count read many rows."""
    told = [Call(str(n), float(n), float(n), str(n), next_at=n + 180.0) for n in range(19_000, 20_300)]
    await store.calls.file(told)
    await store.calls.due(300.0, 100)
    await store.calls.postpone([("19001", 9e9), ("19002", None)])
    await store.calls.get("19003")
    await store.calls.page(before=(19_500.0, "19500"), limit=100)
    await store.calls.page(before=None, limit=10, subs_id="19003")
    await store.calls.counts(20_000.0)
    await store.calls.ended(20_000.0, 100)
    await store.calls.file_numbers([("1", 1.0, True)], 2.0)
    await store.calls.numbers(1.0)
    await store.calls.retire(300.0, batch=200)


async def test_no_routine_statement_scans_a_whole_table(full: str) -> None:
    store = await Store.open(full, timeout=20.0, auto_migrate=False)
    statements: dict[str, Any] = {}

    def note(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        statements[statement] = parameters[0] if many else parameters

    event.listen(Engine, "before_cursor_execute", note)
    try:
        await every_day(store)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    if full.startswith("postgresql"):
        await store.close()
        await asyncio.sleep(0.2)
        assert psql(full, SCANS) == []
        return
    await store.close()
    plans = {}
    with closing(sqlite3.connect(full.removeprefix("sqlite:///"))) as connection:
        for statement, parameters in list(statements.items()):
            if (
                not statement.startswith(("SELECT", "UPDATE", "DELETE"))
                or "ORDER BY exposures.id" in statement
            ):
                continue  # the last by key are not the whole
            found = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans[statement] = [row[-1] for row in found]
    assert len(plans) > 12
    whole = re.compile(r"SCAN (?!anon|\(|marks|observed_pools|CONSTANT)")
    scanned = {
        line for plan in plans.values() for line in plan if whole.match(line) and " USING " not in line
    }
    assert not scanned
