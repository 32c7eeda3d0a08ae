"""The runbook is there for everyone, in any state of the daemon, and its page runs and loads nothing."""

import hashlib
import re
from base64 import b64encode
from pathlib import Path

import aiohttp
import pytest

from precall.api.server import Server
from precall.config.schema import ApiConfig
from precall.telemetry.metrics import Metrics
from tests.support.api_daemon import serving, token


async def test_the_page_runs_no_script_and_loads_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.session.get(f"{served.url}/runbook") as response:
        page = await response.text()
        assert (response.status, response.content_type, response.charset) == (200, "text/html", "utf-8")
        policy = response.headers["Content-Security-Policy"]
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")
    assert not re.search(r"<(?:script|img|link|iframe)|\bsrc=|\bon[a-z]+=|style=", page)
    assert '<h2 id="precalldown">' in page
    assert '<a id="brake_engaged"></a>' in page
    assert '<meta name="viewport"' in page


@pytest.mark.parametrize("tokens", [[], [token("reader", "routes:read")[1]]])
async def test_a_link_of_any_site_leads_there(tmp_path: Path, tokens: list[dict[str, object]]) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Host": "precall.example:8080"}
    async with serving(tmp_path, tokens=tokens) as served:
        async with served.session.get(f"{served.url}/runbook", headers=headers) as response:
            assert response.status == 200
        async with served.session.get(f"{served.url}/v1/routes", headers=headers) as response:
            assert response.status == (401 if tokens else 403)


async def test_it_is_there_before_the_daemon_is_ready() -> None:
    server = Server(ApiConfig(listen=["127.0.0.1:0"]), "1", Metrics(), lambda: 0.0)
    [url] = await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/openapi.json") as response:
                assert response.status == 503
            async with session.get(f"{url}/runbook") as response:
                assert response.status == 200
                assert "<h1" in await response.text()
    finally:
        await server.stop(0.0)
