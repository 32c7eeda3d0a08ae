"""A person is found and erased by number: in memory, in the history and in texts, sealed or plain, down to the file."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from precall.api.schemas.persons import ErasedAnswer, PersonAnswer
from precall.core.calls.call import Call
from precall.core.model import Check
from tests.support.api_daemon import Served, X, serving, token
from tests.support.patience import BRIEF
from tests.support.postgres import psql, sql
from tests.support.sealed import dumped, key_file, tables

WHO, OTHER, CALLEE = "13812345678", "13700000007", "13600000006"
SPELLINGS = (WHO, "138-1234-5678", "138 1234 5678", "138 12345678")
TEXT = f"asked by +86 138 1234 5678 and {WHO}"
SCENARIO = {
    "binding": [
        {
            "subs_id": subs_id,
            "pool_key": "FC1",
            "number_x": X,
            "number_a": WHO if subs_id == "1" else OTHER,
            "number_b": CALLEE,
            "status": 3 if subs_id in "13" else 1,
            "called_no": WHO if subs_id in "13" else X,
        }
        for subs_id in ("1", "2", "3", "4", "11", "12", "13")
    ]
}


@pytest.fixture(params=["plain", "sealed"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(key_file(tmp_path)) if request.param == "sealed" else ""


@asynccontextmanager
async def holding(folder: Path, url: str, keys: str = "", **more: Any) -> AsyncIterator[Served]:
    """A daemon that holds something of the person in every place."""
    store = {"url": url, "number_key_file": keys, "auto_migrate": True}
    async with serving(folder, SCENARIO, store=store, **more) as served:
        await served.register(number_a=WHO, number_b=CALLEE)
        await served.register(subs_id="2", number_a=OTHER, number_b=f"+86{WHO}")
        await served.register(
            subs_id="3", number_a=OTHER, number_b=CALLEE, labels={"tel": "138-1234-5678", "city": "X"}
        )
        await served.register(subs_id="4", number_a=OTHER, number_b="13600000004")
        for subs_id in ("1", "3"):
            await served.checked(subs_id)
        await served.ask("PUT", "/v1/overrides/4", {"action": "hold", "reason": TEXT})
        await served.ask("POST", "/v1/pause", {"pool_key": "FC1", "reason": TEXT})
        await served.ask("POST", "/v1/brake/engage", {"pool_key": "FC1", "reason": TEXT})
        await served.ask("GET", "/v1/bindings/1")
        parts = served.daemon.parts
        await parts.store.calls.file(
            [Call(f"call-{subs_id}", 100.0, 100.0, subs_id) for subs_id in ("1", "2", "4")]
        )
        # Of a binding that was removed long ago.
        await parts.store.commit(
            [], [Check("9", 1, 10_000 + n, 50.0 + n, 0.1, "status_3", 3, WHO, "5") for n in range(3)]
        )
        yield served


async def found(served: Served, number: str = WHO) -> dict[tuple[str, str], tuple[int, str, list[str]]]:
    status, body = await served.ask("POST", "/v1/persons/find", {"number": number})
    assert status == 200, body
    assert PersonAnswer.model_validate(body)
    assert number not in str(body)
    return by_kind(body)


async def erased(served: Served, number: str = WHO) -> tuple[bool, dict[tuple[str, str], Any]]:
    status, body = await served.ask(
        "POST", "/v1/persons/erase", {"number": number, "reason": f"ticket 5, {number}"}
    )
    assert status == 200, body
    assert ErasedAnswer.model_validate(body)
    assert number not in str(body)
    return body["complete"], by_kind(body)


def by_kind(body: dict[str, Any]) -> dict[tuple[str, str], tuple[int, str, list[str]]]:
    return {
        (one["where"], one["origin"]): (one["count"], one["outcome"], one["subs_ids"])
        for one in body["records"]
    }


async def test_what_is_held_is_found_whatever_the_spelling_and_erased(
    tmp_path: Path, store_url: str, keys: str
) -> None:
    async with holding(tmp_path, store_url, keys) as served:
        expected = {
            ("bindings", "api"): (2, "removed", ["1", "2"]),
            ("mentions", "api"): (2, "blanked", ["3", "4"]),
            ("results", ""): (3, "blanked", ["1", "3", "9"]),
            ("calls", ""): (2, "unlinked", []),
            ("orders", ""): (3, "blanked", []),
            ("exposures", ""): (1, "kept", ["1"]),
        }
        for spelling in (WHO, "+86 138-1234-5678", f"0086{WHO}"):
            assert await found(served, spelling) == expected
        assert await erased(served, "138 1234 5678") == (True, expected)
        assert await found(served) == {("exposures", ""): (1, "kept", ["1"])}
        assert await erased(served) == (True, {("exposures", ""): (1, "kept", ["1"])})
        await others_stand(served)
    if store_url.startswith("sqlite"):
        with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as database:
            database.execute("VACUUM")
    everything = dumped(store_url)
    assert not [one for one in SPELLINGS if one in everything]
    assert keys or OTHER in everything


async def others_stand(served: Served) -> None:
    """The bindings of others, their history, and what else was ordered are as before."""
    assert (await served.ask("GET", "/v1/bindings/1"))[0] == 404
    assert (await served.ask("GET", "/v1/bindings/2"))[0] == 404
    _, third = await served.ask("GET", "/v1/bindings/3")
    assert third["labels"] == {"tel": "", "city": "X"}
    assert third["number_a"] == OTHER
    _, fourth = await served.ask("GET", "/v1/routes/4")
    assert fourth["reason"] == "override"
    row = served.daemon.parts.table.get("4")
    assert row is not None
    assert row.override is not None
    assert row.override.reason == ""
    _, given = await served.ask("GET", "/v1/orders")
    assert [order["reason"] for order in given["orders"]] == ["", "", ""]
    calls = {name: await served.daemon.parts.store.calls.get(f"call-{name}") for name in ("1", "2", "4")}
    assert {name: call and call.subs_id for name, call in calls.items()} == {"1": "", "2": "", "4": "4"}
    _, history = await served.ask("GET", "/v1/bindings/3/history")
    assert [(run["status"], run["number"]) for run in history["results"]] == [(3, "")]


async def test_an_erasure_outlives_a_restart(tmp_path: Path, store_url: str, keys: str) -> None:
    async with holding(tmp_path, store_url, keys) as served:
        await erased(served)
    store = {"url": store_url, "number_key_file": keys}
    async with serving(tmp_path, SCENARIO, store=store) as served:
        assert await found(served) == {("exposures", ""): (1, "kept", ["1"])}
        await others_stand(served)


async def test_an_x_is_no_person(tmp_path: Path) -> None:
    async with holding(tmp_path, f"sqlite:///{tmp_path}/precall.db") as served:
        for path, more in (("find", {}), ("erase", {"reason": "r"})):
            status, body = await served.ask("POST", f"/v1/persons/{path}", {"number": X, **more})
            assert (status, body["code"], body["field"]) == (422, "not_a_person", "number")
            assert X not in str(body)
        assert len(await found(served, "13511111111")) == 0


async def test_only_an_admin_may_and_a_reason_is_needed(tmp_path: Path) -> None:
    reader, entry = token("reader", "routes:read", "routes:real", "bindings:write")
    admin, other = token("admin", "admin")
    async with serving(tmp_path, tokens=[entry, other]) as served:
        body = {"number": WHO, "reason": "r"}
        served.session.headers["Authorization"] = f"Bearer {reader}"
        for path in ("find", "erase"):
            assert (await served.ask("POST", f"/v1/persons/{path}", body))[0] == 403
        served.session.headers["Authorization"] = f"Bearer {admin}"
        for wrong in (
            {"number": WHO},
            {"number": WHO, "reason": ""},
            {"reason": "r"},
            {**body, "number": "x"},
        ):
            status, answer = await served.ask("POST", "/v1/persons/erase", wrong)
            assert status == 422
            assert WHO not in str(answer)
        assert (await served.ask("POST", "/v1/persons/erase", body))[1]["complete"] is True


async def test_both_are_logged_with_counts_and_without_the_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with holding(tmp_path, f"sqlite:///{tmp_path}/precall.db") as served:
        caplog.clear()
        await found(served)
        await erased(served)
        lines = [record.getMessage() for record in caplog.records]
    said = [line for line in lines if "person.searched" in line or "person.erased" in line]
    assert len(said) == 2, lines
    assert "'bindings': 2" in said[1]
    assert "'removed': 2" in said[1]
    assert "ticket 5" in said[1]
    assert [line for line in lines if "order.given" in line and "erase_person" in line]
    assert not [line for line in lines for one in SPELLINGS if one in line]


async def test_bindings_of_a_source_are_told_and_stay_until_they_are_gone_there(
    tmp_path: Path, store_url: str
) -> None:
    app = tmp_path / "app.db"
    with closing(sqlite3.connect(app)) as database, database:
        database.execute("CREATE TABLE b (subs_id, pool_key, number_x, number_a, number_b, label_tel)")
        database.executemany(
            "INSERT INTO b VALUES (?, 'FC1', ?, ?, ?, ?)",
            [
                ("11", X, WHO, OTHER, ""),
                ("12", X, OTHER, CALLEE, TEXT),
                ("13", X, OTHER, CALLEE, ""),
            ],
        )
    source = {"url": f"sqlite:///{app}", "query": "SELECT * FROM b", "every": "1h", "max_removals": 1.0}
    async with holding(tmp_path, store_url, source=source) as served:
        assert (await served.ask("POST", "/v1/source/apply", {}))[0] == 200
        await served.daemon.parts.store.calls.file([Call("call-11", 100.0, 100.0, "11")])
        expected = {
            ("bindings", "source"): (1, "source_first", ["11"]),
            ("mentions", "source"): (1, "source_first", ["12"]),
            ("calls", "source"): (1, "source_first", []),
        }
        complete, records = await erased(served)
        assert not complete
        assert {kind: one for kind, one in records.items() if kind[1] == "source"} == expected
        assert {kind: one for kind, one in (await found(served)).items() if kind[1] == "source"} == expected
        row = served.daemon.parts.table.get("11")
        assert row is not None
        assert row.binding.number_a == WHO
        with closing(sqlite3.connect(app)) as database, database:
            database.execute("DELETE FROM b WHERE subs_id = '11'")
            database.execute("UPDATE b SET label_tel = ''")
        assert (await served.ask("POST", "/v1/source/apply", {}))[0] == 200
        complete, records = await erased(served)
        assert complete
        assert records == {("calls", ""): (1, "unlinked", []), ("exposures", ""): (1, "kept", ["1"])}
        assert set(await found(served)) == {("exposures", "")}


async def test_an_erasure_that_the_database_interrupts_is_completed_by_a_repeat(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/precall.db"
    async with holding(tmp_path, url, store_timeout=BRIEF) as served:
        store = served.daemon.parts.store
        await store.commit(
            [], [Check("8", n, 20_000 + n, 50.0 + n, 0.1, "status_3", 3, WHO) for n in range(1, 9_001)]
        )
        asked = asyncio.create_task(
            served.ask("POST", "/v1/persons/erase", {"number": WHO, "reason": "ticket 6"})
        )
        async with asyncio.timeout(60):
            while served.daemon.parts.table.get("1") is not None:
                await asyncio.sleep(0)
        with closing(sqlite3.connect(tmp_path / "precall.db", isolation_level=None, timeout=BRIEF)) as other:
            other.execute("BEGIN IMMEDIATE")
            status, body = await asked
            other.execute("ROLLBACK")
        assert (status, body["code"]) == (503, "store_unavailable")
        assert json.loads((await store.marks())["erasing"]) == ["1", "2"]
        left = await found(served)
        assert left["results", ""][0] > 0
        async with asyncio.timeout(60):
            while (await served.ask("GET", "/readyz?for=writes"))[0] != 200:
                await asyncio.sleep(0.05)
        complete, again = await erased(served)
        assert complete
        assert again["calls", ""] == (2, "unlinked", [])
        assert set(await found(served)) == {("exposures", "")}
        assert (await store.marks())["erasing"] == "[]"


async def test_a_value_that_does_not_open_is_told(tmp_path: Path) -> None:
    url, keys = f"sqlite:///{tmp_path}/precall.db", str(key_file(tmp_path))
    async with holding(tmp_path, url, keys) as served:
        sql(
            url,
            "UPDATE check_results SET number = (SELECT number_a FROM bindings LIMIT 1) WHERE subs_id = '9'",
        )
        complete, records = await erased(served)
        assert not complete
        assert records["results", ""] == (1, "unreadable", [])


async def test_readers_go_on_while_a_long_history_is_searched(
    tmp_path: Path, new_store_url: Callable[..., str]
) -> None:
    url = new_store_url()
    async with holding(tmp_path, url) as served:
        parts = served.daemon.parts
        checks = [Check("8", n, 20_000 + n, 50.0, 0.1, "status_1", 1, X) for n in range(1, 20_001)]
        for start in range(0, len(checks), 5_000):
            await parts.store.commit([], checks[start : start + 5_000])
        asked = asyncio.create_task(erased(served))
        read = 0
        while not asked.done():
            status, _ = await served.ask("GET", "/v1/routes/3")
            assert status == 200
            read += not asked.done()
        assert (await asked)[0]
        assert read > 5


def columns_with_text(url: str) -> list[tuple[str, str]]:
    return [
        (table, column)
        for table in tables(url)
        for [column] in psql(
            url,
            "SELECT column_name FROM information_schema.columns WHERE data_type = 'text'"  # noqa: S608
            f" AND table_name = '{table}'",
        )
    ]


async def test_no_column_of_any_table_is_forgotten(tmp_path: Path, databases: Any) -> None:
    """Whatever a later version stores: after an erasure the number is in no column of text."""
    url = databases.new()
    async with holding(tmp_path, url) as served:
        before = [pair for pair in columns_with_text(url) if holds(url, *pair)]
        assert {table for table, _ in before} == {
            "bindings",
            "overrides",
            "check_results",
            "orders",
        }
        await erased(served)
        assert [pair for pair in columns_with_text(url) if holds(url, *pair)] == []


def holds(url: str, table: str, column: str) -> bool:
    digits = f"regexp_replace(\"{column}\", '[^0-9]', '', 'g')"
    return bool(psql(url, f"SELECT 1 FROM \"{table}\" WHERE {digits} LIKE '%{WHO}%' LIMIT 1"))  # noqa: S608
