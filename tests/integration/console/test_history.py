"""The history of the last hours in the console: figures for the charts, pictures and tables without scripts."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from precall.console.charts import FIGURES
from tests.support.api_daemon import Served, scripted, serving, token
from tests.support.patience import until


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, scripted(1, 3)) as one:
        await one.register()
        await one.register(subs_id="2")
        record(one)
        yield one


def record(served: Served) -> None:
    """Put samples of the last ten minutes, with a gap, into the recorder."""
    recorder, now = served.daemon.parts.recorder, served.daemon.clocks.now()
    newest = recorder.daemon.moment(now)
    for back in range(40):
        if back not in range(10, 15):
            figures = {
                "checks": 20.0 - back / 10,
                "budget": 50.0,
                "calls": 8.0,
                "calls_failed": 1.0,
                "oldest": 30.0 + back,
            }
            recorder.daemon.put(newest - 15.0 * back, figures | {"state_fallback": float(back % 3)})


async def test_figures_come_as_columns_with_gaps(served: Served) -> None:
    status, body = await served.ask("GET", "/console/history.json")
    assert (status, body["step"]) == (200, 15)
    assert set(body["figures"]) == set(FIGURES)
    checks = body["figures"]["checks"]
    assert len(checks) == 240
    assert (checks[-1], checks[-2]) == (20.0, 19.9)
    assert checks[-15:-10] == [None] * 5
    assert checks[:200] == [None] * 200
    newest = served.daemon.parts.recorder.daemon.moment(served.daemon.clocks.now())
    assert body["begin"] + 239 * 15 == pytest.approx(newest, abs=15)


async def test_over_six_hours_a_point_covers_a_minute(served: Served) -> None:
    _, body = await served.ask("GET", "/console/history.json?hours=6")
    assert body["step"] == 60
    assert {len(curve) for curve in body["figures"].values()} == {360}
    assert body["figures"]["calls"][-1] == 32.0, "counts of a minute are summed"
    assert body["figures"]["oldest"][-1] == 33.0, "the oldest of a minute"
    for other in ("7", "x", "", "1e3"):
        _, body = await served.ask("GET", f"/console/history.json?hours={other}")
        assert body["step"] == 15


@pytest.mark.parametrize("hours", [1, 6])
async def test_without_scripts_there_are_pictures_and_tables(served: Served, hours: int) -> None:
    status, page = await served.ask("GET", f"/console/?hours={hours}")
    assert status == 200
    assert page.count('<figure class="chart"') == 4
    assert len(re.findall(r'<polyline class="curve-1" points="[\d., ]+"/>', page)) >= 3
    assert re.search(r"checks <b>[\d.]+</b>", page)
    assert page.count('<th scope="row"><time datetime="') >= 4
    assert "style=" not in page


async def test_before_anything_is_recorded_the_page_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as one:
        recorder = one.daemon.parts.recorder
        recorder.daemon.forget_after(0.0)
        _, page = await one.ask("GET", "/console/")
        assert "Nothing is recorded yet" in page
        status, body = await one.ask("GET", "/console/history.json")
        assert status == 200
        assert all(figure is None for curve in body["figures"].values() for figure in curve)


async def test_it_needs_the_scope_of_reading_routes(tmp_path: Path) -> None:
    reader, reading = token("reader", "routes:read")
    scraper, scraping = token("scraper", "metrics")
    async with serving(tmp_path, tokens=[reading, scraping]) as one:
        for secret, expected in ((reader, 200), (scraper, 403)):
            status, _ = await one.ask(
                "GET", "/console/history.json", headers={"Authorization": f"Bearer {secret}"}
            )
            assert status == expected
        answer = await one.session.get(f"{one.url}/console/history.json", allow_redirects=False)
        assert answer.status == 303


async def test_pools_show_their_last_hour(served: Served) -> None:
    recorder, now = served.daemon.parts.recorder, served.daemon.clocks.now()
    minute = recorder.pools.moment(now)
    await until(lambda: bool(served.daemon.parts.status.look().facts.pools))
    for back in range(60):
        recorder.pools.put(minute - 60.0 * back, {"FC1": [1, 0, 1 if back < 5 else 0, 0, 0]})
    for path in ("/console/pools", "/console/pools/FC1"):
        status, page = await served.ask("GET", path)
        assert status == 200
        assert '<path class="normal" d="M0 0h55v10h-55zM55 5h5v5h-5z"/>' in page
        assert '<path class="fallback" d="M55 0h5v5h-5z"/>' in page
