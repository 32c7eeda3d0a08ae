"""Causes of ended calls: the table of codes, and which of them count against a number."""

import pytest

from precall.core.calls.causes import AT_FAULT, CAUSES, UNFINISHED, CallEnd, judge, judge_ended, meaning

COUNTED = "200004 200005 200012 200117 200121 400 476 482 500 1 3 27 34 38 41 42 failed"


def test_only_causes_attributable_to_the_number_count_against_it() -> None:
    assert set(COUNTED.split()) == AT_FAULT
    for code in ("200002", "200003", "200007", "200010", "200111", "200113", "17", "18", "19", "21", "busy"):
        assert judge(code, 0) is CallEnd.NOT_CONNECTED


def test_every_code_that_decides_something_has_a_meaning() -> None:
    assert (AT_FAULT | UNFINISHED) - {""} <= set(CAUSES)
    assert all(text and text[0].islower() for text in CAUSES.values())
    assert meaning("200999") == "a cause that is not documented"
    assert meaning("") == "not given"


@pytest.mark.parametrize("code", ["", "200101", "200102", "200103", "200201", "300000"])
def test_states_of_a_call_in_progress(code: str) -> None:
    assert judge(code, 0) is None
    assert judge(code, 31) is None


@pytest.mark.parametrize(
    ("code", "duration", "end"),
    [
        ("200000", 31, CallEnd.CONNECTED),
        ("200000", None, CallEnd.CONNECTED),
        ("200100", None, CallEnd.CONNECTED),
        ("200000", 0, CallEnd.NOT_CONNECTED),
        ("200005", 0, CallEnd.FAILED),
        ("200005", None, CallEnd.FAILED),
        ("200005", 4, CallEnd.CONNECTED),
        ("502", 0, CallEnd.NOT_CONNECTED),
        ("16", 0, CallEnd.NOT_CONNECTED),
        ("16", 12, CallEnd.CONNECTED),
        ("1", 0, CallEnd.FAILED),
    ],
)
def test_connected_is_a_duration_above_zero(code: str, duration: float | None, end: CallEnd) -> None:
    assert judge(code, duration) is end


def test_every_ended_call_has_a_result() -> None:
    assert judge_ended("", 0) is CallEnd.NOT_CONNECTED
    assert judge_ended("", 5) is CallEnd.CONNECTED
