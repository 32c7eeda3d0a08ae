"""The console is served where it should be, with its headers and assets, in the language of the visitor."""

import re
from pathlib import Path

import aiohttp
import pytest

from precall.api.server import Server
from precall.config.schema import ApiConfig
from precall.console.mount import mount
from precall.telemetry.metrics import Metrics
from tests.integration.console.visitors import browsing
from tests.support.api_daemon import A, B, Served, scripted, serving, token

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


async def page(served: Served, path: str = "/console/", **headers: str) -> str:
    async with served.session.get(f"{served.url}{path}", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/html"
        return await response.text()


async def test_the_root_leads_to_the_first_page(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for path in ("/", "/console"):
            async with served.session.get(f"{served.url}{path}", allow_redirects=False) as response:
                assert (response.status, response.headers["Location"]) == (303, "/console/")
        assert "Everything is fine." in await page(served)


async def test_pages_have_a_strict_policy_and_are_not_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.session.get(f"{served.url}/console/") as response:
        headers = response.headers
        assert headers["Content-Security-Policy"] == POLICY
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        text = await response.text()
    assert not re.search(r"<style|style=|\bon[a-z]+=|<script(?! src=)", text)


async def test_assets_are_kept_for_ever_by_the_hash_of_their_content(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        named = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', await page(served))
        assert len(named) >= 4
        size = len((await page(served)).encode())
        for path in named:
            async with served.session.get(f"{served.url}{path}") as response:
                assert response.status == 200
                assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
                tag = response.headers["ETag"]
                size += len(await response.read())
            async with served.session.get(f"{served.url}{path}", headers={"If-None-Match": tag}) as response:
                assert (response.status, await response.read()) == (304, b"")
            bare = path.partition("?")[0]
            async with served.session.get(f"{served.url}{bare}?v=another") as response:
                assert response.headers["Cache-Control"] == "no-cache"
        assert size <= 250_000
        async with served.session.get(f"{served.url}/console/static/../mount.py") as response:
            assert response.status == 404


async def test_the_language_is_chosen_then_remembered_then_asked_of_the_browser(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, browsing(served.url) as browser:
        assert '<html lang="en">' in await page(served)
        assert '<html lang="zh">' in await page(served, **{"Accept-Language": "zh-CN,en;q=0.5"})
        assert '<html lang="zh">' in (await browser.get("/console/?lang=zh")).text
        assert '<html lang="zh">' in (await browser.get()).text
        assert (
            '<html lang="en">' in (await browser.get("/console/?lang=en", **{"Accept-Language": "zh"})).text
        )
        assert (
            '<html lang="en">' in (await browser.get("/console/?lang=xx", **{"Accept-Language": "zh"})).text
        )


async def test_the_console_can_be_off(tmp_path: Path) -> None:
    async with serving(tmp_path, api={"console": False}) as served:
        for path in ("/", "/console/", "/console/login"):
            async with served.session.get(f"{served.url}{path}") as response:
                assert response.status == 404
        assert served.daemon.server.console_urls == []


async def test_the_console_can_have_listeners_of_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path, api={"console_listen": ["127.0.0.1:0"]}) as served:
        [own] = served.daemon.server.console_urls
        assert own != served.url
        for url, path, status in (
            (served.url, "/console/", 404),
            (served.url, "/v1/status", 200),
            (own, "/console/", 200),
            (own, "/v1/status", 404),
            (own, "/metrics", 404),
            (own, "/readyz", 200),
        ):
            async with served.session.get(f"{url}{path}") as response:
                assert response.status == status, (url, path)


def test_listeners_of_the_console_follow_the_same_rule() -> None:
    with pytest.raises(
        ValueError, match=r"console_listen: 0\.0\.0\.0:8081 can be reached from other machines"
    ):
        ApiConfig(console_listen=["0.0.0.0:8081"])
    assert ApiConfig(console_listen=["0.0.0.0:8081"], console=False).listeners == [
        ("listen", "127.0.0.1:8080")
    ]


async def test_a_daemon_that_starts_says_so() -> None:
    config = ApiConfig(listen=["127.0.0.1:0"])
    server = Server(
        config,
        "1",
        Metrics(),
        lambda: 0.0,
        pages=lambda app, made: mount(app, made, lambda size: "0" * 2 * size),
    )
    [url] = await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/console/") as response:
                assert response.status == 503
                assert "This daemon is starting" in await response.text()
            async with session.get(f"{url}/console/runbook") as response:
                assert response.status == 200
                assert 'id="precalldown"' in await response.text()
    finally:
        await server.stop(0.0)


async def test_pages_follow_the_scopes_of_the_token(tmp_path: Path) -> None:
    secret, reader = token("reader", "metrics")
    async with serving(tmp_path, tokens=[reader]) as served:
        async with served.session.get(
            f"{served.url}/console/", headers={"Authorization": f"Bearer {secret}"}
        ) as response:
            assert response.status == 403
            assert "The token lacks the scope" in await response.text()
        async with served.session.get(f"{served.url}/console/runbook") as response:
            assert response.status == 200
        async with served.session.get(f"{served.url}/console/", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (
                303,
                "/console/login?next=%2Fconsole%2F",
            )


async def test_on_standby_pages_are_read_and_orders_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, browsing(served.url) as browser:
        before = await browser.get()
        assert 'action="/console/orders"' in before.text
        served.daemon.parts.store.role.fence()
        after = await browser.get()
        assert after.status == 200
        assert "This daemon is on standby" in after.text
        assert 'action="/console/orders"' not in after.text
        answer = await browser.submit(before, "/console/orders", order="pause", reason="x", pool_key="")
        assert answer.status == 503
        assert "Another daemon leads" in answer.text


async def test_the_choice_of_the_language_keeps_the_query(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        text = await page(served, "/console/?q=%22%3E&done=pause&lang=zh")
        assert '<input type="hidden" name="q" value="&#34;&gt;">' in text
        assert 'name="done"' not in text
        assert 'hx-get="/console/?q=%22%3E"' in text


async def test_unknown_pages_and_methods_are_told_as_pages(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, browsing(served.url) as browser:
        missing = await browser.get("/console/nothing")
        assert (missing.status, "There is no such page." in missing.text) == (404, True)
        assert missing.headers["Content-Type"].startswith("text/html")


async def test_every_state_of_the_system_is_shown(tmp_path: Path) -> None:
    async with serving(tmp_path, scripted(1, 2, 3, 4), policy={"confirm_real": 1}) as served:
        for subs_id in "1234":
            await served.register(subs_id=subs_id)
            await served.checked(subs_id)
        text = await page(served)
        assert text.count('<div class="light ') == 9
        for subs_id in "1234":
            assert f'<a href="/console/bindings/{subs_id}">{subs_id}</a>' in text
        for number in (A, B, A[-7:], B[-7:]):
            assert number not in text
        chinese = await page(served, "/console/?lang=zh")
        assert "拨打临时 X" in chinese
