"""The command line as its users run it: real processes, a simulated provider, a database file."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.forked import ended_of, fork_server
from tests.support.patience import PATIENCE
from tests.support.sealed import key_file
from tests.support.searched import Search, assert_clean

from precall.cli.demo import OBSERVED

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PRECALL_")} | {
    "PYTHONPATH": str(PROJECT / "daemon"),
    "NO_COLOR": "1",
    "COLUMNS": "200",
}
pytestmark = pytest.mark.slow  # each command is a process of its own

URL = re.compile(r"http://[0-9.]+:[0-9]+")

SCENARIO = """
[[pool]]
pool_key = "FC9"
bindings = 20
onset = "0s"
[[binding]]
subs_id = "2001"
pool_key = "FC9"
number_x = "17000000001"
number_a = "13800000001"
number_b = "13900000001"
[[binding]]
subs_id = "2002"
pool_key = "FC9"
number_x = "17000000002"
number_a = "13800000002"
number_b = "13900000002"
status = 2
called_no = "17100000002"
[[binding]]
subs_id = "2003"
pool_key = "FC9"
number_x = "17000000003"
number_a = "13800000003"
number_b = "13900000003"
status = 3
[[call]]
call_id = "116012854210^102314050"
prod_id = 11000000300006
called_at = "2026-01-02T00:03:04+08:00"
duration = 31
"""


def precall(
    *args: str | Path, url: str = "", stdin: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end. On failure, print its error or the daemon's log."""
    environment = ENVIRONMENT | ({"PRECALL_URL": url} if url else {})
    ended = ended_of([str(arg) for arg in args], environment, stdin or "", cwd or Path.cwd())
    if ended.returncode:
        assert_clean(ended.stderr)
    return ended


class Server:
    """Run a command until it is stopped.

    Search the files of a daemon for numbers; `plain` says why they are not sealed.
    """

    def __init__(self, folder: Path, *args: str | Path, plain: str = "") -> None:
        self.search = Search(Path(args[2]), plain) if args[:2] == ("run", "--config") else None
        self._url = ""
        self.output = folder / f"{args[0]}.{time.monotonic_ns()}.out"
        with self.output.open("w") as out:
            given = [str(arg) for arg in args]
            with Path(os.devnull).open("rb") as nothing:
                self.process = fork_server().start(
                    given, env=ENVIRONMENT, cwd=folder, streams=(nothing, out, out)
                )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def url(self, before: str) -> str:
        """The address it printed behind `before`."""
        found: list[str] = []

        def printed() -> bool:
            assert self.process.poll() is None, self.said
            found[:] = URL.findall(self.said.partition(before)[2])
            return bool(found)

        until(printed)
        self._url = found[0]
        return self._url

    def look(self) -> None:
        """Read the output of the daemon as long as there is any."""
        if self.search is not None and self._url and self.process.poll() is None:
            self.search.take(self._url)

    def send(self, number: signal.Signals) -> None:
        """A signal that ends it."""
        self.look()
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.process.wait(PATIENCE)


@contextmanager
def serving(folder: Path, *args: str | Path, plain: str = "") -> Iterator[Server]:
    server = Server(folder, *args, plain=plain)
    try:
        yield server
        server.look()
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(PATIENCE)
    if server.search is not None:
        server.search.end(server.said)


