"""Other sites, guessers and clients without a scope get nowhere in the console."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest

from precall.api.access.token_throttle import BURST
from precall.config.schema import ApiConfig
from precall.console.menu import PAGES
from precall.console.page import ConsolePage
from precall.console.sessions import LONGEST
from tests.integration.api.test_tls import Authority
from tests.integration.console.visitors import Browser, browsing, csrf_of
from tests.support.api_daemon import Served, a_binding, scripted, serving, token
from tests.support.patience import PATIENCE

ADMIN_SECRET, ADMIN = token("ops", "routes:read", "bindings:write", "admin")
READER_SECRET, READER = token("reader", "routes:read")
TOKENS = [ADMIN, READER]


@asynccontextmanager
async def guarded(folder: Path, **more: Any) -> AsyncIterator[tuple[Served, Browser]]:
    async with serving(folder, tokens=TOKENS, **more) as served, browsing(served.url) as browser:
        yield served, browser


@asynccontextmanager
async def open_to_here(folder: Path, **more: Any) -> AsyncIterator[tuple[Served, Browser]]:
    async with serving(folder, scripted(1), **more) as served, browsing(served.url) as browser:
        await served.register()
        yield served, browser


async def orders(served: Served, secret: str = "") -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    status, body = await served.ask("GET", "/v1/orders", headers=headers)
    assert status == 200
    return body["orders"]  # type: ignore[no-any-return]


# -- sessions ------------------------------------------------------------------------------------------


async def test_a_login_leads_to_where_the_visitor_wanted_to_go(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_, browser):
        wanted = await browser.get("/console/?a=1")
        assert (wanted.status, wanted.location) == (303, "/console/login?next=%2Fconsole%2F%3Fa%3D1")
        done = await browser.log_in(READER_SECRET, "/console/?a=1")
        assert (done.status, done.location) == (303, "/console/?a=1")
        page = await browser.get("/console/")
        assert page.status == 200
        assert "Token reader" in page.text


@pytest.mark.parametrize(
    "to",
    ["https://evil.example/", "//evil.example/console/", "/\\evil.example", "/v1/status", "javascript:1"],
)
async def test_a_login_leads_to_no_other_site(tmp_path: Path, to: str) -> None:
    async with guarded(tmp_path) as (_, browser):
        page = await browser.get(f"/console/login?next={to}")
        form = page.text.partition('action="/console/login"')[2]
        assert '<input type="hidden" name="next" value="/console/">' in form
        assert (await browser.log_in(READER_SECRET, to)).location == "/console/"


async def test_an_id_that_was_planted_is_not_adopted(tmp_path: Path) -> None:
    planted = "0" * 64
    async with guarded(tmp_path) as (served, browser):
        browser.set_cookie("precall_session", planted)
        assert (await browser.get()).status == 303
        await browser.log_in(READER_SECRET)
        assert browser.cookie("precall_session") not in ("", planted)
        async with browsing(served.url) as attacker:
            attacker.set_cookie("precall_session", planted)
            assert (await attacker.get()).status == 303


async def test_a_second_login_ends_the_session_before(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (served, browser):
        form = await browser.get("/console/login")
        fields = {"csrf": csrf_of(form), "token": READER_SECRET}
        await browser.post("/console/login", fields)
        first = browser.cookie("precall_session")
        assert (await browser.get("/console/login")).status == 303
        await browser.post("/console/login", fields)
        assert browser.cookie("precall_session") != first
        async with browsing(served.url) as other:
            other.set_cookie("precall_session", first)
            assert (await other.get()).status == 303


async def test_a_logout_ends_the_session_for_every_copy_of_its_cookie(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (served, browser):
        await browser.log_in(READER_SECRET)
        kept = browser.cookie("precall_session")
        page = await browser.get()
        assert (await browser.post("/console/logout", {})).status == 403
        assert (await browser.get()).status == 200
        assert (await browser.submit(page, "/console/logout")).location == "/console/login"
        assert browser.cookie("precall_session") == ""
        async with browsing(served.url) as other:
            other.set_cookie("precall_session", kept)
            assert (await other.get()).status == 303


async def test_a_session_ends_with_its_token(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (served, browser):
        await browser.log_in(READER_SECRET)
        assert (await browser.get()).status == 200
        served.daemon.server.admit(served.daemon.server.config.model_copy(update={"tokens": []}))
        served.daemon.server.admit(ApiConfig(listen=["127.0.0.1:0"], tokens=[ADMIN]))
        assert (await browser.get()).status == 303
        # An end is an end: the same token, configured again, needs another login.
        served.daemon.server.admit(ApiConfig(listen=["127.0.0.1:0"], tokens=TOKENS))
        assert (await browser.get()).status == 303


async def test_a_session_has_the_scopes_that_its_token_has_now(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (served, browser):
        await browser.log_in(ADMIN_SECRET)
        assert 'action="/console/orders"' in (await browser.get()).text
        less = ADMIN | {"scopes": ["routes:read"]}
        served.daemon.server.admit(ApiConfig(listen=["127.0.0.1:0"], tokens=[less]))
        page = await browser.get()
        assert page.status == 200
        assert 'action="/console/orders"' not in page.text


async def test_a_session_ends_after_half_a_day(tmp_path: Path) -> None:
    ahead = 0.0
    async with guarded(tmp_path, monotonic=lambda: monotonic() + ahead) as (_, browser):
        await browser.log_in(READER_SECRET)
        assert (await browser.get()).status == 200
        ahead = LONGEST + 1
        assert (await browser.get()).status == 303


@pytest.mark.parametrize("encrypted", [False, True])
async def test_cookies_stay_with_the_console(tmp_path: Path, *, encrypted: bool) -> None:
    api: dict[str, Any] = {}
    if encrypted:
        cert, key = Authority("authority").issue(tmp_path, "localhost")
        api = {"tls_cert_file": str(cert), "tls_key_file": str(key)}
    async with serving(tmp_path, tokens=TOKENS, api=api) as served:
        connector = aiohttp.TCPConnector(ssl=False)
        async with browsing(served.url, connector=connector) as browser:
            page = await browser.get("/console/login?lang=zh")
            login = await browser.submit(page, "/console/login", token=READER_SECRET)
        given = [*page.headers.getall("Set-Cookie"), *login.headers.getall("Set-Cookie")]
        assert {cookie.partition("=")[0] for cookie in given} == {
            "precall_form",
            "precall_lang",
            "precall_session",
        }
        for cookie in given:
            parts = {part.strip() for part in cookie.split(";")}
            assert {"HttpOnly", "Path=/console", "SameSite=Lax"} <= parts, cookie
            assert ("Secure" in parts) is encrypted, cookie


# -- forms ---------------------------------------------------------------------------------------------


PAUSE = {"order": "pause", "pool_key": "FC1", "reason": "a test", "next": "/console/"}


async def test_an_order_is_given_with_its_author_and_its_reason(tmp_path: Path) -> None:
    async with guarded(tmp_path, scenario=scripted(1)) as (served, browser):
        bearer = {"Authorization": f"Bearer {ADMIN_SECRET}"}
        status, _ = await served.ask("PUT", "/v1/bindings/1", a_binding(), headers=bearer)
        assert status == 201
        await browser.log_in(ADMIN_SECRET)
        page = await browser.get()
        done = await browser.submit(page, "/console/orders", **PAUSE)
        assert (done.status, done.location) == (303, "/console/?done=pause")
        [order] = await orders(served, ADMIN_SECRET)
        assert (order["action"], order["by"], order["reason"], order["pool_key"]) == (
            "pause",
            "ops",
            "a test",
            "FC1",
        )
        told = (await browser.get(done.location)).text
        assert "The checks are paused." in told
        assert "a test" in told
        for next_order in ("resume", "engage", "release"):
            done = await browser.submit(page, "/console/orders", **(PAUSE | {"order": next_order}))
            assert done.location == f"/console/?done={next_order}"
        assert [one["action"] for one in await orders(served, ADMIN_SECRET)] == [
            "release",
            "engage",
            "resume",
            "pause",
        ]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"reason": "  "}, 422),
        ({"reason": "x" * 257}, 422),
        ({"reason": "a\nb"}, 422),
        ({"order": "erase"}, 422),
        ({"pool_key": "FC9"}, 404),
        ({"pool_key": "<b>"}, 404),
    ],
)
async def test_a_wrong_order_is_refused(tmp_path: Path, changed: dict[str, str], status: int) -> None:
    async with open_to_here(tmp_path) as (served, browser):
        page = await browser.get()
        answer = await browser.submit(page, "/console/orders", **(PAUSE | changed))
        assert answer.status == status
        assert "That did not work" in answer.text
        assert await orders(served) == []


async def test_a_token_without_admin_orders_nothing(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (served, browser):
        await browser.log_in(READER_SECRET)
        page = await browser.get()
        assert "/console/orders" not in page.text
        answer = await browser.submit(page, "/console/orders", **(PAUSE | {"pool_key": ""}))
        assert answer.status == 403
        assert await orders(served, ADMIN_SECRET) == []


async def test_without_a_login_nothing_is_ordered(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (served, browser):
        form = await browser.get("/console/login")
        answer = await browser.submit(form, "/console/orders", **(PAUSE | {"pool_key": ""}))
        assert answer.location.startswith("/console/login")
        assert await orders(served, ADMIN_SECRET) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:1", "Sec-Fetch-Site": ""},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "", "Sec-Fetch-Site": ""},
    ],
)
@pytest.mark.parametrize("login", [False, True])
async def test_a_form_of_another_site_is_refused(
    tmp_path: Path, headers: dict[str, str], *, login: bool
) -> None:
    async with (
        serving(tmp_path, scripted(1), tokens=TOKENS if login else []) as served,
        browsing(served.url) as browser,
    ):
        if login:
            await browser.log_in(ADMIN_SECRET)
        page = await browser.get()
        fields = {"csrf": csrf_of(page), **PAUSE, "pool_key": ""}
        answer = await browser.post("/console/orders", fields, **headers)
        assert answer.status == 403
        assert await orders(served, ADMIN_SECRET if login else "") == []


@pytest.mark.parametrize("login", [False, True])
async def test_a_form_needs_the_token_of_its_own_session(tmp_path: Path, *, login: bool) -> None:
    async with (
        serving(tmp_path, scripted(1), tokens=TOKENS if login else []) as served,
        browsing(served.url) as browser,
        browsing(served.url) as attacker,
    ):
        if login:
            await browser.log_in(ADMIN_SECRET)
            await attacker.log_in(ADMIN_SECRET)
        page, foreign = await browser.get(), await attacker.get()
        assert csrf_of(page) != csrf_of(foreign)
        for given in ("", "0" * 64, csrf_of(foreign), "é"):
            answer = await browser.post("/console/orders", {**PAUSE, "pool_key": "", "csrf": given})
            assert answer.status == 403
            assert "out of date" in answer.text
        answer = await browser.post("/console/orders", {**PAUSE, "pool_key": ""})
        assert answer.status == 403
        assert await orders(served, ADMIN_SECRET if login else "") == []


async def test_a_login_form_of_another_site_is_refused(tmp_path: Path) -> None:
    """Otherwise a visitor could be logged in as somebody else."""
    async with guarded(tmp_path) as (_, browser):
        answer = await browser.post("/console/login", {"token": READER_SECRET})
        assert answer.status == 403
        assert browser.cookie("precall_session") == ""


def path_of(page: ConsolePage) -> str:
    """Return a path of a page, with something in each of its placeholders."""
    known = {"subs_id": "1", "pool_key": "FC1", "order": "check"}
    return re.sub(r"\{(\w+)(?::[^{}]+)?\}", lambda found: known[found[1]], page.path)


async def test_no_form_is_read_without_its_token(tmp_path: Path) -> None:
    """Whatever pages there will be."""
    targets = [page for page in PAGES if page.method == "POST"]
    assert targets
    async with guarded(tmp_path) as (served, browser):
        await browser.log_in(ADMIN_SECRET)
        fields = {**PAUSE, "pool_key": "", "q": "13800000001", "number": "13800000001", "action": "hold"}
        for page in targets:
            answer = await browser.post(path_of(page), fields)
            assert (answer.status, "out of date" in answer.text) == (403, True), page.name
        assert await orders(served, ADMIN_SECRET) == []


async def test_every_page_asks_for_a_login_and_for_its_scope(tmp_path: Path) -> None:
    other_secret, other = token("other", "calls:write")
    async with serving(tmp_path, tokens=[*TOKENS, other]) as served, browsing(served.url) as browser:
        form = await browser.get("/console/login")
        for logged_in in (False, True):
            for page in PAGES:
                path, fields = path_of(page), {"csrf": csrf_of(form)}
                answer = await browser.get(path) if page.method == "GET" else await browser.post(path, fields)
                expected = 200 if page.scope is None else 403 if logged_in else 303
                assert answer.status == expected, page.name
            if not logged_in:
                await browser.log_in(other_secret)


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "application/json"])
async def test_only_forms_are_read(tmp_path: Path, kind: str) -> None:
    async with open_to_here(tmp_path) as (served, browser):
        page = await browser.get()
        headers = {"Origin": served.url, "Content-Type": kind}
        body = f"csrf={csrf_of(page)}&order=pause&reason=x&pool_key="
        async with browser.session.post(
            f"{served.url}/console/orders", data=body.encode(), headers=headers
        ) as response:
            assert response.status == 415
        assert await orders(served) == []


# -- without tokens ------------------------------------------------------------------------------------

NAVIGATION = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


async def test_a_link_of_another_site_leads_to_the_console(tmp_path: Path) -> None:
    async with open_to_here(tmp_path) as (_, browser):
        assert (await browser.get("/console/", **NAVIGATION)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        NAVIGATION | {"Sec-Fetch-Dest": "iframe"},
        NAVIGATION | {"Sec-Fetch-Mode": "no-cors"},
        NAVIGATION | {"Host": "rebound.example:8080"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Host": "rebound.example"},
    ],
)
async def test_other_sites_read_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    async with open_to_here(tmp_path) as (_, browser):
        for path in ("/console/", "/console/live"):
            answer = await browser.get(path, **headers)
            assert answer.status == 403
            assert "FC1" not in answer.text
            assert "csrf" not in answer.text


async def test_a_link_of_another_site_does_not_reach_the_api(tmp_path: Path) -> None:
    async with open_to_here(tmp_path) as (_, browser):
        assert (await browser.get("/v1/status", **NAVIGATION)).status == 403


# -- guessing ------------------------------------------------------------------------------------------


async def test_wrong_tokens_are_throttled_and_counted(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (served, browser):
        form = await browser.get("/console/login")
        texts, guesses = set(), 1
        async with asyncio.timeout(PATIENCE):
            while (answer := await browser.submit(form, "/console/login", token="guess")).status == 401:
                texts.add(answer.text)
                guesses += 1
        assert answer.status == 429
        assert guesses > BURST
        assert int(answer.headers["Retry-After"]) >= 1
        assert len(texts) == 1
        assert "guess" not in texts.pop()
        counted = served.daemon.metrics.registry.get_sample_value(
            "precall_requests_refused_total", {"reason": "wrong_token"}
        )
        assert counted == guesses
        # Guessing locks nobody out.
        assert (await browser.log_in(READER_SECRET)).status == 303


async def test_a_wrong_token_in_a_header_counts_once(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (served, browser):
        answer = await browser.get("/console/", Authorization="Bearer guess")
        assert answer.status == 401
        assert "guess" not in answer.text
        counted = served.daemon.metrics.registry.get_sample_value(
            "precall_requests_refused_total", {"reason": "wrong_token"}
        )
        assert counted == 1


@pytest.mark.parametrize("given", ["", " ", "é\udcff".encode("utf-8", "replace").decode(), "x" * 10_000])
async def test_a_login_bears_any_text(tmp_path: Path, given: str) -> None:
    async with guarded(tmp_path) as (_, browser):
        form = await browser.get("/console/login")
        assert (await browser.submit(form, "/console/login", token=given)).status == 401


async def test_too_large_a_form_is_refused(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_, browser):
        form = await browser.get("/console/login")
        assert (await browser.submit(form, "/console/login", token="x" * 70_000)).status == 413


# -- what strangers may write --------------------------------------------------------------------------

EVIL = '"><script>alert(1)</script>'


async def test_what_others_have_written_is_text(tmp_path: Path) -> None:
    pool = "<img/src=x>"
    async with serving(tmp_path, scripted(1)) as served, browsing(served.url) as browser:
        await served.register(pool_key=pool, labels={"city": EVIL})
        page = await browser.get()
        done = await browser.submit(
            page, "/console/orders", order="pause", pool_key=pool, reason=EVIL, next=f"/console/?a={EVIL}"
        )
        assert done.status == 303
        text = (await browser.get(f"/console/?lang=zh&x={EVIL}")).text
        assert "<script>alert" not in text
        assert "<img/src" not in text
        assert "&lt;img/src=x&gt;" in text
        assert "&lt;script&gt;alert(1)" in text
        assert "<script>" not in re.sub(r"<script src=[^>]+>", "", text)


async def test_numbers_in_a_reason_are_masked(tmp_path: Path) -> None:
    async with open_to_here(tmp_path) as (_, browser):
        page = await browser.get()
        await browser.submit(page, "/console/orders", **(PAUSE | {"reason": "A called: 13800000001"}))
        text = (await browser.get()).text
        assert "A called:" in text
        assert "13800000001" not in text


async def test_a_reader_sees_neither_author_nor_reason(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (served, browser):
        async with browsing(served.url) as operator:
            await operator.log_in(ADMIN_SECRET)
            page = await operator.get()
            done = await operator.submit(
                page, "/console/orders", **(PAUSE | {"pool_key": "", "reason": "a drill"})
            )
            assert done.status == 303
            assert "a drill" in (await operator.get()).text
        await browser.log_in(READER_SECRET)
        text = (await browser.get()).text
        assert "checks paused" in text
        assert "a drill" not in text
        assert "ops" not in re.findall(r">([^<]+)<", text)
