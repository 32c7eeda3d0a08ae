"""`precall source` as its users run it: what a sync would do, and doing it, from a customer's SQLite file."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.test_cli import config_file, precall, serving, until

pytestmark = pytest.mark.slow  # each command is a process of its own


def customer(folder: Path, rows: int) -> Path:
    file = folder / "app.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TABLE IF EXISTS relations")
        connection.execute(
            "CREATE TABLE relations (subs_id TEXT, pool_key TEXT, number_x TEXT, number_a TEXT)"
        )
        connection.executemany(
            "INSERT INTO relations VALUES (?, 'FC1', ?, '13800000001')",
            [(str(n), f"1700000{n:04}") for n in range(rows)],
        )
    return file


def configured(folder: Path, url: str, query: str = "SELECT * FROM relations") -> Path:
    file = config_file(folder, "http://127.0.0.1:9")
    file.write_text(f'{file.read_text()}[source]\n{url}\nquery = "{query}"\nevery = "1h"\n')
    return file


def digest(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.db*")}


def test_source_check_and_apply(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(f"sqlite:///{customer(tmp_path, 40)}\n")
    config = configured(tmp_path, f'url_file = "{secret}"')
    first = precall("source", "check", "--config", config, "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["rows"]["added"] == 40
    assert not (tmp_path / "precall.db").exists()
    with serving(tmp_path, "run", "--config", config) as server:
        url = server.url("precall serves")
        until(lambda: precall("bindings", "show", "39", url=url).returncode == 0)
        customer(tmp_path, 20)
        before = digest(tmp_path)
        checked = precall("source", "check", "--config", config)
        assert checked.returncode == 1
        assert "removals refused: 20 of 40 live bindings left the source" in checked.stdout
        assert "would remove: " in checked.stdout
        assert {name: before[name] for name in before if name.startswith("app")} == {
            name: at for name, at in digest(tmp_path).items() if name.startswith("app")
        }
        applied = precall("source", "apply", url=url)
        assert (applied.returncode, "removals refused" in applied.stdout) == (1, True)
        forced = precall("source", "apply", "--force", "--json", url=url)
        assert forced.returncode == 0, forced.stderr
        assert json.loads(forced.stdout)["rows"]["removed"] == 20
        assert precall("bindings", "show", "39", url=url).returncode == 1
        assert precall("source", "check", "--config", config).returncode == 0
        (tmp_path / "app.db").unlink()
        gone = precall("source", "apply", url=url)
        assert gone.returncode == 4
        assert "unable to open" in gone.stderr
        assert server.stop() == 0


def test_source_errors_are_one_line_with_an_exit_code(tmp_path: Path) -> None:
    url = f'url = "sqlite:///{customer(tmp_path, 1)}"'
    wrong = precall("source", "check", "--config", configured(tmp_path, url, "SELECT subs_id FROM relations"))
    assert wrong.returncode == 3
    assert wrong.stderr.splitlines() == [
        f"precall: source.query: returns no column {name}" for name in ("pool_key", "number_x", "number_a")
    ]
    none = precall("source", "check", "--config", config_file(tmp_path, "http://127.0.0.1:9"))
    assert (none.returncode, none.stderr) == (
        3,
        "precall: source.url: is not set, so there is nothing to sync\n",
    )
    driver = configured(tmp_path, 'url = "postgresql+psycopg://u:hush@127.0.0.1:9/d"')
    for command in ("source", "check"), ("run",):
        missing = precall(*command, "--config", driver)
        assert missing.returncode == 3
        assert "precall: source.url: postgresql+psycopg needs the package psycopg" in missing.stderr
        assert "hush" not in missing.stderr
    away = precall(
        "source", "check", "--config", configured(tmp_path, f'url = "sqlite:///{tmp_path}/none.db"')
    )
    assert (away.returncode, "cannot be read" in away.stderr) == (4, True)


def test_the_daemon_serves_while_the_source_is_unreachable(tmp_path: Path) -> None:
    config = configured(tmp_path, f'url = "sqlite:///{tmp_path}/none.db"')
    with serving(tmp_path, "run", "--config", config) as server:
        url = server.url("precall serves")
        until(lambda: "source.failed" in server.said)
        time.sleep(0.1)
        assert server.said.count("source.failed") == 1
        added = precall(
            "bindings",
            "add",
            "7",
            "--pool-key",
            "FC1",
            "--number-x",
            "17000000001",
            "--number-a",
            "13800000001",
            url=url,
        )
        assert added.returncode == 0, added.stderr
        assert precall("route", "7", url=url).returncode == 0
