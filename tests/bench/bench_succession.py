"""How soon another daemon takes over from a lost leader: `python -m tests.bench.bench_succession [RUNS]`.

Two daemons share a PostgreSQL, with 300 bindings at 50 calls per second. Measured are the times from the incident until
the successor accepts writes, and until its first call reaches the provider. For an incident without a successor it is
the time until writes are accepted again. Nothing is asserted, since a busy machine is slower.
"""

import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.test_cli import Server, config_file, precall, serving, until
from tests.acceptance.test_parted import QUICK
from tests.acceptance.test_standby import SCENARIO, arrivals, ask, stands_by
from tests.support.postgres import Databases, psql, running
from tests.support.wire import Wire

POLL = 0.02
KINDS = ("SIGTERM", "killed", "hung", "parted", "read-only")


@dataclass
class Scene:
    """Two daemons, the first of which leads and reaches its database by `wire`."""

    provider: str
    database: str
    wire: Wire
    first: Server
    leading: str
    second: Server
    standing: str

    def writable(self) -> bool:
        return ask(f"{self.standing}/readyz?for=writes")[0] == 200


@contextmanager
def scene(folder: Path, databases: Databases, port: int) -> Iterator[Scene]:
    """Run both daemons in `folder`."""
    scenario, bindings = folder / "scenario.toml", folder / "bindings.jsonl"
    scenario.write_text(SCENARIO)
    database, folders = databases.new(), [folder / "first", folder / "second"]
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with Wire(port).running() as wire, serving(folder, *simulate) as simulator:
        provider, configs = simulator.url("simulator"), []
        for own, at in zip(folders, (wire.of(database), database), strict=True):
            own.mkdir()
            configs.append(
                config_file(own, provider, "rate = 50.0\nburst = 10.0", store=at, store_timeout="1s")
            )
            configs[-1].write_text(configs[-1].read_text() + QUICK)
        with serving(folders[0], "run", "--config", configs[0]) as first:
            leading = first.url("precall serves")
            if precall("bindings", "import", bindings, url=leading).returncode:
                raise SystemExit(first.said)
            with serving(folders[1], "run", "--config", configs[1]) as second:
                standing = stands_by(second)
                until(lambda: len(arrivals(provider)) > 100)
                yield Scene(provider, database, wire, first, leading, second, standing)


def succession(at: Scene, incident: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds from the incident to writes, and to the first call after that."""
    begun = time.monotonic()
    incident()
    while not at.writable():
        time.sleep(POLL)
    written, calls = time.monotonic() - begun, len(arrivals(at.provider))
    while len(arrivals(at.provider)) <= calls:
        time.sleep(POLL)
    return written, time.monotonic() - begun


def read_only(at: Scene) -> tuple[float, float]:
    """Return the seconds from the server accepting writes again until the daemon does. Nothing succeeds it."""
    settle = f"ALTER DATABASE {at.database.rpartition('/')[2]} SET default_transaction_read_only"
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    psql(at.database, f"{settle} = on", f"SELECT pg_terminate_backend(pid) {others}")
    order = {"pool_key": "FC1", "reason": "bench"}
    until(lambda: ask(f"{at.leading}/v1/pause", "POST", order)[0] == 503)
    psql(at.database, "SET default_transaction_read_only = off", f"{settle} = off")
    begun = time.monotonic()
    while ask(f"{at.leading}/v1/pause", "POST", order)[0] != 200:
        time.sleep(POLL)
    return (time.monotonic() - begun,) * 2


def measure(kind: str, at: Scene) -> tuple[float, float]:
    process = at.first.process
    match kind:
        case "SIGTERM":
            return succession(at, lambda: process.send_signal(signal.SIGTERM))
        case "killed":
            return succession(at, process.kill)
        case "hung":
            found = succession(at, lambda: process.send_signal(signal.SIGSTOP))
            process.send_signal(signal.SIGCONT)
        case "parted":
            found = succession(at, lambda: at.wire.cut(silently=True))
            at.wire.heal()
        case _:
            return read_only(at)
    until(lambda: process.poll() is not None)
    if process.returncode != 5:
        raise SystemExit(at.first.said)
    return found


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{'what':12} {'writes: median':>15} {'worst':>7} {'first call: median':>19} {'worst':>7}   s")
    with running() as server:
        databases = Databases(server.url())
        for kind in KINDS:
            found = list[tuple[float, float]]()
            for _ in range(runs):
                with (
                    tempfile.TemporaryDirectory() as folder,
                    scene(Path(folder), databases, server.port) as at,
                ):
                    found.append(measure(kind, at))
                databases.drop()
            writes, calls = zip(*found, strict=True)
            row = (statistics.median(writes), max(writes), statistics.median(calls), max(calls))
            print(f"{kind:12} {row[0]:15.2f} {row[1]:7.2f} {row[2]:19.2f} {row[3]:7.2f}", flush=True)
        databases.close()


if __name__ == "__main__":
    main()
