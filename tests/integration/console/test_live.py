"""Pages follow the daemon: one stream tells that something has changed, and ends with the session."""

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest

from precall.config.schema import ApiConfig
from tests.integration.console.visitors import browsing
from tests.support.api_daemon import Served, scripted, serving, token
from tests.support.patience import PATIENCE

SECRET, READER = token("reader", "routes:read")
_, OTHER = token("other", "routes:read")


async def seen(served: Served) -> str:
    """Return the stream of a page as it is now."""
    async with served.session.get(f"{served.url}/console/") as response:
        [path] = re.findall(r'data-follow="(/console/live\?seen=[0-9a-f]{16})"', await response.text())
        return f"{served.url}{path}"


async def event(response: aiohttp.ClientResponse) -> str:
    """Return the name of the next event."""
    async with asyncio.timeout(PATIENCE):
        while line := await response.content.readline():
            if line.startswith(b"event: "):
                return line.removeprefix(b"event: ").strip().decode()
    return ""


async def test_a_change_is_told(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, scripted(1)) as served,
        served.session.get(await seen(served)) as response,
    ):
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        await served.register()
        assert await event(response) == "changed"


async def test_a_finding_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.session.get(await seen(served)) as response:
        status, _ = await served.ask("POST", "/v1/pause", {"reason": "a test"})
        assert status == 200
        assert await event(response) == "changed"


async def test_the_stream_ends_with_the_session(tmp_path: Path) -> None:
    async with serving(tmp_path, tokens=[READER]) as served, browsing(served.url) as browser:
        await browser.log_in(SECRET)
        async with browser.session.get(f"{served.url}/console/live") as response:
            assert response.status == 200
            served.daemon.server.admit(ApiConfig(listen=["127.0.0.1:0"], tokens=[OTHER]))
            assert await event(response) == "end"
            assert await event(response) == ""


async def test_the_stream_ends_with_the_daemon(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, aiohttp.ClientSession() as session:
        response = await session.get(f"{served.url}/console/live")
        await served.daemon.server.stop(PATIENCE)
        assert await event(response) == ""


async def test_without_a_login_there_is_no_stream(tmp_path: Path) -> None:
    async with serving(tmp_path, tokens=[READER]) as served, browsing(served.url) as browser:
        assert (await browser.get("/console/live")).status == 401


@pytest.mark.parametrize("most", [1, 2])
async def test_streams_count_in_the_limits(tmp_path: Path, most: int) -> None:
    async with serving(tmp_path, api={"max_streams": most}) as served:
        opened = [await served.session.get(f"{served.url}/console/live") for _ in range(most)]
        assert {response.status for response in opened} == {200}
        async with served.session.get(f"{served.url}/console/live") as response:
            assert response.status == 429
        for response in opened:
            response.close()


async def test_a_part_of_a_page_can_be_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path, tokens=[READER]) as served, browsing(served.url) as browser:
        lost = await browser.get("/console/", **{"HX-Request": "true"})
        assert lost.status == 401
        assert lost.headers["HX-Redirect"] == "/console/login?next=%2Fconsole%2F"
        await browser.log_in(SECRET)
        part = await browser.get("/console/", **{"HX-Request": "true"})
        assert part.status == 200
        assert "<html" not in part.text
        assert '<div id="now" data-live hx-get="/console/"' in part.text


async def test_what_has_changed_between_the_page_and_its_stream_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1)) as served:
        stream = await seen(served)
        await served.register()
        async with served.session.get(stream) as response:
            assert await event(response) == "changed"
