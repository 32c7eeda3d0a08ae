"""Why calls end: the table of codes, and what each says of the number."""

import pytest

from precall.core.calls.causes import AT_FAULT, CAUSES, UNFINISHED, End, judge, meaning, over

COUNTED = "200004 200005 200012 200117 200121 400 476 482 500 1 3 27 34 38 41 42 failed"


def test_only_what_can_be_the_numbers_fault_counts_against_it() -> None:
    assert set(COUNTED.split()) == AT_FAULT
    for code in ("200002", "200003", "200007", "200010", "200111", "200113", "17", "18", "19", "21", "busy"):
        assert judge(code, 0) is End.NOT_CONNECTED


def test_every_code_that_decides_something_has_a_meaning() -> None:
    assert (AT_FAULT | UNFINISHED) - {""} <= set(CAUSES)
    assert all(text and text[0].islower() for text in CAUSES.values())
    assert meaning("502") == "a cause that is not documented"
    assert meaning("") == "not told"


@pytest.mark.parametrize("code", ["", "200101", "200102", "200103", "200201", "300000"])
def test_states_of_a_call_that_goes_on(code: str) -> None:
    assert judge(code, 0) is None
    assert judge(code, 31) is None


@pytest.mark.parametrize(
    ("code", "duration", "end"),
    [
        ("200000", 31, End.CONNECTED),
        ("200000", None, End.CONNECTED),
        ("200100", None, End.CONNECTED),
        ("200000", 0, End.NOT_CONNECTED),
        ("200005", 0, End.FAILED),
        ("200005", None, End.FAILED),
        ("200005", 4, End.CONNECTED),
        ("502", 0, End.NOT_CONNECTED),
        ("16", 0, End.NOT_CONNECTED),
        ("16", 12, End.CONNECTED),
        ("1", 0, End.FAILED),
    ],
)
def test_connected_is_a_duration_above_zero(code: str, duration: float | None, end: End) -> None:
    assert judge(code, duration) is end


def test_a_call_that_is_over_ended_somehow_whatever_its_state() -> None:
    assert over("", 0) is End.NOT_CONNECTED
    assert over("", 5) is End.CONNECTED
