"""The HTTP client of a running daemon, for the command line."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import orjson
from aiohttp import hdrs

from precall.cli.unreachable import why
from precall.core.errors import OutOfReach
from precall.telemetry.redaction import keep


class HttpAnswer(NamedTuple):
    """A response. `content` is parsed JSON, or text, or None if it is empty.

    `retry_after` is in seconds, 0 without one. `location` is the target of a redirect.
    """

    status: int
    content: Any
    retry_after: float = 0.0
    location: str = ""


class DaemonClient:
    """Talks to the daemon at `url`, with a bearer token if there is one.

    Without `tls` the authorities of the system are trusted. `shows_certificate` says whether `tls` has a client
    certificate, for the texts of errors. Use it as an asynchronous context manager: it keeps one session alive.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        tls: ssl.SSLContext | None = None,
        shows_certificate: bool = False,
        timeout: float = 30.0,
    ) -> None:
        keep(token)
        self._tls, self._shows_certificate = tls, shows_certificate
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=5.0)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls or True)
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=self._timeout, connector=connector
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return status and content of `exchange`."""
        found = await self.exchange(method, path, json=json, params=params)
        return found.status, found.content

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        language: str = "",
    ) -> HttpAnswer:
        """Make a request and return its answer. Raises OutOfReach if there is none in time, or for a wrong URL."""
        data = None if json is None else orjson.dumps(json)
        headers = {} if data is None else {"Content-Type": "application/json"}
        if language:
            headers["Accept-Language"] = language
        with self._reaching():
            async with self._opened.request(
                method, f"{self.url}{path}", data=data, params=params, headers=headers, allow_redirects=False
            ) as response:
                return _exchange(response, await response.read())

    async def download(self, path: str, take: Callable[[bytes], object]) -> HttpAnswer:
        """Make a request as `exchange` does, but pass the body of a successful answer to `take` in parts."""
        patience = aiohttp.ClientTimeout(connect=5.0, sock_read=self._timeout.total)
        with self._reaching():
            async with self._opened.get(
                f"{self.url}{path}", timeout=patience, allow_redirects=False
            ) as response:
                if response.status != HTTPStatus.OK:
                    return _exchange(response, await response.read())
                async for part in response.content.iter_any():
                    take(part)
                return _exchange(response, b"")

    @property
    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise AssertionError("a client is used inside `async with`")
        return self._session

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, OSError) as error:
            raise OutOfReach(why(error, self.url, shows_certificate=self._shows_certificate)) from None


def _exchange(response: aiohttp.ClientResponse, raw: bytes) -> HttpAnswer:
    wait = response.headers.get(hdrs.RETRY_AFTER, "")
    return HttpAnswer(
        response.status,
        _parsed(response.content_type, raw),
        float(wait) if wait.isdecimal() else 0.0,
        response.headers.get(hdrs.LOCATION, ""),
    )


def _parsed(kind: str, raw: bytes) -> Any:
    if not raw:
        return None
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            return raw.decode(errors="replace")
    return raw.decode(errors="replace")
