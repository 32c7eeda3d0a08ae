"""One set of rules for the fields of a binding: a registration and a row of a source agree on every text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from precall.api.schemas.bindings import ListedBinding
from precall.core import rules
from precall.core.model import Binding
from precall.core.sync.columns import Columns
from precall.provider import BadReceipt, read_receipt

GOOD: dict[str, Any] = {
    "subs_id": "1",
    "pool_key": "FC1",
    "number_x": "17000000001",
    "number_a": "13800000001",
}
DIGITS = st.text(alphabet="0123456789\u0661\uff11", max_size=40)
PRINTABLE = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\t\n\r"), max_size=70)


def registered(**facts: Any) -> bool:
    try:
        ListedBinding.model_validate(GOOD | facts)
    except ValidationError:
        return False
    return True


def synced(**facts: Any) -> bool:
    row = GOOD | facts
    return isinstance(Columns(list(row), None).read(list(row.values())), Binding)


@given(DIGITS)
def test_ids_and_extensions(text: str) -> None:
    assert registered(subs_id=text) == synced(subs_id=text) == rules.is_subs_id(text)
    assert registered(extension=text) == synced(extension=text) == rules.is_extension(text)


@given(PRINTABLE.filter(lambda text: text == text.strip()))
def test_pool_keys(text: str) -> None:
    assert registered(pool_key=text) == synced(pool_key=text) == rules.is_pool_key(text)


@given(st.dictionaries(PRINTABLE, PRINTABLE.map(str.strip), max_size=20))
def test_labels(labels: dict[str, str]) -> None:
    assert registered(labels=labels) == synced(labels=labels) == (not rules.fault_of_labels(labels))


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({}, ""),
        ({"k" * 64: "v" * 256}, ""),
        ({str(number): "" for number in range(16)}, ""),
        ({str(number): "" for number in range(17)}, "are more than 16"),
        ({"": "v"}, "should have keys of 1 to 64 and texts of at most 256 characters"),
        ({"k" * 65: "v"}, "should have keys of 1 to 64 and texts of at most 256 characters"),
        ({"k": "v" * 257}, "should have keys of 1 to 64 and texts of at most 256 characters"),
        ({"k": "a\nb"}, "should be printable"),
        ({"a\nb": "v"}, "should be printable"),
    ],
)
def test_invalid_labels_are_reported(labels: dict[str, str], why: str) -> None:
    assert rules.fault_of_labels(labels) == why


@pytest.mark.parametrize(
    ("seconds", "fits"),
    [
        (-1.0, False),
        (0.0, True),
        (rules.YEAR_10000 - 1.0, True),
        (rules.YEAR_10000, False),
        (float("nan"), False),
    ],
)
def test_times(seconds: float, *, fits: bool) -> None:
    assert rules.is_time(seconds) == fits


@pytest.mark.parametrize("subs_id", ["1" * 33, "\u0661", "1a"])
def test_a_receipt_obeys_the_same_rule(subs_id: str) -> None:
    with pytest.raises(BadReceipt, match=rules.NOT_A_SUBS_ID):
        read_receipt(
            {"call_id": "1", "sub_id": subs_id, "release_time": "2026-01-02 03:04:05", "release_dir": 1}, 0
        )
