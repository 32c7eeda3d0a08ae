"""Following the routing table over HTTP: snapshot, long poll, stream."""

import asyncio
import json
import shutil
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from precall.api.schemas.changes import ChangesAnswer
from precall.api.schemas.routes import RouteAnswer
from precall.core.model import Row, WriteCause
from precall.table.writes import Amendment
from tests.support.api_daemon import A, B, Served, X, a_binding, scripted, serving
from tests.support.locked import locked
from tests.support.patience import BRIEF, PATIENCE, until

IDLE: dict[str, Any] = {"rate": 0.001}
"""A daemon that makes no checks of its own accord."""


async def snapshot(served: Served, query: str = "") -> tuple[int, dict[str, dict[str, Any]]]:
    """(the index to follow from, routes by id)."""
    async with served.session.get(f"{served.url}/v1/routes/snapshot{query}") as response:
        assert response.status == 200
        assert response.content_type == "application/x-ndjson"
        rows = [json.loads(line) for line in (await response.text()).splitlines()]
        for row in rows:
            RouteAnswer.model_validate(row)
        return int(response.headers["X-Precall-Index"]), {row["subs_id"]: row for row in rows}


async def changes(served: Served, since: int, query: str = "&wait=0") -> ChangesAnswer:
    status, body = await served.ask("GET", f"/v1/routes/changes?since={since}{query}")
    assert status == 200, body
    assert len(json.dumps(body)) < 1024 * max(1, len(body["changes"]))
    return ChangesAnswer.model_validate(body)


async def refused(served: Served, since: int) -> bool:
    status, body = await served.ask("GET", f"/v1/routes/changes?since={since}&wait=0")
    assert status in (200, 410)
    if status == 410:
        assert body["code"] == "compacted"
        async with served.session.get(f"{served.url}/v1/routes/stream?since={since}") as response:
            assert response.status == 410
    return status == 410


def changes_of(answer: ChangesAnswer) -> list[tuple[str, str, str]]:
    return [(one.subs_id, one.action, one.reason) for one in answer.changes]


