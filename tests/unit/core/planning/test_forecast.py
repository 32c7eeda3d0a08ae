"""What a budget buys."""

import pytest

from precall.core.planning.forecast import GAINS, forecast, gain


def test_a_round_is_bindings_over_rate() -> None:
    result = forecast(30_000, 100.0, max_age=300.0)
    assert (result.round, result.mean_age, result.longest_age) == (300.0, 150.0, 1800.0)
    assert not result.holds_max_age
    assert result.rate_needed == 600.0
    assert forecast(30_000, result.rate_needed, max_age=300.0).holds_max_age


def test_more_calls_make_fewer_wrong_dials_and_ages_bound_the_share() -> None:
    shares = [forecast(100_000, rate, max_age=300.0).wrong for rate in (1.0, 10.0, 100.0, 1000.0, 10_000.0)]
    assert shares == sorted(shares, reverse=True)
    assert all(0 < share < 1 for share in shares)


def test_wrong_dials_in_turn_agree_with_the_small_round_limit() -> None:
    """For a short round a route is wrong with about hazard times mean age (plus the abnormal side)."""
    result = forecast(
        100, 100.0, max_age=300.0, failure_rate=1e-5, recovery_rate=1e-3, abnormal_end_rate=1e-3
    )
    assert result.wrong_in_turn == pytest.approx(1e-5 * 0.5 + 1e-5 / 1.01e-3 * 1e-3 * 0.5, rel=0.02)


@pytest.mark.parametrize(("lap", "measured"), GAINS)
def test_the_gain_is_what_was_measured(lap: float, measured: float) -> None:
    assert gain(lap) == pytest.approx(measured)


def test_the_gain_is_between_none_and_the_measured_one() -> None:
    assert gain(1.0) == GAINS[0][1]
    assert gain(5000.0) == pytest.approx(2.325, abs=0.05)
    assert gain(1e9) == 1.0
