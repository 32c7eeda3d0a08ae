"""A provider that throttles, is cut off, or says that a whole pool has no number left, at full length."""

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import Server, config_file, precall, serving, until
from tests.acceptance.test_postgresql import reading
from tests.acceptance.test_standby import ask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SCENARIO = """
[account]
access_key_id = "demo"
access_key_secret = "demo-secret"
rate = {quota}
[[pool]]
pool_key = "FC1"
bindings = {bindings}
onset = "0s"
lifetime = "0s"
temporary_numbers = 0
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A simulated provider and what a daemon over it needs."""

    folder: Path
    provider: str
    config: Path
    bindings: Path
    ids: tuple[str, ...]

    @contextmanager
    def daemon(self) -> Iterator[tuple[Server, str]]:
        with serving(self.folder, "run", "--config", self.config) as server:
            yield server, server.url("precall serves")

    def load(self, url: str) -> None:
        """Register all, and wait until each was checked."""
        assert precall("bindings", "import", self.bindings, url=url).returncode == 0
        until(lambda: not ask(f"{url}/v1/routes?state=unverified&limit=1")[1]["routes"], patience=90.0)


@contextmanager
def site(folder: Path, settings: str, *, bindings: int, quota: int = 0) -> Iterator[Site]:
    scenario, exported = folder / "scenario.toml", folder / "bindings.jsonl"
    scenario.write_text(SCENARIO.format(bindings=bindings, quota=quota))
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", exported)
    with serving(folder, *simulate) as simulator:
        provider = simulator.url("simulator")
        ids = tuple(json.loads(line)["subs_id"] for line in exported.read_text().splitlines())
        yield Site(folder, provider, config_file(folder, provider, settings), exported, ids)


def metric(url: str, name: str, **labels: str) -> float:
    """The sum of all samples of that name with those labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.partition(" ")[0].partition("{")[0] == f"precall_{name}" and all(w in line for w in wanted)
    )


def routes(url: str) -> dict[str, tuple[Any, ...]]:
    told: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = ask(f"{url}/v1/routes?limit=1000&cursor={cursor}")[1]
        told += page["routes"]
        if not (cursor := page["cursor"]):
            return {one["subs_id"]: (one["action"], one["reason"], one["version"]) for one in told}


def made_so_far(url: str) -> dict[str, float]:
    return {name: metric(url, "checks_total", result=name) for name in ("status_1", "throttled")}


def test_a_fifth_of_the_rate_is_allowed(tmp_path: Path) -> None:
    quick = 'rate = 100\n[freshness]\nmin_interval = "100ms"\nmax_age = "1s"\n'
    with site(tmp_path, quick, bindings=500, quota=20) as here, here.daemon() as (daemon, url):
        assert precall("bindings", "import", here.bindings, url=url).returncode == 0
        with reading(url, here.ids[0]) as counts:
            time.sleep(60.0)
            begun, at_first = time.monotonic(), made_so_far(url)
            limits = []
            while time.monotonic() < begun + 60.0:
                limits.append(metric(url, "provider_rate_limit"))
                time.sleep(0.25)
            seconds, at_last = time.monotonic() - begun, made_so_far(url)
            made = {name: at_last[name] - at_first[name] for name in at_first}
        assert 15.0 <= sum(limits) / len(limits) <= 20.0
        # The provider lets a second's worth pass at once.
        assert 15.0 <= made["status_1"] / seconds <= 20.0 * (1 + 1 / seconds)
        assert made["throttled"] < 0.1 * sum(made.values())
        assert counts["failed"] == 0
        assert daemon.stop() == 0


def test_two_minutes_without_the_provider(tmp_path: Path) -> None:
    quick = 'rate = 100\n[freshness]\nmin_interval = "100ms"\nmax_age = "3s"\n'
    with site(tmp_path, quick, bindings=200) as here, here.daemon() as (daemon, url):
        here.load(url)
        # One of them ends while nobody can be asked.
        ending = here.ids[0]
        # On a whole second: of an end fractions are dropped.
        end = int(time.time()) + 40.0
        facts = json.loads(here.bindings.read_text().splitlines()[0])
        facts["expires_at"] = datetime.fromtimestamp(end + 5.0, UTC).isoformat()
        assert ask(f"{url}/v1/bindings/{ending}", "PUT", facts)[0] == 200
        until(lambda: ask(f"{url}/v1/routes/{ending}")[1]["status"] == 1)
        before = routes(url)
        assert {action for action, _, _ in before.values()} == {"dial_x"}
        fault = {"kind": "reset", "for": "120s"}
        assert ask(f"{here.provider}/_admin/faults", "POST", fault)[0] in (200, 201)
        back = time.monotonic() + 120.0
        until(lambda: "degraded.entered" in daemon.said)
        while (left := end - time.time()) > 0.5:
            assert ask(f"{url}/v1/routes/{ending}?dial=0")[1]["action"] == "dial_x"
            time.sleep(min(1.0, left))
        until(lambda: time.time() >= end)
        told = ask(f"{url}/v1/routes/{ending}?dial=0")[1]
        assert (told["action"], told["reason"], told["number"]) == ("expired", "expired_locally", "")
        while time.monotonic() < back - 5.0:
            now = routes(url)
            assert {i: now[i] for i in now if i != ending} == {i: before[i] for i in before if i != ending}
            time.sleep(2.0)
        until(lambda: "degraded.left" in daemon.said, patience=90.0)
        assert daemon.said.count("degraded.entered") == daemon.said.count("degraded.left") == 1
        assert daemon.stop() == 0


def test_a_pool_that_runs_out_of_numbers_exposes_exactly_the_cap(tmp_path: Path) -> None:
    settings = (
        'rate = 200\n[freshness]\nmin_interval = "1s"\nabnormal_min_interval = "1s"\nmax_age = "5s"\n'
        "[brake]\nshare = 0.05\nfloor = 20\n"
    )
    bindings = 1000
    cap = bindings // 20

    def exposed(url: str) -> int:
        """How many real numbers dispatchers are told, each asked for once."""
        told = []
        for start in range(0, bindings, 500):
            asked = {"subs_ids": here.ids[start : start + 500]}
            told += ask(f"{url}/v1/routes/lookup", "POST", asked)[1]["routes"]
        numbers = sum(one["action"] == "dial_real" and one["number"] != "" for one in told)
        assert numbers <= most, numbers
        return numbers

    with site(tmp_path, settings, bindings=bindings) as here:
        most = cap
        with here.daemon() as (daemon, url):
            here.load(url)
            ask(f"{here.provider}/_admin/pools/FC1/outage", "POST", {"for": "1h", "status": 3})
            until(lambda: exposed(url) >= cap // 2, patience=60.0)
            daemon.stop(signal.SIGKILL)
        with here.daemon() as (daemon, url):
            until(lambda: not ask(f"{url}/v1/routes?state=normal&limit=1")[1]["routes"], patience=90.0)
            assert exposed(url) == cap
            reasons = [reason for _, reason, _ in routes(url).values()]
            assert reasons.count("exposure_brake") == bindings - cap
            assert daemon.said.count("exposure_brake.engaged") == 1
            assert metric(url, "exposure_brake") == 1.0
            most = 2 * cap
            release = {"pool_key": "FC1", "reason": "looked at it"}
            assert ask(f"{url}/v1/brake/release", "POST", release)[0] == 200
            until(lambda: exposed(url) == most, patience=60.0)
            assert ask(f"{url}/v1/brake/engage", "POST", {"pool_key": "FC1", "reason": "stop"})[0] == 200
            most = 0
            assert exposed(url) == 0
            assert daemon.stop() == 0
