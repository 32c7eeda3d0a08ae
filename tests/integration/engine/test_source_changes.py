"""An incremental source: changes come at once, late commits too, removals with the next comparison of all rows."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from precall.engine import source_sync
from precall.engine.source_sync import SyncReport
from tests.integration.engine.test_source_sync import counts, in_step, synced
from tests.support.api_daemon import A, B, Served, X
from tests.support.locked import locked
from tests.support.patience import PATIENCE, until
from tests.support.postgres import Databases, psql

OTHER_X = "17000000009"
TYPES = ("text", "iso", "number", "timestamptz", "timestamp", "bigint", "numeric")
"""How a source may keep its change times: the first three on SQLite, the others on PostgreSQL."""


class Source:
    """A customer's table with a change time; the test sets its clock, in seconds after noon."""

    def __init__(self, kind: str, folder: Path, databases: Callable[[], Databases]) -> None:
        self.kind, self.seconds = kind, 0
        self._sqlite = kind in TYPES[:3]
        if self._sqlite:
            self.file = folder / "app.db"
            self.url = f"sqlite:///{self.file}"
            column = {"text": "TEXT", "iso": "", "number": "INTEGER"}[kind]
        else:
            self.url = databases().new(migrated=False)
            column = kind
        self.run(
            "CREATE TABLE relations (subs_id text primary key, number_x text, number_a text, number_b text,"
            f" changed {column} NOT NULL)"
        )

    def run(self, statement: str) -> None:
        if not self._sqlite:
            psql(self.url, statement)
            return
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute(statement)

    def now(self, seconds: int) -> str:
        """A time as an SQL literal."""
        clock = f"{12 + seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        match self.kind:
            case "iso":
                return f"'2026-01-31T{clock}Z'"
            case "number" | "bigint" | "numeric":
                return str(1_769_860_800 + seconds)
            case _:
                return f"'2026-01-31 {clock}'"

    def add(self, *subs_ids: str, at: int = 0, x: str = X) -> None:
        for subs_id in subs_ids:
            row = f"'{subs_id}', '{x}', '{A}', '{B}', {self.now(at)}"
            self.run(f"INSERT INTO relations VALUES ({row})")  # noqa: S608

    def change(self, subs_id: str, at: int, x: str = OTHER_X) -> None:
        self.run(
            f"UPDATE relations SET number_x = '{x}', changed = {self.now(at)} WHERE subs_id = '{subs_id}'"  # noqa: S608
        )

    def remove(self, *subs_ids: str) -> None:
        for subs_id in subs_ids:
            self.run(f"DELETE FROM relations WHERE subs_id = '{subs_id}'")  # noqa: S608

    def section(self, **more: Any) -> dict[str, Any]:
        query = (
            "SELECT subs_id, 'FC1' AS pool_key, number_x, number_a, number_b, changed AS changed_at"
            " FROM relations WHERE changed >= :since -- not :since"
        )
        return {"url": self.url, "query": query, "every": "1h", "look_back": "5m", "max_removals": 1.0} | more


