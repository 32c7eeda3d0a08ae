"""A real Prometheus (Debian's) with the rule files of `deploy/prometheus` and a clock that runs `SCALE` times as fast.

Every duration in the rules is divided by that factor; nothing else is changed.
"""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.acceptance.test_cli import PROJECT, free_port, until

FILES = PROJECT / "deploy" / "prometheus"
RULES = (FILES / "recording.yml", FILES / "alerts.yml")
SCALE = 20
STEP = 1.0
DURATION = re.compile(r"(for: |\[|offset )(\d+[smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Series = dict[str, str]
Points = list[tuple[float, float]]


def scaled(rules: str) -> str:
    """The rules, their durations divided by SCALE."""
    return DURATION.sub(lambda found: found[1] + _divided(found[2]), rules)


def _divided(duration: str) -> str:
    return f"{int(duration[:-1]) * SECONDS[duration[-1]] * 1000 // SCALE}ms"


class Prometheus:
    """A running Prometheus server and its answers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def instant(self, query: str) -> list[tuple[Series, float]]:
        found = self._get("query", query=query)["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def over(self, query: str, start: float, end: float, step: float = STEP) -> list[tuple[Series, Points]]:
        """Every series of the query, from `start` to `end` (seconds since 1970)."""
        found = self._get("query_range", query=query, start=start, end=end, step=step)["result"]
        return [(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in found]

    def label_values(self, series: str, label: str) -> list[str]:
        found: list[str] = self._get(f"label/{label}/values", **{"match[]": series})
        return found

    def alerts(self, state: str = "firing|pending") -> set[str]:
        """The names of the alerts that are in this state now."""
        return {series["alertname"] for series, _ in self.instant(f'ALERTS{{alertstate=~"{state}"}}')}

    def fired(self, start: float, end: float) -> set[str]:
        """The names of those that fired at any moment."""
        # By the samples themselves: a range query looks at some moments only, between which an alert may come and go.
        window = f"{round((end - start) * 1000)}ms"
        query = f'max_over_time(ALERTS{{alertstate="firing"}}[{window}])'
        found = self._get("query", query=query, time=end)["result"]
        return {one["metric"]["alertname"] for one in found}

    def _get(self, path: str, **parameters: object) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as reply:
            body = json.load(reply)
        assert body["status"] == "success", body
        return body["data"]


@contextmanager
def watching(folder: Path, target: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the daemon at `target` (host:port)."""
    config = yaml.safe_load((FILES / "prometheus.yml").read_text(encoding="utf-8"))
    for name in ("scrape_interval", "evaluation_interval"):
        config["global"][name] = _divided(config["global"][name])
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    for rules in RULES:
        (folder / rules.name).write_text(scaled(rules.read_text(encoding="utf-8")))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        server = Prometheus(f"http://{address}")
        until(lambda: _ready(server.url, process))
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _ready(url: str, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "Prometheus ended; see prometheus.log"
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        time.sleep(0.1)
        return False
