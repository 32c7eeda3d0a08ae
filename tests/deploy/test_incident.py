"""What a team on call sees of a bad quarter of an hour: dashboards with data in every panel, and the right alerts."""

import json
import math
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.incident import STEPS, Played, played
from tests.deploy.test_dashboards import every_dashboard, read

pytestmark = [
    pytest.mark.slow(seconds=90),
    pytest.mark.timeout(1200),
    pytest.mark.needs("prometheus"),
]

VARIABLES = {"$job": ".+", "$instance": ".+", "$pool": ".+"}
RESTART = "30s"
"""The rate interval for annotations: longer than a restart, which is not scaled, may take."""
LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@pytest.fixture(scope="module")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with played(tmp_path_factory.mktemp("incident")) as result:
        yield result


def filled_in(query: str, rate_interval: str = "5s") -> str:
    """The query with every variable at "All"."""
    for name, value in (VARIABLES | {"$__rate_interval": rate_interval}).items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def has_data(incident: Played, query: str) -> bool:
    found = incident.prometheus.over(filled_in(query), incident.started, incident.ended)
    return any(math.isfinite(value) for _, points in found for _, value in points)


def test_exactly_the_expected_alerts_fire_and_clear(incident: Played) -> None:
    assert incident.prometheus.fired(incident.begun, incident.ended) == set().union(*STEPS.values())
    assert incident.prometheus.alerts() == set()


@every_dashboard
def test_every_panel_has_data(incident: Played, file: Path) -> None:
    empty = [
        f"{panel['title']}: {target['expr']}"
        for panel in read(file)["panels"]
        for target in panel["targets"]
        if not has_data(incident, target["expr"])
    ]
    assert not empty


@every_dashboard
def test_every_annotation_has_data(incident: Played, file: Path) -> None:
    for annotation in read(file)["annotations"]["list"]:
        found = incident.prometheus.over(
            filled_in(annotation["expr"], RESTART), incident.started, incident.ended
        )
        assert found, annotation["name"]


@every_dashboard
def test_every_variable_has_values(incident: Played, file: Path) -> None:
    for variable in read(file)["templating"]["list"][1:]:
        asked = LABEL_VALUES.fullmatch(variable["query"])
        assert asked, variable["query"]
        assert incident.prometheus.label_values(filled_in(asked[1]), asked[2]), variable["name"]


def test_recording_rules_have_data(incident: Played) -> None:
    recorded = [rule for group in rules(incident) for rule in group["rules"] if rule["type"] == "recording"]
    assert recorded
    for rule in recorded:
        assert has_data(incident, rule["name"]), rule["name"]


def test_no_rule_fails_to_evaluate(incident: Played) -> None:
    assert {rule["health"] for group in rules(incident) for rule in group["rules"]} == {"ok"}


def test_promtool_finds_nothing_wrong_with_the_metrics(incident: Played) -> None:
    with urllib.request.urlopen(f"{incident.daemon}/metrics", timeout=30) as reply:
        text = reply.read()
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")


def rules(incident: Played) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{incident.prometheus.url}/api/v1/rules", timeout=30) as reply:
        groups: list[dict[str, Any]] = json.load(reply)["data"]["groups"]
    return groups
