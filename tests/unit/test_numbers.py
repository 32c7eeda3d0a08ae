"""Phone numbers as strings."""

import pytest

from precall.core.numbers import clean, mask, normalise, same


@pytest.mark.parametrize(
    ("written", "cleaned"),
    [
        ("17000000000", "17000000000"),
        (" 170-0000-0000 ", "17000000000"),
        ("+8617000000000", "+8617000000000"),
        ("95013", "95013"),
        ("", ""),
        ("12", ""),
        ("1700000000x", ""),
        ("１７０００００００００", ""),
        ("null", ""),
        ("1" * 21, ""),
        ("+", ""),
    ],
)
def test_a_usable_number_is_digits(written: str, cleaned: str) -> None:
    assert clean(written) == cleaned


@pytest.mark.parametrize(
    "written",
    ["13800000001", "+8613800000001", "008613800000001", "8613800000001", "013800000001", "138-0000 0001"],
)
def test_one_mobile_in_all_its_forms(written: str) -> None:
    assert normalise(written) == "13800000001"


def test_a_landline_keeps_its_trunk_zero() -> None:
    assert normalise("057112345678") == "057112345678"


def test_an_empty_number_equals_nothing() -> None:
    assert not same("", "")
    assert not same("", "13800000001")


@pytest.mark.parametrize(("number", "shown"), [("13800000001", "***01"), ("95", "***"), ("", "")])
def test_a_mask_shows_two_digits_at_most(number: str, shown: str) -> None:
    assert mask(number) == shown
