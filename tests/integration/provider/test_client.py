"""The client against peers that do everything a peer can do, and against the simulated provider."""

import asyncio
import datetime as dt
import gzip
import itertools
import resource
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from precall.config.schema import ProviderConfig
from precall.core.callers import read_caller
from precall.core.model import Answer, Failure, NonAnswer, Status
from precall.provider import (
    DETAIL,
    STATUS,
    CallDetail,
    Credential,
    Credentials,
    Provider,
    TimedReply,
    TransportTrouble,
    read_status,
)
from precall.simulator import Simulator, load_scenario
from tests.support.builders import binding

BODY = (
    b'{"Code":"OK","RequestId":"E7F99446-8191","SecretCallStatusDTO":{"Status":1,"CalledNo":"17000000000"}}'
)
ANSWER = Answer(Status.NORMAL, "17000000000", "", "E7F99446-8191")
KEY = Credential("demo", "demo-secret")
CALLER = "13900000009"

BOMB = b"""<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><r><Code>OK</Code><RequestId>&c;</RequestId></r>"""
OUTSIDE = (
    b"""<!DOCTYPE r [<!ENTITY f SYSTEM "file:///etc/passwd">]><r><Code>OK</Code><Message>&f;</Message></r>"""
)

Head = dict[str, str]
Peer = Callable[[Head, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(body: bytes = BODY, status: str = "200 OK", **headers: str) -> bytes:
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def says(*replies: bytes) -> Peer:
    """Serve the given replies in turn, and the last one from then on."""
    rest = itertools.chain(replies, itertools.repeat(replies[-1]))

    async def peer(_head: Head, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(next(rest))

    return peer


def says_and_closes(reply: bytes) -> Peer:
    async def peer(_head: Head, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        writer.close()

    return peer


async def _head(reader: asyncio.StreamReader) -> Head | None:
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = text.strip().split("\r\n")
    head = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    head["body"] = (await reader.readexactly(int(head.get("content-length", "0")))).decode()
    return {"": first} | head


@asynccontextmanager
async def served(peer: Peer, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[Head]]]:
    """A raw peer on loopback; yields its URL and the heads of the requests it got."""
    heads: list[Head] = []
    open_writers: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        while not writer.is_closing() and (head := await _head(reader)) is not None:
            heads.append(head)
            await peer(head, reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        server.close()
        for writer in open_writers:
            writer.transport.abort()


@asynccontextmanager
async def client(
    url: str, credentials: Credentials | None = None, nonces: list[str] | None = None, **settings: Any
) -> AsyncIterator[Provider]:
    fresh = (f"nonce-{time.time_ns()}-{number}" for number in itertools.count())
    given = {"endpoint": url, "call_detail_endpoint": url, **settings}
    provider = Provider(
        ProviderConfig.model_validate(given),
        credentials or Credentials(KEY),
        wall=time.time,
        monotonic=time.monotonic,
        nonce=lambda: nonces.pop(0) if nonces else next(fresh),
    )
    await provider.start()
    try:
        yield provider
    finally:
        await provider.close()


def once() -> bool:
    return True


def never() -> bool:
    raise AssertionError("the budget is asked for nothing but a retry")


def call_no(head: Head) -> str | None:
    """The CallNo of a request signed by rpc."""
    return dict(parse_qsl(head["body"])).get("CallNo")


async def asked(url: str, **settings: Any) -> TimedReply[Answer | NonAnswer]:
    async with client(url, **settings) as provider:
        return await provider.query_call_status(binding(), again=never)


async def trouble_from(peer: Peer, **settings: Any) -> tuple[Failure, str]:
    async with served(peer) as (url, _):
        reply = (await asked(url, **settings)).reply
    assert isinstance(reply, NonAnswer)
    assert "127.0.0.1" not in reply.detail
    return reply.failure, reply.code


# -- what is sent


async def test_the_sent_host_is_signed_and_so_is_every_header() -> None:
    async with served(says(http())) as (url, heads):
        assert (await asked(url)).reply == ANSWER
    (head,) = heads
    assert head["host"] == url.removeprefix("http://")
    assert head[""] == "POST /?PoolKey=FC1&SubsId=1000000000000001 HTTP/1.1"
    signed = head["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    unsigned = set(head) - set(signed)
    assert unsigned == {
        "",
        "body",
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "user-agent",
    }
    assert head["accept-encoding"] == "identity"


async def test_connections_are_reused_and_nonces_are_not() -> None:
    connections = set()

    async def peer(_head: Head, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        writer.write(http(Set_Cookie="a=b; Path=/"))

    async with served(peer) as (url, heads), client(url) as provider:
        for _ in range(5):
            assert (await provider.query_call_status(binding(), again=never)).reply == ANSWER
    assert len(connections) == 1
    assert len({head["x-acs-signature-nonce"] for head in heads}) == 5
    assert not any("cookie" in head for head in heads)


@pytest.mark.parametrize(
    ("setting", "caller", "sent"),
    [
        ("never", "", None),
        ("never", CALLER, None),
        ("number_a", "", "13800000001"),
        ("number_a", CALLER, "13800000001"),
        ("caller", "", None),
        ("caller", CALLER, CALLER),
        ("caller", read_caller("Alice <sip:13900000009@10.0.0.1>"), CALLER),
        ("caller", read_caller("anonymous"), None),
        ("caller", read_caller("0*1"), None),
    ],
)
async def test_the_calling_number_is_sent_only_when_wanted(
    setting: str, caller: str, sent: str | None
) -> None:
    async with (
        served(says(http())) as (url, heads),
        client(url, signature="rpc", send_call_no=setting) as provider,
    ):
        assert (await provider.query_call_status(binding(), caller=caller, again=never)).reply == ANSWER
    assert [call_no(head) for head in heads] == [sent]


REFUSED = http(b'{"Code":"isv.MOBILE_NUMBER_ILLEGAL","RequestId":"E7F99446-8191"}')
GONE = http(b'{"Code":"isv.SUBS_NOT_EXIST","RequestId":"E7F99446-8191"}')


@pytest.mark.parametrize("refusal", [REFUSED, GONE])
async def test_a_refused_caller_is_left_out_of_the_repeated_call(refusal: bytes) -> None:
    async with (
        served(says(refusal, http())) as (url, heads),
        client(url, signature="rpc", send_call_no="caller") as provider,
    ):
        assert (await provider.query_call_status(binding(), caller=CALLER, again=once)).reply == ANSWER
    assert [call_no(head) for head in heads] == [CALLER, None]


@pytest.mark.parametrize(
    ("setting", "affordable", "failure", "calls"),
    [
        ("caller", True, Failure.REFUSED, 2),
        ("caller", False, Failure.STALE, 1),
        ("number_a", True, Failure.REFUSED, 1),
    ],
)
async def test_only_a_refusal_without_the_caller_concerns_the_binding(
    setting: str, affordable: bool, failure: Failure, calls: int
) -> None:
    async with (
        served(says(REFUSED)) as (url, heads),
        client(url, signature="rpc", send_call_no=setting) as provider,
    ):
        asked = await provider.query_call_status(binding(), caller=CALLER, again=lambda: affordable)
    assert isinstance(asked.reply, NonAnswer)
    assert (asked.reply.failure, asked.reply.code) == (failure, "isv.MOBILE_NUMBER_ILLEGAL")
    assert len(heads) == calls


# -- replies


@pytest.mark.parametrize(
    ("peer", "failure", "code"),
    [
        (says(http(b"<html>busy</html>", "502 Bad Gateway")), Failure.TRANSIENT, "http_5xx"),
        (says(http(b"<html>busy</html>")), Failure.TRANSIENT, "html"),
        (says(http(b"")), Failure.TRANSIENT, "empty"),
        (says(http(b"", "204 No Content")), Failure.TRANSIENT, "empty"),
        (says_and_closes(http()[:-20]), Failure.TRANSIENT, "truncated"),
        (says_and_closes(b""), Failure.TRANSIENT, "reset"),
        (says_and_closes(b"HTTP/1.1 200 OK\r\n"), Failure.TRANSIENT, "reset"),
        (says_and_closes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), Failure.TRANSIENT, "bad_http"),
        (says(http(b"", "200 OK", X="y" * 9000)), Failure.TRANSIENT, "bad_http"),
        (says(http(b"", "200 OK", **{f"X{n}": "y" for n in range(200)})), Failure.TRANSIENT, "bad_http"),
        (says_and_closes(chunked(b"zz\r\nnot a chunk")), Failure.TRANSIENT, "bad_http"),
        (says_and_closes(chunked(b"9\r\n{")), Failure.TRANSIENT, "truncated"),
        (says(http(b"", "302 Found", Location="http://127.0.0.1:1/")), Failure.TRANSIENT, "redirect"),
        (says(http(b"[1,")), Failure.MALFORMED, "bad_json"),
        (says(http(b"{" * 100_000)), Failure.MALFORMED, "body_too_large"),
        (says(http(gzip.compress(b"{}"), "400 Bad", Content_Encoding="gzip")), Failure.MALFORMED, "compressed"),
        (says(http(gzip.compress(b"{}"), "429 Slow", Content_Encoding="GZIP")), Failure.THROTTLED, "http_429"),
        (says(http(gzip.compress(b"{}"))), Failure.MALFORMED, "compressed"),
        (says(http(b'{"a":' * 10_000)), Failure.MALFORMED, "bad_json"),
        (says(http(b"<a>" * 20_000, Content_Type="text/xml")), Failure.MALFORMED, "bad_xml"),
        (says(http(b"<a>" * 9_000 + b"</a>" * 9_000)), Failure.MALFORMED, "no_code"),
        (says(http(BOMB)), Failure.MALFORMED, "bad_xml"),
        (says(http(OUTSIDE)), Failure.MALFORMED, "bad_xml"),
        (says(http(gzip.compress(b"0" * 50_000_000), Content_Encoding="gzip")), Failure.MALFORMED, "compressed"),
        (says(http(b'{"Code":"InvalidApi.NotFound"}', "404 Not Found")), Failure.ACCOUNT, "InvalidApi.NotFound"),
    ],
)  # fmt: skip
async def test_any_reply_is_returned_as_a_value(peer: Peer, failure: Failure, code: str) -> None:
    assert await trouble_from(peer) == (failure, code)


async def test_a_throttled_reply_has_its_retry_after() -> None:
    reply = http(b'{"Code":"Throttling.User"}', "400 Bad Request", x_acs_retry_after="300")
    async with served(says(reply)) as (url, _):
        answered = (await asked(url)).reply
    assert isinstance(answered, NonAnswer)
    assert (answered.failure, answered.retry_after) == (Failure.THROTTLED, 0.3)


async def _hang(_head: Head, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        await reader.read()


async def _drip(_head: Head, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(http(b"", Content_Length="1000000"))
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.01)


async def _flood(_head: Head, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(chunked(b""))
    while not writer.is_closing():
        writer.write(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
        await asyncio.sleep(0)


async def _slow_head(_head: Head, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X: y\r\n")
        await asyncio.sleep(0.02)


def endless(head: bytes, part: bytes) -> Peer:
    """Never ends, and sends as fast as it is read."""

    async def peer(_head: Head, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)

    return peer


async def _reset(_head: Head, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize(
    ("peer", "failure", "code"),
    [
        (_hang, Failure.TRANSIENT, "timeout"),
        (_drip, Failure.TRANSIENT, "timeout"),
        (_flood, Failure.MALFORMED, "body_too_large"),
        (_reset, Failure.TRANSIENT, "reset"),
        (_slow_head, Failure.TRANSIENT, "timeout"),
        (endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 4096), Failure.TRANSIENT, "bad_http"),
        (endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 500), Failure.TRANSIENT, "bad_http"),
        (endless(b"HTTP/1.1 200 ", b"y" * 4096), Failure.TRANSIENT, "bad_http"),
    ],
)
async def test_an_endless_response_is_cut_off(peer: Peer, failure: Failure, code: str) -> None:
    assert await trouble_from(peer, timeout="300ms") == (failure, code)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (chunked(b"1;"), b"x" * 4096),
        (chunked(b"1\r\n{\r\n0\r\n"), b"X: y\r\n" * 500),
    ],
    ids=["interim answers", "a chunk extension", "trailers"],
)
async def test_endless_interim_responses_and_trailers_are_cut_off(head: bytes, part: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failure, _ = await trouble_from(endless(head, part), timeout="500ms")
    assert failure in {Failure.TRANSIENT, Failure.MALFORMED}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # kB


async def test_refused_connections_and_unknown_hosts_are_failures() -> None:
    async with served(says(http())) as (url, _):
        pass
    refused = (await asked(url)).reply
    unknown = (await asked("http://nowhere.invalid", timeout="1s")).reply
    assert isinstance(refused, NonAnswer)
    assert isinstance(unknown, NonAnswer)
    assert (refused.failure, refused.code) == (Failure.TRANSIENT, "connect")
    assert unknown.failure is Failure.TRANSIENT
    assert unknown.code in {"dns", "timeout"}


async def test_a_reply_has_the_duration_of_its_call() -> None:
    async def slow(_head: Head, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(http())

    async with served(slow) as (url, _):
        begun = time.monotonic()
        answered = await asked(url)
    assert answered.reply == ANSWER
    assert 0.2 <= answered.seconds <= time.monotonic() - begun


async def test_a_cancelled_check_is_cancelled_and_leaves_the_client_usable() -> None:
    replies = iter([_hang, says(http())])

    async def peer(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next(replies)(head, reader, writer)

    async with served(peer) as (url, heads), client(url) as provider:
        check = asyncio.create_task(provider.query_call_status(binding(), again=never))
        while not heads:
            await asyncio.sleep(0.01)
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check
        assert (await provider.query_call_status(binding(), again=never)).reply == ANSWER


async def test_unencodable_text_and_a_closed_client_are_failures() -> None:
    async with served(says(http())) as (url, heads):
        async with client(url) as provider:
            reply = (await provider.query_call_status(binding(subs_id="\ud800"), again=never)).reply
        closed = (await provider.query_call_status(binding(), again=never)).reply
    assert isinstance(reply, NonAnswer)
    assert (reply.failure, reply.code) == (Failure.REFUSED, TransportTrouble.UNSENDABLE)
    assert isinstance(closed, NonAnswer)
    assert (closed.failure, closed.code) == (Failure.TRANSIENT, TransportTrouble.CLOSED)
    assert not heads


async def test_closing_the_client_fails_calls_in_flight() -> None:
    async with served(_hang) as (url, heads), client(url) as provider:
        check = asyncio.create_task(provider.query_call_status(binding(), again=never))
        while not heads:
            await asyncio.sleep(0.01)
        await provider.close()
        reply = (await check).reply
    assert isinstance(reply, NonAnswer)
    assert reply.failure is Failure.TRANSIENT


# -- TLS


def certificate(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """Return a TLS server context for 127.0.0.1 with a self-signed certificate, and the file to trust it by."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, both = directory / "cert.pem", directory / "both.pem"
    trusted.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(private + trusted.read_bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(both)
    return context, trusted


async def test_tls_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, trusted = certificate(tmp_path)
    async with served(says(http()), context) as (url, heads):
        reply = (await asked(url)).reply
        assert isinstance(reply, NonAnswer)
        assert (reply.failure, reply.code) == (Failure.TRANSIENT, "tls")
        assert not heads
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert (await asked(url)).reply == ANSWER


async def test_tls_to_a_plain_text_server_is_a_failure() -> None:
    async with served(says(http())) as (url, _):
        reply = (await asked(url.replace("http:", "https:"), timeout="500ms")).reply
    assert isinstance(reply, NonAnswer)
    assert reply.failure is Failure.TRANSIENT


# -- the one retry

STALE_NONCE = http(b'{"Code":"SignatureNonceUsed"}', "400 Bad Request")
STALE_TOKEN = http(b'{"Code":"InvalidSecurityToken.Expired"}', "403 Forbidden")


async def test_a_stale_nonce_is_replaced_once() -> None:
    async with served(says(STALE_NONCE, http())) as (url, heads), client(url) as provider:
        assert (await provider.query_call_status(binding(), again=once)).reply == ANSWER
    assert len({head["x-acs-signature-nonce"] for head in heads}) == len(heads) == 2


async def test_a_second_stale_nonce_is_not_an_account_failure() -> None:
    async with served(says(STALE_NONCE)) as (url, heads), client(url) as provider:
        reply = (await provider.query_call_status(binding(), again=once)).reply
    assert isinstance(reply, NonAnswer)
    assert (reply.failure, reply.code, len(heads)) == (Failure.STALE, "SignatureNonceUsed", 2)


async def test_without_budget_a_stale_nonce_is_not_retried() -> None:
    async with served(says(STALE_NONCE, http())) as (url, heads), client(url) as provider:
        reply = (await provider.query_call_status(binding(), again=lambda: False)).reply
        detail = (await provider.query_call_detail("1^1", 11000000300006, 0, again=lambda: False)).reply
    assert isinstance(reply, NonAnswer)
    assert (reply.failure, type(detail), len(heads)) == (Failure.STALE, CallDetail, 2)


@pytest.mark.parametrize("affordable", [True, False])
async def test_a_renewed_token_is_not_an_account_failure(affordable: bool) -> None:
    """Neither when the budget has no call left for the new one, nor when that is taken for stale too."""
    tokens = itertools.count(1)
    credentials = Credentials(None, lambda: Credential("demo", "demo-secret", f"token-{next(tokens)}"))
    await credentials.start()
    async with served(says(STALE_TOKEN)) as (url, heads), client(url, credentials) as provider:
        reply = (await provider.query_call_status(binding(), again=lambda: affordable)).reply
    await credentials.stop()
    assert isinstance(reply, NonAnswer)
    assert (reply.failure, len(heads)) == (Failure.STALE, 1 + affordable)


async def test_an_expired_token_is_refreshed_and_the_query_repeated() -> None:
    tokens = itertools.count(1)
    credentials = Credentials(None, lambda: Credential("demo", "demo-secret", f"token-{next(tokens)}"))
    await credentials.start()
    async with served(says(STALE_TOKEN, http())) as (url, heads), client(url, credentials) as provider:
        assert (await provider.query_call_status(binding(), again=once)).reply == ANSWER
    await credentials.stop()
    assert [head["x-acs-security-token"] for head in heads] == ["token-1", "token-2"]


async def test_a_configured_token_that_expired_is_not_tried_again() -> None:
    credentials = Credentials(Credential("demo", "demo-secret", "old"))
    async with served(says(STALE_TOKEN)) as (url, heads), client(url, credentials) as provider:
        reply = (await provider.query_call_status(binding(), again=never)).reply
    assert isinstance(reply, NonAnswer)
    assert (reply.failure, len(heads)) == (Failure.ACCOUNT, 1)


async def test_without_a_credential_nothing_is_sent() -> None:
    async with served(says(http())) as (url, heads), client(url, Credentials(None, lambda: KEY)) as provider:
        reply = (await provider.query_call_status(binding(), again=never)).reply
        raw = await provider.raw(STATUS, {})
    assert isinstance(reply, NonAnswer)
    assert (reply.failure, reply.code) == (Failure.ACCOUNT, TransportTrouble.NO_CREDENTIAL)
    assert raw.failure == reply
    assert not heads


# -- the simulated provider

SCENARIO = """
[account]
access_key_id = "demo"
access_key_secret = "demo-secret"
[[binding]]
subs_id = "1000000000000000001"
pool_key = "FC1"
number_x = "17000000001"
number_a = "13800000001"
number_b = "13900000001"
extension = "123"
expires_at = "2090-01-01T00:00:00Z"
status = 2
called_no = "17100000001"
[[call]]
call_id = "116012854210^102314050"
prod_id = 11000000300006
called_at = "2026-01-02T03:04:05+08:00"
state = "200000"
duration = 31
after = "1s"
"""
SUBJECT = binding(subs_id="1000000000000000001", number_x="17000000001")


@asynccontextmanager
async def simulated(extra: str = "", account: str = "", **settings: Any) -> AsyncIterator[Provider]:
    text = SCENARIO.replace("[account]", f"[account]\n{account}") + extra
    async with (
        Simulator(load_scenario(text)).running("127.0.0.1", 0) as url,
        client(url, **settings) as provider,
    ):
        yield provider


@pytest.mark.parametrize("signature", ["acs3", "rpc"])
@pytest.mark.parametrize("form", ["json", "xml"])
async def test_both_signatures_and_both_formats(signature: str, form: str) -> None:
    async with simulated(signature=signature, format=form) as provider:
        reply = (await provider.query_call_status(SUBJECT, again=never)).reply
        assert isinstance(reply, Answer)
        assert (reply.status, reply.called_no, reply.malformed) == (2, "17100000001", False)
        assert reply.request_id
        midnight = int(dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=8))).timestamp() * 1000)
        call = ("116012854210^102314050", 11000000300006)
        detail = (await provider.query_call_detail(*call, midnight, again=never)).reply
        assert isinstance(detail, CallDetail)
        assert (detail.state, detail.duration) == ("200000", 31)
        in_seconds = (await provider.query_call_detail(*call, midnight // 1000, again=never)).reply
        assert isinstance(in_seconds, CallDetail)
        assert in_seconds.data is None
        gone = (await provider.query_call_status(binding(subs_id="404"), again=never)).reply
        assert isinstance(gone, NonAnswer)
        assert (gone.failure, bool(gone.request_id)) == (Failure.GONE, True)


@pytest.mark.parametrize("signature", ["acs3", "rpc"])
async def test_a_token_is_signed(signature: str) -> None:
    token = 'security_token = "CAIS+/=="'
    good = Credentials(Credential("demo", "demo-secret", "CAIS+/=="))
    async with simulated(account=token, signature=signature, credentials=good) as provider:
        assert isinstance((await provider.query_call_status(SUBJECT, again=never)).reply, Answer)


@pytest.mark.parametrize("signature", ["acs3", "rpc"])
async def test_a_wrong_secret_and_a_reused_nonce_are_classified(signature: str) -> None:
    wrong = Credentials(Credential("demo", "wrong"))
    async with simulated(signature=signature, credentials=wrong) as provider:
        reply = (await provider.query_call_status(SUBJECT, again=never)).reply
        assert isinstance(reply, NonAnswer)
        assert (reply.failure, reply.code) == (Failure.ACCOUNT, "SignatureDoesNotMatch")
    async with simulated(signature=signature, nonces=["same", "same", "other"]) as provider:
        for _ in range(2):
            assert isinstance((await provider.query_call_status(SUBJECT, again=once)).reply, Answer)


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("throttle", Failure.THROTTLED),
        ("error", Failure.TRANSIENT),
        ("hang", Failure.TRANSIENT),
        ("reset", Failure.TRANSIENT),
        ("html", Failure.TRANSIENT),
        ("empty", Failure.TRANSIENT),
        ("garbage", Failure.MALFORMED),
        ("gone", Failure.GONE),
    ],
)
@pytest.mark.parametrize("form", ["json", "xml"])
async def test_faults_of_the_provider(kind: str, failure: Failure, form: str) -> None:
    fault = f'[[fault]]\nkind = "{kind}"\nat = "0s"\nfor = "60s"\nshare = 1.0\n'
    async with simulated(fault, timeout="400ms", format=form) as provider:
        reply = (await provider.query_call_status(SUBJECT, again=never)).reply
    assert isinstance(reply, NonAnswer)
    assert reply.failure is failure


@pytest.mark.parametrize("signature", ["acs3", "rpc"])
async def test_a_raw_call_returns_the_exchange_without_secrets(signature: str) -> None:
    token = 'security_token = "CAIStoken"'
    key = Credentials(Credential("demo", "demo-secret", "CAIStoken"))
    params = {"PoolKey": "FC1", "SubsId": SUBJECT.subs_id}
    async with simulated(account=token, signature=signature, credentials=key) as provider:
        raw = await provider.raw(STATUS, params)
        other = await provider.raw("QueryNothing", params)
        wrong = await provider.raw(DETAIL, params)
    assert raw.http_status == 200
    assert '"Status":2' in raw.text.replace(" ", "")
    assert isinstance(raw.read(read_status), Answer)
    assert SUBJECT.subs_id in raw.request
    for secret in ("demo-secret", "CAIStoken", "ignature=", "Authorization"):
        assert secret not in raw.request
    for number in ("17100000001", SUBJECT.subs_id):
        assert number not in repr(raw)
    unknown = other.read(read_status)
    assert isinstance(unknown, NonAnswer)
    assert unknown.failure is Failure.ACCOUNT
    assert isinstance(wrong.read(read_status), NonAnswer)
