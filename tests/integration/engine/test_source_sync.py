"""Bindings from the customer's own database: read only, guarded, never at war with the API, no reader kept waiting."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from precall.core.errors import ConfigError, OutOfReach
from precall.core.sync.plan import SyncOutcome
from precall.engine.source_sync import SyncReport
from precall.store import ForeignDatabase
from tests.support.api_daemon import A, B, Served, X, serving
from tests.support.locked import locked
from tests.support.patience import BRIEF, PATIENCE, until
from tests.support.postgres import Databases, psql

QUERY = "SELECT * FROM relations"
HOUR = "2099-01-01 00:00:00+00:00"


class Customer:
    """The customer's database: an SQLite file."""

    def __init__(
        self, folder: Path, columns: str = "subs_id, pool_key, number_x, number_a, number_b, expires_at"
    ) -> None:
        self.file = folder / "customer's own.db"
        self.run(f"CREATE TABLE relations ({columns})")

    def run(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute(statement, values)

    def add(self, *subs_ids: object, x: object = X, end: object = HOUR) -> None:
        rows = [(subs_id, "FC1", x, A, B, end) for subs_id in subs_ids]
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.executemany("INSERT INTO relations VALUES (?, ?, ?, ?, ?, ?)", rows)

    def remove(self, subs_ids: Iterable[str]) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.executemany("DELETE FROM relations WHERE subs_id = ?", [(one,) for one in subs_ids])

    def section(self, **more: Any) -> dict[str, Any]:
        return {"url": f"sqlite:///{self.file}", "query": QUERY, "every": "1h"} | more


@pytest.fixture
def customer(tmp_path: Path) -> Customer:
    return Customer(tmp_path)


async def synced(served: Served, *, force: bool = False) -> SyncReport:
    assert served.daemon.parts.source is not None
    return await served.daemon.parts.source.sync(force=force)


def counts(ended: SyncReport) -> dict[str, int]:
    assert ended.error == ""
    return {str(fate): count for fate, count in ended.counts.items() if count}


@asynccontextmanager
async def in_step(folder: Path, source: dict[str, Any], **more: Any) -> AsyncIterator[Served]:
    """A daemon whose sync at start has ended, well or not."""
    async with serving(folder, source=source, **more) as served:
        source_of = served.daemon.parts.source
        assert source_of is not None
        await until(lambda: source_of.last.at or source_of.last.error)
        yield served


async def test_rows_are_added_updated_and_removed(tmp_path: Path, customer: Customer) -> None:
    customer.add(1, "2", "3")
    async with in_step(tmp_path, customer.section()) as served:
        await until(lambda: len(served.daemon.parts.table) == 3)  # by itself, at start
        status, body = await served.ask("GET", "/v1/bindings?origin=source")
        assert (status, [one["subs_id"] for one in body["bindings"]]) == (200, ["1", "2", "3"])
        assert body["bindings"][0]["number_x"] == X
        assert body["bindings"][0]["expires_at"] == "2099-01-01T00:00:00Z"
        assert counts(await synced(served)) == {"unchanged": 3}
        index = served.daemon.parts.writer.index
        assert counts(await synced(served)) == {"unchanged": 3}
        assert served.daemon.parts.writer.index == index
        customer.run("UPDATE relations SET number_x = '17000000009' WHERE subs_id = 1")
        customer.remove(["2"])
        customer.add("4")
        assert counts(await synced(served)) == {"added": 1, "updated": 1, "removed": 1, "unchanged": 1}
        assert (await served.ask("GET", "/v1/routes/1"))[1]["number"] == "17000000009"
        assert (await served.ask("GET", "/v1/routes/2"))[0] == 404
    async with in_step(tmp_path, customer.section()) as served:
        await until(lambda: served.daemon.parts.source and served.daemon.parts.source.last.at)
        assert served.daemon.parts.source is not None
        assert counts(served.daemon.parts.source.last) == {"unchanged": 3}


async def test_the_sync_job_repeats(tmp_path: Path, customer: Customer) -> None:
    async with in_step(tmp_path, customer.section(every="100ms")) as served:
        await until(lambda: served.daemon.parts.source and served.daemon.parts.source.last.at)
        customer.add("1")
        await until(lambda: len(served.daemon.parts.table) == 1)


async def test_an_end_moved_into_the_past_ends_the_binding(tmp_path: Path, customer: Customer) -> None:
    customer.add("1")
    customer.add("2", end="2001-01-01T00:00:00Z")
    async with in_step(tmp_path, customer.section()) as served:
        assert counts(await synced(served))["expired"] == 1
        customer.run("UPDATE relations SET expires_at = 1000000000")
        assert counts(await synced(served)) == {"updated": 1, "expired": 1}
        assert (await served.ask("GET", "/v1/routes/1"))[1]["reason"] == "expired_locally"
        assert (await served.ask("GET", "/v1/routes/2"))[0] == 404


async def test_source_and_api_do_not_change_each_others_bindings(tmp_path: Path, customer: Customer) -> None:
    async with in_step(tmp_path, customer.section()) as served:
        await synced(served)
        await served.register(subs_id="1", number_x="17000000005")
        customer.add("1", "2")
        ended = await synced(served)
        assert counts(ended) == {"added": 1, "refused": 1}
        assert [(one.subs_id, one.column) for one in ended.refused] == [("1", "subs_id")]
        assert (await served.ask("GET", "/v1/bindings/1"))[1]["number_x"] == "17000000005"
        body = {"pool_key": "FC1", "number_x": "17000000006", "number_a": A}
        for method, sent in (("PUT", body), ("DELETE", None)):
            status, problem = await served.ask(method, "/v1/bindings/2", sent)
            assert (status, problem["code"]) == (409, "foreign_origin")
        status, answer = await served.ask(
            "POST", "/v1/bindings/batch", {"bindings": [body | {"subs_id": "2"}]}
        )
        assert [one["result"] for one in answer["results"]] == ["refused"]
        assert (await served.ask("GET", "/v1/bindings/2"))[1]["number_x"] == X
        # A binding removed on one side can be registered on the other.
        assert (await served.ask("DELETE", "/v1/bindings/1"))[0] == 204
        customer.remove(["2"])
        assert counts(await synced(served)) == {"added": 1, "removed": 1}
        assert (await served.ask("PUT", "/v1/bindings/2", body))[0] == 201


async def test_the_first_of_two_concurrent_registrations_wins(tmp_path: Path, customer: Customer) -> None:
    async with in_step(tmp_path, customer.section()) as served:
        await synced(served)
        customer.add(*range(1, 6))
        body = {"pool_key": "FC1", "number_x": "17000000006", "number_a": A}
        puts = [served.ask("PUT", f"/v1/bindings/{n}", body) for n in range(1, 6)]
        answers, ended = await asyncio.gather(asyncio.gather(*puts), synced(served))
        for n, (status, _) in enumerate(answers, 1):
            row = served.daemon.parts.table.get(str(n))
            assert row is not None
            assert row.binding.origin == ("api" if status == 201 else "source")
            assert row.binding.number_x == ("17000000006" if status == 201 else X)
        kept = sum(status == 201 for status, _ in answers)
        assert (ended.counts[SyncOutcome.REFUSED], ended.counts[SyncOutcome.ADDED]) == (kept, 5 - kept)


async def test_too_many_removals_wait_for_an_operator(tmp_path: Path, customer: Customer) -> None:
    customer.add(*map(str, range(100)))
    async with in_step(tmp_path, customer.section()) as served:
        await synced(served)
        customer.remove(map(str, range(20)))
        customer.run("UPDATE relations SET number_x = '17000000009' WHERE subs_id = '50'")
        customer.add("200")
        with capture_logs() as lines:
            ended = await synced(served)
            await synced(served)
        assert counts(ended) == {"added": 1, "updated": 1, "withheld": 20, "unchanged": 79}
        assert [line["event"] for line in lines if line["log_level"] == "error"] == [
            "source.removals_refused"
        ]
        assert len(served.daemon.parts.table) == 101
        metrics = (await served.ask("GET", "/metrics"))[1]
        assert "precall_source_removals_refused 20.0" in metrics
        assert 'precall_source_rows{result="unchanged"} 81.0' in metrics
        assert "precall_source_last_sync_timestamp_seconds 1." in metrics
        _, line = await served.shows("pool_in_trouble", "removals_refused")
        assert line.startswith("removals_refused: The source no longer has 20 live bindings")
        status, body = await served.ask("GET", "/v1/source")
        assert (status, body["rows"]["withheld"]) == (200, 20)
        assert body["removals_refused"] == "20 of 101 live bindings left the source (max_removals = 0.05)"
        status, body = await served.ask("POST", "/v1/source/apply", {"force": True})
        assert (status, body["rows"]["removed"], body["removals_refused"]) == (200, 20, "")
        assert len(served.daemon.parts.table) == 81
        assert "precall_source_removals_refused 0.0" in (await served.ask("GET", "/metrics"))[1]


async def test_an_empty_result_removes_bindings_only_if_forced(tmp_path: Path, customer: Customer) -> None:
    customer.add("1", "2")
    async with in_step(tmp_path, customer.section()) as served:
        await synced(served)
        customer.run("DELETE FROM relations")
        assert counts(await synced(served)) == {"withheld": 2}
        assert counts(await synced(served, force=True)) == {"removed": 2}


async def test_a_bad_row_keeps_its_binding_and_the_rest_is_synced(tmp_path: Path, customer: Customer) -> None:
    customer.add("1", "2")
    async with in_step(tmp_path, customer.section()) as served:
        await synced(served)
        customer.run("UPDATE relations SET number_a = 'none' WHERE subs_id = '1'")
        customer.add("3")
        customer.add(1.5e15, None)
        with capture_logs() as lines:
            ended = await synced(served)
        assert counts(ended) == {"added": 1, "unchanged": 1, "refused": 3}
        assert [(one.subs_id, one.column) for one in ended.refused] == [
            ("1", "number_a"),
            (None, "subs_id"),
            ("", "subs_id"),
        ]
        [line] = [line for line in lines if line["event"] == "source.rows_refused"]
        assert (line["rows"], line["first"], line["column"]) == (3, "1", "number_a")
        body = (await served.ask("GET", "/v1/source"))[1]
        assert body["refused"][0]["detail"].startswith("should be a phone number")
        assert len(served.daemon.parts.table) == 3


async def test_times_without_a_zone_use_the_configured_one(tmp_path: Path, customer: Customer) -> None:
    customer.add("1", end="2099-01-01 08:00:00")
    async with in_step(tmp_path, customer.section()) as served:
        ended = await synced(served)
        assert ended.error.startswith("source.timezone: expires_at carries no zone")
        assert len(served.daemon.parts.table) == 0
    async with in_step(tmp_path, customer.section(timezone="Asia/Shanghai")) as served:
        assert (await synced(served)).error == ""
        assert (await served.ask("GET", "/v1/bindings/1"))[1]["expires_at"] == "2099-01-01T00:00:00Z"


async def test_an_unreachable_source_changes_nothing_and_logs_one_line(
    tmp_path: Path, customer: Customer
) -> None:
    customer.add("1", "2")
    async with in_step(tmp_path, customer.section()) as served:
        await synced(served)
        good = served.daemon.parts.source.last if served.daemon.parts.source else None
        away = customer.file.rename(tmp_path / "away.db")
        with capture_logs() as lines:
            ended = await synced(served)
            await synced(served)
            assert (await served.ask("POST", "/v1/source/apply", {"force": True}))[1][
                "code"
            ] == "source_unavailable"
            away.rename(customer.file)
            assert counts(await synced(served)) == {"unchanged": 2}
        assert "unable to open" in ended.error
        assert good is not None
        assert (ended.at, ended.counts) == (good.at, good.counts)
        events = [line["event"] for line in lines if line["log_level"] in ("error", "warning")]
        assert events == ["source.failed", "source.back"]
        assert not customer.file.with_name("away.db").exists()
        assert (await served.ask("GET", "/v1/routes/1"))[0] == 200


async def test_a_sync_fails_while_the_store_is_down_and_the_next_succeeds(
    tmp_path: Path, customer: Customer
) -> None:
    async with in_step(tmp_path, customer.section(), store_timeout=BRIEF) as served:
        await synced(served)
        customer.add("1")
        async with locked(tmp_path / "precall.db"):
            assert "precall.db" in (await synced(served)).error
            assert len(served.daemon.parts.table) == 0
        async with asyncio.timeout(PATIENCE):
            while (ended := await synced(served)).error:
                await asyncio.sleep(0.05)
        assert counts(ended) == {"added": 1}


async def test_endpoints_report_that_no_source_is_configured(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for method, path in (("GET", "/v1/source"), ("POST", "/v1/source/apply")):
            status, problem = await served.ask(method, path)
            assert (status, problem["code"]) == (404, "no_source")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * FROM relation", "no such table"),
        ("SELEC 1", "syntax error"),
        ("DELETE FROM relations", "readonly"),
        ("PRAGMA query_only", "returns no column subs_id"),
        ("SELECT json_extract(subs_id || '{13800000001', '$') FROM relations", "malformed JSON"),
        (
            "SELECT subs_id, pool_key, number_x AS x_number, number_a FROM relations",
            "write x_number AS number_x",
        ),
    ],
)
async def test_an_invalid_query_is_reported_and_nothing_is_written(
    tmp_path: Path, customer: Customer, query: str, said: str
) -> None:
    customer.add("1")
    async with in_step(tmp_path, customer.section(query=query)) as served:
        ended = await synced(served)
        assert ended.error.startswith("source")
        assert said in ended.error
        assert "1380000" not in ended.error
    with closing(sqlite3.connect(customer.file)) as connection:
        assert connection.execute("SELECT count(*) FROM relations").fetchone() == (1,)


