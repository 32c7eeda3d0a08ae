"""The dashboards as they are committed: made by `make dashboards`, and by the conventions."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.test_cli import PROJECT

GRAFANA = PROJECT / "deploy" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"s", "short", "percentunit", "reqps", "cps", "decbytes"}
every_dashboard = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def read(file: Path) -> dict[str, Any]:
    board: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return board


def test_there_are_four_dashboards() -> None:
    assert [file.stem for file in FILES] == ["daemon", "overview", "privacy", "provider"]


def test_dashboards_are_up_to_date_with_their_generator(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GRAFANA / "dashboards.py", tmp_path], check=True, timeout=60)
    made = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    assert made == {file.name: file.read_text(encoding="utf-8") for file in FILES}, "make dashboards"


@every_dashboard
def test_a_dashboard_is_found_by_its_uid_and_leads_to_the_others(file: Path) -> None:
    board = read(file)
    assert board["uid"] == f"precall-{file.stem}"
    assert (board["tags"], board["timezone"], board.get("id")) == (["precall"], "browser", None)
    (link,) = board["links"]
    assert (link["type"], link["tags"], link["keepTime"], link["includeVars"]) == (
        "dashboards",
        ["precall"],
        True,
        True,
    )
    assert [variable["name"] for variable in board["templating"]["list"]] == [
        "datasource",
        "job",
        "instance",
        "pool",
    ]
    for variable in board["templating"]["list"][1:]:
        assert (variable["datasource"], variable["multi"], variable["allValue"]) == (SOURCE, True, ".+")
    assert [annotation["name"] for annotation in board["annotations"]["list"]] == ["Restarts", "Reloads"]


@every_dashboard
def test_every_panel_has_a_unit_a_description_and_queries_by_the_variables(file: Path) -> None:
    panels = read(file)["panels"]
    assert [panel["id"] for panel in panels] == [*range(1, len(panels) + 1)]
    for panel in panels:
        title = panel["title"]
        assert panel["description"].endswith("."), title
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, title
        assert panel["targets"], title
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == SOURCE, title
            assert target["legendFormat"], title
            for counted in re.findall(r"(?:rate|increase)\(([^()]*)\)", target["expr"]):
                assert re.search(r"\[(\$__rate_interval|1h)\]$", counted), title
            for choice in re.findall(r"(?:precall|process)_\w+(\{[^}]*\})?", target["expr"]):
                assert 'job=~"$job"' in choice, title


@every_dashboard
def test_panels_fill_their_rows_and_do_not_overlap(file: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in read(file)["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len(taken) == 24 * (1 + max(y for _, y in taken))


def test_provisioning_names_the_dashboards_and_the_data_source() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/precall.yml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert [source["type"] for source in sources] == ["prometheus"]
    (provider,) = yaml.safe_load(
        (GRAFANA / "provisioning/dashboards/precall.yml").read_text(encoding="utf-8")
    )["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
