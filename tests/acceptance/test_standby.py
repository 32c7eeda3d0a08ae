"""Two daemons on one database: one leads; the other stands by, answers reads, and takes over when that one dies."""

import json
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import Server, config_file, precall, serving, until
from tests.searched import search_told

pytestmark = pytest.mark.slow

RATE, BURST = 50.0, 10.0
SCENARIO = """
[[pool]]
pool_key = "FC1"
bindings = 300
onset = "0s"
lifetime = "0s"
[[binding]]
subs_id = "7"
pool_key = "FC1"
number_x = "17000000007"
number_a = "13800000007"
number_b = "13900000007"
status = 3
"""


def ask(url: str, method: str = "GET", body: Any = None) -> tuple[int, dict[str, Any]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data=data, method=method, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.loads(reply.read() or b"{}")
    except urllib.error.HTTPError as error:
        problem = error.read().decode()
        search_told(problem)
        return error.code, json.loads(problem)


def stands_by(server: Server) -> str:
    """The URL of a daemon that has begun to answer from what the other stores."""
    url = server.url("precall.standby")
    until(lambda: ask(f"{url}/readyz")[0] == 200)
    return url


def test_the_second_stands_by_and_takes_over(tmp_path: Path, store_url: str) -> None:
    scenario, bindings = tmp_path / "scenario.toml", tmp_path / "bindings.jsonl"
    scenario.write_text(SCENARIO)
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with serving(tmp_path, *simulate) as simulator:
        provider = simulator.url("simulator")
        config = config_file(tmp_path, provider, f"rate = {RATE}\nburst = {BURST}", store=store_url)
        begun = time.monotonic()
        with serving(tmp_path, "run", "--config", config) as first:
            leading = first.url("precall serves")
            assert precall("bindings", "import", bindings, url=leading).returncode == 0
            until(lambda: ask(f"{leading}/v1/routes/7")[1]["action"] == "dial_real")
            with serving(tmp_path, "run", "--config", config) as second:
                standing = stands_by(second)
                check_reads_only(leading, standing)
                first.look()
                first.send(signal.SIGKILL)
                failed = list[int]()

                def leads() -> bool:
                    failed.extend([1] * (ask(f"{standing}/v1/routes/7")[0] != 200))
                    return ask(f"{standing}/readyz?for=writes")[0] == 200

                until(leads)
                assert not failed
                check_leads(standing)
                arrivals = ask(f"{provider}/_admin/stats?arrivals=1000000")[1]["arrivals"]
                ended = time.monotonic()
                assert second.stop() == 0
                assert "Traceback" not in second.said
        # Two buckets, each of which starts empty; what a busy machine delays comes closer together, and no more of it.
        assert len(arrivals) <= RATE * (ended - begun) + 2 * BURST


def check_reads_only(leading: str, standing: str) -> None:
    status, ready = ask(f"{standing}/readyz")
    assert status == 200
    assert any("standby" in line for line in ready["degraded"])
    assert ask(f"{standing}/readyz?for=writes")[0] == 503
    assert ask(f"{standing}/healthz")[0] == 200
    body = json.loads(json.dumps(ask(f"{leading}/v1/bindings/7")[1]))
    facts = {k: body[k] for k in ("pool_key", "number_x", "number_a", "number_b", "expires_at")}
    for method, path, sent in (
        ("PUT", "/v1/bindings/8", facts),
        ("DELETE", "/v1/bindings/7", None),
        ("POST", "/v1/pause", {"pool_key": "", "reason": "x"}),
        ("POST", "/v1/bindings/7/check", None),
        ("GET", "/v1/routes/changes?since=0", None),
    ):
        status, problem = ask(f"{standing}{path}", method, sent)
        assert (status, problem["code"]) == (503, "standby"), path
    status, route = ask(f"{standing}/v1/routes/7?max_age=0")
    assert (status, route["status"], route["action"], route["reason"]) == (
        200,
        3,
        "hold",
        "audit_unavailable",
    )
    assert ask(f"{leading}/v1/bindings/8", "PUT", facts)[0] == 201
    until(lambda: ask(f"{standing}/v1/routes/8")[0] == 200)


def check_leads(url: str) -> None:
    status, ready = ask(f"{url}/readyz")
    assert (status, ready["degraded"]) == (200, [])
    assert ask(f"{url}/v1/routes/7")[1]["action"] == "dial_real"
    assert ask(f"{url}/v1/bindings/8", "DELETE")[0] == 204
    status, checked = ask(f"{url}/v1/bindings/7/check", "POST")
    assert (status, checked["result"]) == (200, "status_3")


def test_a_database_that_is_locked_at_start_is_waited_for(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(SCENARIO)
    with serving(tmp_path, "simulate", "--listen", "127.0.0.1:0", "--scenario", scenario) as simulator:
        config = config_file(tmp_path, simulator.url("simulator"))
        with closing(sqlite3.connect(tmp_path / "precall.db", isolation_level=None)) as other:
            other.execute("PRAGMA journal_mode=WAL")
            other.execute("BEGIN IMMEDIATE")
            with serving(tmp_path, "run", "--config", config) as daemon:
                url = daemon.url("store.down")
                assert ask(f"{url}/healthz")[0] == 200
                until(lambda: any("store" in line for line in ask(f"{url}/readyz")[1]["degraded"]))
                assert ask(f"{url}/readyz")[0] == 503
                status, problem = ask(f"{url}/v1/routes/7")
                assert (status, problem["code"]) == (503, "starting")
                time.sleep(2.5)
                assert daemon.said.count("store.down") == 1
                other.execute("ROLLBACK")
                assert daemon.url("precall serves") == url
                assert ask(f"{url}/readyz")[0] == 200
                assert daemon.said.count("store.back") == 1
                assert daemon.stop() == 0


def test_who_waits_for_the_database_can_be_stopped(tmp_path: Path) -> None:
    config = config_file(tmp_path, "http://127.0.0.1:9")
    with closing(sqlite3.connect(tmp_path / "precall.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with serving(tmp_path, "run", "--config", config) as daemon:
            daemon.url("store.down")
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.said
