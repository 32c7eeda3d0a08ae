"""Requests to a running daemon for commands that are not asynchronous, and the errors that its answers become."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from http import HTTPStatus
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from precall.cli.client import HttpAnswer
from precall.cli.output import say
from precall.cli.target import Target
from precall.core.errors import OutOfReach, PrecallError, Refusal

T = TypeVar("T")

LONGEST_WAIT, PATIENCE = 60.0, 180.0
"""Seconds: the longest Retry-After that is followed, and the longest time that one request waits in all."""
SHORTEST_WAIT = 0.1


class Session:
    """Requests to one daemon over one connection. Ctrl-C ends them at any time, also while input is awaited.

    A request that exceeds the rate limit (429) is repeated after the time that the daemon names.
    """

    def __init__(self, daemon: Target, timeout: float = 30.0) -> None:
        self._client = daemon.client(timeout)
        self._runner = asyncio.Runner()
        self._said = False

    def __enter__(self) -> Self:
        self._runner.run(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._runner.run(self._client.__aexit__(kind, error, trace))
        finally:
            self._runner.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        language: str = "",
    ) -> HttpAnswer:
        """Return any answer, its texts in the preferred language. Raises OutOfReach if there is none."""
        return self._patiently(
            lambda: self._client.exchange(method, path, params=params, json=body, language=language),
        )

    def wait(self, seconds: float) -> None:
        """Wait between two requests."""
        self._runner.run(asyncio.sleep(seconds))

    def download(self, path: str, take: Callable[[bytes], object]) -> None:
        """Pass a successful answer of any length to `take`, in parts. Raises as `answered` does."""
        answered(self._patiently(lambda: self._client.download(path, take)))

    def ask(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: object = None
    ) -> Any:
        """Return the content of a successful answer. Raises as `answered` does."""
        return answered(self.request(method, path, params=params, body=body))

    def _patiently(self, question: Callable[[], Coroutine[Any, Any, HttpAnswer]]) -> HttpAnswer:
        waited = 0.0
        while True:
            found = self._runner.run(question())
            wait = max(found.retry_after, SHORTEST_WAIT)
            if found.status != HTTPStatus.TOO_MANY_REQUESTS or wait > LONGEST_WAIT or waited > PATIENCE:
                return found
            self._say_waiting(found, wait)
            self._runner.run(asyncio.sleep(wait))
            waited += wait

    def _say_waiting(self, found: HttpAnswer, wait: float) -> None:
        if not self._said:
            say(f"waiting {wait:g} s, as the daemon asks: {_detail(found)}")
        self._said = True


def ask(
    daemon: Target,
    method: str,
    path: str,
    *,
    params: Mapping[str, str] | None = None,
    body: object = None,
    timeout: float = 30.0,
) -> Any:
    """Make one request and return the content of its answer. Raises as `answered` does."""
    with Session(daemon, timeout) as session:
        return session.ask(method, path, params=params, body=body)


def taken(items: Iterator[T], most: int) -> tuple[list[T], PrecallError | None]:
    """Return the first items of a list that is fetched in pages, and the error that ended it early, if any."""
    found: list[T] = []
    try:
        found.extend(islice(items, most))
    except PrecallError as error:
        return found, error
    return found, None


def answered(found: HttpAnswer) -> Any:
    """Return the content of a successful answer.

    Raises Refusal for a refused request. Raises OutOfReach if the daemon cannot answer, or if it is not precall.
    """
    problem = found.content if isinstance(found.content, dict) else {}
    code = str(problem.get("code", "")) or f"http_{found.status}"
    field = str(problem.get("field", ""))
    if found.status < 300:
        if isinstance(found.content, str):
            raise OutOfReach("what answers there is not precall, since it sends no JSON: correct the address")
        return found.content
    if found.status < 400:
        raise OutOfReach(
            f"what answers there redirects to {found.location or 'somewhere else'}: give that address"
        )
    if found.status >= 500:
        raise OutOfReach(f"the daemon cannot do this now: {_detail(found)} ({code})")
    raise Refusal(found.status, code, f"{_detail(found)} ({code})", field)


def _detail(found: HttpAnswer) -> str:
    problem = found.content if isinstance(found.content, dict) else {}
    field = str(problem.get("field", ""))
    said = str(problem.get("detail") or problem.get("title") or f"HTTP {found.status}")
    if not problem:
        said += ", and no problem document: is it precall that answers there?"
    return f"{field}: {said}" if field and field not in said else said


def path(*parts: str) -> str:
    """Return the path of an object of the API, with its ids escaped."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)
