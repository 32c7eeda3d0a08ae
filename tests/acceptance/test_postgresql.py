"""The daemon on PostgreSQL, as it is set up, and through losses of its server."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import config_file, precall, serving, until
from tests.acceptance.test_standby import ask
from tests.support.postgres import PASSWORD, Databases, PostgresServer, running, sql
from tests.support.sealed import key_file

from precall.store import head

CHANGES = int(os.environ.get("PRECALL_TEST_SOAK_CHANGES", "40"))
"""How many changes there are while the server is lost under load, at least."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + CHANGES)]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that may be stopped."""
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def own(server: PostgresServer) -> Databases:
    return Databases(server.url())


def test_a_new_database_is_migrated_by_hand(tmp_path: Path, own: Databases) -> None:
    url = own.new(migrated=False)
    (tmp_path / "url").write_text(f"{url}\n")
    config = tmp_path / "precall.toml"
    config.write_text(
        '[log]\nlevel = "debug"\n'
        f'[provider]\nendpoint = "http://127.0.0.1:1"\naccess_key_id = "a"\naccess_key_secret = "n0t-t0-b3-t0ld"\n'
        f'[store]\nurl_file = "{tmp_path}/url"\nnumber_key_file = "{key_file(tmp_path)}"\n'
        f'[api]\nlisten = "127.0.0.1:0"\n'
    )
    refused = precall("run", "--config", config)
    assert refused.returncode == 3
    assert "has schema none" in refused.stderr
    assert "`precall migrate --config FILE`" in refused.stderr
    migrated = precall("migrate", "--config", config)
    assert (migrated.returncode, migrated.stdout) == (0, f"schema none -> {head()}\n")
    again = precall("migrate", "--config", config)
    assert again.stdout == f"schema {head()}, unchanged\n"
    with serving(tmp_path, "run", "--config", config) as daemon:
        daemon.url("precall serves")
        assert sql(url, "SELECT x_ttl FROM policy") == [["86400"]]
        assert daemon.stop() == 0
        said = daemon.said
    assert PASSWORD not in refused.stderr + migrated.stdout + said


@contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextmanager
def reading(url: str, subs_id: str) -> Iterator[dict[str, int]]:
    """Routes are read all the while; counts those that were answered and those that were not."""
    counts, over = {"answered": 0, "failed": 0}, threading.Event()

    def read() -> None:
        while not over.wait(0.01):
            status, body = ask(f"{url}/v1/routes/{subs_id}")
            good = status == 200 and body["action"] in ("dial_x", "dial_temp_x", "hold", "dial_real")
            counts["answered" if good else "failed"] += 1

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield counts
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("loss", [stopped, frozen])
def test_losing_postgresql_fails_no_read_and_loses_no_change(
    tmp_path: Path, server: PostgresServer, own: Databases, loss: Callable[[PostgresServer], Any]
) -> None:
    store = own.new()
    scenario, bindings = tmp_path / "scenario.toml", tmp_path / "bindings.jsonl"
    scenario.write_text(CHANGING)
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with serving(tmp_path, *simulate) as simulator:
        # On a busy machine a connection may take longer than the default allows.
        config = config_file(tmp_path, simulator.url("simulator"), RAPID, store=store, store_timeout="5s")
        with serving(tmp_path, "run", "--config", config) as daemon:
            url = daemon.url("precall serves")
            assert precall("bindings", "import", bindings, url=url).returncode == 0
            subs_id = json.loads(bindings.read_text().splitlines()[0])["subs_id"]
            until(lambda: ask(f"{url}/v1/routes/{subs_id}")[1]["status"] > 0)
            with reading(url, subs_id) as counts:
                with loss(server):
                    until(lambda: ask(f"{url}/readyz?for=writes")[0] == 503)
                    since, answered = index(url), counts["answered"]
                    until(lambda: index(url) > since + CHANGES, patience=60.0 + CHANGES)
                    until(lambda: counts["answered"] > answered + 50)
                    assert ask(f"{url}/readyz")[0] == 200
                    assert ask(f"{url}/readyz?for=writes")[0] == 503
                until(lambda: ask(f"{url}/readyz?for=writes")[0] == 200, patience=180.0)
            assert counts["failed"] == 0
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.said
    versions = sql(store, "SELECT subs_id, count(*), max(version) FROM route_changes GROUP BY subs_id")
    assert len(versions) == 60
    assert [row for row in versions if row[1] != row[2]] == []


def index(url: str) -> int:
    """Return the index of the newest published change."""
    return max(route["index"] for route in ask(f"{url}/v1/routes?limit=1000")[1]["routes"])


CHANGING = """
[[pool]]
pool_key = "FC1"
bindings = 60
onset = "2s"
recovery = "2s"
lifetime = "0s"
temporary_numbers = 100
"""
RAPID = 'rate = 50\n[freshness]\nmin_interval = "100ms"\nabnormal_min_interval = "100ms"\nmax_age = "1s"\n'
