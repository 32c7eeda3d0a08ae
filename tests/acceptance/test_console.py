"""The console in a real Chromium, during an incident: every page, in both languages, with each scope.

One browser and one daemon serve all tests of this file.
"""

import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Response
from tests.support.chromium import PHONE, Chromium, Visitor, chromium
from tests.support.incident_world import LONG_ID, SECRETS, Incident, incident
from tests.support.patience import PATIENCE

from precall.console.menu import PAGES
from precall.core.status.texts import Language

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow(seconds=60)]

FIRST_LOAD = 250_000
"""Bytes of everything that the first page loads, uncompressed."""
SAMPLES = {"{pool_key}": "FC100003", "{subs_id}": LONG_ID}
LOCALES = {Language.EN: "en-US", Language.ZH: "zh-CN"}
HAN = re.compile(r"[\u4e00-\u9fff]")
SECONDS = PATIENCE * 1000


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def world(browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Incident]:
    opened = incident(tmp_path_factory.mktemp("world"))
    yield browser.run(opened.__aenter__())
    browser.run(opened.__aexit__(None, None, None))


def pages(scopes: set[str]) -> list[tuple[str, int]]:
    """Return (path, status) of every page for a client with these scopes."""
    found = []
    for page in PAGES:
        if page.name == "ordered":
            continue  # leads back to the page of the binding
        path = page.path
        for name in re.findall(r"\{[^}]+\}", path):
            path = path.replace(name, SAMPLES[name.partition(":")[0].rstrip("}") + "}"])
        if page.method == "GET" and not path.endswith((".json", ".csv")):
            found.append((path, 200 if page.scope is None or page.scope in scopes else 403))
    return found


def scopes_of(world: Incident, name: str) -> set[str]:
    return {
        scope
        for token in world.served.daemon.config.api.tokens
        if token.name == name
        for scope in token.scopes
    }


async def look(visitor: Visitor, world: Incident, language: Language) -> None:
    """Assert what holds on every page."""
    page, where = visitor.page, visitor.page.url
    assert await page.get_attribute("html", "lang") == language
    text = await page.inner_text("body")
    assert await page.locator("h1").count() == 1, where
    assert bool(HAN.search(await page.inner_text("nav"))) is (language is Language.ZH), where
    shown = re.sub(r"[\s-]", "", text + await page.content())
    assert not [number for number in world.numbers if number in shown], where
    assert "<script>alert" not in await page.content(), where
    assert await visitor.serious() == [], where
    await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    wide = await page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["width"], f"{where} is {wide} px wide on a phone"
    await page.set_viewport_size({"width": 1280, "height": 900})


def same_origin(visitor: Visitor) -> bool:
    return all(url.startswith((visitor.url, "data:")) for url in visitor.requests)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("language", Language)
def test_every_page(browser: Chromium, world: Incident, language: Language, name: str) -> None:
    async def work() -> None:
        scheme = "dark" if language is Language.ZH else "light"
        options = {"locale": LOCALES[language], "color_scheme": scheme}
        async with browser.visiting(world.served.url, SECRETS[name], **options) as visitor:
            for path, status in pages(scopes_of(world, name)):
                visitor.complaints.clear()
                assert await visitor.go(path) == status, path
                await look(visitor, world, language)
                refused = [told for told in visitor.complaints if f"status of {status}" not in told]
                assert refused == [] if status != 200 else visitor.complaints == [], path
            assert same_origin(visitor)

    browser.run(work())


def test_the_first_load_is_small_and_draws_the_charts(browser: Chromium, world: Incident) -> None:
    async def work() -> None:
        async with browser.visiting(world.served.url, SECRETS["reader"]) as visitor:
            responses: list[Response] = []
            fresh = await visitor.context.new_page()
            fresh.on("response", lambda response: responses.append(response))  # noqa: PLW0108  a bound method has no attributes
            await fresh.goto(f"{world.served.url}/console/")
            await fresh.locator(".uplot canvas").first.wait_for(timeout=SECONDS)
            sizes = {
                response.url: len(await response.body())
                for response in responses
                if "event-stream" not in response.headers.get("content-type", "")
            }
            assert any(url.endswith("/console/") for url in sizes)
            assert any("uPlot" in url for url in sizes)
            assert sum(sizes.values()) <= FIRST_LOAD, sizes
            assert await fresh.locator(".uplot canvas").count() == 4

    browser.run(work())


