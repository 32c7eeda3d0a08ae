"""The names of voice products, and the order in which a call is searched for."""

import pytest

from precall.core.calls.call import DAY, filed_elsewhere, query_date
from precall.core.calls.products import PRODUCTS, product_name, product_number

MIDNIGHT = 1553702400
"""2019-03-28 00:00 in Beijing: the day of the product page's example."""
NOTIFICATION = PRODUCTS["voice-notification"]


def test_the_products_of_the_page() -> None:
    assert PRODUCTS == {
        "voice-notification": 11000000300006,
        "verification-code": 11010000138001,
        "ivr": 11000000300005,
        "click-to-dial": 11000000300004,
        "sip": 11000000300009,
        "smart-outbound": 11030000180001,
    }


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_name_and_its_number_are_one_product(name: str) -> None:
    assert product_number(name) == product_number(str(PRODUCTS[name])) == PRODUCTS[name]
    assert product_name(PRODUCTS[name]) == name


def test_a_number_without_a_name_is_passed_on() -> None:
    assert product_number("11000000300042") == 11000000300042
    assert product_name(11000000300042) == product_name(0) == ""


@pytest.mark.parametrize("text", ["", "IVR", "robot", "-1", "1.5", str(2**63), "9" * 5000, "١"])
def test_an_unknown_product_is_refused_with_the_known_names(text: str) -> None:
    with pytest.raises(ValueError, match=r"voice-notification.*smart-outbound") as refused:
        product_number(text)
    assert len(str(refused.value)) < 300


def test_other_products_are_tried_before_adjacent_days() -> None:
    at = MIDNIGHT + 20 * 3600.0
    found = filed_elsewhere(NOTIFICATION, at, now=at + 30 * DAY)
    today, before, after = ((MIDNIGHT + offset * DAY) * 1000 for offset in (0, -1, 1))
    assert [pair for pair in found if pair[1] == today] == found[:5]
    assert found[5:7] == [(NOTIFICATION, after), (PRODUCTS["verification-code"], after)]
    assert {day for _, day in found} == {today, before, after}
    assert len(found) == len(set(found)) == 17
    assert (NOTIFICATION, today) not in found


def test_in_the_morning_the_day_before_is_tried_first() -> None:
    at = MIDNIGHT + 2 * 3600.0
    assert filed_elsewhere(NOTIFICATION, at, now=at + DAY)[5] == (NOTIFICATION, (MIDNIGHT - DAY) * 1000)


def test_future_days_and_pairs_already_queried_are_skipped() -> None:
    at = MIDNIGHT + 60.0
    found = filed_elsewhere(NOTIFICATION, at, now=at)
    assert len(query_date(at)) == 2
    assert not {(NOTIFICATION, day) for day in query_date(at)} & set(found)
    assert {day for _, day in found} == set(query_date(at))
    assert len(found) == 10


def test_a_product_without_a_name_adds_one_call_a_day_at_most() -> None:
    assert len(filed_elsewhere(42, MIDNIGHT + 3600.0, now=MIDNIGHT + 9.0 * DAY)) == 20
