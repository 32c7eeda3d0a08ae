"""A real Chromium for tests and pictures of the console. It runs beside the daemons in an event loop of its own thread.

Playwright drives Debian's Chromium; it downloads no browser.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, TypeVar

from playwright.async_api import Browser, BrowserContext, Page, Playwright, async_playwright

T = TypeVar("T")

EXECUTABLE = "/usr/bin/chromium"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
AXE = files("axe_playwright_python").joinpath("axe.min.js")


class Chromium:
    """A browser in a loop that runs in another thread. Coroutines of tests run there, and daemons with them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop of the browser, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def open(self) -> None:
        """Start the browser."""
        self._playwright = await async_playwright().start()
        self._browser = await self._playwright.chromium.launch(
            executable_path=EXECUTABLE, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )

    async def close(self) -> None:
        """End the browser."""
        if self._browser is not None:
            await self._browser.close()
        if self._playwright is not None:
            await self._playwright.stop()

    @asynccontextmanager
    async def visiting(self, url: str, secret: str = "", **options: Any) -> AsyncIterator["Visitor"]:
        """Open a window at the console of the daemon at `url`, logged in with the token `secret` if there is one.

        `options` are those of a context of Playwright.
        """
        assert self._browser is not None
        context = await self._browser.new_context(**{"viewport": DESKTOP, "locale": "en-US"} | options)
        try:
            visitor = Visitor(url, context, await context.new_page())
            visitor.watch()
            if secret:
                await visitor.go("/console/login")
                await visitor.page.fill("#token", secret)
                await visitor.page.click("form.login button")
                await visitor.page.wait_for_url("**/console/")
            yield visitor
        finally:
            await context.close()


@dataclass(slots=True)
class Visitor:
    """A window of the browser. `complaints` are errors on its console, `requests` the URLs it asked for."""

    url: str
    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Begin to note what the pages complain about and ask for."""
        page = self.page
        page.on("console", lambda told: self.complaints.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    async def go(self, path: str) -> int:
        """Open a page of the console, and return the status of the answer."""
        answer = await self.page.goto(f"{self.url}{path}", wait_until="load")
        assert answer is not None
        return answer.status

    async def serious(self) -> list[str]:
        """Return what axe-core finds serious or critical on the page."""
        session = await self.context.new_cdp_session(self.page)
        # The policy of the pages forbids scripts of others, so axe enters as a debugger does.
        await session.send("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})
        found = await session.send(
            "Runtime.evaluate",
            {
                "expression": "axe.run({resultTypes: ['violations']}).then((found) => found.violations"
                ".filter((one) => ['serious', 'critical'].includes(one.impact))"
                ".map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html).join(' ')}`))",
                "awaitPromise": True,
                "returnByValue": True,
            },
        )
        await session.detach()
        assert "exceptionDetails" not in found, found
        return list(found["result"]["value"])


@contextmanager
def chromium() -> Iterator[Chromium]:
    """Start a browser in a thread, and end it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="chromium", daemon=True)
    thread.start()
    browser = Chromium(loop)
    try:
        browser.run(browser.open())
        yield browser
    finally:
        browser.run(browser.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
