"""The report of `precall doctor --contact` as text: on a terminal of 80 columns, and for programs."""

import re

import pytest

from precall.cli.contact import ContactResult, show
from precall.contact import AssumptionFinding, ContactRecord, ContactVerdict
from precall.provider.assumptions import ASSUMPTIONS

FOUND = "16 calls at 9.8 a second, none throttled; of 14 at once none: 20 a second were not reached"
SEEN = [one for one in ASSUMPTIONS if one.probe]


def report(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of a report in which every assumption is refuted."""
    found = [AssumptionFinding(one, ContactVerdict.REFUTED, FOUND) for one in SEEN]
    show(ContactResult(ContactRecord(), found, 30), None, as_json=False)
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


def test_a_terminal_gets_lines_that_break_at_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    lines = report(capsys)
    assert max(map(len, lines)) <= 80
    words = set(" ".join(lines).split())
    for one in SEEN:
        assert set(f"{one.name}: {one.hint} {one.text} {FOUND}".split()) <= words


def test_a_program_gets_each_finding_and_each_hint_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = report(capsys)
    assert lines[0].split() == ["verdict", "name", "found"]
    for one in SEEN:
        assert any(re.fullmatch(rf"fail +refuted +{one.name} +{FOUND}", line) for line in lines)
        assert f"{one.name}: {one.hint}" in lines
        assert f"  assumed: {one.text}" in lines