class Stream:
    """An open stream, event by event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last = ""

    async def block(self) -> dict[str, str]:
        """The next block, by field; a comment is under ""."""
        found: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE):
            while line := (await self.response.content.readline()).decode().rstrip("\n"):
                name, _, value = line.partition(":")
                found[name] = value.strip()
        self.last = found.get("id", self.last)
        return found

    async def end(self) -> dict[str, str]:
        """The next event; comments keep a connection alive meanwhile."""
        while "event" not in (block := await self.block()):
            assert set(block) in ({""}, {"", "id"})  # a heartbeat, block
        return block

    async def route(self) -> dict[str, Any]:
        """The route of the next change."""
        while (block := await self.block()).get("event") != "change":
            assert "event" not in block, block
        route = json.loads(block["data"])
        assert block["id"] == str(route["index"])
        return route  # type: ignore[no-any-return]


@asynccontextmanager
async def streaming(served: Served, query: str = "", last: str = "") -> AsyncIterator[Stream]:
    headers = {"Last-Event-ID": last} if last else {}
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
        session.get(f"{served.url}/v1/routes/stream{query}", headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        stream = Stream(response)
        first = await stream.block()
        assert 1000 <= int(first["retry"]) <= 5000
        yield stream


def readers(served: Served) -> float:
    value = served.daemon.metrics.registry.get_sample_value("precall_stream_readers")
    assert value is not None
    return value


async def test_a_long_poll_is_answered_as_soon_as_something_changes(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        index, table = await snapshot(served)
        assert table == {}
        polling = asyncio.create_task(changes(served, index, "&wait=600"))
        await asyncio.sleep(0.1)
        assert not polling.done()
        await served.register()
        answer = await asyncio.wait_for(polling, PATIENCE)
        assert changes_of(answer) == [("1", "dial_x", "unverified")]
        assert answer.index == answer.changes[0].index > index
        assert await changes(served, answer.index) == ChangesAnswer(index=answer.index, changes=[])


async def test_a_long_poll_ignores_changes_outside_its_filter(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        index, _ = await snapshot(served)
        queries = ("subs_id=2,3&subs_id=4", "pool_key=FC2", "subs_id=1&pool_key=FC2")
        tasks = [asyncio.create_task(changes(served, index, f"&wait=0.4&{query}")) for query in queries]
        patient = [asyncio.create_task(changes(served, index, f"&wait=600&{query}")) for query in queries]
        await asyncio.sleep(0.05)
        await served.register()
        for answer in await asyncio.gather(*tasks):
            assert answer == ChangesAnswer(index=served.daemon.parts.feed.newest, changes=[])
            # the index of an idle reader is one to go on from
            assert await changes(served, answer.index) == answer
        assert not any(task.done() for task in patient)
        for task in patient:
            task.cancel()
        woken = asyncio.create_task(changes(served, answer.index, "&wait=30&subs_id=2,3&subs_id=4"))
        await served.register(subs_id="4")
        assert [one.subs_id for one in (await woken).changes] == ["4"]


async def test_changes_are_read_page_by_page(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        index, _ = await snapshot(served)
        for subs_id in "12345":
            await served.register(subs_id=subs_id)
        found = []
        while (answer := await changes(served, index, "&wait=0&limit=2")).changes:
            assert len(answer.changes) <= 2
            found += [one.subs_id for one in answer.changes]
            index = answer.index
        assert found == list("12345")


async def test_unusable_indexes_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        base, _ = await snapshot(served)
        await served.register()
        newest = served.daemon.parts.feed.newest
        for since in (0, 1, base - 1, newest + 1, newest + 10**9, 2**63 - 1):
            assert await refused(served, since), since
        for since in (base, newest):
            assert not await refused(served, since)
        for query, code in (
            ("", "missing_parameter"),
            ("?since=-1", "invalid_parameter"),
            ("?since=x", "invalid_parameter"),
            (f"?since={2**63}", "invalid_parameter"),
            (f"?since={base}&since={base}", "invalid_parameter"),
            (f"?since={base}&wait=601", "invalid_parameter"),
            (f"?since={base}&wait=nan", "invalid_parameter"),
            (f"?since={base}&limit=0", "invalid_parameter"),
            (f"?since={base}&subs_id=x", "invalid_parameter"),
            (f"?since={base}&subs_id=1,", "invalid_parameter"),
            (f"?since={base}&id=1", "unknown_parameter"),
        ):
            status, body = await served.ask("GET", f"/v1/routes/changes{query}")
            assert (status, body["code"]) == (400, code), query
        headers = {"Last-Event-ID": "x"}
        status, body = await served.ask("GET", "/v1/routes/stream", headers=headers)
        assert (status, body["code"], body["field"]) == (400, "invalid_parameter", "Last-Event-ID")
        for path in ("changes?since={}&wait=600", "stream", "snapshot"):
            async with served.session.head(f"{served.url}/v1/routes/{path.format(base)}") as response:
                assert response.status == 200


async def test_readers_resume_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(2)) as served:
        served.daemon.parts.checker.plan.pause("")
        first, _ = await snapshot(served)
        await served.register(subs_id="1")
        await served.register(subs_id="2", pool_key="FC2")
        await served.checked("1")
        await served.register(subs_id="2", pool_key="FC3")
        await served.ask("DELETE", "/v1/bindings/2")
        live = (await changes(served, first)).changes
        assert [(one.subs_id, one.reason) for one in live] == [
            ("1", "unverified"),
            ("2", "unverified"),
            ("1", "status_2"),
            ("2", "removed"),
            ("2", "unverified"),
            ("2", "removed"),
        ]
    async with serving(tmp_path, scripted(2), **IDLE) as served:
        second, table = await snapshot(served)
        assert second > live[-1].index
        stored = (await changes(served, first)).changes
        assert [one.index for one in stored] == [one.index for one in live]
        assert [(one.action, one.number, one.version) for one in stored] == [
            (one.action, one.number, one.version) for one in live
        ]
        # a change that is still current is sent with its true age
        standing = stored[2].model_dump(exclude_unset=True)
        assert standing["age_ms"] > live[2].age_ms
        assert {**standing, "age_ms": 0} == {**table["1"], "age_ms": 0}
        for place, one in enumerate(live):
            later = await changes(served, one.index)
            assert [other.index for other in later.changes] == [other.index for other in live[place + 1 :]]
        paged = await changes(served, first, "&wait=0&limit=1&pool_key=FC2")
        assert changes_of(paged) == [("2", "dial_x", "unverified")]
        rest = await changes(served, paged.index, "&wait=0&pool_key=FC2")
        assert changes_of(rest) == [("2", "expired", "removed")]
        assert rest.index == live[-1].index
        assert (await changes(served, rest.index, "&wait=0&pool_key=FC2")).index == second
        assert changes_of(await changes(served, first, "&wait=0&subs_id=1"))[0][0] == "1"
        async with streaming(served, f"?since={first}") as stream:
            assert [(await stream.route())["index"] for _ in live] == [one.index for one in live]
            await served.register(subs_id="3")
            assert (await stream.route())["subs_id"] == "3"
        assert await refused(served, second - 1)
    async with serving(tmp_path, **IDLE) as served:
        third, _ = await snapshot(served)
        assert third > second
        # a start's own index is known even if it brought no change before it
        assert [one.subs_id for one in (await changes(served, second)).changes] == ["3"]


async def test_an_index_lost_by_restoring_a_backup_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        await served.register()
        kept = served.daemon.parts.feed.newest
    shutil.copy(tmp_path / "precall.db", tmp_path / "backup.db")
    async with serving(tmp_path, **IDLE) as served:
        undone = [served.daemon.parts.feed.newest]
        await served.register(subs_id="2")
        undone.append(served.daemon.parts.feed.newest)
    for leftover in tmp_path.glob("precall.db*"):
        leftover.unlink()
    shutil.copy(tmp_path / "backup.db", tmp_path / "precall.db")
    async with serving(tmp_path, **IDLE) as served:
        await served.register(subs_id="3")
        assert served.daemon.parts.feed.newest > max(undone)
        for since in undone:
            assert await refused(served, since)
        assert [one.subs_id for one in (await changes(served, kept)).changes] == ["3"]


async def test_an_index_deleted_by_retention_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        base, _ = await snapshot(served)
        await served.register(subs_id="1")
        taken = served.daemon.parts.feed.newest
        await asyncio.sleep(0.02)
        border = time.time()
        await served.register(subs_id="2")
        kept = served.daemon.parts.feed.newest
        await served.register(subs_id="3")
        await served.daemon.parts.store.retire(border)
        assert [one.subs_id for one in (await changes(served, base)).changes] == list("123")  # from memory
    async with serving(tmp_path, **IDLE) as served:
        assert await refused(served, base)
        assert await refused(served, taken)
        assert [one.subs_id for one in (await changes(served, kept)).changes] == ["3"]


async def test_a_stream_resumes_at_the_last_event_id(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        async with streaming(served) as stream:
            assert stream.response.headers["X-Accel-Buffering"] == "no"
            assert stream.response.headers["Cache-Control"] == "no-store"
            assert stream.response.content_type == "text/event-stream"
            assert int(stream.last) == served.daemon.parts.feed.newest
            assert readers(served) == 1
            await served.register(subs_id="1")
            assert (await stream.route())["subs_id"] == "1"
        begun = int(stream.last)
        for subs_id in "234":
            await served.register(subs_id=subs_id)
        # a browser repeats the URL, but Last-Event-ID is newer
        async with streaming(served, f"?since={begun - 1}", last=stream.last) as stream:
            assert [(await stream.route())["subs_id"] for _ in "234"] == ["2", "3", "4"]
        async with streaming(served, f"?since={begun}&subs_id=4") as stream:
            assert (await stream.route())["subs_id"] == "4"


async def test_many_changes_at_once_reach_a_stream_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served, streaming(served) as stream:
        for start in (0, 1000):
            bindings = [a_binding(subs_id=str(place)) for place in range(start, start + 1000)]
            status, _ = await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
            assert status == 200
        assert [(await stream.route())["subs_id"] for _ in range(2000)] == [str(n) for n in range(2000)]


async def test_changes_never_contain_a_real_number(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(3), rate=1000.0) as served:
        index, _ = await snapshot(served)
        async with streaming(served, f"?since={index}") as stream:
            await served.register()
            await served.checked("1")
            while (streamed := await stream.route())["action"] != "dial_real":
                pass
        _, table = await snapshot(served)
        [*_, polled] = (await changes(served, index)).changes
        for route in (streamed, table["1"], polled.model_dump(exclude_unset=True)):
            assert (route["action"], route["number"], route["extension"]) == ("dial_real", "", "")
            assert route["flags"] == ["number_withheld"]
            assert A not in str(route)
            assert B not in str(route)
    async with serving(tmp_path, **IDLE) as served:
        [*_, recalled] = (await changes(served, index)).changes
        assert (recalled.action, recalled.number) == ("dial_real", "")


async def test_a_snapshot_applies_filters(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        bindings = [a_binding(subs_id=str(place), pool_key=f"FC{place % 2}") for place in range(250)]
        await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
        index, table = await snapshot(served)
        assert index == served.daemon.parts.feed.newest
        assert set(table) == {str(place) for place in range(250)}
        _, odd = await snapshot(served, "?pool_key=FC1")
        assert set(odd) == {str(place) for place in range(1, 250, 2)}
        _, some = await snapshot(served, "?pool_key=FC1&subs_id=1,2&subs_id=3,999")
        assert set(some) == {"1", "3"}


async def test_unsaved_changes_are_streamed_with_a_flag(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(4), store_timeout=BRIEF) as served:
        served.daemon.parts.checker.plan.pause("")
        await served.register()
        index, _ = await snapshot(served)
        async with streaming(served, f"?since={index}") as stream:
            async with locked(tmp_path / "precall.db"):
                await served.checked("1")
                route = await stream.route()
                assert (route["action"], route["flags"]) == ("expired", ["unsaved"])
            assert not await refused(served, route["index"])


async def test_a_poll_and_a_stream_end_when_the_daemon_stops(tmp_path: Path) -> None:
    blocks, polls = await stopped(tmp_path, 200)
    assert all(block == {"event": "cut", "data": '{"reason":"stopping"}'} for block in blocks)
    assert len(blocks) == 200
    assert all(not answer["changes"] for answer in polls)


@pytest.mark.slow
async def test_two_thousand_streams(tmp_path: Path) -> None:
    blocks, _ = await stopped(tmp_path, 2000)
    assert all(block["event"] == "cut" for block in blocks)
    assert len(blocks) == 2000


async def stopped(folder: Path, count: int) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """Stop a daemon with `count` open streams. Return what each receives at the end, after one change."""
    limits: dict[str, Any] = {"limit": 0, "force_close": True}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(**limits), timeout=aiohttp.ClientTimeout(total=None)
    ) as session:
        async with serving(folder, **IDLE) as served:
            since = served.daemon.parts.feed.newest

            async def poll() -> dict[str, Any]:
                query = f"?since={since}&subs_id=2&wait=600"
                async with session.get(f"{served.url}/v1/routes/changes{query}") as response:
                    return await response.json()  # type: ignore[no-any-return]

            polls = [asyncio.create_task(poll()) for _ in range(10)]
            streams = []
            for _ in range(count):
                stream = Stream(await session.get(f"{served.url}/v1/routes/stream"))
                assert "retry" in await stream.block()
                streams.append(stream)
            assert readers(served) == count
            await served.register()
            for stream in streams:
                assert (await stream.route())["subs_id"] == "1"
            await served.session.close()
        blocks = [await stream.end() for stream in streams]
        assert {await stream.response.content.read() for stream in streams} == {b""}
        return blocks, await asyncio.gather(*polls)


@pytest.mark.slow(seconds=10)
async def test_a_slow_reader_is_disconnected_without_delaying_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the other reader is slow too, though not as slow as this.
    monkeypatch.setattr("precall.api.handlers.changes.SLOW", 20.0)
    async with serving(tmp_path, **IDLE) as served:
        host, port = served.url.removeprefix("http://").split(":")
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect((host, int(port)))
            lazy.sendall(b"GET /v1/routes/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            async with streaming(served) as stream:
                for start in (0, 5000):
                    bindings = [a_binding(subs_id=str(place)) for place in range(start, start + 5000)]
                    await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings})
                tail = asyncio.create_task(_tail_once_cut(served, lazy))
                for place in range(10_000):
                    assert (await stream.route())["subs_id"] == str(place)
                assert b'event: cut\ndata: {"reason":"slow"}' in await tail


async def _tail_once_cut(served: Served, lazy: socket.socket) -> bytes:
    """Wait until a connection is no longer a reader, and return the end of what it still brings."""
    await until(lambda: readers(served) <= 1)
    lazy.settimeout(PATIENCE)
    return await asyncio.to_thread(_rest, lazy)


def _rest(lazy: socket.socket) -> bytes:
    """The end of what a connection still brings."""
    tail = b""
    while part := lazy.recv(65536):
        tail = (tail + part)[-1000:]
    return tail


async def test_replaced_routes_are_sent_without_expired_numbers(tmp_path: Path) -> None:
    async with serving(tmp_path, **IDLE) as served:
        index, _ = await snapshot(served)
        await served.register(expires_at="2099-01-01T00:00:00Z")

        def ended(row: Row | None, _index: int) -> Amendment[None]:
            assert row is not None
            return Amendment(replace(row, binding=replace(row.binding, expires_at=time.time() + 5.2)), None)

        await served.daemon.parts.writer.submit("1", WriteCause.REGISTERED, ended)
        await served.register(number_x="17000000009", expires_at="2099-01-01T00:00:00Z")
        await asyncio.sleep(0.4)
    async with serving(tmp_path, **IDLE) as served:
        answer = await changes(served, index)
        assert [(one.action, one.reason, one.number) for one in answer.changes] == [
            ("dial_x", "unverified", X),
            ("expired", "expired_locally", ""),
            ("dial_x", "unverified", "17000000009"),
        ]
