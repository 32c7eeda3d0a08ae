"""What a row holds of a person: every spelling is found, no other number is, and nothing of it is left afterwards."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from precall.core import numbers
from precall.core.model import Action, NumberRole, Override, Row, State
from precall.core.numbers import canonical, clean, same
from precall.core.persons import Person, is_mentioned, is_x, sides, unmentioned
from tests.support.builders import NOW, TEMP, A, B, X, observed, row

WHO = Person.of("13812345678")
SPELLINGS = (
    "13812345678",
    "+8613812345678",
    "008613812345678",
    "8613812345678",
    "013812345678",
    "138-1234-5678",
    "+86 138 1234 5678",
    "１３８１２３４５６７８",
)
with Path(numbers.__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
    VALID = [example["written"] for example in csv.DictReader(file) if not example["refused"]]


def pinned(reason: str) -> Override:
    return Override(Action.HOLD, NumberRole.OWN, None, reason, 1, NOW)


@pytest.mark.parametrize("written", SPELLINGS)
def test_every_spelling_is_the_person(written: str) -> None:
    assert Person.of(written).has(clean(written))
    assert WHO.has(clean(written))
    assert Person.of(written).has("13812345678")
    assert WHO.is_in(f"customer asked: {written}, call back")


@pytest.mark.parametrize("number", ["13812345679", "12812345678", "02113812345", "+13812345678", ""])
def test_another_number_is_not(number: str) -> None:
    assert not WHO.has(number)


def test_a_text_with_more_digits_around_the_number_counts_as_holding_it() -> None:
    assert WHO.is_in("order 9913812345678")
    assert not WHO.is_in("order 1381234567, then 8")


def test_a_person_has_the_numbers_that_are_the_same_and_no_others() -> None:
    for one in VALID:
        for other in VALID:
            assert Person.of(clean(one)).has(clean(other)) == same(one, other), (one, other)


def test_the_digits_of_a_person_are_in_all_its_spellings() -> None:
    for one in VALID:
        for other in VALID:
            if canonical(one) == canonical(other):
                assert Person.of(one).digits in clean(other)


def test_a_number_joined_to_an_extension_is_found() -> None:
    assert WHO.has("13812345678123")
    assert WHO.is_in("138-1234-5678-123")
    assert sides(row(number_a="13812345678123", sound=False), WHO) == ("a",)


def test_a_short_number_is_found_in_a_text_only_where_it_stands_alone() -> None:
    short = Person.of("10086")
    assert short.is_in("ask 10086.")
    assert not short.is_in("order 9100861")


def test_the_sides_of_a_binding() -> None:
    assert sides(row(), WHO) == ()
    assert sides(row(number_a="+8613812345678"), WHO) == ("a",)
    assert sides(row(number_b="13812345678"), WHO) == ("b",)
    assert sides(row(number_b=""), WHO) == ()


def test_an_x_is_no_person() -> None:
    there = row(observed(State.TEMPORARY))
    assert is_x(there, Person.of(X))
    assert is_x(there, Person.of(TEMP))
    assert not is_x(there, Person.of(A))
    assert not is_x(there, Person.of(B))


def test_mentions_are_found_and_go_and_nothing_else_does() -> None:
    state = observed(State.FALLBACK)
    whole = Row(
        replace(row().binding, labels=(("city", "Hangzhou"), ("tel", "138 1234 5678"), ("13812345678", "x"))),
        state,
        pinned("asked by +86-138-1234-5678"),
        1,
        1,
    )
    assert is_mentioned(whole, WHO)
    after = unmentioned(whole, WHO)
    assert not is_mentioned(after, WHO)
    assert after.binding.labels == (("city", "Hangzhou"), ("tel", ""))
    assert after.state is state
    assert after.override == pinned("")
    assert unmentioned(after, WHO) is after


def test_a_row_of_others_stays_the_same_object() -> None:
    other = Row(row().binding, observed(State.TEMPORARY), pinned("order 1381234567"), 1, 1)
    assert not is_mentioned(other, WHO)
    assert unmentioned(other, WHO) is other


def test_a_person_shows_no_number() -> None:
    assert "138" not in repr(WHO)
