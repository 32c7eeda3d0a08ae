"""The history of the last hours outlives kill -9: what was stored is shown after the next start, on both databases."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.acceptance.test_cli import ENVIRONMENT, config_file, until
from tests.support.postgres import sql

pytestmark = pytest.mark.slow(seconds=8)

RUN = """
import sys
from precall.__main__ import main
from precall.engine import recorder
from precall.runtime import daemon

recorder.STEP, daemon.MINUTE = 1, 0.5
sys.argv = ["precall", "run", "--config", sys.argv[1]]
main()
"""
"""A daemon that takes a sample every second, and stores twice a second."""


def started(folder: Path, config: Path) -> "subprocess.Popen[bytes]":
    with (folder / "out").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(config)], env=ENVIRONMENT, cwd=folder, stdout=out, stderr=out
        )


def stored(url: str) -> dict[float, dict[str, float]]:
    rows = sql(url, "SELECT at, content FROM rings WHERE ring = 'daemon' ORDER BY at")
    return {float(at): json.loads(content) for at, content in rows}


def life(folder: Path, config: Path, url: str) -> float:
    """Run a daemon until it has stored two samples, and kill it. Return when it began (Unix seconds)."""
    daemon, begun = started(folder, config), time.time()
    try:
        until(lambda: daemon.poll() is not None or len([at for at in stored(url) if at >= begun]) >= 2)
        assert daemon.poll() is None, (folder / "out").read_text()
    finally:
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
    return begun


def test_it_outlives_kill_9(tmp_path: Path, store_url: str) -> None:
    config = config_file(tmp_path, "http://127.0.0.1:9", store=store_url)
    subprocess.run(
        [sys.executable, "-m", "precall", "migrate", "--config", config],
        env=ENVIRONMENT,
        check=True,
        cwd=tmp_path,
    )
    lives = [life(tmp_path, config, store_url) for _ in range(2)]
    found = stored(store_url)
    assert len([at for at in found if lives[0] <= at < lives[1]]) >= 2, "the first life is still there"
    assert all("bindings" in figures for figures in found.values())
    assert all(0.0 <= figures.get("checks", 0.0) <= 50.0 for figures in found.values())
