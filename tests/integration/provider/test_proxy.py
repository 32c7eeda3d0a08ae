"""Proxies on the way to the provider: which one is used, what it receives, and how its errors are reported."""

import asyncio
import base64
from pathlib import Path

import pytest

from precall.cli.doctor import StepVerdict, reach
from precall.config.schema import ProviderConfig
from precall.config.settings import HIDDEN_VALUES
from precall.core.model import Failure, NonAnswer
from precall.provider import Proxy, proxy_for
from precall.telemetry.redaction import concealed, without_secrets
from tests.integration.provider.test_client import (
    ANSWER,
    Head,
    asked,
    certificate,
    client,
    http,
    never,
    says,
    served,
)
from tests.support.builders import binding

FAR, FAR_TLS = "http://dyplsapi.invalid", "https://dyplsapi.invalid"
LOGIN = base64.b64encode(b"somebody:hush-hush").decode()
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *map(str.lower, VARIABLES)):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
async def test_the_proxy_of_the_environment_is_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(says(http())) as (proxy, heads):
        monkeypatch.setenv(name, proxy.replace("//", "//us%40er:hush-hush@"))
        assert (await asked(FAR)).reply == ANSWER
    assert heads[0][""].startswith(f"POST {FAR}/?PoolKey=")
    assert heads[0]["host"] == "dyplsapi.invalid"
    login = base64.b64encode(b"us@er:hush-hush").decode()
    assert heads[0]["proxy-authorization"] == f"Basic {login}"
    assert heads[0]["authorization"].startswith("ACS3-HMAC-SHA256")
    assert "hush" not in without_secrets("http://us%40er:hush-hush@proxy")


async def test_the_configured_proxy_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(says(http())) as (proxy, heads), served(says(http())) as (other, untouched):
        monkeypatch.setenv("HTTP_PROXY", other)
        assert (await asked(FAR, proxy=proxy)).reply == ANSWER
        reply = (await asked(FAR, proxy="none")).reply
        assert isinstance(reply, NonAnswer)
        assert reply.code == "dns"
        assert (await asked(proxy, proxy=proxy)).reply == ANSWER
    assert (len(heads), untouched) == (2, [])


async def test_netrc_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password hush-hush\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with served(says(http())) as (proxy, heads):
        await asked(FAR, proxy=proxy)
        await asked(proxy, proxy="none")
    assert not any("proxy-authorization" in head for head in heads)
    assert all(head["authorization"].startswith("ACS3") for head in heads)


async def test_https_goes_through_a_tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, authority = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    pipes: list[asyncio.Task[None]] = []

    async with served(says(http()), tls=context) as (url, inner):

        async def tunnel(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            host, port = url.removeprefix("https://").split(":")
            assert head[""] == f"CONNECT {host}:{port} HTTP/1.1"
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = asyncio.create_task(_pipe(far_reader, writer))
            pipes.append(back)
            await _pipe(reader, far_writer)

        async with served(tunnel) as (proxy, outer), client(url, proxy=proxy) as provider:
            for _ in range(2):
                assert (await provider.query_call_status(binding(), again=never)).reply == ANSWER
        await asyncio.gather(*pipes)
    assert (len(outer), len(inner)) == (1, 2)
    assert "x-acs-action" not in outer[0]


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
    except ConnectionError:
        pass
    writer.close()


@pytest.mark.parametrize(
    ("status", "failure", "code"),
    [
        ("407 Proxy Authentication Required", Failure.ACCOUNT, "proxy_auth"),
        ("403 Forbidden", Failure.TRANSIENT, "proxy_refused"),
        ("502 Bad Gateway", Failure.TRANSIENT, "proxy_refused"),
    ],
)
async def test_a_refused_tunnel_is_a_proxy_failure(status: str, failure: Failure, code: str) -> None:
    async with served(says(http(b"", status))) as (proxy, heads):
        reply = (await asked(FAR_TLS, proxy=proxy)).reply
    assert isinstance(reply, NonAnswer)
    assert (reply.failure, reply.code) == (failure, code)
    assert "the proxy" in reply.detail
    assert heads[0][""] == "CONNECT dyplsapi.invalid:443 HTTP/1.1"


async def test_a_proxy_that_requires_a_login_is_named() -> None:
    async with served(says(http(b"<html>", "407 Login"))) as (proxy, _):
        reply = (await asked(FAR, proxy=proxy)).reply
    assert isinstance(reply, NonAnswer)
    assert (reply.failure, reply.code) == (Failure.ACCOUNT, "proxy_auth")


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "http://proxy.invalid:3128"])
async def test_an_unreachable_proxy_is_named(proxy: str) -> None:
    reply = (await asked(FAR_TLS, proxy=proxy)).reply
    assert isinstance(reply, NonAnswer)
    assert (reply.failure, reply.code) == (Failure.TRANSIENT, "proxy_connect")


@pytest.mark.parametrize(
    ("variables", "endpoint", "address"),
    [
        ({"https_proxy": "http://p:3128"}, FAR_TLS, "http://p:3128"),
        ({"https_proxy": "http://p:3128"}, FAR, None),
        ({"HTTPS_PROXY": "p:3128"}, FAR_TLS, "http://p:3128"),
        ({"HTTPS_PROXY": "http://[::1]:3128/"}, FAR_TLS, "http://[::1]:3128"),
        ({"HTTPS_PROXY": ""}, FAR_TLS, None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, FAR_TLS, None),
        ({"HTTPS_PROXY": "http://p", "no_proxy": "other, .invalid"}, FAR_TLS, None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "dyplsapi.invalid:8443"}, FAR_TLS, "http://p"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "dyplsapi.invalid:8443"}, f"{FAR_TLS}:8443", None),
        ({"HTTP_PROXY": "http://p"}, "http://127.0.0.1:9000", None),
        ({"HTTP_PROXY": "http://p"}, "http://[::1]:9000", None),
        ({"HTTP_PROXY": "http://p"}, "http://localhost", None),
    ],
)
def test_which_proxy_the_environment_names(
    variables: dict[str, str], endpoint: str, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = proxy_for("env", endpoint)
    assert (result.address if result else None) == address
    assert proxy_for("none", endpoint) is None


def test_proxy_credentials_are_never_shown() -> None:
    setting = "http://somebody:hush-hush@proxy.example:3128"
    proxy = proxy_for(setting, FAR)
    assert proxy == Proxy("http://proxy.example:3128", "provider.proxy", f"Basic {LOGIN}")
    config = ProviderConfig(proxy=setting)
    for text in (repr(proxy), repr(config), concealed(setting)):
        assert "hush-hush" not in text
        assert LOGIN not in text
    assert "provider.proxy" in HIDDEN_VALUES


async def test_doctor_names_the_proxy_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(says(http())) as (proxy, _):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        result = await reach("endpoint", FAR_TLS, proxy_for("env", FAR_TLS))
    assert result.verdict is StepVerdict.OK
    assert result.found == f"through the proxy of HTTPS_PROXY, {proxy.removeprefix('http://')}, which answers"
    result = await reach("endpoint", FAR_TLS, proxy_for("http://127.0.0.1:1", FAR_TLS))
    assert (result.verdict, result.out_of_reach) == (StepVerdict.FAIL, True)
    assert result.found.startswith("through the proxy of provider.proxy: no connection to 127.0.0.1:1")
