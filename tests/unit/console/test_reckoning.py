"""Values as the pages show them."""

import pytest

from precall.console.reckoning import clock_time, count, percent, rate


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "0 %"), (0.00001, "< 0.1 %"), (0.123, "12.3 %"), (0.5, "50 %"), (1, "100 %")]
)
def test_a_share_is_never_rounded_to_nothing(share: float, shown: str) -> None:
    assert percent(share) == shown


def test_times_and_counts() -> None:
    assert clock_time("2026-01-02T03:04:05.678Z") == "2026-01-02 03:04:05 UTC"
    assert clock_time("") == ""
    assert count(1_234_567) == "1,234,567"


@pytest.mark.parametrize(
    ("per_second", "shown"),
    [(0.0, "0"), (0.5, "0.5"), (33.333, "33.33"), (999.96, "1000"), (1234.5, "1,234")],
)
def test_rates_have_at_most_four_digits(per_second: float, shown: str) -> None:
    assert rate(per_second) == shown
