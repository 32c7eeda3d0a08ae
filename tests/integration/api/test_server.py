"""The server itself: health, limits, errors, TLS, start and stop."""

import asyncio
import io
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.parser import text_string_to_metric_families
from pydantic import RootModel

from precall.api.endpoints import ENDPOINTS
from precall.api.problems import guard
from precall.api.requests import MAX_BATCH_BODY, MAX_BODY, read_body
from precall.api.schemas.operations import BrakeAnswer, HealthAnswer, PausedAnswer, PoolBody, ReadyAnswer
from precall.api.schemas.problems import ProblemAnswer
from precall.cli.client import DaemonClient
from precall.core.errors import ListenError, OutOfReach
from tests.support.api_daemon import A, B, Served, a_binding, scripted, serving, token
from tests.support.locked import locked
from tests.support.patience import BRIEF, PATIENCE


async def raw(served: Served, request: bytes) -> bytes:
    """What a daemon answers to these bytes."""
    url = urlsplit(served.url)
    return await exchange(url.hostname or "", url.port or 0, request)


async def exchange(host: str, port: int, request: bytes) -> bytes:
    """Send these bytes. Return everything received until the server closes the connection."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@asynccontextmanager
async def guarded(handle: Handler) -> AsyncIterator[tuple[str, int]]:
    """A server of one handler behind the guard, for what no daemon does on demand; its host and port."""
    app = web.Application(middlewares=[guard])
    app.router.add_route("*", "/", handle)
    runner = web.AppRunner(app, lingering_time=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0]
    finally:
        await runner.cleanup()


async def test_health_readiness_metrics_and_openapi_are_served(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.register()
        status, body = await served.ask("GET", "/healthz")
        assert (status, HealthAnswer.model_validate(body).alive) == (200, True)
        status, body = await served.ask("GET", "/readyz")
        ready = ReadyAnswer.model_validate(body)
        assert (status, ready.ready, ready.degraded, ready.bindings) == (200, True, [], 1)
        assert (await served.ask("GET", "/readyz?for=writes"))[0] == 200
        await served.ask("GET", "/v1/routes/1")
        status, text = await served.ask("GET", "/metrics")
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert families["precall_reads"].samples[0].value == 1
        status, document = await served.ask("GET", "/openapi.json")
        assert len(document["paths"]) == len({one.path for one in ENDPOINTS})
        for endpoint in ENDPOINTS:
            special = ("{", "by-number", "changes", "stream", "source")
            if endpoint.method == "GET" and not any(part in endpoint.path for part in special):
                async with served.session.head(f"{served.url}{endpoint.path}") as response:
                    assert (response.status, await response.read()) == (200, b""), endpoint.path


async def test_a_stalled_check_loop_is_unhealthy(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        checker = served.daemon.parts.checker

        async def still() -> None:
            checker.ticked_at -= 11

        # The loop ticks on: only what is read between two ticks is late.
        for _ in range(50):
            await still()
            status, body = await served.ask("GET", "/healthz")
            if status == 503:
                assert HealthAnswer.model_validate(body).alive is False
                return
        pytest.fail("never found late")


async def test_during_an_outage_reads_are_answered_and_writes_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(3), store_timeout=BRIEF) as served:
        await served.register()
        await served.checked("1")
        async with locked(tmp_path / "precall.db", "EXCLUSIVE"):
            for method, path, body in (
                ("PUT", "/v1/bindings/2", a_binding(subs_id="2")),
                ("DELETE", "/v1/bindings/1", None),
                ("POST", "/v1/bindings/batch", {"bindings": [a_binding(subs_id="3")]}),
                ("PUT", "/v1/overrides/1", {"action": "hold"}),
                ("POST", "/v1/pause", {}),
                ("POST", "/v1/brake/engage", {}),
            ):
                async with served.session.request(method, f"{served.url}{path}", json=body) as response:
                    problem = await response.json(content_type=None)
                    assert (response.status, problem["code"]) == (503, "store_unavailable"), path
                    assert int(response.headers["Retry-After"]) > 0
            assert (await served.ask("GET", "/readyz?for=writes"))[0] == 503
            [line] = await served.shows("database_down")
            assert line.startswith("database_down: The database takes no writes")
            assert (await served.ask("GET", "/readyz"))[0] == 200
            _, route = await served.ask("GET", f"/v1/routes/1?caller={A}")
            assert (route["action"], route["reason"]) == ("hold", "audit_unavailable")
            assert (await served.ask("GET", "/v1/routes/2"))[0] == 404
            assert not served.daemon.parts.checker.plan.paused
        assert await served.stored() == 1


async def test_pause_and_resume(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.register()
        _, body = await served.ask("POST", "/v1/pause", {"pool_key": "FC1", "reason": "test"})
        assert PausedAnswer.model_validate(body).paused == ["FC1"]
        assert (await served.ask("POST", "/v1/pause"))[1] == {"paused": ["", "FC1"]}
        status, problem = await served.ask("POST", "/v1/pause", {"pool_key": "FC2"})
        assert (status, problem["code"], problem["field"]) == (404, "unknown_pool", "pool_key")
        assert (await served.ask("POST", "/v1/pause", {"pool": "FC1"}))[1]["field"] == "pool"
    async with serving(tmp_path) as served:
        assert (await served.ask("GET", "/readyz"))[1]["paused"] == ["", "FC1"]
        assert (await served.ask("POST", "/v1/resume"))[1] == {"paused": []}
    async with serving(tmp_path) as served:
        assert (await served.ask("GET", "/readyz"))[1]["paused"] == []


async def test_the_brake_is_engaged_and_released_by_an_operator(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(3)) as served:
        await served.register()
        await served.checked("1")
        path = f"/v1/routes/1?caller={A}"
        assert (await served.ask("GET", path))[1]["number"] == B
        _, body = await served.ask("POST", "/v1/brake/engage", {"pool_key": "FC1", "reason": "odd"})
        assert BrakeAnswer.model_validate(body).halted is True
        assert (await served.ask("GET", path))[1]["reason"] == "exposure_brake"
        status, problem = await served.ask("POST", "/v1/brake/engage", {"pool_key": "FC2"})
        assert (status, problem["code"]) == (404, "unknown_pool")
    async with serving(tmp_path, scripted(3)) as served:
        assert (await served.ask("GET", path))[1]["reason"] == "exposure_brake"
        assert (await served.ask("POST", "/v1/brake/release", {"pool_key": "FC1"}))[1] == {
            "pool_key": "FC1",
            "halted": False,
        }
        assert (await served.ask("GET", path))[1]["number"] == B


BAD_BODIES: list[tuple[str, bytes, str, int, str]] = [
    ("no JSON", b"{", "application/json", 400, "malformed_json"),
    ("not UTF-8", b'{"subs_id":"\xff"}', "application/json", 400, "malformed_json"),
    ("very deep", b"[" * 100_000, "application/json", 400, "malformed_json"),
    ("a form", b"a=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    ("text", b"{}", "text/plain", 415, "unsupported_media_type"),
    ("a string", b'"x"', "application/json", 422, "invalid_field"),
    ("null", b"null", "application/json", 422, "invalid_field"),
    ("nothing", b"", "application/json", 422, "missing_field"),
    ("of no kind", b"{}", "", 415, "unsupported_media_type"),
    ("in another alphabet", b"{}", "application/json; charset=utf-16", 415, "unsupported_media_type"),
    ("in no alphabet", b"{}", "application/json; charset=no-such", 415, "unsupported_media_type"),
    ("in no text", b"{}", "application/json; charset=base64", 415, "unsupported_media_type"),
    ("saying it twice", b'{"a":{"pool_key":1, "pool_key" :2}}', "application/json", 400, "malformed_json"),
    ("far over the limit", b" " * (3 * MAX_BODY), "application/json", 413, "body_too_large"),
    ("just over the limit", b" " * (MAX_BODY + 1), "application/json", 413, "body_too_large"),
]


async def test_a_bad_body_is_refused_by_every_endpoint_that_takes_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for endpoint in ENDPOINTS:
            if endpoint.body is None:
                continue
            path = endpoint.path.replace("{subs_id}", "1")
            for name, body, kind, status, code in BAD_BODIES:
                required = any(f.is_required() for f in endpoint.body.model_fields.values())
                if name == "nothing" and (issubclass(endpoint.body, RootModel) or not required):
                    continue
                pushed = endpoint.path.startswith("/v1/receipts")
                if "{secret}" in path or (pushed and code == "unsupported_media_type"):
                    continue  # an unknown path, and the provider's path for receipts
                if pushed and name == "saying it twice":
                    continue  # its elements are looked at one by one
                many = pushed or endpoint.path.endswith("/batch")
                larger = b" " * (MAX_BATCH_BODY - MAX_BODY) if many else b""
                sent = io.BytesIO(body + larger if len(body) > MAX_BODY else body)
                headers = {"Content-Type": kind}
                answer, problem = await served.ask(endpoint.method, path, data=sent, headers=headers)
                what = f"{endpoint.method} {endpoint.path}: {name}"
                assert (answer, problem["code"]) == (status, code), what
                ProblemAnswer.model_validate(problem)
        assert await served.stored() == 0
        assert not served.daemon.parts.checker.plan.paused
        assert not served.daemon.parts.checker.brake.halted("FC1")


@pytest.mark.parametrize("charset", ["utf8", "UTF-8", "UTF_8", '"utf-8"', "us-ascii", "ASCII", "u8"])
async def test_all_names_of_utf_8_are_accepted(tmp_path: Path, charset: str) -> None:
    async with serving(tmp_path) as served:
        headers = {"Content-Type": f"application/json;charset={charset}"}
        status, body = await served.ask(
            "PUT", "/v1/bindings/1", data=json.dumps(a_binding()), headers=headers
        )
        assert status == 201, body


@pytest.mark.parametrize(("key", "shown"), [("number_a", '"number_a"'), ("13800000001", "(withheld)")])
async def test_a_repeated_json_key_is_named(tmp_path: Path, key: str, shown: str) -> None:
    async with serving(tmp_path) as served:
        raw = json.dumps(a_binding(labels={key: "a"} if key.isdecimal() else {}))
        raw = raw.replace(f'"{key}":', f'"{key}": "13700000001", "{key}":')
        headers = {"Content-Type": "application/json"}
        status, body = await served.ask("PUT", "/v1/bindings/1", data=raw, headers=headers)
        assert (status, body["code"]) == (400, "malformed_json")
        assert f"the key {shown} stands twice" in body["detail"]
        assert "13700000001" not in str(body)
        assert await served.stored() == 0


async def test_a_large_body_without_its_length_is_cut(tmp_path: Path) -> None:
    async def endless() -> Any:
        for _ in range(160):
            yield b" " * 65_536

    async with serving(tmp_path) as served:
        status, problem = await served.ask(
            "PUT", "/v1/bindings/1", data=endless(), headers={"Content-Type": "application/json"}
        )
        assert (status, problem["code"]) == (413, "body_too_large")


async def test_a_slow_body_is_cut_off() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        await read_body(request, PoolBody, within=0.05)
        raise AssertionError("it was read")

    async with guarded(handle) as (host, port):
        answer = await exchange(
            host,
            port,
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
        )
    assert b" 408 " in answer[:20]
    assert b'"code":"body_too_slow"' in answer


async def test_requests_refused_by_aiohttp_get_a_problem(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        async with served.session.patch(f"{served.url}/v1/bindings/1") as response:
            assert response.status == 405
            assert response.content_type == "application/problem+json"
            assert response.headers["Allow"] == "DELETE, GET, HEAD, PUT"
            assert json.loads(await response.read())["code"] == "method_not_allowed"
        async with served.session.get(f"{served.url}/nothing") as response:
            assert (response.status, response.content_type) == (404, "application/problem+json")
        answer = await raw(served, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")
        assert b" 400 " in answer[:20]


async def test_an_internal_error_is_reported_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(_request: web.Request) -> web.StreamResponse:
        raise KeyError(A)

    async with guarded(handle) as (host, port):
        answer = await exchange(host, port, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert b" 500 " in answer[:20]
    assert b'"code":"internal_error"' in answer
    assert A.encode() not in answer
    assert "api.unexpected" in caplog.text
    assert "KeyError" in caplog.text
    assert A not in caplog.text


async def test_a_port_in_use_is_a_listen_error(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        with pytest.raises(ListenError, match=f"cannot listen on {address}"):
            async with serving(tmp_path, api={"listen": address}):
                pytest.fail("it listens")


@pytest.fixture(name="certificate")
def _certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


async def test_several_listeners_with_and_without_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    listen = ["127.0.0.1:0", "[::1]:0"] if socket.has_ipv6 else ["127.0.0.1:0", "127.0.0.1:0"]
    files = {"listen": listen, "tls_cert_file": str(cert), "tls_key_file": str(key)}
    trusting = ssl.create_default_context(cafile=str(cert))
    trusting.check_hostname = False
    async with serving(tmp_path, api=files) as served:
        assert served.url.startswith("https://127.0.0.1:")
        status, _ = await served.ask("GET", "/healthz", ssl=trusting)
        assert status == 200
    with pytest.raises(ListenError, match="tls_cert_file"):
        async with serving(tmp_path, api=files | {"tls_key_file": str(cert)}):
            pytest.fail("it listens")


async def test_requests_in_flight_are_answered_at_shutdown(tmp_path: Path) -> None:
    slow = scripted(1, fault=[{"kind": "slow", "delay": "0.4s"}])
    async with aiohttp.ClientSession() as session:
        async with serving(tmp_path, slow) as served:
            await served.register()
            url = served.url
            question = asyncio.create_task(session.post(f"{url}/v1/bindings/1/check?timeout=5"))
            await asyncio.sleep(0.1)
        assert (await question).status == 200
    with pytest.raises(OutOfReach, match="no daemon answers"):
        async with DaemonClient(url) as client:
            await client.request("GET", "/healthz")


async def test_the_client_reads_routes_and_reports_problems(tmp_path: Path) -> None:
    secret, entry = token("cli", "routes:read", "bindings:write")
    async with serving(tmp_path, tokens=[entry]) as served:
        async with DaemonClient(f"{served.url}/", secret) as client:
            status, body = await client.request("PUT", "/v1/bindings/1", json=a_binding())
            assert (status, body["subs_id"]) == (201, "1")
            status, body = await client.request("GET", "/v1/routes", params={"state": "normal"})
            assert (status, body["routes"]) == (200, [])
            status, body = await client.request("GET", "/v1/routes/1", params={"format": "text"})
            assert body == "dial_x,17000000001"
            assert await client.request("DELETE", "/v1/bindings/1") == (204, None)
            status, body = await client.request("GET", "/v1/bindings/1")
            assert (status, body["code"]) == (404, "unknown_binding")
        async with DaemonClient(served.url, "nonsense") as client:
            assert (await client.request("GET", "/v1/routes"))[0] == 401
    for url, said in ((served.url, "no daemon answers"), ("nonsense", "is not an address")):
        with pytest.raises(OutOfReach, match=said):
            async with DaemonClient(url) as client:
                await client.request("GET", "/v1/routes")


async def test_a_hung_daemon_is_out_of_reach() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        closed.set()

    closed = asyncio.Event()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OutOfReach, match="in time"):
            async with DaemonClient(f"http://127.0.0.1:{port}", timeout=0.1) as client:
                await client.request("GET", "/healthz")
        await closed.wait()