def until(true: Callable[[], bool], patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def config_file(
    folder: Path,
    provider: str,
    more: str = "",
    listen: str = "127.0.0.1:0",
    store: str = "",
    store_timeout: str = "30s",
) -> Path:
    file, keys = folder / "precall.toml", folder / "keys"
    file.write_text(
        '[log]\nlevel = "debug"\n'
        f'[provider]\nendpoint = "{provider}"\ncall_detail_endpoint = "{provider}"\n'
        f'access_key_id = "demo"\naccess_key_secret = "demo-secret"\n{more}\n'
        # On a busy machine a write may take seconds, which is not what these tests are about.
        f'[store]\nurl = "{store or f"sqlite:///{folder}/precall.db"}"\ntimeout = "{store_timeout}"\n'
        f'number_key_file = "{keys if keys.exists() else key_file(folder)}"\n[api]\nlisten = "{listen}"\n'
    )
    return file


class Site:
    """A simulated provider, a daemon, and where they are."""

    def __init__(self, folder: Path, daemon: str, config: Path, bindings: Path) -> None:
        self.folder, self.daemon, self.config, self.bindings = folder, daemon, config, bindings

    def ask(self, *args: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return precall(*args, url=self.daemon, stdin=stdin)

    def route(self, subs_id: str, *args: str) -> dict[str, object]:
        body: dict[str, object] = json.loads(self.ask("route", subs_id, "--json", *args).stdout)
        return body


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    scenario, bindings = folder / "scenario.toml", folder / "bindings.jsonl"
    scenario.write_text(SCENARIO)
    simulate = ("simulate", "--listen", "127.0.0.1:0", "--scenario", scenario, "--export", bindings)
    with serving(folder, *simulate) as simulator:
        config = config_file(folder, simulator.url("simulator"))
        with serving(folder, "run", "--config", config) as daemon:
            site = Site(folder, daemon.url("precall serves"), config, bindings)
            imported = site.ask("bindings", "import", bindings)
            assert imported.returncode == 0, imported.stderr
            assert imported.stdout.strip() == "23 created, 0 updated, 0 unchanged"
            until(lambda: site.route("2003")["status"] == 3)
            yield site


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def line(result: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of an expected error."""
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    lines = [text for text in result.stderr.splitlines() if text.startswith("precall: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


# -- configuration and start ------------------------------------------------------------------------


def test_config_check_reports_every_mistake_at_once(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('[provider]\nrat = 20\ntimeout = 2\n[policy]\nfallback = "dial_rael"\n')
    ran, checked = precall("run", "--config", file), precall("config", "check", "--config", file)
    assert (ran.returncode, checked.returncode) == (3, 3)
    for said in (ran.stderr, checked.stdout):
        assert re.search(r"provider\.rat: unknown key; did you mean provider\.rate\?", said)
        assert "provider.timeout: " in said
        assert "policy.fallback: " in said
        assert "Traceback" not in said


def test_config_check_accepts_a_valid_configuration(tmp_path: Path) -> None:
    checked = precall("config", "check", "--config", config_file(tmp_path, "http://127.0.0.1:9"))
    assert checked.returncode == 0
    assert checked.stdout.strip().endswith("ok")


def test_a_missing_configuration_file_is_a_one_line_error(tmp_path: Path) -> None:
    assert "nowhere.toml" in line(precall("run", "--config", tmp_path / "nowhere.toml"), 3)


def test_a_port_in_use_is_a_one_line_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = config_file(tmp_path, "http://127.0.0.1:9", listen=f"127.0.0.1:{port}")
        assert str(port) in line(precall("run", "--config", config), 3)
        assert str(port) in line(precall("simulate", "--listen", f"127.0.0.1:{port}"), 3)
        assert str(port) in line(precall("demo", "--port", str(port), "--for", "1s"), 3)


def test_an_unusable_database_is_a_one_line_error(tmp_path: Path) -> None:
    config = config_file(tmp_path, "http://127.0.0.1:9")
    (tmp_path / "precall.db").write_text("this is a text, and no database at all\n" * 100)
    assert "precall.db" in line(precall("run", "--config", config), 3)
    (tmp_path / "precall.db").unlink()
    (tmp_path / "precall.db").mkdir()
    assert "precall.db" in line(precall("run", "--config", config), 3)
    assert "precall.db" in line(precall("migrate", "--config", config), 3)
    examined = precall("doctor", "--config", config)
    assert re.search(r"fail +store +.*precall\.db", examined.stdout)


def test_an_outdated_schema_error_names_the_migrate_command(tmp_path: Path) -> None:
    config = config_file(tmp_path, "http://127.0.0.1:9")
    config.write_text(config.read_text().replace("[store]", "[store]\nauto_migrate = false"))
    assert "precall migrate" in line(precall("run", "--config", config), 3)
    assert "none ->" in precall("migrate", "--config", config).stdout
    assert "unchanged" in precall("migrate", "--config", config).stdout
    with serving(tmp_path, "run", "--config", config) as daemon:
        daemon.url("precall serves")
        assert daemon.stop() == 0


def test_the_daemon_serves_while_the_provider_is_unreachable(tmp_path: Path) -> None:
    config = config_file(tmp_path, f"http://127.0.0.1:{free_port()}")
    with serving(tmp_path, "run", "--config", config) as daemon:
        url = daemon.url("precall serves")
        added = precall(
            "bindings", "add", "77", "--pool-key", "FC1", "--number-x", "17000000001", "--number-a", "13800000001",
            url=url,
        )  # fmt: skip
        assert added.returncode == 0, added.stderr
        route = precall("route", "77", "--json", url=url)
        assert route.returncode == 0
        assert json.loads(route.stdout)["reason"] == "unverified"
        assert daemon.stop() == 0
    assert precall("check", "77", "--pool-key", "FC1", "--config", config).returncode == 4
    assert precall("doctor", "--config", config).returncode == 4


# -- stopping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_gracefully_and_the_table_survives(tmp_path: Path, number: signal.Signals) -> None:
    config = config_file(tmp_path, f"http://127.0.0.1:{free_port()}")
    with serving(tmp_path, "run", "--config", config) as daemon:
        url = daemon.url("precall serves")
        row = {"subs_id": "1", "pool_key": "P", "number_x": "17000000001", "number_a": "13800000001"}
        assert (
            precall("bindings", "import", "-", "--format", "jsonl", url=url, stdin=json.dumps(row)).returncode
            == 0
        )
        assert daemon.stop(number) == 0
        assert "Traceback" not in daemon.said
    with serving(tmp_path, "run", "--config", config) as daemon:
        assert precall("route", "1", url=daemon.url("precall serves")).returncode == 0
        assert daemon.stop() == 0


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    scenario = tmp_path / "hang.toml"
    scenario.write_text(f'{SCENARIO}[[fault]]\nkind = "hang"\n')
    with serving(tmp_path, "simulate", "--listen", "127.0.0.1:0", "--scenario", scenario) as simulator:
        provider = simulator.url("simulator")
        with serving(
            tmp_path, "run", "--config", config_file(tmp_path, provider, 'timeout = "60s"')
        ) as daemon:
            url = daemon.url("precall serves")
            row = {"subs_id": "2001", "pool_key": "FC9", "number_x": "17000000001", "number_a": "13800000001"}
            precall("bindings", "import", "-", "--format", "jsonl", url=url, stdin=json.dumps(row))
            # A reader that requires a check makes sure that one is in progress.
            precall("route", "2001", "--max-age", "0s", "--timeout", "1s", url=url)
            daemon.send(signal.SIGTERM)
            until(lambda: "precall.stopping" in daemon.said)
            assert daemon.process.poll() is None
            # The check that hangs would be waited for, and drained.
            assert daemon.stop() == 128 + signal.SIGTERM
            assert "precall.stopped" not in daemon.said
        assert simulator.stop(signal.SIGINT) == 0


# -- a running daemon -------------------------------------------------------------------------------


def test_the_route_command_prints_the_route(site: Site) -> None:
    for subs_id, action, number in (
        ("2001", "dial_x", "17000000001"),
        ("2002", "dial_temp_x", "17100000002"),
    ):
        result = site.ask("route", subs_id)
        assert result.returncode == 0
        assert re.search(rf"action +{action}\n", result.stdout)
        assert re.search(rf"number +{number}\n", result.stdout)
    assert site.route("2003", "--caller", "13800000003")["number"] == "13900000003"
    assert site.route("2003", "--caller", "13900000003")["number"] == "13800000003"


def test_a_negative_answer_is_exit_code_1(site: Site) -> None:
    assert "unknown_binding" in line(site.ask("route", "404"), 1)
    stranger = site.ask("route", "2003", "--caller", "13700000000")
    assert stranger.returncode == 1
    assert "unknown_caller" in stranger.stdout
    assert "unknown_binding" in line(site.ask("bindings", "show", "404"), 1)
    assert "unknown_binding" in line(site.ask("bindings", "remove", "404"), 1)


def test_a_usage_error_is_exit_code_2(site: Site) -> None:
    for args in (
        ("route",),
        ("route", "2001", "--max-age", "soon"),
        ("bindings", "import", site.folder / "nowhere.csv"),
        ("bindings", "import", "-"),
        ("nonsense",),
    ):
        result = site.ask(*args)
        assert result.returncode == 2, args
        assert "Traceback" not in result.stderr


def test_an_unreachable_daemon_is_exit_code_4() -> None:
    port = free_port()
    assert str(port) in line(precall("route", "1", "--url", f"http://127.0.0.1:{port}"), 4)
    assert "stopped at line 1" in line(
        precall(
            "bindings", "import", "-", "--format", "jsonl", "--url", f"http://127.0.0.1:{port}",
            stdin='{"subs_id":"1","pool_key":"P","number_x":"17000000001","number_a":"13800000001"}',
        ),
        4,
    )  # fmt: skip


def test_explain_shows_the_reasons_for_a_route(site: Site) -> None:
    body = json.loads(site.ask("explain", "2002", "--json").stdout)
    assert body["route"]["action"] == "dial_temp_x"
    assert body["results"][0]["status"] == 2
    shown = site.ask("explain", "2002")
    assert shown.returncode == 0
    assert f"Its RequestId is {body['results'][0]['request_id']}." in shown.stdout
    assert shown.stdout.splitlines()[: len(body["sentences"])][0] == body["sentences"][0]
    assert "dial the temporary X" in shown.stdout


def test_operator_orders_take_effect_and_are_lifted(site: Site) -> None:
    assert site.ask("override", "set", "2001", "hold", "--reason", "a test").returncode == 0
    assert site.route("2001")["reason"] == "override"
    assert site.ask("override", "lift", "2001").returncode == 0
    assert site.route("2001")["action"] == "dial_x"
    assert site.ask("brake", "engage", "--pool-key", "FC9").returncode == 0
    assert site.route("2003")["reason"] == "exposure_brake"
    assert site.ask("brake", "release", "--pool-key", "FC9").returncode == 0
    assert site.route("2003")["action"] == "dial_real"
    assert json.loads(site.ask("pause", "--json").stdout) == {"paused": [""]}
    assert json.loads(site.ask("resume", "--json").stdout) == {"paused": []}


def test_a_binding_can_be_added_shown_and_removed(site: Site) -> None:
    numbers = ("--pool-key", "FC9", "--number-x", "17000000077", "--number-a", "13800000077")
    added = site.ask(
        "bindings", "add", "77", *numbers, "--label", "city=Ulm", "--expires-at", "2030-01-01T00:00:00Z"
    )
    assert added.returncode == 0, added.stderr
    shown = json.loads(site.ask("bindings", "show", "77", "--json").stdout)
    assert (shown["labels"], shown["expires_at"]) == ({"city": "Ulm"}, "2030-01-01T00:00:00Z")
    assert "77" in site.ask("bindings", "list", "--label", "city:Ulm").stdout
    assert site.ask("bindings", "remove", "77").returncode == 0
    refused = line(site.ask("bindings", "add", "78", *numbers[:5], "1380000ABCD"), 1)
    assert "number_a" in refused
    assert "1380000" not in refused


def test_importing_an_export_changes_nothing(site: Site) -> None:
    for form in ("csv", "jsonl"):
        file = site.folder / f"exported.{form}"
        assert site.ask("bindings", "export", "--output", file).returncode == 0
        assert site.ask("bindings", "import", file).stdout.strip() == "0 created, 0 updated, 23 unchanged"


def test_a_bad_row_rejects_only_its_batch(site: Site) -> None:
    def row(serial: int) -> str:
        return f"{5_000_000 + serial},FC5,170{serial:08d},138{serial:08d}"

    rows = [row(serial) for serial in range(6000)]
    rows[5500] = rows[5500][:-1] + "x"
    file = site.folder / "bad.csv"
    file.write_text("subs_id,pool_key,number_x,number_a\n" + "\n".join(rows))
    result = site.ask("bindings", "import", file)
    assert result.returncode == 1
    assert "not stored: lines 5002 to 6001" in result.stderr
    assert "line 5502, number_a: " in result.stderr
    assert "138000" not in result.stderr
    assert result.stdout.startswith("5,000 created, 0 updated, 0 unchanged; 1 refused and 999 left out")
    assert "unknown_binding" in line(site.ask("route", "5005000"), 1)

    rows[5500] = row(5500)
    file.write_text("subs_id,pool_key,number_x,number_a\n" + "\n".join(rows))
    result = site.ask("bindings", "import", file, "--json")
    body = json.loads(result.stdout)
    assert (result.returncode, body["created"], body["unchanged"]) == (0, 1000, 5000)


def test_rows_refused_by_the_daemon_are_reported_by_line(site: Site) -> None:
    good = {"subs_id": "61", "pool_key": "FC6", "number_x": "17000000061", "number_a": "13800000061"}
    late = good | {"subs_id": "62", "expires_at": "2001-01-01T00:00:00Z"}
    rows = f"{json.dumps(good)}\n\n{json.dumps(late)}\n"
    result = site.ask("bindings", "import", "-", "--format", "jsonl", "--json", stdin=rows)
    body = json.loads(result.stdout)
    assert result.returncode == 1
    assert [(refused["line"], refused["column"]) for refused in body["refused"]] == [(3, "expires_at")]
    assert body["not_stored"] == 2


def test_a_wrong_token_is_a_configuration_error(tmp_path: Path) -> None:
    made = json.loads(precall("token", "new", "--name", "reader", "--scope", "routes:read", "--json").stdout)
    config = config_file(tmp_path, "http://127.0.0.1:9")
    entry = f'{{name = "reader", scopes = ["routes:read"], sha256 = "{made["sha256"]}"}}'
    config.write_text(f"{config.read_text()}tokens = [{entry}]\n")
    with serving(tmp_path, "run", "--config", config) as daemon:
        url = daemon.url("precall serves")
        assert "unauthorized" in line(precall("route", "1", url=url), 3)
        environment = ENVIRONMENT | {"PRECALL_URL": url, "PRECALL_TOKEN": made["token"]}
        command = [sys.executable, "-m", "precall"]
        for args, code, said in ((["route", "1"], 1, "unknown_binding"), (["pause"], 3, "forbidden")):
            result = subprocess.run(
                [*command, *args],
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            assert said in line(result, code)
        assert daemon.stop() == 0


# -- the provider, without a daemon -----------------------------------------------------------------


def test_check_queries_the_provider(site: Site) -> None:
    result = precall("check", "2002", "--pool-key", "FC9", "--config", site.config)
    assert result.returncode == 0
    assert '"CalledNo":"17100000002"' in result.stdout
    assert re.search(r"status +2\n", result.stdout)
    assert "demo-secret" not in result.stdout
    assert "error-center" not in result.stdout
    unknown = precall("check", "1", "--pool-key", "FC9", "--config", site.config, "--json")
    assert unknown.returncode == 1
    answer = json.loads(unknown.stdout)
    assert answer["read"]["code"] == "isv.SUBS_NOT_EXIST"
    assert answer["error_page"] == "https://error-center.aliyun.com/status/product/Dyplsapi"
    assert "号码管理 > 号码详情" in answer["meaning"]
    pool = precall("check", "2002", "--pool-key", "FC8", "--config", site.config)
    assert "号码池管理" in pool.stdout
    assert "https://error-center.aliyun.com/status/product/Dyplsapi" in pool.stdout


def test_check_sends_a_calling_number(site: Site) -> None:
    check = ("check", "2002", "--pool-key", "FC9", "--config", site.config, "--call-no")
    told = precall(*check, "138 0000 0009")
    assert told.returncode == 0, told.stdout
    assert "CallNo=13800000009" in told.stdout
    refused = precall(*check, "nobody")
    assert refused.returncode == 2
    assert "should be a phone number" in refused.stderr


def test_call_looks_up_both_dates_just_after_midnight(site: Site) -> None:
    call = (
        "call",
        "116012854210^102314050",
        "--prod-id",
        "11000000300006",
        "--config",
        site.config,
        "--called-at",
    )
    result = precall(*call, "2026-01-02T00:03:04+08:00")
    assert result.returncode == 0
    assert re.search(r"duration +31\n", result.stdout)
    other_day = precall(*call, "2026-01-05T00:03:04+08:00")
    assert other_day.returncode == 1
    assert "nothing: another product placed it" in other_day.stdout
    assert "5 minutes" not in other_day.stdout
    just_now = precall(*call, datetime.now(UTC).isoformat())
    assert just_now.returncode == 1
    assert "nothing yet: the call ended within the last 5 minutes" in just_now.stdout
    seconds = precall(*call, "1767283384")
    assert seconds.returncode == 2
    assert "milliseconds" in seconds.stderr


def test_doctor_finds_no_problem(site: Site) -> None:
    examined = precall("doctor", "--config", site.config, "--json", "--subs-id", "2002", "--pool-key", "FC9")
    findings = {finding["what"]: finding["verdict"] for finding in json.loads(examined.stdout)}
    assert examined.returncode == 0, findings
    assert findings == dict.fromkeys(
        ("endpoint", "clock", "QueryCallStatus", "quota", "status source", "asked twice", "call detail endpoint",
         "QueryCallDetailByCallId", "store", "daemon", "API port", "tokens", "number key", "disk", "freshness"), "ok",
    )  # fmt: skip


def test_doctor_says_where_a_binding_is_found(site: Site) -> None:
    examined = precall("doctor", "--config", site.config, "--json", "--subs-id", "404", "--pool-key", "FC9")
    findings = {finding["what"]: finding for finding in json.loads(examined.stdout)}
    twice = findings["asked twice"]
    assert (twice["verdict"], twice["found"]) == ("warn", "no answer (isv.SUBS_NOT_EXIST)")
    assert "号码池管理" in twice["fix"]
    assert "号码管理 > 号码详情" in twice["fix"]
    assert twice["error_page"] == "https://error-center.aliyun.com/status/product/Dyplsapi"
    assert not any(finding["error_page"] for what, finding in findings.items() if what != "asked twice")


def test_doctor_recognises_a_wrong_secret(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "wrong.toml"
    config.write_text(site.config.read_text().replace("demo-secret", "another"))
    examined = precall("doctor", "--config", config)
    assert examined.returncode == 1
    assert re.search(r"fail +QueryCallStatus +.*SignatureDoesNotMatch", examined.stdout)
    assert "provider.access_key_secret" in examined.stdout
    assert "the provider recommends https://api.aliyun.com/troubleshoot?q=SignatureDoes" in examined.stdout
    for product in ("Dyplsapi", "Dyvmsapi"):
        assert f"https://error-center.aliyun.com/status/product/{product}" in examined.stdout
    findings = json.loads(precall("doctor", "--config", config, "--json").stdout)
    advised = {finding["what"]: finding["error_page"] for finding in findings if finding["error_page"]}
    assert set(advised) == {"QueryCallStatus", "QueryCallDetailByCallId"}
    assert all(finding["recommend"] for finding in findings if finding["what"] in advised)
    assert precall("check", "2001", "--pool-key", "FC9", "--config", config).returncode == 4


def test_without_a_key_no_request_is_sent(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "keyless.toml"
    config.write_text(re.sub("access_key.*\n", "", site.config.read_text()))
    environment = {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-m", "precall", "check", "1", "--pool-key", "FC9", "--config", str(config)],
        env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "provider.access_key_id" in line(result, 3)


def test_an_invalid_scenario_is_a_configuration_error(tmp_path: Path) -> None:
    scenario = tmp_path / "bad.toml"
    scenario.write_text('[[pool]]\npool_key = "FC1"\nbindngs = 3\n')
    assert "did you mean bindings?" in line(precall("simulate", "--scenario", scenario), 3)


# -- the main job -----------------------------------------------------------------------------------


def test_the_demonstration_ends_with_the_comparison(tmp_path: Path) -> None:
    shown = precall("demo", "--for", "10s", "--dir", tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "Traceback" not in shown.stderr
    assert "exposure_brake" not in shown.stderr
    assert (tmp_path / "precall.db").exists()
    lines = shown.stdout.splitlines()
    place = next(place for place, text in enumerate(lines) if "times, and the answers were" in text)
    told, _, routed, alone, *observed = lines[place + 1 : lines.index("three commands to try") - 1]
    assert re.findall(r"(\w+) \d+", told) == ["dial_x", "dial_temp_x", "dial_real", "hold", "expired"]
    assert re.match(r"  by precall's route +\d+ of +\d+ calls failed", routed)
    assert re.match(r"  by the bound X alone +\d+ of +\d+ calls failed", alone)
    for line in observed:
        assert re.match(
            rf"  {OBSERVED} observed: would avoid \d+ of \d+ failed, change \d+ of \d+ good", line
        )
    assert any(text.startswith("What precall learned of these calls by itself") for text in lines)
    assert len(lines) - place <= 24
    assert any(re.fullmatch(r"t\+\d+ s: some X of pool FC100001 die, .*", text) for text in lines)


@pytest.mark.slow(seconds=10)
def test_many_rows_are_imported_in_batches_and_again_without_effect(site: Site) -> None:
    file = site.folder / "many.csv"
    with file.open("w") as out:
        out.write("subs_id,pool_key,number_x,number_a,number_b,expires_at,label.order\n")
        for serial in range(6_000):
            numbers = f"170{serial:08d},138{serial:08d},139{serial:08d}"
            out.write(f"{9_000_000_000 + serial},FC7,{numbers},2030-01-01T00:00:00Z,o{serial}\n")
    result = site.ask("bindings", "import", file, "--progress")
    assert result.stdout.strip() == "6,000 created, 0 updated, 0 unchanged"
    assert "6,000 lines" in result.stderr
    assert site.ask("bindings", "import", file).stdout.strip() == "0 created, 0 updated, 6,000 unchanged"
