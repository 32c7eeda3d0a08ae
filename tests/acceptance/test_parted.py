"""A network partition separates the leader from PostgreSQL, but not the standby, which takes over.

After the partition, nothing that the old leader has queued is written, and it exits with code 5.
"""

import time
from pathlib import Path

import pytest
from tests.acceptance.test_cli import config_file, serving, until
from tests.acceptance.test_standby import SCENARIO, ask, stands_by
from tests.support.postgres import Databases, sql
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

QUICK = """
[freshness]
min_interval = "100ms"
abnormal_min_interval = "100ms"
max_age = "300ms"
abnormal_max_age = "300ms"
"""
EIGHT = """
[[binding]]
subs_id = "8"
pool_key = "FC1"
number_x = "17000000008"
number_a = "13800000008"
number_b = "13900000008"
status = 1
"""
TABLES = ("bindings", "routes", "route_changes", "check_results", "exposures", "overrides", "calls", "orders")


def kept(url: str) -> list[list[str]]:
    """Return all routes and calls in the database."""
    return sorted(sql(url, *(f"TABLE {name}" for name in TABLES)))


def at_rest(url: str) -> list[list[str]]:
    """The same once nothing is under way any more: batches are a second late at most."""
    seen = [kept(url)]

    def still() -> bool:
        time.sleep(2.0)
        seen.append(kept(url))
        return seen[-1] == seen[-2]

    until(still)
    return seen[-1]


def test_only_one_daemon_writes_after_a_network_partition(tmp_path: Path, databases: Databases) -> None:
    database = databases.new()
    server = database.partition("@127.0.0.1:")[2].partition("/")[0]
    scenario, folders = tmp_path / "scenario.toml", [tmp_path / "first", tmp_path / "second"]
    # One that the provider does not know would be confirmed gone later, by the new leader too.
    scenario.write_text(SCENARIO + EIGHT)
    with (
        Wire(int(server)).running() as wire,
        serving(tmp_path, "simulate", "--listen", "127.0.0.1:0", "--scenario", scenario) as simulator,
    ):
        provider, configs = simulator.url("simulator"), []
        for folder, at in zip(folders, (database.replace(server, str(wire.port)), database), strict=True):
            folder.mkdir()
            configs.append(config_file(folder, provider, "rate = 50.0", store=at, store_timeout="1s"))
            configs[-1].write_text(configs[-1].read_text() + QUICK)
        with serving(folders[0], "run", "--config", configs[0]) as first:
            old = first.url("precall serves")
            for subs_id in ("7", "8"):
                facts = ask(f"{provider}/_admin/bindings/{subs_id}")[1]
                body = {name: facts[name] for name in ("pool_key", "number_x", "number_a", "number_b")}
                assert ask(f"{old}/v1/bindings/{subs_id}", "PUT", body)[0] == 201
            until(lambda: ask(f"{old}/v1/routes/7")[1]["action"] == "dial_real")
            with serving(folders[1], "run", "--config", configs[1]) as second:
                new = stands_by(second)
                wire.cut()
                until(lambda: ask(f"{new}/readyz?for=writes")[0] == 200)
                ask(f"{provider}/_admin/bindings/7", "PATCH", {"status": 2})
                until(lambda: "unsaved" in ask(f"{old}/v1/routes/7")[1]["flags"])
                ask(f"{provider}/_admin/bindings/7", "PATCH", {"status": 3})
                until(lambda: ask(f"{old}/v1/routes/7")[1]["status"] == 3)
                # Its audit cannot be written.
                assert ask(f"{old}/v1/routes/7")[1]["reason"] == "audit_unavailable"
                assert ask(f"{old}/v1/bindings/8", "DELETE")[0] == 503
                # The new one falls silent, so that whatever is written is the old one's.
                assert ask(f"{new}/v1/pause", "POST", {"pool_key": "", "reason": "test"})[0] == 200
                before = at_rest(database)
                wire.heal()
                assert first.process.wait(30) == 5
                assert first.said.count("precall.deposed") == 1
                assert "Traceback" not in first.said
                assert kept(database) == before
                assert second.stop() == 0
    databases.drop()
