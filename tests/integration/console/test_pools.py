"""The pages Pools and one pool."""

import asyncio
import re
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.integration.console.visitors import Browser, bearing
from tests.support.api_daemon import A, B, Served, X, scripted, serving, token
from tests.support.patience import PATIENCE

ODD = "P/<b>&\"'x;?#%2e"
"""A pool key with what HTML, URLs and spreadsheets take for their own."""


async def trouble(served: Served, count: int = 12) -> None:
    """Have a pool whose bindings have no number left, and a good one."""
    for number in range(1, count + 1):
        await served.register(subs_id=str(number), pool_key="BAD")
        await served.checked(str(number))
    await served.register(subs_id=str(count + 1), pool_key="GOOD")
    await served.checked(str(count + 1))


def rows(text: str) -> list[str]:
    return re.findall(r'href="/console/pools/([^"]+)"', text)


async def once_shown(browser: Browser, path: str, words: str) -> str:
    """Return a page once it has these words: the state of the system is looked at four times a second."""
    async with asyncio.timeout(PATIENCE):
        while words not in (text := (await browser.get(path)).text):
            await asyncio.sleep(0.05)
    return text


@pytest.mark.parametrize(
    ("language", "words"), [("en", "There is no pool"), ("zh", "尚无含有效绑定的号码池")]
)
async def test_without_bindings_it_says_what_to_do(tmp_path: Path, language: str, words: str) -> None:
    async with serving(tmp_path) as served, bearing(served, language=language) as browser:
        shown = await browser.get("/console/pools")
        assert shown.status == 200
        assert words in shown.text
        assert f'<html lang="{language}">' in shown.text


async def test_the_worst_pool_comes_first_with_its_shares_and_its_brake(tmp_path: Path) -> None:
    scenario = scripted(*[3] * 12, 1)
    for binding in scenario["binding"]:
        binding |= {"pool_key": "BAD" if binding["status"] == 3 else "GOOD"}
    async with serving(tmp_path, scenario, policy={"confirm_real": 1}) as served:
        await trouble(served)
        await served.shows("pool_in_trouble")
        async with bearing(served) as browser:
            text = await once_shown(browser, "/console/pools", "GOOD")
            assert rows(text) == ["BAD", "GOOD"]
            assert 'aria-label="fallback 100 %"' in text
            assert '<rect class="fallback" x="0.0" y="0" width="100.0" height="8">' in text
            assert "12 of 20" in text
            assert "pool_in_trouble" in text
            one = (await browser.get("/console/pools/BAD")).text
            assert "10 of 12, as found first." in one
            assert one.count('href="/console/bindings/1') >= 1
            assert "precall report --pool-key BAD" in one
            followed = await browser.get("/console/pools/BAD", **{"HX-Request": "true", "HX-Target": "pool"})
            assert "fallback 100 %" in followed.text
            assert "as found first" not in followed.text
            healthy = (await browser.get("/console/pools/GOOD")).text
            assert "No binding of this pool is in trouble." in healthy
            for number in (A, B):
                assert number not in text + one + healthy


@pytest.mark.parametrize(("language", "words"), [("en", "Latest changes"), ("zh", "最新变化")])
async def test_a_pool_tells_its_changes_and_orders(tmp_path: Path, language: str, words: str) -> None:
    async with serving(tmp_path, scripted(2)) as served, bearing(served, language=language) as browser:
        await served.register()
        await served.checked("1")
        await served.ask("POST", "/v1/pause", {"pool_key": "FC1", "reason": f"<i>ask {A}</i>"})
        await served.ask("POST", "/v1/brake/engage", {"reason": "all of them"})
        text = (await browser.get("/console/pools/FC1")).text
        assert words in text
        assert 'class="badge dial_temp_x"' in text
        assert "&lt;i&gt;ask ***&lt;/i&gt;" in text
        assert "all of them" in text
        assert A not in text
        assert text.count('class="said"') == 2


async def test_who_ordered_and_why_needs_admin(tmp_path: Path) -> None:
    reader, reads = token("reader", "routes:read")
    boss, orders = token("night-shift", "routes:read", "admin", "bindings:write")
    async with serving(tmp_path, scripted(1), tokens=[reads, orders]) as served:
        served.session.headers["Authorization"] = f"Bearer {boss}"
        await served.register()
        await served.ask("POST", "/v1/pause", {"pool_key": "FC1", "reason": "the night is long"})
        async with bearing(served, reader) as browser:
            text = (await browser.get("/console/pools/FC1")).text
            assert "<b>checks paused</b>" in text
            assert 'name="reason"' not in text
            assert "night" not in text
        async with bearing(served, boss) as browser:
            text = await once_shown(browser, "/console/pools/FC1", "paused")
            assert "by night-shift" in text
            assert 'name="reason"' in text
            assert "the night is long" in text
            fields = {"order": "engage", "pool_key": "FC1", "reason": "why", "next": "/console/pools/FC1"}
            done = await browser.fill_in("/console/orders", fields, form="/console/pools/FC1")
            assert done.location == "/console/pools/FC1?done=engage"
            await once_shown(browser, done.location, 'value="release"')


async def test_another_scope_sees_nothing(tmp_path: Path) -> None:
    secret, meter = token("meter", "metrics", "calls:write", "bindings:write")
    async with serving(tmp_path, tokens=[meter]) as served, bearing(served, secret) as browser:
        for path in ("/console/pools", "/console/pools/FC1"):
            assert (await browser.get(path)).status == 403


async def test_odd_keys_are_escaped_and_lead_to_their_pool(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, bearing(served) as browser:
        await served.register(pool_key=ODD, number_x=X)
        text = await once_shown(browser, "/console/pools", "/console/pools/P")
        assert "<b>" not in text.replace("<b>precall", "")
        [path] = rows(text)
        assert path == quote(ODD, safe="")
        one = await browser.get(f"/console/pools/{path}")
        assert one.status == 200
        assert "Order something for this pool" in one.text
        assert "P/&lt;b&gt;&amp;&#34;&#39;x;?#%2e</h1>" in one.text
        listed = await browser.get(re.findall(r'href="(/console/bindings\?pool_key=[^"]+)"', one.text)[0])
        assert "/console/bindings/1" in listed.text


@pytest.mark.parametrize("path", ["none", "%00", "x" * 200, "%ff"])
async def test_an_unknown_pool_is_not_found(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as served, bearing(served) as browser:
        assert (await browser.get(f"/console/pools/{path}")).status == 404


async def test_many_pools_come_in_parts(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, bearing(served) as browser:
        bindings = [
            {"subs_id": str(n), "pool_key": f"P{n:03}", "number_x": X, "number_a": A, "number_b": B}
            for n in range(1, 131)
        ]
        assert (await served.ask("POST", "/v1/bindings/batch", {"bindings": bindings}))[0] == 200
        await once_shown(browser, "/console/pools", "from=100")
        seen = list[str]()
        for path in ("/console/pools", "/console/pools?from=100"):
            seen += rows((await browser.get(path)).text)
        assert len(set(seen)) == len(seen) == 130
        assert (await browser.get("/console/pools?from=-1")).status == 200
