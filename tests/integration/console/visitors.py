"""Visitors of the console, as browsers send them."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from tests.support.api_daemon import Served


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it was answered."""

    status: int
    text: str
    headers: CIMultiDictProxy[str]
    location: str = ""


class Browser:
    """Keeps cookies, follows no redirect by itself, and says where its forms come from."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url

    async def get(self, path: str = "/console/", **headers: str) -> Page:
        """Open a page."""
        return await self._send("GET", path, headers)

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> Page:
        """Send a form as it is, from a page of this console unless the headers say otherwise."""
        here = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        kept = {name: value for name, value in (here | headers).items() if value}
        return await self._send("POST", path, kept, fields)

    async def submit(self, page: Page, path: str, **fields: str) -> Page:
        """Send a form of a page, with its token."""
        return await self.post(path, {"csrf": csrf_of(page), **fields})

    async def fill_in(self, path: str, fields: dict[str, str], *, form: str = "/console/bindings") -> Page:
        """Open the page `form`, and send a form from it to `path`."""
        return await self.submit(await self.get(form), path, **fields)

    async def log_in(self, secret: str, to: str = "/console/") -> Page:
        """Log in with a token."""
        page = await self.get("/console/login")
        return await self.submit(page, "/console/login", token=secret, next=to)

    def cookie(self, name: str) -> str:
        """Return the value of a cookie, "" if there is none."""
        return next((one.value for one in self.session.cookie_jar if one.key == name), "")

    def set_cookie(self, name: str, value: str) -> None:
        """Keep a cookie, as an attacker may have planted it."""
        planted = SimpleCookie({name: value})
        planted[name]["path"] = "/console"
        self.session.cookie_jar.update_cookies(planted, URL(self.url))

    async def _send(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, str] | None = None
    ) -> Page:
        async with self.session.request(
            method, f"{self.url}{path}", headers=headers, data=fields, allow_redirects=False
        ) as response:
            text = await response.text()
            return Page(response.status, text, response.headers, response.headers.get("Location", ""))


def csrf_of(page: Page) -> str:
    """Return the token of the forms of a page."""
    [token, *_] = re.findall(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    return str(token)


@asynccontextmanager
async def browsing(url: str, **session: object) -> AsyncIterator[Browser]:
    """Open a browser on a console."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, **session) as opened:  # type: ignore[arg-type]
        yield Browser(opened, url)


@asynccontextmanager
async def bearing(served: Served, secret: str = "", language: str = "en") -> AsyncIterator[Browser]:
    """Open a browser that sends a token in the header ("": none), and prefers a language."""
    headers = {"Accept-Language": language} | ({"Authorization": f"Bearer {secret}"} if secret else {})
    async with browsing(served.url, headers=headers) as browser:
        yield browser
