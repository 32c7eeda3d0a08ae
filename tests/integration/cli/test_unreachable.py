"""Client commands with an unreachable daemon, or one that asks them to wait."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from precall.cli import app, bindings
from precall.cli.binding_rows import COLUMNS
from precall.cli.client import DaemonClient
from precall.cli.session import Session
from precall.cli.target import Target
from precall.core.errors import OutOfReach, Refusal
from tests.integration.api.test_tls import Authority

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def hello(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"hello": "world"})


@asynccontextmanager
async def answering(handler: Handler = hello, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server on loopback."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def why(url: str, **more: Any) -> str:
    """Return the error text of the client when it cannot reach `url`."""
    with pytest.raises(OutOfReach) as caught:
        async with DaemonClient(url, **more) as client:
            await client.request("GET", "/v1/bindings")
    return str(caught.value)


@pytest.fixture(name="authority", scope="module")
def _authority() -> Authority:
    return Authority("authority")


def server_context(pair: tuple[Path, Path], client_ca: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pair)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def trusting(authority: Authority, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.check_hostname = False
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


async def test_a_refused_connection_is_explained() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        assert await why(url) == (
            f"no daemon answers at {url}: connection refused; is `precall run` running there?"
        )


async def test_an_unused_proxy_is_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert "HTTP_PROXY is not used" in await why(f"http://127.0.0.1:{probe.getsockname()[1]}")


async def test_an_unknown_host_name_is_explained() -> None:
    assert "its name is not known to DNS" in await why("http://nowhere.invalid:8080")


async def test_tls_on_one_side_only_is_explained(tmp_path: Path, authority: Authority) -> None:
    async with answering() as port:
        assert "it does not speak TLS: write http://" in await why(f"https://127.0.0.1:{port}")
    async with answering(tls=server_context(authority.issue(tmp_path, "server"))) as port:
        assert "does it speak TLS, so that it is https://?" in await why(f"http://127.0.0.1:{port}")


async def test_untrusted_certificates_are_explained(tmp_path: Path, authority: Authority) -> None:
    async with answering(tls=server_context(authority.issue(tmp_path, "server"))) as port:
        assert "name that authority with --cacert" in await why(f"https://127.0.0.1:{port}")
        by_name = ssl.create_default_context(cadata=authority.pem.decode())
        assert "a certificate for another name" in await why(f"https://127.0.0.1:{port}", tls=by_name)


async def test_missing_and_refused_client_certificates_are_explained(
    tmp_path: Path, authority: Authority
) -> None:
    ca, stranger = tmp_path / "ca.pem", Authority("stranger")
    ca.write_bytes(authority.pem)
    pair = authority.issue(tmp_path, "server")
    async with answering(tls=server_context(pair, ca)) as port:
        url = f"https://127.0.0.1:{port}"
        assert "--cert and --key" in await why(url, tls=trusting(authority))
        foreign = trusting(authority, stranger.issue(tmp_path, "foreign"))
        assert "api.client_ca_file" in await why(url, tls=foreign, shows_certificate=True)
        good = trusting(authority, authority.issue(tmp_path, "client"))
        async with DaemonClient(url, tls=good, shows_certificate=True) as client:
            assert await client.request("GET", "/") == (200, {"hello": "world"})


async def test_a_server_that_does_not_speak_http_is_explained() -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "does not speak HTTP" in await why(f"http://127.0.0.1:{port}")


# -- patience ---------------------------------------------------------------------------------------


async def asked(port: int, times: int = 1) -> list[Any]:
    """What a session is answered, in a thread of its own as commands are."""

    def ask() -> list[Any]:
        with Session(Target(f"http://127.0.0.1:{port}")) as session:
            return [session.ask("GET", "/v1/bindings") for _ in range(times)]

    return await asyncio.to_thread(ask)


def throttling(refusals: int, wait: str) -> Handler:
    left = [refusals]

    async def handler(_request: web.Request) -> web.StreamResponse:
        left[0] -= 1
        if left[0] < 0:
            return web.json_response({"hello": "world"})
        problem = {"code": "rate_limited", "detail": "this token asks too often"}
        return web.json_response(
            problem, status=429, headers={"Retry-After": wait}, content_type="application/problem+json"
        )

    return handler


async def test_retry_after_is_obeyed_and_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    async with answering(throttling(4, "0")) as port:
        assert await asked(port, 2) == [{"hello": "world"}] * 2
    said = capsys.readouterr().err
    assert said.count("this token asks too often") == 1


async def test_a_retry_after_that_is_too_long_is_a_refusal() -> None:
    async with answering(throttling(1, "3600")) as port:
        with pytest.raises(Refusal, match=r"this token asks too often \(rate_limited\)") as refused:
            await asked(port)
    assert refused.value.status == 429


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (200, {}, "is not precall"),
        (302, {"Location": "https://login.example/"}, "redirects to https://login.example/"),
        (502, {}, "is it precall that answers there"),
    ],
)
async def test_another_service_at_the_address_is_recognised(
    status: int, headers: dict[str, str], said: str
) -> None:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="<html>", content_type="text/html", headers=headers)

    async with answering(handler) as port:
        with pytest.raises(OutOfReach, match=said):
            await asked(port)


# -- an import that ends early -----------------------------------------------------------------------


def batches(*answers: tuple[int, Any]) -> Handler:
    """A daemon that stores batches, then answers otherwise, one after the other."""
    left = list(answers)

    async def handler(request: web.Request) -> web.StreamResponse:
        sent = (await request.json())["bindings"]
        status, body = left.pop(0) if left else (200, None)
        results = [{"subs_id": one["subs_id"], "result": "created", "error": ""} for one in sent]
        headers = {"Retry-After": "3600"} if status == 429 else {}
        return web.json_response(body or {"results": results}, status=status, headers=headers)

    return handler


def a_file(folder: Path, lines: int) -> Path:
    file = folder / "bindings.csv"
    rows = (f"{n},FC1,17000000001,13800138000,2030-01-01T00:00:00Z\n" for n in range(lines))
    file.write_text("subs_id,pool_key,number_x,number_a,expires_at\n" + "".join(rows))
    return file


async def imported(port: int, *args: str | Path) -> Any:
    """What `bindings import` of these arguments came to."""
    words = ["import", *map(str, args), "--url", f"http://127.0.0.1:{port}"]
    return await asyncio.to_thread(CliRunner().invoke, bindings.app, words)


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (403, {"code": "forbidden", "detail": "lacks the scope"}, Refusal, "lacks the scope"),
        (429, {"code": "rate_limited", "detail": "too often"}, Refusal, "too often"),
        (503, {"code": "store_unavailable", "detail": "not now"}, OutOfReach, "not now"),
        (302, {}, OutOfReach, "redirects"),
    ],
)
async def test_an_interrupted_import_reports_what_is_stored_and_where_to_resume(
    tmp_path: Path, status: int, body: Any, kind: type[Exception], said: str
) -> None:
    async with answering(batches((200, None), (status, body))) as port:
        result = await imported(port, a_file(tmp_path, 5001))
    assert result.stdout.strip() == "5,000 created, 0 updated, 0 unchanged"
    assert isinstance(result.exception, kind)
    assert re.fullmatch(
        rf"stopped at line 5002: .*{said}.*; the same import continues from there", str(result.exception)
    )


def refusal(lines: int, **errors: str) -> tuple[int, Any]:
    """The answer that refuses a batch for what is wrong with these ids."""
    results = [
        {"subs_id": str(n), "result": "refused", "error": errors.get(f"line{n}", "")} for n in range(lines)
    ]
    return 422, {"code": "batch_refused", "results": results}


async def test_keep_going_stores_the_rest_of_a_batch(tmp_path: Path) -> None:
    file = a_file(tmp_path, 3)
    async with answering(batches(refusal(3, line1="bindings[1].pool_key: is not known"))) as port:
        result = await imported(port, file, "--keep-going")
    kept = tmp_path / "bindings.csv.rejected.csv"
    assert result.exit_code == 1
    assert result.stdout.strip() == f"2 created, 0 updated, 0 unchanged; 1 refused: they are in {kept}"
    assert kept.read_text() == (
        "subs_id,pool_key,number_x,number_a,expires_at,error\n"
        "1,FC1,17000000001,13800138000,2030-01-01T00:00:00Z,pool_key: is not known\n"
    )
    assert kept.stat().st_mode & 0o777 == 0o600


async def test_expired_bindings_are_skipped_by_an_import(tmp_path: Path) -> None:
    file = a_file(tmp_path, 3)
    file.write_text(f"{file.read_text()}7,FC1,17000000001,13800138000,2020-01-01T00:00:00Z\n")
    # The daemon's clock may be ahead.
    async with answering(batches(refusal(3, line2="bindings[2].expires_at: this time has passed"))) as port:
        result = await imported(port, file, "--skip-expired")
    assert (result.exit_code, result.stdout.strip()) == (
        0,
        "2 created, 0 updated, 0 unchanged; 2 expired, left out",
    )


async def test_keep_going_requires_a_file_for_rejects() -> None:
    result = await imported(1, "-", "--keep-going")
    assert (result.exit_code, "--rejects" in result.stderr) == (2, True)


async def test_an_interrupted_list_prints_what_it_received() -> None:
    pages = [
        (200, {"bindings": [dict.fromkeys(COLUMNS, "1")], "cursor": "next"}),
        (503, {"code": "store_unavailable", "detail": "not now"}),
    ]

    async def handler(_request: web.Request) -> web.StreamResponse:
        status, body = pages.pop(0)
        return web.json_response(body, status=status)

    async with answering(handler) as port:
        words = ["list", "--url", f"http://127.0.0.1:{port}"]
        result = await asyncio.to_thread(CliRunner().invoke, bindings.app, words)
    assert (len(result.stdout.splitlines()), "ends early, after 1" in result.stderr) == (2, True)
    assert isinstance(result.exception, OutOfReach)


@pytest.mark.parametrize("resource", ["orders", "exposures"])
async def test_a_refused_list_prints_no_empty_table(resource: str) -> None:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"code": "forbidden", "detail": "needs scope admin"}, status=403)

    async with answering(refuse) as port:
        words = [resource, "list", "--url", f"http://127.0.0.1:{port}"]
        result = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert (result.stdout, result.stderr) == ("", "")
    assert isinstance(result.exception, Refusal)
