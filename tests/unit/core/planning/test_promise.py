"""Which freshness promise is put in force."""

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.model import Promise
from precall.core.planning.promise import (
    KAPPA,
    RETURN,
    age_limit,
    background_max_age,
    choose,
    longest_age,
)

MAX_AGE = 300.0


@pytest.mark.parametrize(
    ("bindings", "rate", "promise"),
    [
        (0, 20.0, Promise.ALL),
        (1000, 20.0, Promise.ALL),
        (1001, 20.0, Promise.DIAL),
        (1_000_000, 100.0, Promise.DIAL),
        (1_000_000, 20_000.0, Promise.ALL),
    ],
)
def test_max_age_is_promised_for_all_routes_while_six_rounds_fit_into_it(
    bindings: int, rate: float, promise: Promise
) -> None:
    assert choose("auto", None, longest_age(bindings, rate), MAX_AGE) is promise


def test_a_configured_promise_is_always_chosen() -> None:
    for promise in Promise:
        for before in (None, *Promise):
            assert choose(promise, before, inf, MAX_AGE) is promise
            assert choose(promise, before, 0.0, MAX_AGE) is promise


def test_the_promise_for_all_returns_only_well_within_max_age() -> None:
    assert choose("auto", Promise.ALL, MAX_AGE, MAX_AGE) is Promise.ALL
    assert choose("auto", Promise.ALL, MAX_AGE + 1, MAX_AGE) is Promise.DIAL
    assert choose("auto", Promise.DIAL, MAX_AGE * RETURN + 1, MAX_AGE) is Promise.DIAL
    assert choose("auto", Promise.DIAL, MAX_AGE * RETURN, MAX_AGE) is Promise.ALL


@given(
    st.floats(0.1, 1e4),
    st.lists(st.floats(0.81, 1.19), min_size=2, max_size=50),
    st.floats(0.9, 1.1),
)
def test_the_promise_does_not_flap_around_max_age(rate: float, wobbles: list[float], near: float) -> None:
    """Numbers of bindings that differ by less than a fifth of their mean change the promise once at the most."""
    mean = near * MAX_AGE * rate / (KAPPA + 2)
    low, high = min(wobbles), max(wobbles)
    factors = [1 + (wobble - 1) * 0.1 / max(high - 1, 1 - low, 0.1) for wobble in wobbles]
    before, promises = None, []
    for factor in factors:
        before = choose("auto", before, longest_age(mean * factor, rate), MAX_AGE)
        promises.append(before)
    assert sum(one is not two for one, two in pairwise(promises)) <= 1


def test_the_planner_checks_by_age_only_under_the_promise_for_all() -> None:
    assert background_max_age(Promise.ALL, MAX_AGE) == MAX_AGE
    assert background_max_age(Promise.DIAL, MAX_AGE) == inf


def test_the_age_limit_follows_the_promise() -> None:
    assert age_limit(Promise.ALL, 60_000.0, MAX_AGE) == MAX_AGE
    assert age_limit(Promise.DIAL, 60_000.0, MAX_AGE) == 60_000.0
    assert age_limit(Promise.DIAL, 10.0, MAX_AGE) == MAX_AGE
