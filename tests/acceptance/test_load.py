"""The daemon and the provider as two processes under load: the quota holds, no change of truth is missed, and a restart
serves the same table at once."""

import json
import random
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import config_file, precall, serving, until

pytestmark = pytest.mark.slow

BINDINGS, RATE, BURST, SECONDS = 2000, 200.0, 50.0, 15.0
SCENARIO = f"""
[[pool]]
pool_key = "FC1"
bindings = {BINDINGS}
onset = "0s"
lifetime = "0s"
temporary_numbers = 200
"""


def ask(url: str, method: str = "GET", body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data=data, method=method, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.loads(reply.read())


def table(url: str) -> dict[str, dict[str, Any]]:
    """Every route, less what only time changes."""
    found, cursor = {}, ""
    while True:
        page = ask(f"{url}/v1/routes?limit=1000&cursor={cursor}")
        for route in page["routes"]:
            found[route["subs_id"]] = {
                k: v for k, v in route.items() if k not in ("age_ms", "stale", "checked_at")
            }
        cursor = page["cursor"]
        if not cursor:
            return found


def test_the_main_job_under_load(tmp_path: Path) -> None:
    scenario, bindings = tmp_path / "scenario.toml", tmp_path / "bindings.jsonl"
    scenario.write_text(SCENARIO)
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with serving(tmp_path, *simulate) as simulator:
        provider = simulator.url("simulator")
        config = config_file(tmp_path, provider, f"rate = {RATE}\nburst = {BURST}")
        with serving(tmp_path, "run", "--config", config) as daemon:
            url = daemon.url("precall serves")
            assert precall("bindings", "import", bindings, url=url).returncode == 0
            wanted: dict[str, int] = {}
            ids, chance, end = (
                [json.loads(line)["subs_id"] for line in bindings.read_text().splitlines()],
                random.Random(1),
                0.0,
            )
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                subs_id, status = chance.choice(ids), chance.choice([1, 2, 3])
                if wanted.get(subs_id) != status:
                    ask(f"{provider}/_admin/bindings/{subs_id}", "PATCH", {"status": status})
                    wanted[subs_id] = status
                time.sleep(0.1)
            seen: set[str] = set()

            def all_seen() -> bool:
                for subs_id in wanted.keys() - seen:
                    if ask(f"{url}/v1/routes/{subs_id}?dial=0")["status"] == wanted[subs_id]:
                        seen.add(subs_id)
                return len(seen) == len(wanted)

            until(all_seen, patience=8 * BINDINGS / RATE)
            arrivals = sorted(ask(f"{provider}/_admin/stats?arrivals=1000000")["arrivals"])
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.said
        assert len(arrivals) > 0.5 * RATE * SECONDS
        for window in (20, 100, 500, 2000):
            for first in range(0, len(arrivals) - window, 7):
                took = arrivals[first + window] - arrivals[first]
                # They leave in time; on a busy machine they arrive with its jitter.
                assert window + 1 <= RATE * (took + 0.5) + BURST
        with serving(tmp_path, "run", "--config", config) as daemon:
            url = daemon.url("precall serves")
            after = table(url)
            assert len(after) == BINDINGS
            assert {subs_id: after[subs_id]["status"] for subs_id in wanted} == wanted
            assert daemon.stop() == 0
