"""A bad quarter of an hour, played in two or three minutes: real processes, a simulated provider, PostgreSQL, and a
Prometheus that watches. Each step breaks something, waits for the alerts it must raise, and mends it again."""

import json
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.acceptance.test_cli import Server, free_port, precall, serving, until
from tests.deploy.prometheus import Prometheus, watching
from tests.support.postgres import PostgresServer
from tests.support.postgres import running as postgres_running
from tests.support.sealed import key_file

LIMIT = 90.0
STEPS = {
    "a reload with a mistake": {"PrecallReloadFailed"},
    "calls that fail": {"PrecallCallsDisagree"},
    "a pool outage": {"PrecallExposureBrakeEngaged", "PrecallExposuresAboveNormal"},
    "throttling": {"PrecallThrottled", "PrecallBudgetShort"},
    "database loss": {"PrecallDatabaseBehind"},
}
"""The incident, and the alerts each step of it must raise."""

SCENARIO = """
[[pool]]
pool_key = "FC100001"
bindings = 120
temporary = "rotating"
temporary_numbers = 200
onset = "90s"
recovery = "20s"
lifetime = "0s"
[[pool]]
pool_key = "FC100002"
bindings = 60
onset = "0s"
lifetime = "0s"
[[pool]]
pool_key = "FC100003"
bindings = 15
onset = "0s"
lifetime = "0s"
[[pool]]
pool_key = "FC100004"
bindings = 10
onset = "20s"
recovery = "20s"
lifetime = "0s"
"""
CONFIG = """
[log]
level = "debug"
[provider]
endpoint = "{provider}"
call_detail_endpoint = "{provider}"
access_key_id = "demo"
access_key_secret = "demo-secret"
rate = 100
[store]
url = "{store}"
number_key_file = "{keys}"
auto_migrate = true
timeout = "30s"  # a database that is stopped refuses connections at once; one that is only slow raises no alert
[api]
listen = "127.0.0.1:{port}"
[freshness]
max_age = "2m"
abnormal_max_age = "10s"
min_interval = "1s"
abnormal_min_interval = "3s"
[brake]
window = "15s"
[policy]
observe = ["FC100004"]
[source]
url = "sqlite:///{source}"
query = "SELECT * FROM relations"
every = "1s"
"""
SOURCED = "FC100003"
BINDINGS = 205
PROD = 11000000300006


@dataclass(slots=True)
class Played:
    """What is left: the server that watched, and when (seconds since 1970) it started, and the incident began and
    ended."""

    prometheus: Prometheus
    daemon: str
    started: float
    begun: float
    ended: float = 0.0
    steps: list[tuple[str, float]] = field(default_factory=list)


class Dispatcher(threading.Thread):
    """A dispatcher that asks before every call, and tolerates an unreachable daemon."""

    def __init__(self, url: str, bindings: list[dict[str, Any]]) -> None:
        super().__init__(name="dispatcher", daemon=True)
        self.over = threading.Event()
        self._url, self._bindings = url, bindings

    def run(self) -> None:
        for number, binding in enumerate(cycle(self._bindings)):
            live = "&max_age=1" if number % 10 == 0 else ""
            form = "&format=text" if number % 3 == 0 else ""
            with suppress(OSError):
                path = f"/v1/routes/{binding['subs_id']}?caller={binding['number_a']}{live}{form}"
                with urllib.request.urlopen(f"{self._url}{path}", timeout=10) as reply:
                    reply.read()
            if self.over.wait(0.03):
                return


class Follower(threading.Thread):
    """A reader of the change stream that reconnects when it is disconnected."""

    def __init__(self, url: str) -> None:
        super().__init__(name="follower", daemon=True)
        self.over = threading.Event()
        self._url = url

    def run(self) -> None:
        while not self.over.wait(0.1):
            with (
                suppress(OSError),
                urllib.request.urlopen(f"{self._url}/v1/routes/stream", timeout=20) as stream,
            ):
                while not self.over.is_set() and stream.readline():
                    continue


