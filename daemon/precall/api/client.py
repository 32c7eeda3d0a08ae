"""The client of a running daemon, for the command line."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from precall.core.errors import OutOfReach
from precall.secrecy import keep


class DaemonClient:
    """Talks to the daemon at `url`, with a bearer token if there is one.

    To be used as an asynchronous context manager: one session, kept alive.
    """

    def __init__(self, url: str, token: str = "", *, timeout: float = 30.0) -> None:
        keep(token)
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=5.0)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """(HTTP status, body): parsed when it is JSON, else its text; None when empty.

        Raises OutOfReach when nobody answers in time, or what answers is no URL to ask.
        """
        if self._session is None:
            raise AssertionError("a client is used inside `async with`")
        data = None if json is None else orjson.dumps(json)
        headers = {} if data is None else {"Content-Type": "application/json"}
        with self._reaching():
            async with self._session.request(
                method, f"{self.url}{path}", data=data, params=params, headers=headers, allow_redirects=False
            ) as response:
                raw = await response.read()
                return response.status, _parsed(response.content_type, raw)

    async def download(self, path: str, take: Callable[[bytes], object]) -> tuple[int, Any]:
        """As `request`, but the body of a good answer, however long it is, goes to `take` in parts."""
        if self._session is None:
            raise AssertionError("a client is used inside `async with`")
        patience = aiohttp.ClientTimeout(connect=5.0, sock_read=self._timeout.total)
        with self._reaching():
            async with self._session.get(
                f"{self.url}{path}", timeout=patience, allow_redirects=False
            ) as response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    return response.status, _parsed(response.content_type, await response.read())
                async for part in response.content.iter_any():
                    take(part)
                return response.status, None

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise OutOfReach(f"{self.url} does not answer in time") from None
        except aiohttp.InvalidURL:
            raise OutOfReach(f'{self.url} is no address; write it like "http://127.0.0.1:8080"') from None
        except aiohttp.ClientPayloadError:
            raise OutOfReach(f"{self.url} broke off in the middle of its answer") from None
        except (aiohttp.ClientError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise OutOfReach(
                f"no daemon answers at {self.url}: {reason}; is `precall run` running?"
            ) from None


def _parsed(kind: str, raw: bytes) -> Any:
    if not raw:
        return None
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            return raw.decode(errors="replace")
    return raw.decode(errors="replace")
