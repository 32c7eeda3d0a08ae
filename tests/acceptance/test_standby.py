"""Two daemons on one database: one leads; the other stands by, answers reads, and takes over when that one dies."""

import json
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import PATIENCE, Server, config_file, precall, serving, until
from tests.support.postgres import Databases
from tests.support.searched import assert_clean

from precall.engine.call_gate import GAP

pytestmark = pytest.mark.slow

RATE, BURST = 50.0, 10.0
LIMITS = f"rate = {RATE}\nburst = {BURST}"
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
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            return reply.status, json.loads(reply.read() or b"{}")
    except urllib.error.HTTPError as error:
        problem = error.read().decode()
        assert_clean(problem)
        return error.code, json.loads(problem)


def stands_by(server: Server) -> str:
    """The URL of a daemon that has begun to answer from what the other stores."""
    url = server.url("precall.standby")
    until(lambda: ask(f"{url}/readyz")[0] == 200)
    return url


def test_a_second_daemon_stands_by_and_takes_over(tmp_path: Path, store_url: str) -> None:
    scenario, bindings = tmp_path / "scenario.toml", tmp_path / "bindings.jsonl"
    scenario.write_text(SCENARIO)
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with serving(tmp_path, *simulate) as simulator:
        provider = simulator.url("simulator")
        config = config_file(tmp_path, provider, LIMITS, store=store_url)
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
                check_rate(arrivals(provider))
                assert second.stop() == 0
                assert "Traceback" not in second.said


def arrivals(provider: str) -> list[float]:
    """When calls reached the provider, in seconds."""
    return sorted(ask(f"{provider}/_admin/stats?arrivals=1000000")[1]["arrivals"])


def check_rate(calls: list[float], jitter: float = 1.5) -> None:
    """In no window were there more calls than one daemon may make; each may be late by `jitter` seconds."""
    for window in (60, 150, 400, 1000):
        for start in range(len(calls) - window):
            took = calls[start + window] - calls[start]
            assert window + 1 <= RATE * (took + jitter) + BURST


def test_a_suspended_leader_is_deposed_when_it_resumes(tmp_path: Path, databases: Databases) -> None:
    """Suspend a leader with a full bucket until another leads.

    When it resumes, among readers that require checks, it makes no call, writes nothing, and exits.
    """
    scenario, bindings = tmp_path / "scenario.toml", tmp_path / "bindings.jsonl"
    scenario.write_text(SCENARIO)
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with serving(tmp_path, *simulate) as simulator, ThreadPoolExecutor(8) as readers:
        provider = simulator.url("simulator")
        config = config_file(tmp_path, provider, LIMITS, store=databases.new())
        with serving(tmp_path, "run", "--config", config) as first:
            leading = first.url("precall serves")
            assert precall("bindings", "import", bindings, url=leading).returncode == 0
            with serving(tmp_path, "run", "--config", config) as second:
                standing = stands_by(second)
                first.look()
                first.process.send_signal(signal.SIGSTOP)
                until(lambda: ask(f"{standing}/readyz?for=writes")[0] == 200)
                told = len(arrivals(provider))
                until(lambda: len(arrivals(provider)) > told + 20)
                asked = [readers.submit(ask_late, f"{leading}/v1/routes/{i}?max_age=0") for i in range(8)]
                first.process.send_signal(signal.SIGCONT)
                assert first.process.wait(PATIENCE) == 5
                assert [one.result() for one in asked]
                told = len(arrivals(provider))
                until(lambda: len(arrivals(provider)) > told + 20)
                check_rate(arrivals(provider))
                until(lambda: ask(f"{standing}/readyz")[1]["degraded"] == [])
                assert second.stop() == 0
        assert first.said.count("precall.deposed") == 1
        assert "Traceback" not in first.said + second.said
    databases.drop()


def ask_late(url: str) -> int:
    """The status, or 0 where the daemon has ended before it answered."""
    try:
        return ask(url)[0]
    except (OSError, HTTPException):
        return 0


def test_a_suspended_leader_on_sqlite_keeps_the_lead(tmp_path: Path) -> None:
    """A suspended process keeps the lock. After it resumes, missed calls are not made up for."""
    scenario, bindings = tmp_path / "scenario.toml", tmp_path / "bindings.jsonl"
    scenario.write_text(SCENARIO)
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with serving(tmp_path, *simulate) as simulator:
        provider = simulator.url("simulator")
        config = config_file(tmp_path, provider, LIMITS)
        with serving(tmp_path, "run", "--config", config) as daemon:
            leading = daemon.url("precall serves")
            assert precall("bindings", "import", bindings, url=leading).returncode == 0
            until(lambda: len(arrivals(provider)) > 20)
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(GAP + 0.5)
            daemon.process.send_signal(signal.SIGCONT)
            until(lambda: "precall.stood_still" in daemon.said)
            told = len(arrivals(provider))
            until(lambda: len(arrivals(provider)) > told + 20)
            check_rate(arrivals(provider))
            assert daemon.stop() == 0
        assert "precall.deposed" not in daemon.said


def check_reads_only(leading: str, standing: str) -> None:
    status, ready = ask(f"{standing}/readyz")
    assert status == 200
    assert "not_leading" in ready["findings"]
    state = ask(f"{standing}/v1/status")[1]
    assert (state["daemon"]["role"], state["verdict"]) == ("standby", "degraded")
    assert [one["code"] for one in state["findings"]] == ["not_leading"]
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
    until(lambda: ask(f"{url}/readyz")[1]["findings"] == [])
    assert ask(f"{url}/readyz")[0] == 200
    assert ask(f"{url}/v1/routes/7")[1]["action"] == "dial_real"
    assert ask(f"{url}/v1/bindings/8", "DELETE")[0] == 204
    status, checked = ask(f"{url}/v1/bindings/7/check", "POST")
    assert (status, checked["result"]) == (200, "status_3")


def test_a_database_that_is_locked_at_start_is_waited_for(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(SCENARIO)
    with serving(tmp_path, "simulate", "--listen", "127.0.0.1:0", "--scenario", scenario) as simulator:
        config = config_file(tmp_path, simulator.url("simulator"), store_timeout="1s")
        with closing(sqlite3.connect(tmp_path / "precall.db", isolation_level=None)) as other:
            other.execute("PRAGMA journal_mode=WAL")
            other.execute("BEGIN IMMEDIATE")
            with serving(tmp_path, "run", "--config", config) as daemon:
                url = daemon.url("store.down")
                assert ask(f"{url}/healthz")[0] == 200
                until(lambda: ask(f"{url}/readyz")[1]["findings"] == ["database_down"])
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


def test_a_daemon_waiting_for_the_database_can_be_stopped(tmp_path: Path) -> None:
    config = config_file(tmp_path, "http://127.0.0.1:9", store_timeout="1s")
    with closing(sqlite3.connect(tmp_path / "precall.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with serving(tmp_path, "run", "--config", config) as daemon:
            daemon.url("store.down")
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.said