def ask(url: str, method: str = "POST", body: Any = None) -> int:
    """The status."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data=data, method=method, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@contextmanager
def played(folder: Path) -> Iterator[Played]:
    """The incident, from before its first fault until every alert has cleared."""
    with ExitStack() as stack:
        site = stack.enter_context(_site(folder))
        prometheus = stack.enter_context(watching(folder, f"127.0.0.1:{site.port}"))
        started = time.time()
        stack.enter_context(site.dispatching())
        _settled(prometheus, site)
        incident = Played(prometheus, site.url, started, time.time())
        for step, alerts in STEPS.items():
            since = time.time()
            incident.steps.append((step, since))
            with site.broken(step):
                _await(prometheus, alerts, since)
        until(lambda: not prometheus.alerts(), LIMIT)
        incident.ended = time.time()
        yield incident


def _settled(prometheus: Prometheus, site: "_Site") -> None:
    """Everything is checked, and a restart is behind us."""
    site.break_replies()
    until(lambda: bool(prometheus.instant('precall_pool_routes{state="normal"} > 0')), LIMIT)
    until(lambda: bool(prometheus.instant("sum(rate(precall_malformed_replies_total[5s])) > 0")), LIMIT)
    site.repair()
    site.restart()
    whole = (
        'precall_routes{state="unverified"} == 0 and on () precall_source_rows > 0'
        f" and on () sum(precall_pool_routes) >= {BINDINGS}"
    )
    until(lambda: bool(prometheus.instant(whole)) and not prometheus.alerts(), LIMIT)


def _await(prometheus: Prometheus, alerts: set[str], since: float) -> None:
    while missing := alerts - prometheus.fired(since, time.time()):
        pending = prometheus.alerts("pending")
        assert time.time() - since < LIMIT, f"{missing} did not fire; pending: {pending}"
        time.sleep(0.2)


class _Site:
    """The processes, and the ways to break them."""

    def __init__(self, folder: Path, provider: str, postgres: PostgresServer, bindings: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder, self._provider, self._postgres = folder, provider, postgres
        rows = [json.loads(line) for line in bindings.read_text(encoding="utf-8").splitlines()]
        self._own = [row for row in rows if row["pool_key"] != SOURCED]
        self._rows = rows
        self._config = folder / "precall.toml"
        self._config.write_text(
            CONFIG.format(
                provider=provider,
                store=postgres.url(),
                keys=key_file(folder),
                port=self.port,
                source=_customer(folder, [row for row in rows if row["pool_key"] == SOURCED]),
            )
        )
        self._stack = ExitStack()
        self._daemon: Server | None = None

    def start(self) -> None:
        self._daemon = self._stack.enter_context(serving(self._folder, "run", "--config", self._config))
        self._daemon.url("precall serves")

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        assert self._daemon is not None
        assert self._daemon.stop() == 0, self._daemon.said

    def register(self) -> None:
        file = self._folder / "own.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in self._own))
        done = precall("bindings", "import", file, url=self.url)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def dispatching(self) -> Iterator[None]:
        """A dispatcher and a reader of the change stream at work."""
        readers = [Dispatcher(self.url, self._rows), Follower(self.url)]
        for reader in readers:
            reader.start()
        try:
            yield
        finally:
            for reader in readers:
                reader.over.set()
            for reader in readers:
                reader.join(30)

    @contextmanager
    def broken(self, step: str) -> Iterator[None]:
        match step:
            case "calls that fail":
                self._place_calls("failed")
                yield
                self._place_calls("connected")
            case "a pool outage":
                self._fault(kind="outage", pool_key="FC100002", share=0.9, status=3)
                yield
                self.repair()
            case "throttling":
                self._fault(kind="throttle", share=0.25)
                yield
                self.repair()
            case "database loss":
                self._postgres.stop()
                yield
                self._postgres.start()
            case "a reload with a mistake":
                good = self._config.read_text(encoding="utf-8")
                self._config.write_text(good.replace("max_age", "max_aeg", 1))
                assert ask(f"{self.url}/-/reload") >= 400
                yield
                self._config.write_text(good)
                assert ask(f"{self.url}/-/reload") == 200

    def _place_calls(self, outcome: str) -> None:
        """Report five calls of one binding with known results, and one whose result the provider must supply."""
        told = [self._call(f"{outcome}-{number}", time.time()) | {"outcome": outcome} for number in range(5)]
        asked = self._call(f"asked-{outcome}", time.time() - 200) | {"prod_id": PROD}
        known = {name: asked[name] for name in ("call_id", "called_at", "prod_id")}
        assert ask(f"{self._provider}/_admin/calls", body={**known, "after": "0s"}) == 201
        # 503 while a busy database takes its time; a report may be repeated.
        until(lambda: ask(f"{self.url}/v1/calls", body=[*told, asked]) == 200)

    def _call(self, call_id: str, at: float) -> dict[str, Any]:
        healthy = next(row for row in self._own if row["pool_key"] == "FC100002")
        called_at = datetime.fromtimestamp(at, UTC).isoformat()
        return {"call_id": call_id, "called_at": called_at, "subs_id": healthy["subs_id"]}

    def break_replies(self) -> None:
        self._fault(kind="garbage", share=0.05)

    def repair(self) -> None:
        """The provider is well again."""
        assert ask(f"{self._provider}/_admin/faults", "DELETE") == 200

    def _fault(self, **fault: Any) -> None:
        assert ask(f"{self._provider}/_admin/faults", body=fault) == 201


@contextmanager
def _site(folder: Path) -> Iterator[_Site]:
    scenario, bindings = folder / "scenario.toml", folder / "bindings.jsonl"
    scenario.write_text(SCENARIO)
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with ExitStack() as stack:
        postgres = stack.enter_context(postgres_running())
        simulator = stack.enter_context(serving(folder, *simulate))
        site = _Site(folder, simulator.url("simulator"), postgres, bindings)
        site.start()
        site.register()
        yield site
        site.stop()


def _customer(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """The customer's own database, from which one pool is synced."""
    file = folder / "customer.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE relations (subs_id, pool_key, number_x, number_a, number_b)")
        names = ("subs_id", "pool_key", "number_x", "number_a", "number_b")
        connection.executemany(
            "INSERT INTO relations VALUES (?, ?, ?, ?, ?)", [[row[name] for name in names] for row in rows]
        )
    return file
