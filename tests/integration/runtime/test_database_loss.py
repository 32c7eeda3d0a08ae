"""The database fails under load and recovers.

Reads never fail, requests are refused at once, and new answers are served at once and stored later, in order. The
change feed has no gaps.
"""

import asyncio
import resource
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_daemon import Served, a_binding, scripted, serving
from tests.support.locked import locked
from tests.support.patience import BRIEF, PATIENCE, until

pytestmark = pytest.mark.slow

BINDINGS = 40
QUICK = {
    "min_interval": "50ms",
    "abnormal_min_interval": "50ms",
    "max_age": "100ms",
    "abnormal_max_age": "100ms",
}

ENDLESS = """
CREATE TRIGGER endless BEFORE INSERT ON route_changes BEGIN
  SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n);
END
"""


def elsewhere(file: Path, statement: str) -> sqlite3.Connection:
    """Open the connection of another process and wait for its lock.

    Call this in a thread, because the event loop must run.
    """
    other = sqlite3.connect(file, timeout=10.0, isolation_level=None, check_same_thread=False)
    other.execute(statement)
    return other


@asynccontextmanager
async def hung(file: Path) -> AsyncIterator[None]:
    """Make every statement that writes a change hang."""
    (await asyncio.to_thread(elsewhere, file, ENDLESS)).close()
    yield
    (await asyncio.to_thread(elsewhere, file, "DROP TRIGGER endless")).close()


