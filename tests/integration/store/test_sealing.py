"""Sealed numbers: what a copy of the database contains, which keys open it, and key rotation."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given

from precall.core.errors import ConfigError, StoreError
from precall.core.model import Action, NumberRole, Override, Row, State, WriteCause
from precall.store import Cipher, KeyRotation, RotationReport, Store, check, head, snapshot
from precall.store.cipher import MARK, is_sealed, key_of
from precall.store.sealed_columns import EVERYWHERE
from tests.integration.store.test_store import a_change, a_check, a_row, loaded, route_of, runs, some_rows
from tests.support.builders import NOW, brake, pause
from tests.support.examples import examples
from tests.support.patience import PATIENCE
from tests.support.postgres import sql
from tests.support.sealed import dumped, key_file

X, A, B, TEMP, EXTENSION, LABEL = (
    "17012345678",
    "13812345678",
    "13987654321",
    "17187654321",
    "987654",
    "13700000099",
)
NUMBERS = (X, A, B, TEMP, EXTENSION, LABEL)


@asynccontextmanager
async def opened(url: str, keys: Path | None, **more: Any) -> AsyncIterator[Store]:
    store = await Store.open(url, timeout=20.0, key_file=keys, auto_migrate=True, **more)
    try:
        yield store
    finally:
        await store.close()


def rows_with_numbers(count: int = 1) -> list[Row]:
    """Rows with a number in every column that can hold one."""
    found = []
    for place in range(1, count + 1):
        row = a_row(
            str(place), index=place, state=State.TEMPORARY, status=2, number=TEMP, extension=EXTENSION
        )
        binding = replace(
            row.binding, number_x=X, number_a=A, number_b=B, extension=EXTENSION, labels=(("who", LABEL),)
        )
        state = replace(row.state, temp_number=TEMP, temp_extension=EXTENSION, seq=place)
        pin = Override(Action.DIAL_TEMP_X, NumberRole.TEMPORARY, None, f"asked for by {LABEL}", 1, 5.0, "op")
        found.append(replace(row, binding=binding, state=state, override=pin))
    return found


async def filled(store: Store, rows: list[Row]) -> None:
    """Everything that is ever written: a registration, an answer, a refreshed row, a run and the next."""
    await store.commit([a_change(row, route=route_of(row)) for row in rows])
    told = {"number": TEMP, "extension": EXTENSION}
    await store.commit([], [a_check(row.state.seq, row.binding.subs_id, **told) for row in rows], rows)
    seqs = {row.binding.subs_id: row.state.seq + len(rows) for row in rows}
    newer = [replace(row, state=replace(row.state, seq=seqs[row.binding.subs_id])) for row in rows]
    await store.commit([], [a_check(seq, subs_id, **told) for subs_id, seq in seqs.items()], newer)
    await store.orders.give(pause(reason=f"asked for by {LABEL}"))
    await store.orders.give(brake(reason=f"asked for by {LABEL}"))


async def reasons(store: Store) -> list[str]:
    """The reasons of all orders, newest first."""
    return [listed.order.reason for listed in await store.orders.page(now=NOW, limit=9)]


# -- at rest --------------------------------------------------------------------------------------


async def test_a_sealed_database_contains_no_number_but_the_daemon_serves_all(
    store_url: str, tmp_path: Path
) -> None:
    rows, keys = rows_with_numbers(3), key_file(tmp_path)
    async with opened(store_url, keys) as store:
        await filled(store, rows)
        assert await store.secret("dial_key", "5ec4e7" * 6) == "5ec4e7" * 6
    told = dumped(store_url)
    assert [number for number in (*NUMBERS, "5ec4e7") if number in told] == []
    assert told.count(MARK) > 3 * len(NUMBERS)

    async with opened(store_url, keys) as store:
        again = await loaded(store)
        assert {row.binding.number_a for row in again.values()} == {A}
        assert [replace(row, state=rows[0].state, binding=rows[0].binding) for row in again.values()] == [
            replace(row, state=rows[0].state, binding=rows[0].binding) for row in rows
        ]
        assert again["2"].binding == rows[1].binding
        assert again["2"].state == replace(rows[1].state, seq=rows[1].state.seq + 3)
        page, changes = await store.history("2", limit=9)
        assert [(run["number"], run["extension"], run["count"]) for run in page] == [(TEMP, EXTENSION, 2)]
        assert [(change["number"], change["extension"]) for change in changes] == [(X, EXTENSION)]
        fed = await store.changes(0, 99, limit=9)
        assert fed is not None
        assert {change["number"] for change in fed[0]} == {X}
        assert await store.secret("dial_key", "other") == "5ec4e7" * 6
        assert await reasons(store) == [f"asked for by {LABEL}"] * 2
        await store.orders.give(brake("", "release", reason=LABEL))
        assert await reasons(store) == [LABEL, *[f"asked for by {LABEL}"] * 2]
    assert LABEL not in dumped(store_url)
    part = [packed async for batch in snapshot(store_url, 20.0, keys) for packed in batch]
    assert {packed.row.binding.number_b for packed in part} == {B}


@pytest.mark.slow
@given(rows=some_rows())
@examples(8, 500, HealthCheck.function_scoped_fixture)
async def test_every_field_of_a_sealed_row_survives_a_restart(
    rows: list[Row], new_store_url: Callable[[], str], tmp_path: Path
) -> None:
    url, keys = new_store_url(), tmp_path / "keys"
    if not keys.exists():
        key_file(tmp_path)
    async with opened(url, keys) as store:
        await store.commit([a_change(row) for row in rows])
    async with opened(url, keys) as store:
        assert await loaded(store) == {row.binding.subs_id: row for row in rows}


async def test_where_numbers_are_sealed_there_is_no_view(store_url: str, tmp_path: Path) -> None:
    async with opened(store_url, None) as store:
        await store.commit([a_change(a_row())])
    assert len(sql(store_url, "SELECT * FROM routing_table")) == 1
    async with opened(store_url, key_file(tmp_path)) as store:
        await store.commit([a_change(a_row("2", index=2))])
    with pytest.raises(Exception, match="routing_table"):
        sql(store_url, "SELECT * FROM routing_table")


async def test_a_sealed_number_opens_in_its_own_row_and_column_only(store_url: str, tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    async with opened(store_url, keys) as store:
        await filled(store, rows_with_numbers(2))
    swaps = {
        "another row": "UPDATE bindings SET number_a ="
        " (SELECT number_a FROM bindings WHERE subs_id = '2') WHERE subs_id = '1'",
        "another column": "UPDATE bindings SET number_x = number_a WHERE subs_id = '1'",
        "another table": "UPDATE routes SET number ="
        " (SELECT number_x FROM bindings WHERE subs_id = '1') WHERE subs_id = '1'",
        "in plain": "UPDATE bindings SET number_b = '13700000000' WHERE subs_id = '1'",
        "damaged": "UPDATE bindings SET number_b = substr(number_b, 1, 40) || 'AAAAAAAA' || substr(number_b, 49)"
        " WHERE subs_id = '1'",
    }
    kept = sql(store_url, "SELECT number_x, number_a, number_b FROM bindings WHERE subs_id = '1'")[0]
    told = sql(store_url, "SELECT number FROM routes WHERE subs_id = '1'")[0][0]
    for what, swap in swaps.items():
        sql(store_url, swap)
        async with opened(store_url, keys) as store:
            with pytest.raises(StoreError, match=r"(bindings\.number_[xab]|routes\.number) of 1 ") as caught:
                await loaded(store)
            assert "restore a copy of the database" in str(caught.value), what
            assert "13700000000" not in str(caught.value)
        x, a, b = kept
        sql(
            store_url,
            f"UPDATE bindings SET number_x = '{x}', number_a = '{a}', number_b = '{b}' WHERE subs_id = '1'",  # noqa: S608
            f"UPDATE routes SET number = '{told}' WHERE subs_id = '1'",  # noqa: S608
        )
    async with opened(store_url, keys) as store:
        assert len(await loaded(store)) == 2


async def test_a_damaged_history_row_does_not_prevent_commits(store_url: str, tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    async with opened(store_url, keys) as store:
        await store.commit([a_change(a_row())], [a_check(1)])
        sql(store_url, "UPDATE check_results SET number = substr(number, 1, 60) || '=='")
        await store.commit([], [a_check(2)])
        assert len(sql(store_url, "SELECT * FROM check_results")) == 2


# -- keys -----------------------------------------------------------------------------------------


async def test_a_sealed_database_is_refused_without_its_keys(store_url: str, tmp_path: Path) -> None:
    keys, others = key_file(tmp_path), key_file(tmp_path, b"2", name="others")
    async with opened(store_url, keys) as store:
        await store.commit([a_change(a_row())])
    before = dumped(store_url)
    name = Cipher.of(keys).newest
    with pytest.raises(StoreError, match=rf"holds sealed numbers: set store.number_key_file .* key {name}"):
        await Store.open(store_url, timeout=PATIENCE, auto_migrate=True)
    with pytest.raises(StoreError, match=rf"sealed with key {name}, which is not in .*others: restore"):
        await Store.open(store_url, key_file=others, auto_migrate=True)
    with pytest.raises(ConfigError, match=r"store.number_key_file: .*gone cannot be read .*keys new"):
        await Store.open(store_url, key_file=tmp_path / "gone", auto_migrate=True)
    assert sorted(dumped(store_url)) == sorted(before)


async def test_an_outdated_database_is_not_migrated_without_its_keys(store_url: str, tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    async with opened(store_url, keys) as store:
        await store.commit([a_change(a_row())])
    sql(store_url, "UPDATE alembic_version SET version_num = '0003'")
    with pytest.raises(StoreError, match="holds sealed numbers"):
        await Store.open(store_url, timeout=PATIENCE, auto_migrate=True)
    assert sql(store_url, "SELECT version_num FROM alembic_version") == [["0003"]]
    sql(store_url, f"UPDATE alembic_version SET version_num = '{head()}'")  # noqa: S608
    await check(store_url)


async def test_a_key_added_to_the_file_is_used_by_an_open_store(store_url: str, tmp_path: Path) -> None:
    keys = key_file(tmp_path, b"1")
    async with opened(store_url, keys) as store:
        await store.commit([a_change(a_row("1"))], [a_check(1, "1")])
        key_file(tmp_path, b"2")
        await store.commit([a_change(a_row("2", index=2))])
        # A run is extended although its number is sealed with the previous key.
        await store.commit([], [a_check(2, "1")])
        assert await runs(store, "1") == [(1, 2, 2)]
        assert set(await loaded(store)) == {"1", "2"}
    old, new = Cipher.of(keys).names
    found = dict(sql(store_url, "SELECT subs_id, number_a FROM bindings"))  # type: ignore[arg-type]
    assert (key_of(found["1"]), key_of(found["2"])) == (old, new)
    with pytest.raises(StoreError, match="which is not in"):
        await Store.open(store_url, key_file=key_file(tmp_path, b"2", name="new only"), auto_migrate=True)


async def test_a_lost_key_file_does_not_affect_an_open_store(store_url: str, tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    async with opened(store_url, keys) as store:
        await store.commit([a_change(a_row("1"))])
        keys.unlink()
        await store.commit([a_change(a_row("2", index=2))])
        keys.write_text("nonsense\n")
        keys.chmod(0o600)
        assert set(await loaded(store)) == {"1", "2"}


# -- rotation -------------------------------------------------------------------------------------


async def rotated(url: str, keys: Path) -> RotationReport:
    rotation = KeyRotation(url, Cipher.of(keys))
    assert await rotation.due()
    told: list[tuple[int, int]] = []
    done = await rotation.run(lambda at, total: told.append((at, total)), settle=0.0)
    assert told[-1][0] == told[-1][1] > 0
    assert not await KeyRotation(url, Cipher.of(keys)).due()
    return done


def keys_in_use(url: str) -> set[str]:
    """The keys by which anything is sealed; "" for what is in plain."""
    found = set()
    for places in EVERYWHERE:
        for row in sql(url, f"SELECT {', '.join(places.columns)} FROM {places.table.name}"):  # noqa: S608
            found |= {key_of(value) if is_sealed(value) else "" for value in row if value not in ("", "{}")}
    return found


async def test_rotation_seals_a_plain_database_completely(store_url: str, tmp_path: Path) -> None:
    rows = rows_with_numbers(1200)
    async with opened(store_url, None) as store:
        await filled(store, rows)
        plain = await store.secret("dial_key", "5ec4e7" * 6)
    assert X in dumped(store_url)
    keys = key_file(tmp_path)
    done = await rotated(store_url, keys)
    assert (done.plain, done.idle) == (5 * 1200 + 2, [])
    assert [number for number in (*NUMBERS, plain) if number in dumped(store_url)] == []
    async with opened(store_url, keys) as store:
        again = await loaded(store)
        assert {subs_id: row.binding for subs_id, row in again.items()} == {
            row.binding.subs_id: row.binding for row in rows
        }
        assert again["7"].override == rows[6].override
        assert (await store.history("7", limit=9))[0][0]["number"] == TEMP
        # Copies of the database know the old one.
        assert await store.secret("dial_key", "another") == "another"


async def test_plain_reasons_are_readable_and_sealed_by_the_next_rotation(
    store_url: str, tmp_path: Path
) -> None:
    keys = key_file(tmp_path)
    async with opened(store_url, keys) as store:
        await filled(store, rows_with_numbers())
    sql(store_url, f"UPDATE orders SET reason = '{LABEL}' WHERE kind = 'pause'")  # noqa: S608
    async with opened(store_url, keys) as store:
        assert (await reasons(store))[1] == LABEL
    assert (await rotated(store_url, keys)).plain == 1
    assert LABEL not in dumped(store_url)
    async with opened(store_url, keys) as store:
        assert (await reasons(store))[1] == LABEL


async def test_after_a_rotation_the_earlier_key_is_not_needed(store_url: str, tmp_path: Path) -> None:
    keys = key_file(tmp_path, b"1")
    async with opened(store_url, keys) as store:
        await filled(store, rows_with_numbers(30))
        await store.secret("number_hash_key", "5ec4e7")
    old = Cipher.of(keys).newest
    key_file(tmp_path, b"2")
    done = await rotated(store_url, keys)
    assert (done.rows, done.plain, done.idle) == (5 * 30 + 2 + 1, 0, [old])
    new_only = key_file(tmp_path, b"2", name="new only")
    assert keys_in_use(store_url) == {Cipher.of(new_only).newest}
    async with opened(store_url, new_only) as store:
        assert len(await loaded(store)) == 30
        assert await store.secret("number_hash_key", "other") == "5ec4e7"
        assert await runs(store, "3") == [(3, 33, 2)]


@pytest.mark.slow(seconds=15)
async def test_a_daemon_can_write_during_a_rotation(store_url: str, tmp_path: Path) -> None:
    keys = key_file(tmp_path, b"1")
    rows = rows_with_numbers(2500)
    async with opened(store_url, keys) as store:
        await filled(store, rows)
        key_file(tmp_path, b"2")
        over = asyncio.Event()
        written: dict[str, str] = {}

        async def write() -> None:
            index = 10_000
            while not over.is_set():
                index += 1
                row = rows[index % len(rows)]
                fresh = replace(row.binding, number_a=f"138{index:08d}")
                await store.commit(
                    [a_change(Row(fresh, row.state, None, index, index), WriteCause.REGISTERED)]
                )
                written[fresh.subs_id] = fresh.number_a
                await asyncio.sleep(0.001)

        writer = asyncio.create_task(write())
        try:
            await rotated(store_url, keys)
        finally:
            over.set()
            await writer
        assert len(written) > 5
        again = await loaded(store)
    assert {subs_id: row.binding.number_a for subs_id, row in again.items()} == {
        row.binding.subs_id: A for row in rows
    } | written
    assert keys_in_use(store_url) == {Cipher.of(keys).newest}


async def test_a_daemon_without_the_new_key_is_noticed(store_url: str, tmp_path: Path) -> None:
    keys = key_file(tmp_path, b"1")
    elsewhere = key_file(tmp_path, b"1", name="elsewhere")
    async with opened(store_url, elsewhere) as store:
        await filled(store, rows_with_numbers(2))
        key_file(tmp_path, b"2")
        index = 10

        def registered_again(_done: int, _total: int) -> None:
            nonlocal index
            index += 1
            tasks.append(asyncio.ensure_future(store.commit([a_change(a_row("1", index=index))])))

        tasks: list[asyncio.Future[None]] = []
        with pytest.raises(StoreError, match="keeps sealing with another key .* give it .*keys"):  # noqa: RUF043
            await KeyRotation(store_url, Cipher.of(keys)).run(registered_again, settle=0.3)
        await asyncio.gather(*tasks)
        assert await KeyRotation(store_url, Cipher.of(keys)).due()


@pytest.mark.slow
async def test_a_killed_rotation_can_be_continued(store_url: str, tmp_path: Path) -> None:
    keys = key_file(tmp_path, b"1")
    rows = rows_with_numbers(3000)
    async with opened(store_url, keys) as store:
        await filled(store, rows)
    key_file(tmp_path, b"2")
    old, new = Cipher.of(keys).names
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ROTATING, store_url, str(keys), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    for _ in range(3):
        await child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    assert keys_in_use(store_url) == {old, new}
    async with opened(store_url, keys) as store:
        assert len(await loaded(store)) == 3000
    done = await rotated(store_url, keys)
    assert 0 < done.rows < 5 * 3000
    assert (done.idle, keys_in_use(store_url)) == ([old], {new})
    async with opened(store_url, keys) as store:
        assert {row.binding.number_b for row in (await loaded(store)).values()} == {B}


ROTATING = """
import asyncio, sys, time
from pathlib import Path
from precall.store import Cipher, KeyRotation

def tell(done, total):
    print(done, flush=True)
    time.sleep(0.05)

asyncio.run(KeyRotation(sys.argv[1], Cipher.of(Path(sys.argv[2]))).run(tell))
"""
