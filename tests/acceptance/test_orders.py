"""Orders of operators outlive the daemon that took them: killed, restarted, or followed by a standby."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import config_file, precall, serving, until
from tests.acceptance.test_standby import LIMITS, SCENARIO, ask, stands_by

pytestmark = pytest.mark.slow(seconds=20)

ORDERED = [
    ("POST", "/v1/pause", {"pool_key": "FC1", "reason": "maintenance"}),
    ("POST", "/v1/brake/engage", {"reason": "drill, asked by 13800000001"}),
    ("PUT", "/v1/overrides/8", {"action": "dial_x", "reason": "works", "until": "2090-01-01T00:00:00Z"}),
]


def orders(url: str, query: str = "") -> list[dict[str, Any]]:
    status, body = ask(f"{url}/v1/orders?{query}")
    assert status == 200, body
    return body["orders"]  # type: ignore[no-any-return]


def check_in_force(url: str) -> None:
    assert ask(f"{url}/readyz")[1]["paused"] == ["FC1"]
    assert ask(f"{url}/v1/routes/7")[1]["action"] == "hold"
    assert ask(f"{url}/v1/routes/8")[1]["reason"] == "override"


def test_orders_survive_kill_restart_and_take_over(tmp_path: Path, store_url: str) -> None:
    scenario, bindings = tmp_path / "scenario.toml", tmp_path / "bindings.jsonl"
    eight = SCENARIO.partition("[[binding]]")[2].replace('"7"', '"8"').replace("0007", "0008")
    scenario.write_text(f"{SCENARIO}\n[[binding]]{eight}")
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with serving(tmp_path, *simulate) as simulator:
        config = config_file(tmp_path, simulator.url("simulator"), LIMITS, store=store_url)
        with serving(tmp_path, "run", "--config", config) as first:
            url = first.url("precall serves")
            assert precall("bindings", "import", bindings, url=url).returncode == 0
            until(lambda: ask(f"{url}/v1/routes/7")[1]["action"] == "dial_real")
            for method, path, body in ORDERED:
                assert ask(f"{url}{path}", method, body)[0] == 200
            given = orders(url)
            assert [row["in_force"] for row in given] == [True] * 3
            first.look()
            first.send(signal.SIGKILL)
            first.process.wait()
        with serving(tmp_path, "run", "--config", config) as second:
            url = second.url("precall serves")
            assert orders(url) == given
            check_in_force(url)
            with serving(tmp_path, "run", "--config", config) as third:
                standing = stands_by(third)
                assert orders(standing, "in_force=1") == given
                check_in_force(standing)
                second.look()
                second.send(signal.SIGKILL)
                until(lambda: ask(f"{standing}/readyz?for=writes")[0] == 200)
                assert orders(standing) == given
                check_in_force(standing)
                check_list(standing)
                assert third.stop() == 0
                assert "Traceback" not in third.said


def check_list(url: str) -> None:
    """As the command shows it: in force, and with --all."""
    shown = precall("orders", "list", url=url)
    assert shown.returncode == 0, shown.stderr
    assert "maintenance" in shown.stdout
    assert "13800000001" not in shown.stdout
    assert precall("resume", url=url).returncode == 0
    kinds = [row["kind"] for row in json.loads(precall("orders", "list", "--json", url=url).stdout)["orders"]]
    assert kinds == ["override", "brake"]
    every = json.loads(precall("orders", "list", "--all", "--json", url=url).stdout)["orders"]
    assert [row["action"] for row in every] == ["resume", "dial_x", "engage", "pause"]
    assert (
        len(json.loads(precall("orders", "list", "--kind", "brake", "--json", url=url).stdout)["orders"]) == 1
    )
