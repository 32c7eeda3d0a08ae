"""`precall person` as its users run it: found, erased, and erased to the end after a kill in the middle."""

import json
import subprocess
import threading
from pathlib import Path

import pytest
from tests.acceptance.test_cli import Server, precall, serving, until
from tests.support.postgres import sql
from tests.support.sealed import dumped

pytestmark = pytest.mark.slow

WHO, B, X = "13812345678", "13700000007", "17000000001"
BINDING = f'{{"subs_id":"5001","pool_key":"FC1","number_x":"{X}","number_a":"{WHO}","number_b":"{B}"}}\n'
ROWS = 60_000
PAST = f"""
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
INSERT INTO check_results (subs_id, generation, result, status, number, extension, code, first_seq, last_seq,
                           first_at, last_at, count, request_id, seconds)
SELECT '4001', i, 'status_3', 3, '{WHO}', '', 'OK', i, i, i, i, 1, '', 0.1 FROM n
"""  # noqa: S608


def daemon_of(folder: Path) -> Path:
    """A configuration whose provider is never reached: nothing but the erasure is at work."""
    config = folder / "precall.toml"
    config.write_text(
        '[provider]\nendpoint = "http://127.0.0.1:9"\naccess_key_id = "demo"\naccess_key_secret = "demo-secret"\n'
        'rate = 1\n[store]\nurl = "sqlite:///precall.db"\nretention = "365000d"\n[api]\nlisten = "127.0.0.1:0"\n'
        '[log]\nlevel = "debug"\n'
    )
    return config


def person(url: str, command: str, *more: str, number: str = WHO) -> "subprocess.CompletedProcess[str]":
    return precall("person", command, "--number", "-", *more, url=url, stdin=f"{number}\n")


def test_a_person_is_found_and_erased_and_a_killed_erasure_is_completed(tmp_path: Path) -> None:
    config, database = daemon_of(tmp_path), f"sqlite:///{tmp_path}/precall.db"
    with serving(tmp_path, "run", "--config", config, plain="it shows the number go") as server:
        url = server.url("listen")
        assert precall("bindings", "import", "-", "--format", "jsonl", url=url, stdin=BINDING).returncode == 0
        sql(database, PAST)
        nothing = person(url, "find", number="13900000000")
        assert (nothing.returncode, "nothing is held" in nothing.stderr) == (1, True)
        shown = person(url, "find", "--json")
        held = {one["where"]: one["count"] for one in json.loads(shown.stdout)["records"]}
        assert (shown.returncode, held) == (0, {"bindings": 1, "results": ROWS})
        assert WHO not in shown.stdout
        assert person(url, "find", number=X).returncode == 1
        unsure = person(url, "erase", "--reason", "ticket 7")
        assert (unsure.returncode, "--yes" in unsure.stderr) == (2, True)
        kill_within(server, url, database)
    assert left(database) > 0
    with serving(tmp_path, "run", "--config", config, plain="it shows the number go") as server:
        url = server.url("listen")
        done = person(url, "erase", "--reason", "ticket 7", "--yes")
        assert (done.returncode, done.stdout.split()[:5]) == (
            0,
            ["where", "origin", "count", "outcome", "subs_ids"],
        )
        assert person(url, "find").returncode == 1
        again = person(url, "erase", "--reason", "ticket 7", "--yes")
        assert (again.returncode, again.stdout) == (0, "")
        assert "nothing is held about this number" in again.stderr
        assert left(database) == 0
        assert server.stop() == 0
    sql(database, "VACUUM")
    assert WHO not in dumped(database)


def kill_within(server: Server, url: str, database: str) -> None:
    """Kill the daemon when the binding is gone and some of the history is still there."""
    asked = threading.Thread(target=person, args=(url, "erase", "--reason", "ticket 7", "--yes"))
    asked.start()
    until(lambda: left(database) < ROWS)
    server.process.kill()
    server.process.wait()
    asked.join()
    assert sql(database, "SELECT count(*) FROM bindings") == [["0"]]


def left(database: str) -> int:
    [[count]] = sql(database, f"SELECT count(*) FROM check_results WHERE number = '{WHO}'")  # noqa: S608
    return int(count)
