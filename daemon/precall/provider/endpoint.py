"""One address of the provider over HTTP: sends a signed request and returns bytes, or the reason why there are none.

One session keeps connections alive. Time, headers and body of a response are bounded. Cookies are not kept, redirects
not followed, and nothing is decompressed. `replies` reads the bytes.
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
"""Seconds that an idle connection is kept: less than servers do, so that they rarely close one in use."""
_RETRY_AFTER = istr("x-acs-retry-after")
_CONTENT_TYPE = istr("Content-Type")
_CONTENT_ENCODING = istr("Content-Encoding")
_SECRET_HEADERS = ("Authorization", "x-acs-security-token")
_SECRET_PARAMS = ("AccessKeyId=", "SecurityToken=", "Signature=")

# The first match counts: errors of aiohttp derive from each other and from the built-in ones.
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
    """A request and its response. Body and request may hold phone numbers.

    Without a usable response `failure` says why, and `http_status` is 0 if there was no status either. `headers` are
    case-insensitive. `seconds` is the duration of the call.
    """

    seconds: float
    http_status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    failure: NonAnswer | None = None
    sent: Signed | None = None

    def read(self, reader: Reader[T]) -> T | NonAnswer:
        """Return the failure, or what `reader` makes of the response, such as `read_status`."""
        if self.failure is not None:
            return self.failure
        headers = self.headers
        return reader(self.http_status, headers.get(_RETRY_AFTER), headers.get(_CONTENT_TYPE, ""), self.body)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def request(self) -> str:
        """The request as it was sent, without keys, tokens and the signature."""
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
    """A request with the given headers only.

    Those that aiohttp adds would be unsigned (Content-Type) or ask for compression. `skip_auto_headers` would suppress
    them too, but costs a tenth of a whole check.
    """

    _NONE_ADDED: CIMultiDict[None] = CIMultiDict({"Content-Type": None})

    def update_headers(self, headers: LooseHeaders | None) -> None:
        self.headers = CIMultiDict(headers or {})

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:  # noqa: ARG002
        self._skip_auto_headers = self._NONE_ADDED


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """How one address is reached. `url` is http:// or https:// and has no path; timeouts are in seconds, and
    `body_limit` in bytes."""

    url: str
    signature: Scheme
    format: Format
    timeout: float
    connect_timeout: float
    max_connections: int
    proxy: Proxy | None = None
    body_limit: int = BODY_LIMIT

    @property
    def uses_tls(self) -> bool:
        """Whether a connection to the address, or to its proxy, is encrypted."""
        return any(url.startswith("https:") for url in (self.url, self.proxy.address if self.proxy else ""))


class ProviderEndpoint:
    """A session to one address. Create it within a running event loop. `tls` may be None if no connection uses it."""

    def __init__(
        self, settings: EndpointSettings, *, tls: ssl.SSLContext | None, monotonic: Callable[[], float]
    ) -> None:
        address, proxy = URL(settings.url), settings.proxy
        self._host = address.host_port_subcomponent or ""
        self._url_scheme = address.scheme
        self._settings = settings
        self._monotonic = monotonic
        # Passed with each request, since a session that looks for a proxy by itself also reads `.netrc`.
        self._proxy = URL(proxy.address) if proxy is not None else None
        login = {"Proxy-Authorization": proxy.login} if proxy is not None and proxy.login else {}
        # A proxy reads a plain request itself, but of a request over TLS it sees only the CONNECT.
        self._tunnel_headers = (login or None) if self._url_scheme == "https" else None
        plain_headers = {} if self._url_scheme == "https" else login
        self._signers: dict[str, tuple[Credential, Signer]] = {}
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.max_connections, keepalive_timeout=_IDLE, ssl=tls or True
            ),
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
        """Close once the calls in flight have ended, each within its timeout. No further call may be made."""
        try:
            await self._idle.wait()
        finally:
            await self.close()

    def signed(
        self, action: str, params: Mapping[str, str], credential: Credential, timestamp: str, nonce: str
    ) -> Signed:
        """Return the signed request. Raises ValueError for text without a UTF-8 form."""
        known = self._signers.get(action)
        if known is None or known[0] is not credential:
            made = signer(self._settings.signature, self._host, action, credential, self._settings.format)
            known = self._signers[action] = (credential, made)
        return known[1].sign(params, timestamp, nonce)

    async def post(self, request: Signed) -> RawReply:
        """Send a request and return the response or its failure. Only a cancellation raises."""
        return await self.send("POST", f"/?{request.query}", request.headers, request.body, request)

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        sent: Signed | None = None,
    ) -> RawReply:
        """Likewise for a request that is signed in another way. `target` is its encoded path and query."""
        self._calls += 1
        self._idle.clear()
        try:
            return await self._send(method, target, headers, body, sent)
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def _send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, sent: Signed | None
    ) -> RawReply:
        started = self._monotonic()
        try:
            async with self._session.request(
                method,
                URL(f"{self._url_scheme}://{self._host}{target}", encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._tunnel_headers,
            ) as response:
                content = await _body(response, self._settings.body_limit)
                replied = response.headers
                status = response.status
        except _CAUGHT as error:
            return RawReply(self._monotonic() - started, failure=trouble(self._named(error)), sent=sent)
        seconds = self._monotonic() - started
        failure = None
        if content is None:
            failure = without_code(status, TransportTrouble.BODY_TOO_LARGE)
        elif replied.get(_CONTENT_ENCODING, "identity").strip().lower() not in ("", "identity"):
            failure = without_code(status, TransportTrouble.COMPRESSED)
        return RawReply(seconds, status, replied, content or b"", failure, sent)

    def _named(self, error: Exception) -> TransportTrouble:
        """Return the kind of failure that an exception stands for.

        Behind a proxy, only the proxy is looked up and connected to.
        """
        what = next((what for kind, what in _TROUBLES if isinstance(error, kind)), TransportTrouble.IO)
        if isinstance(error, aiohttp.ClientHttpProxyError) and error.status == _PROXY_AUTH_REQUIRED:
            return TransportTrouble.PROXY_AUTH
        return TransportTrouble.PROXY_CONNECT if self._proxy is not None and what in _CONNECTING else what


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """Return the whole body, or None and close the connection if it exceeds the limit."""
    content = response.content
    body = await content.readany()
    while not content.at_eof():
        body += await content.readany()
        if len(body) > limit:
            break
    if len(body) > limit:
        response.close()
        return None
    return body
