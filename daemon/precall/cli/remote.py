"""A running daemon, asked over its HTTP API: one question or a session of them, and what its refusals mean here.

What is asked and how the answer is shown stands with each command.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from precall.api.client import DaemonClient
from precall.core.errors import OutOfReach, Refusal


class Session:
    """Questions to one daemon, over one connection, for commands that are not asynchronous themselves: so that
    Ctrl-C ends them wherever they are, also while they wait for their input."""

    def __init__(self, url: str, token: str) -> None:
        self._client = DaemonClient(url, token)
        self._runner = asyncio.Runner()

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
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: object = None
    ) -> tuple[int, Any]:
        """HTTP status and parsed body, whatever they are. Raises OutOfReach when nobody answers."""
        return self._runner.run(self._client.request(method, path, params=params, json=body))

    def download(self, path: str, take: Callable[[bytes], object]) -> None:
        """A good answer, however long it is, in parts. Raises what `answered` raises."""
        answered(*self._runner.run(self._client.download(path, take)))

    def ask(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: object = None
    ) -> Any:
        """The content of a good answer. Raises what `answered` raises."""
        return answered(*self.request(method, path, params=params, body=body))


def ask(
    url: str,
    token: str,
    method: str,
    path: str,
    *,
    params: Mapping[str, str] | None = None,
    body: object = None,
) -> Any:
    """One question. Raises what `answered` raises."""
    with Session(url, token) as session:
        return session.ask(method, path, params=params, body=body)


def answered(status: int, content: Any) -> Any:
    """The content of a good answer. Raises Refusal for a refused one, OutOfReach for a daemon that cannot answer."""
    if status < 400:
        return content
    problem = content if isinstance(content, dict) else {}
    said = problem.get("detail") or problem.get("title") or f"HTTP {status}"
    code = str(problem.get("code", "")) or f"http_{status}"
    field = str(problem.get("field", ""))
    text = f"{field}: {said}" if field and field not in said else str(said)
    if status >= 500:
        raise OutOfReach(f"the daemon cannot do this now: {text} ({code})")
    raise Refusal(status, code, f"{text} ({code})", field)


def path(*parts: str) -> str:
    """The path of an object of the API, whatever its id holds."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)