@asynccontextmanager
async def full(file: Path) -> AsyncIterator[None]:
    """No file of this process may grow beyond what the journal has: the kernel refuses the write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{file}-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@asynccontextmanager
async def moved(file: Path) -> AsyncIterator[None]:
    """The file is moved away, and back."""
    away = file.rename(file.with_suffix(".away"))
    yield
    away.rename(file)


@dataclass(slots=True)
class Load:
    """What readers and writers saw."""

    seen: dict[tuple[str, int], int] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    unsaved: set[str] = field(default_factory=set)
    statuses: list[int] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)


async def read(served: Served, load: Load) -> None:
    while True:
        for place in range(1, BINDINGS + 1):
            status, route = await served.ask("GET", f"/v1/routes/{place}")
            assert status == 200, route
            subs_id, index = route["subs_id"], route["index"]
            assert index >= load.highest.get(subs_id, 0)
            load.highest[subs_id] = index
            load.seen[subs_id, index] = route["status"]
            if "unsaved" in route["flags"]:
                load.unsaved.add(subs_id)
            await asyncio.sleep(0.005)


async def write(served: Served, load: Load) -> None:
    turn = 100
    while True:
        turn += 1
        body = a_binding(subs_id=str(turn))
        async with served.session.put(f"{served.url}/v1/bindings/{turn}", json=body) as response:
            load.statuses.append(response.status)
            assert response.status in (201, 503), await response.text()
            assert (response.status == 503) == ("Retry-After" in response.headers)
            if response.status == 201:
                load.stored.add(str(turn))
        await asyncio.sleep(0.02)


async def unsettle(served: Served) -> None:
    turn = 0
    while True:
        turn += 1
        subs_id = str(1 + turn % BINDINGS)
        truth = {"called_no": None, "status": 1 + turn // BINDINGS % 2}
        served.simulator.service.world.change(subs_id, {}, truth)
        await asyncio.sleep(0.03)


@asynccontextmanager
async def under_load(served: Served) -> AsyncIterator[Load]:
    bindings = [a_binding(subs_id=str(place)) for place in range(1, BINDINGS + 1)]
    await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
    load = Load()
    tasks = [
        asyncio.create_task(work) for work in (read(served, load), write(served, load), unsettle(served))
    ]
    try:
        await asyncio.sleep(0.5)
        yield load
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if not isinstance(error, asyncio.CancelledError):
            raise error


@pytest.mark.parametrize("trouble", [locked, hung, full, moved])
async def test_changes_during_an_outage_are_stored_afterwards(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    trouble: Callable[[Path], AbstractAsyncContextManager[None]],
) -> None:
    scenario = scripted(*[1] * BINDINGS)
    async with serving(tmp_path, scenario, rate=60.0, freshness=QUICK, store_timeout=BRIEF) as served:
        daemon = served.daemon
        async with under_load(served) as load:
            async with trouble(tmp_path / "precall.db"):
                await until(lambda: not daemon.parts.writer.saving)
                load.statuses.clear()
                load.unsaved.clear()
                begun = time.monotonic()

                def refused_at_once() -> bool:
                    """A writer that waited for the database each time would have had fewer refusals by now."""
                    refusals = len(load.statuses)
                    return refusals > 20 and BRIEF * refusals > time.monotonic() - begun

                await until(lambda: len(load.unsaved) > BINDINGS // 2 and refused_at_once())
                assert set(load.statuses) == {503}
                assert (await served.ask("GET", "/readyz"))[0] == 200
                assert (await served.ask("GET", "/readyz?for=writes"))[0] == 503
            await until(lambda: daemon.parts.writer.saving)
            await until(lambda: load.statuses[-1] == 201)
        daemon.parts.checker.plan.pause("")
        await until(lambda: not daemon.parts.checker.in_flight and not daemon.parts.writer.pending)
        assert not daemon.parts.table.unsaved
        await journal_is_complete(served, load)
        said = [record.getMessage() for record in caplog.records]
        assert sum("store.down" in line for line in said) == 1, said
        assert sum("store.back" in line for line in said) == 1, said


async def journal_is_complete(served: Served, load: Load) -> None:
    daemon = served.daemon

    async def read() -> tuple[dict[str, Any], dict[str, Any]]:
        rows = {row.subs_id: row.row async for rows in daemon.parts.store.load() for row in rows}
        return rows, {row.binding.subs_id: row for row in daemon.parts.table.rows()}

    # A read whose client has gone may still be waiting for a call, and its check ends after all others.
    stored, table = await read()
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while stored != table:
                await asyncio.sleep(0.1)
                stored, table = await read()
    assert stored == table
    assert load.stored <= set(stored)
    page = await daemon.parts.store.changes(0, 2**62, limit=100_000)
    assert page is not None
    told = {(change["subs_id"], change["index"]): change for change in page[0]}
    for key, status in load.seen.items():
        assert told[key]["status"] == status
    versions: dict[str, int] = {}
    for change in page[0]:
        if change["reason"] != "removed":  # of one that was refused in the very commit
            assert change["version"] == versions.get(change["subs_id"], 0) + 1, change
            versions[change["subs_id"]] = change["version"]


async def test_real_numbers_are_held_as_soon_as_the_database_is_down(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(*[3] * 20), freshness=QUICK, store_timeout=BRIEF) as served:
        ids = [str(place) for place in range(1, 21)]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": [a_binding(subs_id=i) for i in ids]})
        await until(lambda: all(row.state.status == 3 for row in served.daemon.parts.table.rows()))
        async with locked(tmp_path / "precall.db"):
            await served.ask("GET", "/v1/routes/1")
            await until(lambda: not served.daemon.parts.writer.saving)
            status, body = await served.ask("POST", "/v1/routes/lookup", {"subs_ids": ids})
            assert status == 200
            assert {(r["action"], r["number"], r["reason"]) for r in body["routes"]} == {
                ("hold", "", "audit_unavailable")
            }
        await until(lambda: served.daemon.parts.writer.saving)
        async with asyncio.timeout(PATIENCE):
            while (await served.ask("GET", "/v1/routes/1"))[1]["action"] != "dial_real":
                await asyncio.sleep(0.05)


async def test_a_replaced_database_file_is_not_written_to(tmp_path: Path) -> None:
    file = tmp_path / "precall.db"
    async with serving(tmp_path, scripted(1), store_timeout=BRIEF) as served:
        await served.register()
        async with moved(file):
            file.write_bytes(b"")
            status, _ = await served.ask("PUT", "/v1/bindings/2", a_binding(subs_id="2"))
            assert status == 503
            assert file.read_bytes() == b""
            file.unlink()
        await until(lambda: served.daemon.parts.writer.saving)
        assert await served.stored() == 1
