"""Lists as table, JSON, CSV and Markdown: chosen columns, order, time zones, and tables that fit."""

import csv
import io
import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from precall.api.schemas.calls import CallAnswer
from precall.api.schemas.persons import PersonRecordAnswer
from precall.cli.calls import CALLS
from precall.cli.listings import Listing, ListingView, lists
from precall.cli.persons import RECORDS
from precall.cli.tables import fitted

LISTING = Listing(
    "things", ("at", "name", "state", "note"), ("name", "at", "state", "count", "note", "tags", "done")
)
THINGS: list[dict[str, Any]] = [
    {
        "name": "1000000768798832",
        "at": "2026-01-31T20:00:00Z",
        "state": "normal",
        "count": 9,
        "note": "the provider announced works in the night",
        "tags": ["a", "b"],
        "done": True,
    },
    {
        "name": "7",
        "at": "2026-01-31T20:00:00.250Z",
        "state": "fallback",
        "count": 10,
        "note": "a|b\nc\x1b[31m",
        "tags": [],
        "done": False,
    },
    {"name": "8", "at": "", "state": "", "count": None, "note": "", "tags": [], "done": False},
]
app = typer.Typer()


@app.command()
@lists(LISTING)
def things(*, view: ListingView) -> None:
    view.show(THINGS, total=3)


def listed(*options: str, **environment: str) -> Result:
    return CliRunner().invoke(app, options, env=environment)


def told(*options: str, **environment: str) -> str:
    result = listed(*options, **environment)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_is_the_document_of_the_api() -> None:
    assert (
        json.loads(told("--json")) == {"things": THINGS, "total": 3} == json.loads(told("--format", "json"))
    )
    assert [json.loads(line) for line in told("--format", "jsonl").splitlines()] == THINGS


def test_csv_has_every_field_and_nested_ones_as_json() -> None:
    first, second, third = csv.DictReader(io.StringIO(told("--format", "csv", "--tz", "Asia/Shanghai")))
    assert tuple(first) == LISTING.fields
    assert first == {name: str(value) for name, value in THINGS[0].items()} | {
        "tags": '["a", "b"]', "done": "true",
    }  # fmt: skip
    assert second["note"] == THINGS[1]["note"]
    assert third["count"] == ""


def test_columns_are_chosen_in_every_format() -> None:
    assert json.loads(told("--json", "--columns", "count,name"))["things"][1] == {"count": 10, "name": "7"}
    assert told("--format", "csv", "--columns", "name,count").splitlines()[1] == "1000000768798832,9"
    assert told("--columns", "state,name").splitlines()[0].split() == ["state", "name"]
    wrong = listed("--columns", "name,colour")
    assert wrong.exit_code == 2
    assert "colour" in wrong.stderr


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("count", ["1000000768798832", "7", "8"]),
        ("-count", ["7", "1000000768798832", "8"]),
        ("at", ["7", "1000000768798832", "8"]),
        ("done,-state", ["7", "8", "1000000768798832"]),
        ("-name", ["8", "7", "1000000768798832"]),
    ],
)
def test_rows_are_sorted_and_empty_values_come_last(sort: str, names: list[str]) -> None:
    lines = told("--format", "jsonl", "--sort", sort).splitlines()
    assert [json.loads(line)["name"] for line in lines] == names


@pytest.mark.parametrize(
    ("zone", "first", "second"),
    [
        ("Asia/Shanghai", "2026-02-01T04:00:00+08:00", "2026-02-01T04:00:00.250+08:00"),
        ("-03:30", "2026-01-31T16:30:00-03:30", "2026-01-31T16:30:00.250-03:30"),
        ("UTC", "2026-01-31T20:00:00+00:00", "2026-01-31T20:00:00.250+00:00"),
    ],
)
def test_people_see_times_in_their_zone_and_programs_in_utc(zone: str, first: str, second: str) -> None:
    for form in ("table", "wide", "md"):
        shown = told("--format", form, "--tz", zone)
        assert first in shown
        assert second in shown
    for form in ("json", "jsonl", "csv"):
        assert told("--format", form, "--tz", zone) == told("--format", form)


def test_local_is_a_zone_and_an_unknown_one_is_a_usage_error() -> None:
    assert "2026-01-31T20" in told("--tz", "local", TZ="UTC") or "T" in told("--tz", "local")
    for zone in ("Mars/Olympus", "/etc/passwd", "+8"):
        assert listed("--tz", zone).exit_code == 2


def test_markdown_keeps_a_row_on_one_line() -> None:
    lines = told("--format", "md").splitlines()
    assert lines[:2] == ["| at | name | state | note |", "| --- | --- | --- | --- |"]
    assert lines[3].endswith(r"| a\|b c [31m |")
    assert len(lines) == 2 + len(THINGS)


def test_a_table_in_a_pipe_is_cut_to_columns_if_set() -> None:
    assert "the provider announced works in the night" in told(COLUMNS="")
    cut = told(COLUMNS="70")
    assert all(len(line) <= 70 for line in cut.splitlines())
    assert "the provider…" in cut
    narrow = listed(COLUMNS="45")
    assert narrow.stdout.splitlines()[0].split() == ["at", "name"]
    assert "no room for state, note: --format wide" in narrow.stderr
    wide = told("--format", "wide", COLUMNS="45")
    assert wide.splitlines()[0].split() == list(LISTING.fields)
    assert "works in the night" in wide


def test_no_word_is_broken() -> None:
    lines = [["id", "text"], ["1000000768798832", "an unbreakablewordwithoutanyend follows"]]
    for width in range(1, 70):
        for row in fitted(lines, width)[1:]:
            assert row[0] == lines[1][0]
            assert all(
                word in ["1000000768798832", "an", "unbreakablewordwithoutanyend", "follows…"]
                or word.rstrip("…") in lines[1][1].split()
                for cell in row
                for word in cell.split()
            )
    assert fitted([["note"], ["供应商宣布今晚停机维护"]], 14) == [["note"], ["供应商宣布今…"]]


def test_words_are_coloured_by_meaning_unless_no_color_is_set() -> None:
    coloured = told(FORCE_COLOR="1", TERM="xterm", NO_COLOR="", COLUMNS="200")
    assert "\x1b[32mnormal" in coloured
    assert "\x1b[35mfallback" in coloured
    plain = told(FORCE_COLOR="1", TERM="xterm", NO_COLOR="1", COLUMNS="200")
    assert "normal" in plain
    assert "\x1b[3" not in plain


def test_json_and_another_format_exclude_each_other() -> None:
    assert listed("--json", "--format", "csv").exit_code == 2
    assert listed("--json", "--format", "json").exit_code == 0


def test_columns_have_the_names_of_the_api() -> None:
    assert CALLS.fields == tuple(CallAnswer.model_fields)
    assert RECORDS.fields == tuple(PersonRecordAnswer.model_fields)
