"""QueryDate: the day of a call, in Shanghai, in milliseconds."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.calls.call import query_date

SHANGHAI = timezone(timedelta(hours=8))


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("called_at", "days"),
    [
        ("2019-03-28T20:01:05+08:00", ["2019-03-28"]),  # the instant of the product page's example
        ("2026-01-02T00:10:00+08:00", ["2026-01-02"]),
        ("2026-01-02T00:09:59+08:00", ["2026-01-02", "2026-01-01"]),
        ("2026-01-02T00:00:00+08:00", ["2026-01-02", "2026-01-01"]),
        ("2026-01-01T23:59:59+08:00", ["2026-01-01"]),
        ("2025-12-31T16:30:00+00:00", ["2026-01-01"]),  # a day later there than in UTC
    ],
)
def test_midnight_in_shanghai(called_at: str, days: list[str]) -> None:
    assert query_date(at(called_at)) == [round(at(f"{day}T00:00:00+08:00") * 1000) for day in days]


def test_the_products_own_example_in_milliseconds() -> None:
    assert query_date(1553774465) == [1553702400000]


@given(st.floats(min_value=0, max_value=4e9))
def test_the_first_day_is_the_day_of_the_call(called_at: float) -> None:
    first = query_date(called_at)[0]
    midnight = datetime.fromtimestamp(first / 1000, SHANGHAI)
    assert (midnight.hour, midnight.minute, midnight.second, first % 1000) == (0, 0, 0, 0)
    assert 0 <= called_at - first / 1000 < 86_400.001
