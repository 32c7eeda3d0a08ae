"""The schema: from nothing to head, equal to what the code believes, and never guessed at."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from precall.core.errors import SchemaOutdated
from precall.core.model import NumberRole, Policy
from precall.store import OrderFilter, Store, check, current, head, migration, upgrade
from precall.store.connection import DatabaseAddress, close
from precall.store.migration import scripts
from precall.store.schema import metadata
from tests.support.patience import PATIENCE
from tests.support.postgres import sql


@pytest.fixture
def store_url(new_store_url: Callable[..., str]) -> str:
    """A database without anything."""
    return new_store_url(migrated=False)


async def test_an_empty_database_is_migrated_to_head(store_url: str) -> None:
    assert await current(store_url) == ""
    await upgrade(store_url)
    assert await current(store_url) == head()
    await upgrade(store_url)
    await check(store_url)


async def test_the_migrations_create_the_schema_of_the_code(store_url: str) -> None:
    await upgrade(store_url)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    engine = DatabaseAddress(store_url).engine(5.0, writes=False)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await close(engine, 5.0)


EARLIER = {
    "0001": """
INSERT INTO bindings (subs_id, generation, pool_key, number_x, number_a, number_b, extension, expires_at, labels,
  origin, registered_at)
  VALUES ('1', 7, 'FC1', '17000000001', '13800000001', '', '', 4e9, '{"k": "v"}', 'api', 1.5);
INSERT INTO routes VALUES ('1', 7, 'normal', 1, '17000000001', '', 1.5, 3, 1, '', '', 0, 0, 0, FALSE, 0, '[1.5]', 'R',
  'dial_x', 'status_1', 2, 9);
INSERT INTO overrides (subs_id, generation, action, number, until, reason, created_at, created_by)
  VALUES ('1', 7, 'hold', '', NULL, 'because', 1.5, 'op');
INSERT INTO check_results (subs_id, generation, result, status, number, extension, code, first_seq, last_seq,
  first_at, last_at, count, request_id, seconds)
  VALUES ('1', 7, 'status_1', 1, '17000000001', '', 'OK', 3, 3, 1.5, 1.5, 1, 'R', 0.1);
INSERT INTO route_changes ("index", subs_id, pool_key, generation, version, at, cause, from_state, to_state, action,
  number, extension, reason, flags, status, request_id, expires_at)
  VALUES (9, '1', 'FC1', 7, 2, 1.5, 'checked', '', 'normal', 'dial_real', '', '', 'status_1',
  '', 1, 'R', NULL);
INSERT INTO exposures (subs_id, generation, pool_key, reader, side, reason, request_id, first_at, last_at, count)
  VALUES ('1', 7, 'FC1', 'me', 'b', 'status_3', 'R', 1.5, 1.5, 1);
INSERT INTO calls (call_id, prod_id, called_at, subs_id, reported_at, state, duration, result, detail, next_at)
  VALUES ('c', 1, 1.5, '1', 1.5, '', NULL, '', '{}', NULL);
INSERT INTO marks VALUES ('high_index', '9');
INSERT INTO marks VALUES ('high_seq', '3')
""",
    "0002": "INSERT INTO policy VALUES (1, 'hold', 'hold', 1, 1, 1, 1, 1, 1, 1)",
    "0003": "INSERT INTO dial_log VALUES (1, 'b', 'p', 'x', 'dial', '', 1.5, TRUE)",
    "0004": "INSERT INTO number_reports VALUES ('1', 1.5, TRUE, 2.5)",
    "0005": "UPDATE exposures SET number_hash = 'h'",
    "0006": "UPDATE overrides SET means = ''",
    "0007": "INSERT INTO observed_pools VALUES (1, 'FC1', 1.5, NULL)",
    "0008": """
INSERT INTO orders (kind, target, action, by, at, reason, until, generation, "index") VALUES
  ('override', '1', 'hold', 'op', 1.5, 'because', NULL, 7, 9),
  ('brake', 'FC1', 'engage', 'op', 1.5, 'why', NULL, 0, NULL),
  ('pause', 'FC1', 'pause', 'op', 1.5, 'why', NULL, 0, NULL);
