"""How fast pushed receipts are acknowledged, compared with a bare executemany of the same rows.

    python -m tests.bench.bench_calls [N]

A daemon on SQLite gets N receipts (default 5,000) in one request, five times. It acknowledges each request after the
commit; the provider allows 700 ms.

The bare side parses the same bytes and writes as many rows of the same columns with one executemany of the driver,
committed to disk. It has no HTTP and reads, checks or merges nothing.
"""

import argparse
import asyncio
import io
import json
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

import orjson

from precall.store.connection import PRAGMAS, WAL
from precall.store.schema import calls
from tests.integration.engine.test_call_poller import a_receipt, serving
from tests.support.api_daemon import scripted

ROUNDS = 5
BINDINGS = 50


def a_push(count: int, turn: int) -> bytes:
    """Return an array of receipts; a third of the calls failed because of the number."""
    now = time.time()
    receipts = [
        a_receipt(f"r{turn}-{n}", n % BINDINGS + 1, 17 if n % 3 else 1, now - n % 1000) for n in range(count)
    ]
    return json.dumps(receipts).encode()


async def daemon(folder: Path, pushes: list[bytes]) -> list[float]:
    """Return the seconds each push took."""
    taken = []
    async with serving(folder, scripted(*[1] * BINDINGS)) as served:
        for n in range(1, BINDINGS + 1):
            await served.register(subs_id=str(n))
        for push in pushes:
            begun = time.perf_counter()
            status, _ = await served.ask("POST", "/v1/receipts", data=io.BytesIO(push))
            taken.append(time.perf_counter() - begun)
            assert status == 200
    return taken


def bare(folder: Path, pushes: list[bytes]) -> list[float]:
    """Return the seconds each push took."""
    taken, names = [], [column.name for column in calls.columns]
    insert = f"INSERT INTO calls VALUES ({', '.join('?' * len(names))})"  # noqa: S608
    with closing(sqlite3.connect(folder / "bare.db")) as connection:
        for pragma in (WAL, *PRAGMAS):
            connection.execute(pragma)
        connection.execute(f"CREATE TABLE calls ({', '.join(names)}, PRIMARY KEY (call_id))")
        for push in pushes:
            begun = time.perf_counter()
            rows = [(row["call_id"], *[row["call_time"]] * (len(names) - 1)) for row in orjson.loads(push)]
            with connection:
                connection.executemany(insert, rows)
            taken.append(time.perf_counter() - begun)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", nargs="?", type=int, default=5000)
    count = parser.parse_args().count
    pushes = [a_push(count, turn) for turn in range(ROUNDS)]
    with tempfile.TemporaryDirectory() as folder:
        sides = {"precall": asyncio.run(daemon(Path(folder), pushes)), "bare": bare(Path(folder), pushes)}
    print(f"{count:,} receipts in one request, {ROUNDS} times\n")
    print(f"{'':8} {'median':>10} {'worst':>10} {'receipts/s':>12}")
    for name, taken in sides.items():
        median, worst = sorted(taken)[ROUNDS // 2], max(taken)
        print(f"{name:8} {median * 1000:>7.0f} ms {worst * 1000:>7.0f} ms {count / median:>12,.0f}")


if __name__ == "__main__":
    main()
