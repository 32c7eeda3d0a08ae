"""What a budget buys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.model import Promise
from precall.core.planning.admission_price import SHARE
from precall.core.planning.forecast import GAINS, cost, curve_rates, default_dials, forecast, gain


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


MANY, MAX_AGE = 1_000_000, 300.0


def test_neither_promise_costs_anything_while_every_route_is_fresh() -> None:
    for promise in Promise:
        found = cost(promise, 300, 20.0, max_age=MAX_AGE, dials=0.5)
        assert (found.kept, found.live, found.stale, found.live_checks) == (True, 0.0, 0.0, 0.0)
        assert found.wrong == pytest.approx(forecast(300, 20.0, max_age=MAX_AGE).wrong)
        assert (found.background, found.round, found.longest_age) == (20.0, 15.0, 90.0)


def test_a_million_bindings_at_100_calls_per_second_are_fresh_only_when_dialled() -> None:
    dials = default_dials(MANY)
    assert dials == pytest.approx(23.1, rel=0.01)
    everything = cost(Promise.ALL, MANY, 100.0, max_age=MAX_AGE, dials=dials)
    dialled = cost(Promise.DIAL, MANY, 100.0, max_age=MAX_AGE, dials=dials)
    assert (everything.kept, dialled.kept) == (False, True)
    assert everything.rate_needed == 20_000.0
    assert everything.stale == pytest.approx(0.97)
    assert everything.wrong == pytest.approx(forecast(MANY, 100.0, max_age=MAX_AGE).wrong)
    assert dialled.stale == pytest.approx(0.0, abs=1e-9)
    assert dialled.wrong < everything.wrong / 50
    assert dialled.live_checks == pytest.approx(dialled.live * dials)
    assert dialled.background == pytest.approx(100.0 - dialled.live_checks)
    assert dialled.longest_age == pytest.approx(6 * MANY / dialled.background)


@given(
    st.integers(1, 10_000_000), st.floats(0.001, 1e5), st.floats(1.0, 1e5), st.floats(0.0, 1e4) | st.just(0.0)
)
def test_the_promise_for_dials_holds_exactly_from_the_needed_rate(
    bindings: int, rate: float, max_age: float, dials: float
) -> None:
    found = cost(Promise.DIAL, bindings, rate, max_age=max_age, dials=dials)
    shares = (found.live, found.stale, found.wrong, found.live + found.stale)
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in shares)
    assert found.live_checks <= SHARE * rate * (1 + 1e-9)
    assert found.background >= (1 - SHARE) * rate * (1 - 1e-9)
    for factor, kept in ((1.01, True), (0.9, False)):
        if found.rate_needed > 1e-6:
            then = cost(Promise.DIAL, bindings, factor * found.rate_needed, max_age=max_age, dials=dials)
            assert then.kept is kept
            assert (then.stale < 1e-3) >= kept
            assert kept or then.stale > 0


@given(st.integers(1, 100_000_000), st.floats(0.001, 1e6), st.floats(0.0, 1e5))
def test_the_curve_ranges_from_too_low_a_rate_to_enough(bindings: int, max_age: float, dials: float) -> None:
    rates = curve_rates(bindings, max_age=max_age, dials=dials)
    assert rates == sorted(set(rates))
    assert 1 <= len(rates) <= 20
    assert cost(Promise.ALL, bindings, rates[-1], max_age=max_age, dials=dials).kept or rates[-1] >= 1e-3
