"""One address of the provider over HTTP: a signed request out; bytes back, or the name of the trouble.

One session with kept-alive connections. Everything that a peer can send is bounded: time, header lines, body;
no cookie is kept, no redirect followed, nothing decompressed. What the bytes mean is read in `replies`.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
from aiohttp.typedefs import LooseHeaders
from multidict import CIMultiDict, istr
from yarl import URL

from precall import __version__
from precall.core.model import NonAnswer
from precall.provider.failures import TransportTrouble, trouble, without_code
from precall.provider.proxy import Proxy
from precall.provider.replies import BODY_LIMIT
from precall.provider.sign import Credential, Format, Scheme, Signed, Signer, signer

_IDLE = 15.0
"""Seconds a connection is kept unused: less than servers do, so that they seldom close one just taken."""
_RETRY_AFTER = istr("x-acs-retry-after")
_CONTENT_TYPE = istr("Content-Type")
_CONTENT_ENCODING = istr("Content-Encoding")
_SECRET_HEADERS = ("Authorization", "x-acs-security-token")
_SECRET_PARAMS = ("AccessKeyId=", "SecurityToken=", "Signature=")

# The first that fits names the trouble: aiohttp's errors derive from each other and from the built-in ones.
_TROUBLES: tuple[tuple[type[Exception], TransportTrouble], ...] = (
    (aiohttp.ClientProxyConnectionError, TransportTrouble.PROXY_CONNECT),
    (aiohttp.ClientHttpProxyError, TransportTrouble.PROXY_REFUSED),
    (aiohttp.ConnectionTimeoutError, TransportTrouble.CONNECT_TIMEOUT),
    (TimeoutError, TransportTrouble.TIMEOUT),
    (aiohttp.ClientConnectorDNSError, TransportTrouble.DNS),
    (aiohttp.ClientSSLError, TransportTrouble.TLS),
    (ssl.SSLError, TransportTrouble.TLS),
    (aiohttp.ClientConnectorError, TransportTrouble.CONNECT),
    (aiohttp.ClientPayloadError, TransportTrouble.TRUNCATED),
    (aiohttp.ClientResponseError, TransportTrouble.BAD_HTTP),
    (aiohttp.ServerDisconnectedError, TransportTrouble.RESET),
    (ConnectionError, TransportTrouble.RESET),
    (aiohttp.ClientOSError, TransportTrouble.RESET),
    (aiohttp.ClientConnectionError, TransportTrouble.CLOSED),
    (RuntimeError, TransportTrouble.CLOSED),
    (ValueError, TransportTrouble.BAD_HTTP),
)
_CONNECTING = (TransportTrouble.DNS, TransportTrouble.CONNECT, TransportTrouble.CONNECT_TIMEOUT)
_PROXY_AUTH_REQUIRED = 407
_CAUGHT = (aiohttp.ClientError, OSError, EOFError, RuntimeError, ValueError)

T = TypeVar("T")
Reader = Callable[[int, str | None, str, bytes], T]


@dataclass(frozen=True, slots=True)
class RawReply:
    """What was sent and what came back. The body and the request may hold phone numbers.

    When nothing usable came back `failure` says why, and `http_status` is 0 if there was not even a status.
    `headers` are found in any case. `seconds` is how long the call took.
    """

    seconds: float
    http_status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    failure: NonAnswer | None = None
    sent: Signed | None = None

    def read(self, reader: Reader[T]) -> T | NonAnswer:
        """What it means: `reader` is `read_status` or `read_detail`."""
        if self.failure is not None:
            return self.failure
        headers = self.headers
        return reader(self.http_status, headers.get(_RETRY_AFTER), headers.get(_CONTENT_TYPE, ""), self.body)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def request(self) -> str:
        """The request as sent, less keys, tokens and signature."""
        if self.sent is None:
            return ""
        query = "&".join(p for p in self.sent.query.split("&") if not p.startswith(_SECRET_PARAMS))
        lines = [f"POST /?{query}"]
        lines += [
            f"{name}: {value}" for name, value in self.sent.headers.items() if name not in _SECRET_HEADERS
        ]
        if self.sent.body:
            lines += ["", self.sent.body.decode()]
        return "\n".join(lines)


class _Request(aiohttp.ClientRequest):
    """A request with the given headers and none of aiohttp's own, which would go out unsigned (Content-Type) or
    ask for compression. `skip_auto_headers` does the same at a tenth of the cost of a whole check."""

    _NONE_ADDED: CIMultiDict[None] = CIMultiDict({"Content-Type": None})

    def update_headers(self, headers: LooseHeaders | None) -> None:
        self.headers = CIMultiDict(headers or {})

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:  # noqa: ARG002
        self._skip_auto_headers = self._NONE_ADDED


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """How one address is reached. `url` is http:// or https:// and has no path; timeouts are in seconds."""

    url: str
    signature: Scheme
    format: Format
    timeout: float
    connect_timeout: float
    max_connections: int
    proxy: Proxy | None = None