async def test_colons_and_percent_signs_in_a_query_are_passed_verbatim(
    tmp_path: Path, customer: Customer
) -> None:
    customer.add("1", end=None)
    query = (
        "SELECT relations.*, ':a 12:30 100%s' AS label_note FROM relations WHERE pool_key LIKE '%C1' -- :x"
    )
    async with in_step(tmp_path, customer.section(query=query)) as served:
        assert (await synced(served)).error == ""
        assert (await served.ask("GET", "/v1/bindings/1"))[1]["labels"] == {"note": ":a 12:30 100%s"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+nonsense://u:hush@h/d", "not a database that SQLAlchemy supports"),
        ("sqlite://", "names no SQLite file"),
        ("sqlite:///:memory:", "names no SQLite file"),
        ("mysql://u:hush@h/d", "needs the package"),
        ("no url", "is not a URL"),
    ],
)
def test_an_unusable_source_url_is_a_configuration_error(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^source\.url: ") as caught:
        ForeignDatabase(url)
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


async def test_a_slow_query_is_cancelled(customer: Customer) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(OutOfReach, match=r"took more than 0\.2 s"):
        await ForeignDatabase(f"sqlite:///{customer.file}", 0.2).read(endless, lambda _names, _rows: None)


async def test_a_daemon_that_stops_in_the_middle_of_a_sync_stops(tmp_path: Path, customer: Customer) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    async with serving(tmp_path, source=customer.section(query=endless)):
        await asyncio.sleep(0.2)


async def test_a_postgresql_source_is_read_only_and_its_types_are_understood(
    tmp_path: Path, databases: Databases
) -> None:
    url = databases.new(migrated=False)
    psql(
        url,
        "CREATE TABLE relations (subs_id bigint, pool_key char(8), number_x numeric(20), number_a text,"
        " expires_at timestamp, label_n int, labels jsonb)",
        "INSERT INTO relations SELECT n, 'FC1', 17000000000 + n, '13800000001', '2099-01-01 08:00', n,"
        """ '{"city": "Hangzhou"}' FROM generate_series(1, 500) n""",
    )
    section = {"url": url, "query": QUERY, "every": "1h", "timezone": "Asia/Shanghai"}
    async with in_step(tmp_path, section) as served:
        assert counts(await synced(served)) == {"unchanged": 500}
        binding = (await served.ask("GET", "/v1/bindings/7"))[1]
        assert (binding["number_x"], binding["pool_key"]) == ("17000000007", "FC1")
        assert (binding["expires_at"], binding["labels"]) == (
            "2099-01-01T00:00:00Z",
            {"city": "Hangzhou", "n": "7"},
        )

    def take(_names: object, _rows: object) -> None:
        pass

    for query, said in (
        ("DELETE FROM relations RETURNING *", "read-only transaction"),
        ("SELECT number_a::int FROM relations", r"value \"\*\*\*\" is out of range"),
        ("SELECT pg_sleep(60)", r"took more than 3 s"),
    ):
        with pytest.raises((ConfigError, OutOfReach), match=said):
            await ForeignDatabase(url, 3.0).read(query, take)
    assert psql(url, "SELECT count(*) FROM relations") == [["500"]]
    databases.drop()


@pytest.mark.slow
async def test_reading_twenty_thousand_rows_does_not_block_the_event_loop(
    tmp_path: Path, customer: Customer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # as in a daemon that is not being debugged
    customer.add(*map(str, range(1_000_000, 1_020_000)))
    customer.run("UPDATE relations SET number_x = '1700' || subs_id")
    stalls: list[float] = []

    async def beat() -> None:
        while True:
            # The loop's own work, for this machine may have other things to do.
            begun = time.thread_time()
            await asyncio.sleep(0.001)
            stalls.append(time.thread_time() - begun)

    async with serving(tmp_path, source=customer.section(), rate=1.0) as served:
        heart = asyncio.create_task(beat())
        source = served.daemon.parts.source
        assert source is not None
        await until(lambda: source.last.at or source.last.error)
        assert counts(source.last) == {"added": 20_000}
        assert counts(await synced(served)) == {"unchanged": 20_000}
        heart.cancel()
    # All rows at once would be most of the work; a slice is a small share of it.
    assert max(stalls) < sum(stalls) / 10, sorted(stalls)[-10:]


async def test_a_row_refused_now_but_accepted_earlier_is_held(tmp_path: Path, customer: Customer) -> None:
    customer.add("1", "2")
    async with in_step(tmp_path, customer.section()) as served:
        assert counts(served.daemon.parts.source.last) == {"added": 2}  # type: ignore[union-attr]
        for number in ("0571-88888888-801", f"0086{X}"):
            customer.run("UPDATE relations SET number_a = ? WHERE subs_id = '1'", number)
            for _ in range(2):
                assert counts(await synced(served)) == {"unchanged": 1, "refused": 1}
                _, route = await served.ask("GET", "/v1/routes/1")
                assert (route["action"], route["reason"]) == ("hold", "unusable_number")
            customer.run("UPDATE relations SET number_a = ? WHERE subs_id = '1'", A)
            assert counts(await synced(served)) == {"updated": 1, "unchanged": 1}
            assert (await served.ask("GET", "/v1/routes/1"))[1]["action"] == "dial_x"
        # What never was a number was refused before, too: the binding stands.
        customer.run("UPDATE relations SET number_a = 'none' WHERE subs_id = '1'")
        assert counts(await synced(served)) == {"unchanged": 1, "refused": 1}
        assert (await served.ask("GET", "/v1/routes/1"))[1]["action"] == "dial_x"


# -- undecodable values and unexpected errors -----------------------------------------------------------


async def test_an_undecodable_value_refuses_one_row(tmp_path: Path, customer: Customer) -> None:
    customer.add("1", "2", "3")
    async with in_step(tmp_path, customer.section()) as served:
        await synced(served)
        # As written by an application with the wrong encoding.
        customer.run(
            "UPDATE relations SET number_a = CAST(x'3133382d303030302d30303231a0' AS TEXT) WHERE subs_id = '2'"
        )
        customer.run("UPDATE relations SET number_x = '17000000009' WHERE subs_id = '3'")
        customer.run("INSERT INTO relations VALUES (CAST(x'31ff' AS TEXT), 'FC1', ?, ?, NULL, NULL)", X, A)
        ended = await synced(served)
        assert counts(ended) == {"unchanged": 1, "updated": 1, "refused": 2}
        assert [(one.subs_id, one.column, one.text) for one in ended.refused] == [
            ("2", "number_a", "is no text in UTF-8"),
            (None, "subs_id", "is no text in UTF-8 (row 4 of the result)"),
        ]
        assert len(served.daemon.parts.table) == 3


async def test_a_value_python_cannot_represent_refuses_one_row(tmp_path: Path, databases: Databases) -> None:
    url = databases.new(migrated=False)
    psql(
        url,
        "CREATE TABLE relations (subs_id text, pool_key text, number_x numeric, number_a text, expires_at timestamptz)",
        "INSERT INTO relations VALUES ('1', 'FC1', 17000000001, '13800000001', '275760-01-01'),"
        " ('2', 'FC1', 17000000002, '13800000002', 'infinity'), ('3', 'FC1', 'NaN', '13800000003', NULL),"
        " ('4', 'FC1', 17000000004, '13800000004', '0044-03-15 BC'), ('5', 'FC1', 17000000005, '13800000005', NULL)",
    )
    async with in_step(
        tmp_path, {"url": f"{url}?connect_timeout=5&keepalives=1", "query": QUERY, "every": "1h"}
    ) as served:
        ended = await synced(served)
        assert counts(ended) == {"unchanged": 2, "refused": 3}
        assert [(one.subs_id, one.column) for one in ended.refused] == [
            ("1", "expires_at"),
            ("3", "number_x"),
            ("4", "expires_at"),
        ]
        assert (await served.ask("GET", "/v1/bindings/2"))[1]["expires_at"] == ""
    databases.drop()


@pytest.mark.parametrize("error", [TypeError("no 138-0000-0021"), asyncio.CancelledError()], ids=type)
async def test_an_unexpected_error_is_reported_as_a_failed_sync(
    tmp_path: Path, customer: Customer, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    customer.add("1")
    async with in_step(tmp_path, customer.section()) as served:
        await synced(served)
        with monkeypatch.context() as patched:

            async def broken(*_: object) -> None:
                raise error

            patched.setattr(ForeignDatabase, "read", broken)
            ended = await synced(served)
        assert ended.error.startswith(f"source: unexpected {type(error).__name__}")
        assert "138" not in ended.error
        assert (await served.ask("GET", "/v1/source"))[1]["error"] == ended.error
        await served.shows("source_failing")
        metrics = (await served.ask("GET", "/metrics"))[1]
        assert "precall_source_failing 1.0" in metrics
        assert 'precall_source_syncs_total{result="failed"} 1.0' in metrics
        assert "precall_source_every_seconds 3600.0" in metrics
        assert counts(await synced(served)) == {"unchanged": 1}
        assert "precall_source_failing 0.0" in (await served.ask("GET", "/metrics"))[1]
