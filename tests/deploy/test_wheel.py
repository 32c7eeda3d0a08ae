"""The wheel is complete: installed on its own, it serves the console with its templates, texts and assets."""

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from precall.console.assets import STATIC

ROOT = Path(__file__).parents[2]
TEMPLATES = STATIC.parent / "templates"

SERVED = """
import asyncio, json, re, sys
import aiohttp, precall
from precall.api.server import Server
from precall.config.schema import ApiConfig
from precall.console.mount import mount
from precall.telemetry.metrics import Metrics

async def main():
    config = ApiConfig(listen=["127.0.0.1:0"])
    pages = lambda app, made: mount(app, made, lambda size: "0" * 2 * size)
    server = Server(config, "1", Metrics(), lambda: 0.0, pages=pages)
    [url] = await server.start()
    found = {"from": precall.__file__}
    async with aiohttp.ClientSession() as session:
        async def fetch(path):
            async with session.get(url + path) as response:
                found[path.partition("?")[0]] = [response.status, len(await response.read())]
                return await response.text()
        page = await fetch("/console/runbook")
        for path in re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page):
            await fetch(path)
        await fetch("/console/static/vendor/uPlot.iife.min.js")
    await server.stop(0.0)
    print(json.dumps(found))

asyncio.run(main())
"""


@pytest.fixture(name="wheel", scope="module")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder)]
    subprocess.run([sys.executable, *build, str(ROOT)], check=True, timeout=300, capture_output=True)
    [wheel] = folder.glob("precall-*.whl")
    return wheel


@pytest.mark.slow(20)
def test_the_wheel_has_every_file_of_the_console(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    for folder in (TEMPLATES, STATIC):
        files = [file for file in folder.rglob("*") if file.is_file()]
        assert len(files) > 3
        for file in files:
            assert f"precall/console/{file.relative_to(STATIC.parent).as_posix()}" in names


@pytest.mark.slow(30)
def test_an_installed_wheel_serves_the_console(wheel: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=300
    )
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(own)
    # The dependencies come from this environment; its own precall does not, since .pth files are not read there.
    Path(own, "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    done = subprocess.run(
        [python, "-c", SERVED], capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("from").startswith(own)
    assert len(found) >= 6
    assert {status for status, _ in found.values()} == {200}
    assert min(size for _, size in found.values()) > 100
