"""Clients that are slow, crowd the API, send too much or guess tokens.

They are cut off and counted, and others are not delayed.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from precall.api.access.connections import ANSWER_WITHIN, HEAD_WITHIN, STUCK, ConnectionPhase
from precall.api.access.token_throttle import BURST, EVERY
from precall.api.endpoints import ENDPOINTS
from precall.api.problems import HEADERS
from precall.api.server import KEEP_ALIVE, Server
from precall.config.schema import ApiConfig
from precall.telemetry.metrics import Metrics
from tests.support.api_daemon import Served, a_binding, scripted, serving, token
from tests.support.patience import PATIENCE

GET = b"GET /v1/routes/1 HTTP/1.1\r\nHost: localhost\r\n"


class Clock:
    """A clock that advances on command."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Peer:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of the next answer."""
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split()[1]), headers, body

    async def ended(self) -> bytes:
        """What still came until it was cut off."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.reader.read()
        except ConnectionError:
            return b""


class Bench:
    """A server without a daemon, on a test clock. It answers 503, because it is not ready."""

    def __init__(self, server: Server, clock: Clock, metrics: Metrics, port: int) -> None:
        self.server, self.clock, self.metrics, self.port = server, clock, metrics, port

    @asynccontextmanager
    async def peers(self, count: int) -> AsyncIterator[list[Peer]]:
        """So many connections, all of them known to the server."""
        before = len(self.server.crowd)
        peers = [Peer(*await asyncio.open_connection("127.0.0.1", self.port)) for _ in range(count)]
        async with asyncio.timeout(PATIENCE):
            while len(self.server.crowd) < min(before + count, self.server.config.max_connections):
                await asyncio.sleep(0.01)
        try:
            yield peers
        finally:
            for peer in peers:
                await closed(peer.writer)

    async def later(self, seconds: float) -> None:
        """So much later, when the server has looked at its connections."""
        self.clock.now += seconds
        await self.server.crowd.sweep()

    def cut(self, reason: str) -> float:
        return sample(self.metrics, "precall_connections_cut_total", reason=reason)


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    value = metrics.registry.get_sample_value(name, labels)
    assert value is not None, name
    return value


@asynccontextmanager
async def alone(**config: Any) -> AsyncIterator[Bench]:
    metrics, clock = Metrics(), Clock()
    server = Server(ApiConfig(listen=["127.0.0.1:0"], **config), "test", metrics, clock)
    [url] = await server.start()
    try:
        yield Bench(server, clock, metrics, urlsplit(url).port or 0)
    finally:
        await server.stop(5.0)


def crowd_of(served: Served) -> Any:
    return served.daemon.server.crowd


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Peer]:
    url = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        yield Peer(reader, writer)
    finally:
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


# -- slow senders


async def test_silent_and_slow_request_heads_are_cut_off() -> None:
    async with alone() as bench, bench.peers(3) as [silent, dribbling, good]:
        for byte in (b"G", b"E", b"T", b" "):
            dribbling.writer.write(byte)
            good.writer.write(GET + b"\r\n")
            assert (await good.answer())[0] == 503
            await bench.later(HEAD_WITHIN / 4)
        await bench.later(0.1)
        assert await silent.ended() == await dribbling.ended() == b""
        assert bench.cut("slow_head") == 2
        good.writer.write(GET + b"\r\n")
        assert (await good.answer())[0] == 503
        assert sample(bench.metrics, "precall_connections") == 1


async def test_a_slow_head_of_a_second_request_is_cut_off() -> None:
    async with alone() as bench, bench.peers(1) as [peer]:
        peer.writer.write(GET + b"\r\n")
        await peer.answer()
        await bench.later(KEEP_ALIVE / 2)
        peer.writer.write(GET)
        await asyncio.sleep(
            0.05
        )  # so that the bytes arrive separately; if they are late, they are not cut off too early
        for _ in range(4):
            peer.writer.write(b"X")
            await bench.later(HEAD_WITHIN / 2)
        assert await peer.ended() == b""
        assert bench.cut("slow_head") == 1


async def test_a_long_request_is_not_cut_off_as_a_slow_head(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, connected(served) as peer:
        crowd = crowd_of(served)
        since = served.daemon.parts.feed.newest
        path = f"/v1/routes/changes?since={since}&wait=600"
        peer.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            while not served.daemon.parts.feed.waiting:
                await asyncio.sleep(0.01)
        clock = crowd.clock
        crowd.clock = lambda: clock() + 10 * HEAD_WITHIN
        await crowd.sweep()
        await served.register()
        status, _, body = await peer.answer()
        assert (status, b'"subs_id":"1"' in body) == (200, True)


async def test_a_client_that_reads_no_response_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        crowd, url = crowd_of(served), urlsplit(served.url)
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect((url.hostname, url.port))
            lazy.setblocking(False)  # noqa: FBT003
            await asyncio.get_running_loop().sock_sendall(
                lazy, b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500
            )
            async with asyncio.timeout(PATIENCE):
                while not any(connection.transport.get_write_buffer_size() for connection in crowd):
                    await asyncio.sleep(0.01)
            await crowd.sweep()
            clock, ahead = crowd.clock, 0.0
            for _ in range(int(ANSWER_WITHIN / STUCK) + 3):
                ahead += STUCK + 1
                crowd.clock = lambda: clock() + ahead  # noqa: B023  read within this turn alone
                await crowd.sweep()
        assert sample(served.daemon.metrics, "precall_connections_cut_total", reason="slow_reader") == 1
        assert (await served.ask("GET", "/healthz"))[0] == 200


async def test_an_unfinished_body_of_a_get_request_is_not_waited_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.register()
        async with connected(served) as peer:
            peer.writer.write(GET + b"Content-Length: 1000\r\n\r\n{")
            assert (await peer.answer())[0] == 200
            assert await peer.ended() == b""


async def test_a_client_that_disconnects_within_a_body_is_not_logged_as_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        crowd = crowd_of(served)
        async with connected(served) as peer:
            peer.writer.write(
                b"POST /v1/pause HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 99\r\n\r\n{"
            )
            async with asyncio.timeout(PATIENCE):
                while not any(connection.phase is ConnectionPhase.WORK for connection in crowd):
                    await asyncio.sleep(0.01)
            peer.writer.transport.abort()
        async with asyncio.timeout(PATIENCE):
            while len(crowd):
                await asyncio.sleep(0.01)
        assert (await served.ask("GET", "/readyz"))[1]["paused"] == []
    assert "api.unexpected" not in caplog.text


# -- crowds


async def test_at_the_connection_limit_the_oldest_stranger_is_closed() -> None:
    async with alone(max_connections=3) as bench, bench.peers(1) as [known]:
        known.writer.write(GET + b"\r\n")
        await known.answer()
        async with bench.peers(2) as [first, second], bench.peers(1) as [third]:
            assert await first.ended() == b""
            assert bench.cut("crowded") == 1
            assert len(bench.server.crowd) == 3
            for peer in (known, second, third):
                peer.writer.write(GET + b"\r\n")
                assert (await peer.answer())[0] == 503
            async with bench.peers(1) as [late]:
                assert await late.ended() == b""
            for peer in (known, second, third):
                peer.writer.write(GET + b"\r\n")
                assert (await peer.answer())[0] == 503


async def test_a_client_with_only_refused_requests_counts_as_a_stranger() -> None:
    _, entry = token("me", "routes:read")
    async with alone(max_connections=1, tokens=[entry]) as bench, bench.peers(1) as [peer]:
        for path, status in (("/v1/routes/1", 401), ("/healthz", 200)):
            peer.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert (await peer.answer())[0] == status
        async with bench.peers(1) as [newcomer]:
            assert await peer.ended() == b""
            newcomer.writer.write(GET + b"\r\n")
            assert (await newcomer.answer())[0] == 401


@pytest.mark.slow
async def test_two_thousand_idle_or_slow_connections_do_not_delay_others(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served, AsyncExitStack() as stack:
        await served.register()
        crowd = crowd_of(served)
        begun = crowd.clock()
        crowd.clock = lambda: begun  # none is too slow, however long two thousand connections take here
        peers = [await stack.enter_async_context(connected(served)) for _ in range(2000)]
        for place, peer in enumerate(peers):
            peer.writer.write(GET + b"\r\n" if place % 2 else GET)
        async with asyncio.timeout(PATIENCE):
            for peer in peers[1::2]:
                assert (await peer.answer())[0] == 200
        assert len(crowd) >= 2000
        for _ in range(50):
            for peer in peers[:100:2]:
                peer.writer.write(b"X")
            assert (await served.ask("GET", "/v1/routes/1"))[0] == 200


# -- too much


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        GET + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
        GET + b"".join(b"X%d: y\r\n" % place for place in range(200)) + b"\r\n",
        GET + b"Authorization\x01: Bearer hush-hush\r\n\r\n",
        GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET + b"Content-Length: hush-hush\r\n\r\n",
        b"hush-hush\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hush-hush\r\n\r\n",
    ],
    ids=["line", "field", "fields", "name", "smuggling", "length", "words", "tls"],
)
async def test_malformed_requests_get_a_problem_that_does_not_repeat_them(
    head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with alone() as bench, bench.peers(1) as [peer]:
        peer.writer.write(head)
        status, headers, body = await peer.answer()
        assert status == 400
        assert headers["content-type"].startswith("application/problem+json")
        assert {name.lower() for name in HEADERS} <= set(headers)
        assert b"hush" not in body
        assert await peer.ended() == b""
        assert sample(bench.metrics, "precall_requests_refused_total", reason="malformed") == 1
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "//evil.example/%2e%2e",
        "/v1/routes/..%2f..%2fetc",
        "http://evil.example/v1",
        "/v1/",
        "/..",
    ],
)
async def test_paths_cannot_escape_and_never_redirect(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as served, connected(served) as peer:
        peer.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status, headers, body = await peer.answer()
        assert status in (400, 404)
        assert "location" not in headers
        assert b"evil" not in body


async def test_a_compressed_body_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        status, problem = await served.ask("PUT", "/v1/bindings/1", data=b"{}", headers=headers)
        assert (status, problem["code"]) == (415, "unsupported_media_type")


async def test_expect_headers_are_met_or_ignored(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for expected, first in ((b"100-continue", 100), (b"miracles", 200)):
            body = b'{"reason":"x"}'
            async with connected(served) as peer:
                peer.writer.write(
                    b"POST /v1/pause HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\nExpect: %b\r\n\r\n" % (len(body), expected)
                )
                if first == 100:
                    assert (await peer.answer())[0] == 100
                peer.writer.write(body)
                assert (await peer.answer())[0] == 200


async def test_every_response_has_the_security_headers(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        for endpoint in ENDPOINTS:
            await served.ask("PUT", "/v1/bindings/1", a_binding())
            await served.ask("PUT", "/v1/overrides/1", {"action": "hold"})
            url = served.url + endpoint.path.replace("{subs_id}", "1")
            body = a_binding() if endpoint.path == "/v1/bindings/{subs_id}" else None
            method = "HEAD" if endpoint.path.endswith("/stream") else endpoint.method
            async with served.session.request(method, url, json=body) as response:
                policy = response.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; "), endpoint.path
                assert policy.endswith("frame-ancestors 'none'"), endpoint.path
                assert "unsafe" not in policy, endpoint.path
                for name, value in HEADERS.items():
                    styled = endpoint.path == "/runbook" and name == "Content-Security-Policy"
                    if not styled:
                        assert response.headers[name] == value, (method, endpoint.path, response.status)


# -- limits per token


def answers_of(heads: int, secret: str) -> bytes:
    return (GET + f"Authorization: Bearer {secret}\r\n\r\n".encode()) * heads


async def test_ten_thousand_wrong_tokens_are_throttled(caplog: pytest.LogCaptureFixture) -> None:
    _, entry = token("me", "routes:read")
    async with alone(tokens=[entry]) as bench, bench.peers(1) as [peer]:
        statuses: list[int] = []
        for _ in range(100):
            peer.writer.write(answers_of(100, "wrong"))
            statuses += [(await peer.answer())[0] for _ in range(100)]
        assert statuses == [401] * int(BURST) + [429] * (10_000 - int(BURST))
        assert sample(bench.metrics, "precall_requests_refused_total", reason="wrong_token") == 10_000
        assert len(bench.server.gate.guessing) == 1
        assert "api.wrong_tokens" not in caplog.text
        # Another token is not limited.
        peer.writer.write(answers_of(1, "secret-of-me"))
        assert (await peer.answer())[0] == 503
        bench.clock.now += EVERY
        bench.server.gate.guessing.report()
    lines = [record.msg for record in caplog.records if "api.wrong_tokens" in str(record.msg)]
    assert [line["count"] for line in lines] == [10_000]  # type: ignore[index]


async def test_the_request_rate_is_limited_per_token() -> None:
    _, slow = token("slow", "routes:read")
    _, fast = token("fast", "routes:read")
    tokens = [slow | {"rate": 2}, fast]
    async with alone(tokens=tokens, rate=50) as bench, bench.peers(1) as [peer]:
        for secret, allowed in (("secret-of-slow", 2), ("secret-of-fast", 50)):
            peer.writer.write(answers_of(allowed + 2, secret))
            found = [await peer.answer() for _ in range(allowed + 2)]
            assert [status for status, _, _ in found] == [503] * allowed + [429] * 2
            _, headers, body = found[-1]
            assert headers["retry-after"] == "1"
            assert b'"code":"rate_limited"' in body
        bench.clock.now += 0.5
        peer.writer.write(answers_of(2, "secret-of-slow"))
        assert [(await peer.answer())[0] for _ in range(2)] == [503, 429]
        assert sample(bench.metrics, "precall_requests_refused_total", reason="rate") == 5


async def test_concurrent_streams_are_limited_per_token(tmp_path: Path) -> None:
    async with serving(tmp_path, api={"max_streams": 2}) as served:
        url = f"{served.url}/v1/routes/stream"
        async with served.session.get(url) as one:
            async with served.session.get(url) as two:
                assert (one.status, two.status) == (200, 200)
                async with served.session.get(url) as three:
                    assert (three.status, three.headers["Retry-After"]) == (429, "1")
                    assert (await three.json(content_type=None))["code"] == "too_many_at_once"
            async with asyncio.timeout(
                20
            ):  # until there is a change to send, and the closed connection is noticed
                await served.register()
                while (await head(served, url)) == 429:
                    await asyncio.sleep(0.05)


async def head(served: Served, url: str) -> int:
    async with served.session.get(url) as response:
        return response.status


async def test_concurrent_requests_are_limited_per_token(tmp_path: Path) -> None:
    hanging = scripted(1, fault=[{"kind": "hang", "share": 1.0}])
    async with serving(tmp_path, hanging, api={"max_in_flight": 1}) as served:
        await served.register()
        check = asyncio.create_task(served.ask("POST", "/v1/bindings/1/check?timeout=2"))
        async with asyncio.timeout(PATIENCE):
            while (await served.ask("GET", "/v1/routes/1"))[0] != 429:
                await asyncio.sleep(0.01)
        assert (await check)[0] in (200, 202)
        assert (await served.ask("GET", "/v1/routes/1"))[0] == 200
        metrics = served.daemon.metrics
        assert sample(metrics, "precall_requests_refused_total", reason="at_once") >= 1


# -- nothing grows


def sizes(served: Served) -> Iterator[tuple[str, int]]:
    """Yield the size of everything in the daemon that could remember requests."""
    daemon = served.daemon
    parts = {
        "table": daemon.parts.table,
        "checker": daemon.parts.checker,
        "planner": daemon.parts.checker.planner,
        "feed": daemon.parts.feed,
        "lookup": daemon.parts.checker,
        "registry": daemon.parts.registry,
        "metrics": daemon.metrics,
        "guessing": daemon.server.gate.guessing,
    }
    for name, part in parts.items():
        for attribute, value in vars(part).items():
            if hasattr(value, "__len__"):
                yield f"{name}.{attribute}", len(value)
    yield "series", daemon.metrics.render().count(b"\n")


async def test_requests_about_unknown_ids_do_not_grow_memory(tmp_path: Path) -> None:
    async def ask(place: int) -> None:
        subs_id = f"9{place:017}"
        for method, path, body in (
            ("GET", f"/v1/routes/{subs_id}", None),
            ("GET", f"/v1/routes/{subs_id}?max_age=0&caller=138{place:08}", None),
            ("GET", f"/v1/routes/by-number?x=170{place:08}", None),
            ("GET", f"/v1/routes?pool_key=POOL{place}&cursor={subs_id}", None),
            ("GET", f"/v1/bindings/{subs_id}", None),
            ("GET", f"/v1/bindings/{subs_id}/history", None),
            ("GET", f"/v1/bindings/{subs_id}/explain", None),
            ("GET", f"/nowhere/{subs_id}", None),
            ("POST", f"/v1/bindings/{subs_id}/check", None),
            ("DELETE", f"/v1/bindings/{subs_id}", None),
            ("PUT", f"/v1/overrides/{subs_id}", {"action": "hold"}),
            ("POST", "/v1/pause", {"pool_key": f"POOL{place}"}),
            ("POST", "/v1/brake/engage", {"pool_key": f"POOL{place}"}),
            ("POST", "/v1/hints", [{"subs_id": subs_id, "dial_at": "2099-01-01T00:00:00Z"}]),
            ("POST", "/v1/dials", [{"subs_id": subs_id, "last_at": "2026-01-01T00:00:00Z"}]),
            ("POST", "/v1/routes/lookup", {"subs_ids": [f"{subs_id}{n}" for n in range(20)]}),
        ):
            status, _ = await served.ask(method, path, body)
            assert status < 500, (method, path, status)

    async with serving(tmp_path) as served:
        await served.register()
        for place in range(20):
            await ask(place)
        before = dict(sizes(served))
        for place in range(20, 220):
            await ask(place)
        after = dict(sizes(served))
        assert {name: (size, after[name]) for name, size in before.items() if after[name] > size + 5} == {}
