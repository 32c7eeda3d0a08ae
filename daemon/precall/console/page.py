"""What describes one page of the console."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from precall.config.schema import Scope
from precall.console.visit import Visit


@dataclass(frozen=True, slots=True)
class ConsolePage:
    """A page, or the target of a form.

    `name` is unique; `path` is a pattern of aiohttp. `scope` None means open to everyone, without a login. A `listed`
    page stands in the menu. An order has the method POST and is refused on standby,
    unless it only `asks` for something. A `resting` page is also shown
    while the daemon starts.
    """

    name: str
    path: str
    scope: Scope | None
    show: Callable[[Visit], Awaitable[web.StreamResponse]]
    method: str = "GET"
    listed: bool = False
    resting: bool = False
    asks: bool = False