INSERT INTO members VALUES ('m', 'host', 1, 'http://127.0.0.1:8080', '1.0', 'leading', 3, 1.5, 2.5)
""",
    "0009": "INSERT INTO rings VALUES ('daemon', 0, 1.5, '{}')",
}
"""Rows for the tables that each revision brought."""
BEFORE_ORDERS = (
    "INSERT INTO brakes VALUES ('FC1', TRUE, 1.5, 'why', 'op')",
    "INSERT INTO pauses VALUES ('FC1', 1.5, 'why', 'op')",
)
"""Rows for tables that 0008 replaced."""


async def moved(url: str, way: Callable[..., None], revision: str) -> None:
    """Bring a database to a revision that is not head."""

    def move(connection: Connection) -> str:
        way(migration.alembic_config(connection), revision)
        return revision

    await migration.run(url, move, 5.0, writes=True)


def revisions() -> list[str]:
    """From the first to head."""
    walked = ScriptDirectory(str(scripts())).walk_revisions()
    return [script.revision for script in walked][::-1]


def test_each_revision_has_rows_to_be_migrated() -> None:
    assert list(EARLIER) == revisions()


@pytest.mark.parametrize("earlier", EARLIER)
async def test_rows_of_every_earlier_revision_are_kept(store_url: str, earlier: str) -> None:
    upto = [statements for revision, statements in EARLIER.items() if revision <= earlier]
    await moved(store_url, command.upgrade, earlier)
    assert await current(store_url) == earlier
    sql(store_url, *(statement for statements in upto for statement in statements.split(";")))
    if earlier < "0008":
        sql(store_url, *BEFORE_ORDERS)
    await upgrade(store_url)
    await check(store_url)

    store = await Store.open(store_url, timeout=PATIENCE, auto_migrate=False)
    row = next(iter([row async for batch in store.load() for row in batch])).row
    assert (row.binding.labels, row.version, row.index, row.state.moves) == ((("k", "v"),), 2, 9, (1.5,))
    assert row.override is not None
    assert [len(found) for found in await store.history("1", limit=9)] == [1, 1]
    assert len(await store.exposures(limit=9)) == 1
    carried = await store.orders.page(now=2.0, limit=9, wanted=OrderFilter(concerns=("1", "FC1")))
    assert [
        (one.order.kind, one.order.target, one.order.action, one.order.reason, one.order.by, one.order.at)
        for one in carried
        if one.in_force
    ] == [
        ("pause", "FC1", "pause", "why", "op", 1.5),
        ("brake", "FC1", "engage", "why", "op", 1.5),
        ("override", "1", "hold", "because", "op", 1.5),
    ]
    assert in_force_of(store_url) == (["FC1 why"], ["FC1 why"])
    assert await store.high_water() == (9, 3)
    assert sql(store_url, "SELECT call_id FROM calls") == [["c"]]
    found = await store.calls.get("c")
    assert found is not None
    assert (found.result, found.source, found.pool_key) == ("pending", "", "")
    await store.close()


@pytest.mark.parametrize(
    ("action", "pinned", "means", "shown"),
    [
        ("dial_x", "+8617000000001", NumberRole.REGISTERED, ["dial_x", "17000000001"]),
        ("dial_x", "0086 170-0000-0009", NumberRole.OBSERVED, ["dial_x", "17000000009"]),
        ("dial_x", "17000000008", NumberRole.LOST, ["hold", ""]),
        ("dial_x", "", NumberRole.OWN, ["dial_x", "17000000009"]),
        ("dial_temp_x", "8617100000001", NumberRole.TEMPORARY, ["dial_temp_x", "17100000001"]),
        ("dial_temp_x", "17100000002", NumberRole.LOST, ["hold", ""]),
    ],
)
async def test_overrides_of_earlier_versions_keep_their_meaning(
    store_url: str, action: str, pinned: str, means: NumberRole, shown: list[str]
) -> None:
    await moved(store_url, command.upgrade, "0005")
    sql(
        store_url,
        *EARLIER["0001"].replace("'hold', ''", f"'{action}', '{pinned}'").strip().strip(";").split(";"),
        "UPDATE routes SET number = '17000000009', temp_number = '17100000001', temp_at = 4e9",
    )
    await upgrade(store_url)
    store = await Store.open(store_url, auto_migrate=False)
    await store.store_policy(Policy(), 1.0)
    row = next(iter([row async for batch in store.load() for row in batch])).row
    assert row.override is not None
    assert row.override.means is means
    assert [one[1:3] for one in sql(store_url, "SELECT * FROM routing_table")] == [shown]
    await store.close()


async def test_downgrading_removes_everything(store_url: str) -> None:
    await upgrade(store_url)
    await moved(store_url, command.downgrade, "base")
    assert await current(store_url) == ""
    await upgrade(store_url)
    await check(store_url)


async def test_orders_survive_a_downgrade_and_another_upgrade(store_url: str) -> None:
    """In each direction the same is in force, and the view says the same."""
    await moved(store_url, command.upgrade, "0007")
    sql(store_url, *EARLIER["0001"].strip().split(";"), EARLIER["0002"], *BEFORE_ORDERS)
    sql(
        store_url,
        "INSERT INTO brakes VALUES ('', FALSE, 9.5, 'all', 'op')",
        "INSERT INTO brakes VALUES ('FC2', FALSE, 9.5, 'all', 'op')",
        "INSERT INTO pauses VALUES ('', 0.5, 'all', 'op')",
    )
    before = in_force_of(store_url)
    assert before == ([" all", "FC1 why"], ["FC1 why"])
    for way, revision in ((command.upgrade, "0008"), (command.downgrade, "0007"), (command.upgrade, "0008")):
        await moved(store_url, way, revision)
        assert in_force_of(store_url) == before
        assert sql(store_url, "SELECT subs_id, action FROM routing_table") == [["1", "hold"]]
    sql(
        store_url,
        "INSERT INTO orders (kind, target, action, by, at, reason) VALUES ('brake', '', 'release', 'op', 10, '')",
        "INSERT INTO orders (kind, target, action, by, at, reason) VALUES ('pause', 'FC1', 'resume', 'op', 10, '')",
    )
    assert in_force_of(store_url) == ([" all"], [])


def in_force_of(url: str) -> tuple[list[str], list[str]]:
    """Pool and reason of the pauses in force, and of the engaged brakes."""
    pauses = sql(url, "SELECT pool_key, reason FROM pauses WHERE by = 'op' AND at < 5 ORDER BY pool_key")
    brakes = sql(url, "SELECT pool_key, reason FROM brakes WHERE engaged AND at < 5 ORDER BY pool_key")
    return [" ".join(row) for row in pauses], [" ".join(row) for row in brakes]


async def test_a_migration_that_fails_leaves_nothing_behind(store_url: str) -> None:
    sql(store_url, "CREATE TABLE marks (mine TEXT)")
    with pytest.raises(Exception, match="marks"):
        await upgrade(store_url)
    assert sql(store_url, "SELECT mine FROM marks") == []
    with pytest.raises(Exception, match="bindings"):
        sql(store_url, "SELECT * FROM bindings")
    assert await current(store_url) == ""


async def test_an_outdated_schema_is_refused_with_a_remedy(store_url: str) -> None:
    with pytest.raises(SchemaOutdated, match=r"precall.* has schema none.*`precall migrate --config FILE`"):
        await Store.open(store_url, timeout=PATIENCE, auto_migrate=False)
    with pytest.raises(SchemaOutdated, match="precall migrate"):
        await check(store_url)
    await (await Store.open(store_url, timeout=PATIENCE, auto_migrate=True)).close()
    await (await Store.open(store_url, timeout=PATIENCE, auto_migrate=False)).close()


@pytest.mark.parametrize("auto_migrate", [False, True])
async def test_the_schema_of_a_newer_version_is_refused(store_url: str, auto_migrate: bool) -> None:
    await upgrade(store_url)
    sql(store_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(
        SchemaOutdated, match="schema 9999, which this version does not know: a newer precall"
    ):
        await Store.open(store_url, timeout=PATIENCE, auto_migrate=auto_migrate)


async def test_two_processes_may_migrate_at_once(store_url: str) -> None:
    await asyncio.gather(*(upgrade(store_url) for _ in range(6)))
    await check(store_url)


@pytest.mark.slow
async def test_an_installed_package_finds_its_migrations(tmp_path: Path, store_url: str) -> None:
    package = Path(sys.modules["precall"].__path__[0])
    installed = tmp_path / "site 100%" / "precall"
    ignored = shutil.ignore_patterns("__pycache__", "migrations")
    shutil.copytree(package, installed, ignore=ignored)
    shutil.copytree(scripts(), installed / "migrations", ignore=ignored)

    code = (
        "import asyncio, sys; from precall.store import migration as m; asyncio.run(m.upgrade(sys.argv[1]))"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"{code}; print(m.scripts())",
        store_url,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed.parent)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate()
    assert (out.decode().strip(), err.decode()) == (str(installed / "migrations"), "")
    await check(store_url)