@pytest.fixture(params=TYPES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return Source(request.param, tmp_path, lambda: request.getfixturevalue("databases"))


@pytest.fixture
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return Source("text", tmp_path, lambda: request.getfixturevalue("databases"))


async def advanced(served: Served) -> SyncReport:
    assert served.daemon.parts.source is not None
    ended = await served.daemon.parts.source.advance()
    assert ended.error == ""
    return ended


async def ids(served: Served) -> list[str]:
    _, page = await served.ask("GET", "/v1/bindings?origin=source")
    return [binding["subs_id"] for binding in page["bindings"]]


async def test_new_and_changed_rows_come_and_removals_wait(tmp_path: Path, source: Source) -> None:
    source.add("1", "2", "3")
    async with in_step(tmp_path, source.section()) as served:
        first = served.daemon.parts.source and served.daemon.parts.source.last
        assert first is not None
        assert counts(first) == {"added": 3}
        source.add("4", at=600)
        source.change("1", at=601)
        source.remove("2")
        ended = await advanced(served)
        assert counts(ended) == {"added": 1, "updated": 1}
        assert (ended.compared_at, ended.at > first.at) == (first.compared_at, True)
        assert await ids(served) == ["1", "2", "3", "4"]
        assert (await served.ask("GET", "/v1/routes/1"))[1]["number"] == OTHER_X
        assert counts(await advanced(served)) == {}
        assert counts(await synced(served)) == {"removed": 1, "unchanged": 3}
        assert await ids(served) == ["1", "3", "4"]
        _, told = await served.ask("GET", "/v1/source")
        assert told["compared_at"] > ""


async def test_only_what_changed_is_read(tmp_path: Path, source: Source) -> None:
    """A row whose change time stays is not seen until all rows are compared: the window is what was asked for."""
    source.add("1", at=0)
    source.add("2", at=900)
    async with in_step(tmp_path, source.section()) as served:
        assert counts(await synced(served)) == {"unchanged": 2}
        source.change("1", at=0)
        assert counts(await advanced(served)) == {"unchanged": 2}
        assert (await served.ask("GET", "/v1/routes/1"))[1]["number"] == X
        assert counts(await synced(served))["updated"] == 1


async def test_a_late_commit_within_the_look_back_is_not_lost(tmp_path: Path, source: Source) -> None:
    source.add("1", at=1000)
    async with in_step(tmp_path, source.section()) as served:
        source.add("2", at=1000 - 299)
        source.add("3", at=1000 - 301)
        assert counts(await advanced(served))["added"] == 1
        assert await ids(served) == ["1", "2"]
        await synced(served)
        assert await ids(served) == ["1", "2", "3"]


async def test_a_look_back_can_be_changed_while_it_runs(tmp_path: Path, plain: Source) -> None:
    plain.add("1", at=1000)
    async with in_step(tmp_path, plain.section()) as served:
        plain.add("2", at=0)
        settings = served.daemon.parts.settings
        longer = settings.config.source.model_copy(update={"look_back": 2000.0})
        settings.take(settings.config.model_copy(update={"source": longer}))
        await advanced(served)
        assert await ids(served) == ["1", "2"]


async def test_the_clock_of_the_source_is_its_own(tmp_path: Path, plain: Source) -> None:
    """Its times lie years behind ours, and one of them far ahead of all: neither hides a change."""
    plain.add("1", at=0)
    plain.run(
        "INSERT INTO relations SELECT '2', number_x, number_a, number_b, '9999-12-31 00:00:00' FROM relations"
    )
    async with in_step(tmp_path, plain.section()) as served:
        plain.add("3", at=10)
        await advanced(served)
        assert await ids(served) == ["1", "2", "3"]


async def test_a_restart_begins_with_all_rows(tmp_path: Path, plain: Source) -> None:
    plain.add("1", "2", at=1000)
    async with in_step(tmp_path, plain.section()):
        pass
    plain.remove("1")
    plain.add("3", at=0)
    async with in_step(tmp_path, plain.section()) as served:
        await until(lambda: served.daemon.parts.source and served.daemon.parts.source.last.at)
        assert await ids(served) == ["2", "3"]


async def test_both_jobs_go_on_by_themselves(tmp_path: Path, plain: Source) -> None:
    plain.add("1")
    async with in_step(tmp_path, plain.section(every="100ms", reconcile="300ms")) as served:
        plain.add("2", at=5)
        await until(lambda: served.daemon.parts.table.get("2"))
        plain.remove("1")
        await until(lambda: served.daemon.parts.table.get("1") is None)


async def test_a_comparison_that_failed_is_tried_again_while_changes_are_read(
    tmp_path: Path, plain: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_sync, "RETRY", 0.0)
    plain.add("1", "2")
    async with in_step(tmp_path, plain.section()) as served:
        source = served.daemon.parts.source
        assert source is not None
        assert not source.overdue
        away = plain.file.rename(tmp_path / "away.db")
        assert "unable to open" in (await synced(served)).error
        assert source.overdue
        away.rename(plain.file)
        plain.remove("1")
        plain.add("3", at=5)
        await advanced(served)
        assert await ids(served) == ["1", "2", "3"]
        assert source.overdue
        await synced(served)
        assert await ids(served) == ["2", "3"]
        assert not source.overdue


async def test_the_job_repeats_a_comparison_that_failed(
    tmp_path: Path, plain: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_sync, "RETRY", 0.0)
    plain.add("1", "2")
    async with in_step(tmp_path, plain.section(every="100ms", reconcile="1h")) as served:
        away = plain.file.rename(tmp_path / "away.db")
        await synced(served)
        with closing(sqlite3.connect(away)) as database, database:
            database.execute("DELETE FROM relations WHERE subs_id = '1'")
        away.rename(plain.file)
        await until(lambda: served.daemon.parts.table.get("1") is None)


async def test_what_is_not_stored_is_read_again(tmp_path: Path, plain: Source) -> None:
    plain.add("1")
    async with in_step(tmp_path, plain.section(look_back="1s"), store_timeout=3.0) as served:
        plain.add("2", at=500)
        source = served.daemon.parts.source
        assert source is not None
        async with locked(tmp_path / "precall.db"):
            assert "precall.db" in (await source.advance()).error
        async with asyncio.timeout(PATIENCE):
            while (await source.advance()).error:
                await asyncio.sleep(0.05)
        assert await ids(served) == ["1", "2"]


async def test_refused_rows_and_removals_are_told_until_all_rows_are_compared(
    tmp_path: Path, plain: Source
) -> None:
    plain.add(*map(str, range(20)))
    async with in_step(tmp_path, plain.section(max_removals=0.05)) as served:
        plain.remove(*map(str, range(15)))
        assert counts(await synced(served)) == {"withheld": 15, "unchanged": 5}
        plain.add("30", at=5)
        plain.run("INSERT INTO relations VALUES ('31', 'none', '1', '', '2026-01-31 12:00:05')")
        for added in (1, 0):
            ended = await advanced(served)
            assert {name: n for name, n in counts(ended).items() if name != "added"} == {
                "withheld": 15,
                "unchanged": 5,
                "refused": 1,
            }
            assert counts(ended).get("added", 0) == added
            assert ended.guard
        plain.run("UPDATE relations SET changed = 'soon' WHERE subs_id = '30'")
        ended = await synced(served)
        assert [(row.subs_id, row.column) for row in ended.refused] == [
            ("30", "changed_at"),
            ("31", "number_x"),
        ]


async def test_what_is_read_during_a_comparison_is_not_undone_by_it(
    tmp_path: Path, databases: Databases
) -> None:
    """The comparison sees the rows as they were when it began, and waits for a lock while others change."""
    source = Source("timestamptz", tmp_path, lambda: databases)
    source.add("1", "2", at=0)
    wait = "CASE WHEN :since < '2000-01-01'::timestamptz THEN pg_advisory_xact_lock_shared(7) END"
    query = source.section()["query"].replace("FROM relations", f"FROM (SELECT {wait}) w, relations")
    rival = await asyncpg.connect(source.url)
    try:
        async with in_step(tmp_path, source.section(query=query)) as served:
            assert await ids(served) == ["1", "2"]
            await rival.execute("SELECT pg_advisory_lock(7)")
            whole = asyncio.create_task(synced(served))
            async with asyncio.timeout(PATIENCE):
                while not await rival.fetch("SELECT 1 FROM pg_locks WHERE NOT granted"):
                    await asyncio.sleep(0.02)
            source.change("1", at=100)
            source.add("3", at=100)
            assert counts(await advanced(served))["added"] == 1
            assert await ids(served) == ["1", "2", "3"]
            assert not whole.done()
            await rival.execute("SELECT pg_advisory_unlock(7)")
            assert (await whole).error == ""
            assert (await served.ask("GET", "/v1/routes/1"))[1]["number"] == OTHER_X
            assert await ids(served) == ["1", "2", "3"]
    finally:
        await rival.close()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT *, 'FC1' AS pool_key FROM relations WHERE changed >= :since", "no column changed_at"),
        (
            "SELECT *, 'FC1' AS pool_key, changed AS changed_at FROM relations",
            "belongs to a query with :since",
        ),
        ("SELECT 1 FROM nowhere WHERE changed >= :since", "no such table"),
        ("SELECT 1 FROM relations WHERE changed >= :sinc", "source"),
    ],
)
async def test_a_wrong_query_is_named(tmp_path: Path, plain: Source, query: str, said: str) -> None:
    plain.add("1")
    async with in_step(tmp_path, plain.section(query=query)) as served:
        ended = await synced(served)
        assert ended.error.startswith("source")
        assert said in ended.error


async def test_a_wrong_query_on_postgresql_says_what_is_wrong_not_what_was_tried(
    tmp_path: Path, databases: Databases
) -> None:
    source = Source("timestamptz", tmp_path, lambda: databases)
    wrong = source.section(query="SELECT 1 FROM nowhere WHERE changed >= :since")
    async with in_step(tmp_path, wrong) as served:
        assert '"nowhere" does not exist' in (await synced(served)).error
