"""What precall would have done for the calls of observed pools: counts, shares and their intervals."""

from collections import Counter
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.calls.call import CallResult
from precall.core.calls.observed import ObservedCalls, ObservedExample, Proportion, Z, observed_report

ACTIONS = ["", "dial_x", "dial_temp_x", "dial_real", "hold", "expired"]
ENDED = ["failed", "connected", "not_connected"]


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [
        (0, 10, 0.0, 0.2775328),
        (7, 9, 0.4525922, 0.9367698),
        (10, 10, 0.7224672, 1.0),
        (50, 100, 0.4038315, 0.5961685),
        (0, 120, 0.0, 0.0310193),
    ],
)
def test_intervals_are_those_of_wilson(part: int, whole: int, low: float, high: float) -> None:
    assert Proportion(part, whole).interval == pytest.approx((low, high), abs=1e-4)


def test_the_interval_of_no_calls_is_0_to_1() -> None:
    assert (Proportion(0, 0).share, Proportion(0, 0).interval) == (0.0, (0.0, 1.0))


@given(st.integers(1, 10_000), st.data())
def test_the_share_lies_within_its_interval(whole: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, whole))
    found = Proportion(part, whole)
    low, high = found.interval
    assert 0.0 <= low <= found.share <= high <= 1.0
    for bound in (low, high):
        # Both are solutions of the score equation: the share is z standard errors away from them.
        error = sqrt(bound * (1 - bound) / whole)
        assert abs(found.share - bound) == pytest.approx(Z * error, abs=1e-9) or bound in (0.0, 1.0)
    wider = Proportion(part * 4, whole * 4).interval
    assert wider[1] - wider[0] < high - low


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["FC1", "FC2"]),
            st.sampled_from(ENDED),
            st.sampled_from(ACTIONS),
            st.integers(1, 9),
        )
    )
)
def test_every_call_is_counted_once(counts: list[tuple[str, str, str, int]]) -> None:
    pools = observed_report(counts, [])
    assert sum(pool.calls + pool.unknown for pool in pools.values()) == sum(count[-1] for count in counts)
    for pool_key, pool in pools.items():
        known = Counter[str]()
        for other, result, action, count in counts:
            if other == pool_key and action:
                known[result, action != "dial_x"] += count  # type: ignore[index]
        assert pool.avoided == Proportion(
            known["failed", True], known["failed", True] + known["failed", False]
        )  # type: ignore[index]
        assert pool.changed.part == known["connected", True]  # type: ignore[index]
        assert pool.not_connected == known["not_connected", True] + known["not_connected", False]  # type: ignore[index]


def test_a_call_without_a_route_on_record_is_never_guessed() -> None:
    calls = ObservedCalls()
    calls.add(CallResult.FAILED, "", 3)
    assert (calls.unknown, calls.calls, calls.avoided) == (3, 0, Proportion(0, 0))


def test_examples_are_grouped_by_pool() -> None:
    example = ObservedExample("FC2", "c", "1", 1.0, "failed", "hold", "status_3", "R")
    pools = observed_report([("FC2", "failed", "hold", 1), ("FC1", "failed", "dial_x", 1)], [example])
    assert list(pools) == ["FC1", "FC2"]
    assert (pools["FC1"].examples, pools["FC2"].examples) == ([], [example])
