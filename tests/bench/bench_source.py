"""How soon a new row of a large source can be dialled: `python -m tests.bench.bench_source [ROWS]`.

A daemon syncs every two seconds with a PostgreSQL table of ROWS rows (default 1,000,000), once by an incremental query
and once by the same query without `:since`. Both begin with the bindings of all rows but the new ones, so that neither
has to import them. Rows are inserted one by one, and each is asked for until it has a route. A row is also inserted
while all rows are being compared.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from precall.store import upgrade
from tests.support.postgres import Databases, psql, running, sql

ROWS = 1_000_000
NEW = 10
GOAL = 5.0
"""Seconds within which a new row must be dialable by the incremental query."""
PATIENCE = 600.0

CREATE = (
    (
        "CREATE TABLE relations (subs_id text PRIMARY KEY, number_x text, number_a text, number_b text,"
        " updated_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    ),
    (
        "INSERT INTO relations SELECT n::text, (17000000000 + n)::text, (13800000000 + n)::text,"
        " (13900000000 + n)::text, now() - interval '1 day' + n * interval '10 ms' FROM generate_series(1, {rows}) n"
    ),
    "CREATE INDEX ON relations (updated_at)",
    "ANALYZE relations",
)
ADD = "INSERT INTO relations VALUES ('{id}', '17000000000', '13800000000', '13900000000')"
KNOWN = (
    (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        " INSERT INTO bindings SELECT i, i, 'FC1', 17000000000 + i, 13800000000 + i, 13900000000 + i, '', NULL, '{{}}',"
        " 'source', 1, 1 FROM n"
    ),
    (
        "INSERT INTO routes SELECT subs_id, generation, 'unverified', 0, '', '', 0, 0, 0, '', '', 0, 0, 0, 0, 0, '[]',"
        " '', 'dial_x', 'unverified', 1, generation FROM bindings"
    ),
    "INSERT OR REPLACE INTO marks VALUES ('high_index', '{rows}'), ('high_seq', '{rows}')",
)
SELECT = "SELECT subs_id, 'FC1' AS pool_key, number_x, number_a, number_b{more} FROM relations{where}"
QUERIES = {
    "incremental": SELECT.format(more=", updated_at AS changed_at", where=" WHERE updated_at >= :since"),
    "all rows": SELECT.format(more="", where=""),
}


def main(rows: int) -> int:
    with tempfile.TemporaryDirectory() as name, running() as server:
        databases = Databases(server.url())
        source = databases.new(migrated=False)
        psql(source, *(statement.format(rows=rows) for statement in CREATE))
        late = {}
        for place, (kind, query) in enumerate(QUERIES.items(), 1):
            folder = Path(name, str(place))
            folder.mkdir()
            late[kind] = measured(folder, source, query, rows, first=place * 10**9)
            print(
                f"{kind:12} {rows:,} rows: a new row is dialable after {late[kind]['median']:.1f} s"
                f" (longest {late[kind]['longest']:.1f} s), during a comparison of all rows after"
                f" {late[kind]['meanwhile']:.1f} s; that takes {late[kind]['whole']:.1f} s"
            )
        databases.close()
    reached = max(late["incremental"]["longest"], late["incremental"]["meanwhile"]) <= GOAL
    print(f"goal, {GOAL:g} s by the incremental query: {'reached' if reached else 'missed'}")
    return 0 if reached else 1


def measured(folder: Path, source: str, query: str, rows: int, first: int) -> dict[str, float]:
    """Return the delays in seconds, for new ids from `first` on."""
    fill(folder, rows)
    with daemon(folder, source, query) as url:
        compared(url)
        dialable(
            url, source, first + NEW + 1
        )  # not counted: the plan of a million bindings may still be made
        waits = sorted(dialable(url, source, first + n) for n in range(NEW))
        begun, ended = time.perf_counter(), list[float]()

        def whole() -> None:
            asked(url, "/v1/source/apply", b"{}")
            ended.append(time.perf_counter() - begun)

        comparing = Thread(target=whole)
        comparing.start()
        time.sleep(0.5)  # it has begun
        meanwhile = dialable(url, source, first + NEW)
        comparing.join()
    return {
        "median": waits[len(waits) // 2],
        "longest": waits[-1],
        "meanwhile": meanwhile,
        "whole": ended[0],
    }


def fill(folder: Path, rows: int) -> None:
    """Store the bindings of all rows, as a daemon would have left them."""

    database = f"sqlite:///{folder}/precall.db"
    asyncio.run(upgrade(database))
    sql(database, *(statement.format(rows=rows) for statement in KNOWN))


@contextmanager
def daemon(folder: Path, source: str, query: str) -> Iterator[str]:
    config = folder / "precall.toml"
    config.write_text(
        '[provider]\nendpoint = "http://127.0.0.1:9"\naccess_key_id = "a"\naccess_key_secret = "b"\nrate = 0.01\n'
        f'[store]\nurl = "sqlite:///{folder}/precall.db"\ntimeout = "30s"\n[api]\nlisten = "127.0.0.1:0"\n'
        f'[source]\nurl = "{source}"\nquery = """{query}"""\nevery = "2s"\n[log]\nlevel = "info"\n'
    )
    assert tomllib.loads(config.read_text())
    process = subprocess.Popen(
        [sys.executable, "-m", "precall", "run", "--config", str(config)],
        stderr=(folder / "log").open("w"),
        stdout=subprocess.DEVNULL,
    )
    try:
        yield address(folder / "log", process)
    finally:
        process.terminate()
        process.wait(60)


def address(log: Path, process: "subprocess.Popen[bytes]") -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        _, started, rest = log.read_text().partition("precall.started")
        if started and "http://" in rest:
            return "http://" + rest.partition("http://")[2].partition("'")[0]
        time.sleep(0.1)
    raise SystemExit(log.read_text())


def compared(url: str) -> None:
    """Wait for the first comparison, which leaves every binding as it is."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer = asked(url, "/v1/source")
        if b'"synced_at":"2' in answer:
            return
        if b'"error":""' not in answer:
            raise SystemExit(answer.decode())
        time.sleep(0.2)
    raise SystemExit("the first comparison did not end")


def dialable(url: str, source: str, subs_id: int) -> float:
    """Insert a row, and return the seconds until it has a route."""
    psql(source, ADD.format(id=subs_id))
    begun = time.perf_counter()
    while time.perf_counter() - begun < PATIENCE:
        try:
            asked(url, f"/v1/routes/{subs_id}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            time.sleep(0.02)
        else:
            return time.perf_counter() - begun
    raise SystemExit(f"{subs_id} did not come")


def asked(url: str, path: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(f"{url}{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        content: bytes = response.read()
        return content


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
