"""Calls on the command line: listed, shown, summed up; real processes."""

import csv
import io
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.test_cli import Site, config_file, line, precall, serving, until

from precall.api.schemas.fields import moment
from precall.core.calls.products import PRODUCTS

pytestmark = pytest.mark.slow

SCENARIO = """
[account]
call_detail_rate_per_minute = 0
[[binding]]
subs_id = "1"
pool_key = "FC1"
number_x = "17000000001"
number_a = "13800000001"
number_b = "13900000001"
[[call]]
call_id = "116012854210^1"
called_at = "{}"
duration = 31
[[call]]
call_id = "116012854210^2"
called_at = "{}"
state = "200005"
"""
PROD = 11000000300006


@pytest.fixture(scope="module", name="site")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A daemon with three reported calls, two of which the provider knows."""
    folder = tmp_path_factory.mktemp("site")
    scenario, bindings = folder / "scenario.toml", folder / "bindings.jsonl"
    at = moment(time.time() - 300)
    scenario.write_text(SCENARIO.format(at, at))
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with serving(folder, *simulate) as simulator:
        config = config_file(folder, simulator.url("simulator"), "call_detail_rate_per_minute = 60000")
        with serving(folder, "run", "--config", config) as daemon:
            site = Site(folder, daemon.url("precall serves"), config, bindings)
            assert site.ask("bindings", "import", bindings).returncode == 0
            told = [
                {"call_id": f"116012854210^{n}", "prod_id": PROD, "called_at": at, "subs_id": "1"}
                for n in range(1, 4)
            ]
            request = urllib.request.Request(
                f"{site.daemon}/v1/calls", json.dumps(told).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200
            until(lambda: report(site)["total"]["pending"] == 1)
            yield site


def report(site: Site) -> dict[str, dict[str, int]]:
    body: dict[str, dict[str, int]] = json.loads(site.ask("report", "--json").stdout)
    return body


def test_calls_list_also_shows_pending_calls(site: Site) -> None:
    result = site.ask("calls", "list")
    assert result.returncode == 0, result.stderr
    lines = {text.split()[1]: text for text in result.stdout.splitlines()[1:]}
    assert re.search(
        r"connected +200000 +answered, and listened to until the end +31", lines["116012854210^1"]
    )
    assert re.search(r"failed +200005", lines["116012854210^2"])
    assert re.search(
        r"1 wait for the provider's answer; (none of them is due yet|1 of them are due, the first for \d+ s)",
        result.stderr,
    )
    assert "138" not in result.stdout
    only = json.loads(site.ask("calls", "list", "--result", "failed", "--subs-id", "1", "--json").stdout)
    assert [call["call_id"] for call in only["calls"]] == ["116012854210^2"]
    assert only["backlog"]["waiting"] == 1
    assert "result" in line(site.ask("calls", "list", "--result", "lovely"), 1)


def test_calls_show_prints_one_call(site: Site) -> None:
    result = site.ask("calls", "show", "116012854210^2")
    assert result.returncode == 0, result.stderr
    assert re.search(r"result +failed", result.stdout)
    assert re.search(r"meaning +the callee could not be reached", result.stdout)
    assert json.loads(site.ask("calls", "show", "116012854210^1", "--json").stdout)["duration"] == 31
    assert "unknown_call" in line(site.ask("calls", "show", "nobody"), 1)


def test_the_report_is_printed_as_table_json_and_csv(site: Site) -> None:
    table = site.ask("report", "--since", "1h").stdout.splitlines()
    assert table[0].split()[:4] == ["pool_key", "route_state", "placed", "connected"]
    assert [text.split()[0] for text in table[1:3]] == ["FC1", "all"]
    assert table[2].split()[-1] == "50.00%"
    assert any("200005" in text and text.endswith("yes") for text in table)
    told = report(site)
    assert (told["total"]["placed"], told["total"]["connected"], told["total"]["failed"]) == (3, 1, 1)
    rows = list(csv.DictReader(io.StringIO(site.ask("report", "--csv").stdout)))
    assert [(row["pool_key"], row["placed"]) for row in rows] == [("FC1", "3")]
    assert site.ask("report", "--csv", "--json").returncode == 2
    assert site.ask("report", "--since", "soon").returncode == 2


def looked_up(site: Site, call_id: str, *more: str, ago: float = 300.0) -> subprocess.CompletedProcess[str]:
    at = moment(time.time() - ago)
    return precall("call", call_id, "--called-at", at, "--config", site.config, *more)


@pytest.mark.parametrize("product", ["voice-notification", str(PROD)])
def test_a_product_by_name_or_number(site: Site, product: str) -> None:
    told = looked_up(site, "116012854210^1", "--prod-id", product)
    assert told.returncode == 0, told.stderr
    assert re.search(rf"prod_id +{PROD}\n", told.stdout)
    assert re.search(r"product +voice-notification\n", told.stdout)


def test_an_unknown_product_lists_the_names(site: Site) -> None:
    refused = looked_up(site, "116012854210^1", "--prod-id", "robot")
    assert refused.returncode == 2
    assert all(name in refused.stderr for name in PRODUCTS)


def test_an_empty_detail_explains_possible_causes(site: Site) -> None:
    told = looked_up(site, "116012854210^1", "--prod-id", "ivr")
    assert told.returncode == 1
    for reason in ("within the last 5 minutes", "another product", "another day", "another account", "robot"):
        assert reason in told.stdout
    assert "--find" in told.stdout


def test_a_call_of_another_product_and_day_is_found(site: Site) -> None:
    told = looked_up(site, "116012854210^1", "--prod-id", "sip", "--find", "--json", ago=86_400.0 + 300.0)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert (found["prod_id"], found["product"]) == (PROD, "voice-notification")
    assert found["read"]["duration"] == 31
    before, after = told.stderr.splitlines()
    assert re.match(
        r"nothing in the place given; looking into \d+ more, one call each, at 60000 a minute", before
    )
    assert re.match(
        rf"found under voice-notification \({PROD}\), 20\d\d-.* in Beijing, after \d+ more", after
    )
    assert found["calls"] <= 1 + int(re.findall(r"into (\d+)", before)[0]) + 1


def test_an_unknown_call_ends_the_search_with_not_found(site: Site) -> None:
    told = looked_up(site, "no^such", "--prod-id", "sip", "--find", "--json")
    assert told.returncode == 1
    before, after = told.stderr.splitlines()
    count = int(re.findall(r"into (\d+)", before)[0])
    assert after == f"not found, after {count} more calls"
    assert json.loads(told.stdout)["calls"] in (count + 1, count + 2)
    assert count <= 17


def test_a_refused_query_ends_the_search(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "wrong.toml"
    config.write_text(site.config.read_text().replace("demo-secret", "another"))
    at = moment(time.time())
    told = precall("call", "x^1", "--prod-id", "sip", "--called-at", at, "--find", "--config", config)
    assert told.returncode == 4
    assert "looking into" not in told.stderr
    assert re.search(
        r"the provider recommends +https://api.aliyun.com/troubleshoot\?q=SignatureDoes", told.stdout
    )
    assert "https://error-center.aliyun.com/status/product/Dyvmsapi" in told.stdout


def test_the_sample_query_date_in_seconds_is_refused_with_an_explanation(tmp_path: Path) -> None:
    config = config_file(tmp_path, "http://127.0.0.1:9")
    sample = ("call", "116014888060^102816313060", "--prod-id", str(PROD), "--called-at", "1553774465")
    refused = precall(*sample, "--config", config)
    assert refused.returncode == 2
    said = " ".join(re.sub(r"[│╭╮╰╯─]", " ", refused.stderr).split())
    assert "1553774465 is epoch seconds" in said
    assert "milliseconds" in said
    assert "1553774465000" in said