def test_a_change_shows_without_a_reload(browser: Chromium, world: Incident) -> None:
    async def work() -> None:
        served = world.served
        async with browser.visiting(served.url, SECRETS["reader"]) as visitor:
            page = visitor.page
            await page.locator("#connection:not(:empty)").wait_for(timeout=SECONDS)
            await page.locator(".uplot canvas").first.wait_for(timeout=SECONDS)
            await page.evaluate("window.here = document.querySelector('.uplot canvas')")
            status, _ = await served.ask("POST", "/v1/pause", {"pool_key": "FC100001", "reason": "a test"})
            assert status == 200
            told = page.locator(".finding", has_text="FC100001")
            await told.first.wait_for(timeout=SECONDS)
            await served.ask("POST", "/v1/resume", {"pool_key": "FC100001", "reason": "the test is over"})
            await told.first.wait_for(state="detached", timeout=SECONDS)
            assert await page.evaluate("window.here.isConnected"), "the charts stay through a change"
            assert visitor.complaints == []

    browser.run(work())


def test_without_scripts_pages_can_be_read_and_forms_sent(browser: Chromium, world: Incident) -> None:
    async def work() -> None:
        options = {"java_script_enabled": False}
        async with browser.visiting(world.served.url, SECRETS["admin"], **options) as visitor:
            for path, status in pages(scopes_of(world, "admin")):
                assert await visitor.go(path) == status
                assert await visitor.page.locator("h1").count() == 1
            await visitor.go("/console/")
            assert await visitor.page.locator(".picture polyline").count() >= 4
            await visitor.page.locator(".chart summary").first.click()
            assert await visitor.page.locator(".chart table").first.is_visible()
            await visitor.page.locator("form.languages button").click()
            assert await visitor.page.get_attribute("html", "lang") == "zh"
            await visitor.page.locator("form[action='/console/logout'] button").click()
            assert visitor.page.url.endswith("/console/login")

    browser.run(work())


def test_a_wrong_token_is_told_and_opens_nothing(browser: Chromium, world: Incident) -> None:
    async def work() -> None:
        async with browser.visiting(world.served.url) as visitor:
            await visitor.go("/console/")
            assert "/console/login" in visitor.page.url
            await visitor.page.fill("#token", "not-a-token")
            await visitor.page.keyboard.press("Enter")
            await visitor.page.locator("[role=alert]").wait_for(timeout=SECONDS)
            assert await visitor.serious() == []
            assert await visitor.go("/console/") == 200
            assert "/console/login" in visitor.page.url

    browser.run(work())


def test_the_keyboard_reaches_content_and_menu(browser: Chromium, world: Incident) -> None:
    async def work() -> None:
        async with browser.visiting(world.served.url, SECRETS["admin"]) as visitor:
            page = visitor.page
            await visitor.go("/console/")
            await page.keyboard.press("Tab")
            assert await page.evaluate("document.activeElement.className") == "skip"
            await page.keyboard.press("Enter")
            assert await page.evaluate("document.activeElement.id") == "content"
            await visitor.go("/console/")
            reached = set()
            for _ in range(12):
                await page.keyboard.press("Tab")
                reached.add(await page.evaluate("document.activeElement.getAttribute('href')"))
            assert {item.path for item in PAGES if item.listed} <= reached
            await page.locator(".chart summary").first.focus()
            await page.keyboard.press("Enter")
            assert await page.locator(".chart details").first.get_attribute("open") is not None

    browser.run(work())
