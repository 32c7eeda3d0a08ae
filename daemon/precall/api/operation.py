"""What describes one operation of the API."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import BaseModel

from precall.api.access.authenticator import Client
from precall.config.schema import Scope
from precall.engine.services import Services

Handle = Callable[[web.Request, Services, Client], Awaitable[web.StreamResponse]]
Answers = dict[int, type[BaseModel] | str | None]
"""By status: a model (JSON), a media type, or None (no body)."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API. Its OpenAPI description is the docstring of its handler.

    `scope` None means open to everyone. `problems` are the statuses of problem documents that do not follow from the
    other fields. A `tagged` response has an ETag.
    """

    method: str
    path: str
    scope: Scope | None
    handle: Handle
    summary: str
    answers: Answers
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    problems: tuple[int, ...] = ()
    tagged: bool = False
