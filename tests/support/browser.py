"""A visitor of the console: keeps cookies, follows no redirect unasked, and sends the forms that a page has."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from tests.support.api_daemon import Served


@dataclass(frozen=True, slots=True)
class Shown:
    """A response: its status, its text, and its headers."""

    status: int
    text: str
    headers: "aiohttp.typedefs.LooseHeaders"

    @property
    def to(self) -> str:
        """Where a redirect leads, "" without one."""
        return str(dict(self.headers).get("Location", ""))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Browser:
    """A visitor with the token of its header, or with none."""

    session: aiohttp.ClientSession
    url: str

    async def get(self, path: str, **headers: str) -> Shown:
        """Ask for a page."""
        return await self._shown("GET", path, headers=headers)

    async def post(self, path: str, fields: dict[str, str], *, form: str = "/console/bindings") -> Shown:
        """Send a form to `path`, with the anti-CSRF token that the page `form` gives."""
        given = re.search(r'name="csrf" value="([0-9a-f]+)"', (await self.get(form)).text)
        csrf = {"csrf": given[1]} if given else {}
        return await self._shown("POST", path, data=csrf | fields, headers={"Origin": self.url})

    async def _shown(self, method: str, path: str, **more: object) -> Shown:
        async with self.session.request(
            method,
            f"{self.url}{path}",
            allow_redirects=False,
            **more,  # type: ignore[arg-type]
        ) as response:
            return Shown(response.status, await response.text(), dict(response.headers))


@asynccontextmanager
async def browsing(served: Served, secret: str = "", language: str = "en") -> AsyncIterator[Browser]:
    """Open a browser with this token and this preferred language."""
    headers = {"Accept-Language": language}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    async with aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Browser(session, served.url)
