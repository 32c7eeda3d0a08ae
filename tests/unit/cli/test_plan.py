"""`precall plan`: what either freshness promise costs, with explained figures."""

import json
from typing import Any

from typer.testing import CliRunner

from precall.cli import app

MANY = ("--bindings", "1000000")


def planned(*options: str) -> str:
    result = CliRunner().invoke(app, ["plan", *options], env={"COLUMNS": "80", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return result.stdout


def figures(*options: str) -> Any:
    return json.loads(planned(*options, "--json"))


def test_both_promises_are_shown_and_the_choice_of_auto_is_marked() -> None:
    told = planned(*MANY, "--rate", "100", "--dials-per-second", "30")
    for line in (
        'freshness.promise = "all"\n',
        'freshness.promise = "dial", as auto would choose\n',
        "no: it needs 20,000 calls/s",
        "97% of the dials get a route older than 5.0 min",
        "97% of 30/s wait for a live check",
        "calls/s are left",
    ):
        assert line in told
    assert "assumed: --dials-per-second" in planned(*MANY, "--rate", "100")
    assert 'freshness.promise = "all", as auto would choose\n' in planned("--bindings", "300", "--rate", "20")


def test_the_json_figures_keep_their_names_and_add_up() -> None:
    found = figures(*MANY, "--rate", "100", "--max-age", "10m", "--dials-per-second", "30")
    assert (found["bindings"], found["rate"], found["round"]) == (1_000_000, 100.0, 10_000.0)
    assert (found["holds_max_age"], found["promise"], found["max_age"]) == (False, "dial", 600.0)
    assert found["rate_needed"] == found["promises"]["all"]["rate_needed"] == 10_000.0
    dial = found["promises"]["dial"]
    assert dial["kept"]
    assert dial["live_checks"] + dial["background"] == 100.0
    assert dial["wrong"] < found["wrong"] == found["promises"]["all"]["wrong"]


def test_dials_beyond_the_live_checks_are_shown_as_too_old() -> None:
    dial = figures(*MANY, "--rate", "20", "--dials-per-second", "60")["promises"]["dial"]
    assert not dial["kept"]
    assert dial["live_checks"] == 14.0
    assert dial["stale"] > 0.7


def test_without_a_rate_there_is_a_table_of_rates() -> None:
    lines = planned(*MANY).splitlines()
    assert lines[0].split() == [
        "CALLS/S",
        "ROUND",
        "PROMISE",
        "KEPT",
        "WAIT",
        "TOO",
        "OLD",
        "WRONG",
        "CALLS/DAY",
    ]
    assert [line.split()[0] for line in lines[1:4]] == ["20", "50", "100"]
    assert all(len(line) <= 80 for line in lines)
    curve = figures(*MANY)["curve"]
    assert [one["rate"] for one in curve][-1] == 20_000.0
    assert [one["promise"] for one in curve] == ["dial"] * (len(curve) - 1) + ["all"]


def test_a_budget_without_dials_has_a_plan_too() -> None:
    dial = figures(*MANY, "--rate", "1", "--dials-per-second", "0")["promises"]["dial"]
    assert (dial["kept"], dial["live_checks"], dial["rate_needed"]) == (True, 0.0, 0.0)