class ProviderEndpoint:
    """A session to one address. Create it within a running event loop."""

    def __init__(
        self, settings: EndpointSettings, *, tls: ssl.SSLContext, monotonic: Callable[[], float]
    ) -> None:
        address, proxy = URL(settings.url), settings.proxy
        self._host = address.host_port_subcomponent or ""
        self._url_scheme = address.scheme
        self._settings = settings
        self._monotonic = monotonic
        # Given with each request: what a session finds by itself, it finds in `.netrc` too.
        self._proxy = URL(proxy.address) if proxy is not None else None
        login = {"Proxy-Authorization": proxy.login} if proxy is not None and proxy.login else {}
        # The proxy reads a plain request itself; of one over TLS it only sees what asks for the tunnel.
        self._tunnel_headers = (login or None) if self._url_scheme == "https" else None
        plain_headers = {} if self._url_scheme == "https" else login
        self._signers: dict[str, tuple[Credential, Signer]] = {}
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.max_connections, keepalive_timeout=_IDLE, ssl=tls),
            timeout=aiohttp.ClientTimeout(total=settings.timeout, sock_connect=settings.connect_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Host": self._host,
                "User-Agent": f"precall/{__version__}",
                # Without it a gateway may compress, and nothing is decompressed here.
                "Accept-Encoding": "identity",
                **plain_headers,
            },
            request_class=_Request,
            auto_decompress=False,
        )

    async def close(self) -> None:
        await self._session.close()

    async def finish(self) -> None:
        """Close once the calls under way have ended; none may be made any more. Each ends within its timeout."""
        try:
            await self._idle.wait()
        finally:
            await self.close()

    def signed(
        self, action: str, params: Mapping[str, str], credential: Credential, timestamp: str, nonce: str
    ) -> Signed:
        """Raises ValueError for text that has no UTF-8 form."""
        known = self._signers.get(action)
        if known is None or known[0] is not credential:
            made = signer(self._settings.signature, self._host, action, credential, self._settings.format)
            known = self._signers[action] = (credential, made)
        return known[1].sign(params, timestamp, nonce)

    async def post(self, request: Signed) -> RawReply:
        """Only a cancellation leaves this as an exception."""
        self._calls += 1
        self._idle.clear()
        try:
            return await self._post(request)
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def _post(self, request: Signed) -> RawReply:
        started = self._monotonic()
        try:
            async with self._session.post(
                URL.build(
                    scheme=self._url_scheme,
                    authority=self._host,
                    path="/",
                    query_string=request.query,
                    encoded=True,
                ),
                data=request.body,
                headers=request.headers,
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._tunnel_headers,
            ) as response:
                body = await _body(response)
                headers = response.headers
                status = response.status
        except _CAUGHT as error:
            return RawReply(self._monotonic() - started, failure=trouble(self._named(error)), sent=request)
        seconds = self._monotonic() - started
        failure = None
        if body is None:
            failure = without_code(status, TransportTrouble.BODY_TOO_LARGE)
        elif headers.get(_CONTENT_ENCODING, "identity").strip().lower() not in ("", "identity"):
            failure = without_code(status, TransportTrouble.COMPRESSED)
        return RawReply(seconds, status, headers, body or b"", failure, request)

    def _named(self, error: Exception) -> TransportTrouble:
        """The trouble an exception stands for. Behind a proxy only the proxy is looked up and connected to."""
        what = next((what for kind, what in _TROUBLES if isinstance(error, kind)), TransportTrouble.IO)
        if isinstance(error, aiohttp.ClientHttpProxyError) and error.status == _PROXY_AUTH_REQUIRED:
            return TransportTrouble.PROXY_AUTH
        return TransportTrouble.PROXY_CONNECT if self._proxy is not None and what in _CONNECTING else what


async def _body(response: aiohttp.ClientResponse) -> bytes | None:
    """The whole body, or None when it is over the limit; then the connection is given up."""
    content = response.content
    body = await content.readany()
    while not content.at_eof():
        body += await content.readany()
        if len(body) > BODY_LIMIT:
            break
    if len(body) > BODY_LIMIT:
        response.close()
        return None
    return body
