"""`precall doctor --contact` and `precall simulate --like`, as commands."""

import json
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_cli import Server, config_file, precall, serving, until

DATA = Path(__file__).parents[1] / "data" / "contact"
BINDINGS = DATA / "bindings.csv"
pytestmark = pytest.mark.slow  # each command is a process of its own


def contact(config: Path, *more: str | Path, bindings: Path = BINDINGS) -> tuple[int, dict[str, Any]]:
    result = precall("doctor", "--config", config, "--contact", bindings, "--json", *more)
    return result.returncode, json.loads(result.stdout)


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {finding["name"]: finding["verdict"] for finding in report["findings"]}


@pytest.mark.parametrize(("character", "code"), [("classic", 0), ("delisted", 1), ("allocating", 1)])
def test_an_account_is_examined_recorded_and_replayed(tmp_path: Path, character: str, code: int) -> None:
    transcript, exported = tmp_path / "contact.jsonl", tmp_path / "recorded.jsonl"
    scenario = DATA / f"{character}.toml"
    with serving(tmp_path, "simulate", "--listen", "127.0.0.1:0", "--scenario", scenario) as simulator:
        config = config_file(tmp_path, simulator.url("simulator"))
        found, report = contact(config, "--calls", "25", "--transcript", transcript)
    assert found == code
    assert report["calls"] <= report["limit"] == 25
    assert sum(report["counts"].values()) == len(report["findings"])
    assert stat.S_IMODE(transcript.stat().st_mode) == 0o600
    like = ("simulate", "--listen", "127.0.0.1:0", "--like", transcript, "--export", exported)
    with serving(tmp_path, *like) as simulator:
        config = config_file(tmp_path, simulator.url("simulator"))
        again, replayed = contact(config, "--calls", "25", bindings=exported)
        assert "not in the transcript" not in simulator.said
    assert again == code
    assert verdicts(replayed) == verdicts(report)


def test_the_text_report_says_what_to_configure(tmp_path: Path) -> None:
    with serving(
        tmp_path, "simulate", "--listen", "127.0.0.1:0", "--scenario", DATA / "delisted.toml"
    ) as simulator:
        config = config_file(tmp_path, simulator.url("simulator"))
        result = precall("doctor", "-c", config, "--contact", BINDINGS, "--calls", "12")
    assert result.returncode == 1
    assert "served: set provider.status_source" in result.stdout
    assert "10 confirmed, 1 refuted, 17 not seen; 12 of 12 calls" in result.stdout
    assert "1000000768798832" not in result.stdout + result.stderr


def test_an_interrupted_contact_reports_its_findings(tmp_path: Path) -> None:
    transcript = tmp_path / "contact.jsonl"
    scenario = DATA / "classic.toml"
    with serving(tmp_path, "simulate", "--listen", "127.0.0.1:0", "--scenario", scenario) as simulator:
        url = simulator.url("simulator")
        config = config_file(tmp_path, url, more="rate = 1")
        command = ("--contact", BINDINGS, "--calls", "100", "--transcript", transcript, "--json")
        running = Server(tmp_path, "doctor", "--config", config, *command)
        until(lambda: [*tmp_path.glob(".contact.jsonl.*.new")] and _lines(tmp_path) > 2)
        assert running.stop(signal.SIGINT) == 130
    report = json.loads(running.said)
    assert report["interrupted"]
    assert verdicts(report)["served"] == "confirmed"
    assert len(transcript.read_text().splitlines()) == 1 + report["calls"] < 20


def _lines(folder: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in folder.glob(".contact.jsonl.*.new"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--calls", "5"], "--calls and --transcript need --contact"),
        (["--transcript", "x.jsonl"], "--calls and --transcript need --contact"),
        (
            ["--contact", "x.csv", "--subs-id", "1", "--pool-key", "FC1"],
            "give --contact or --subs-id, not both",
        ),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(words: list[str], said: str) -> None:
    result = precall("doctor", *words)
    assert result.returncode == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_a_file_that_is_no_transcript_is_named(tmp_path: Path) -> None:
    result = precall("simulate", "--like", BINDINGS)
    assert result.returncode == 3
    assert f"{BINDINGS}: is no transcript of precall doctor --contact" in result.stderr
    assert precall("simulate", "--like", BINDINGS, "--bindings", "3").returncode == 2


def test_an_unreachable_provider_is_exit_4(tmp_path: Path) -> None:
    config = config_file(tmp_path, "http://127.0.0.1:9")
    result = precall("doctor", "--config", config, "--contact", BINDINGS)
    assert result.returncode == 4
    assert "no connection to 127.0.0.1:9" in result.stderr
