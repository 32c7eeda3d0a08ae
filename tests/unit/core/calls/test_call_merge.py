"""Merging reports of one call, when to query it, and the order of queries."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.calls.call import (
    Call,
    CallResult,
    CallSource,
    first_try,
    interleave,
    merge,
    next_try,
    with_outcome,
)
from precall.core.calls.statistics import CallCounts, report

NOW = 1_790_000_000.0


def a_call(call_id: str = "1", **facts: Any) -> Call:
    base = Call(call_id, NOW, NOW + 1, subs_id="7", prod_id=11000000300006, next_at=NOW + 180)
    return replace(base, **facts)


def final(source: CallSource, state: str = "200005", **facts: Any) -> Call:
    return a_call(result=CallResult.FAILED, source=source, state=state, duration=0.0, next_at=None, **facts)


words = st.sampled_from(
    [
        a_call(),
        a_call(called_at=NOW - 5, reported_at=NOW + 30),
        with_outcome(a_call(), "failed"),
        with_outcome(a_call(), "busy"),
        with_outcome(a_call(prod_id=0, next_at=None), "connected"),
        final(CallSource.DETAIL),
        final(CallSource.RECEIPT, "1", subs_id="", prod_id=0),
        a_call(
            result=CallResult.CONNECTED, source=CallSource.RECEIPT, state="16", duration=31.0, next_at=None
        ),
        a_call(result=CallResult.UNVERIFIED, next_at=None),
    ]
)


@given(st.lists(words, min_size=1, max_size=4))
def test_the_order_and_the_number_of_reports_do_not_matter(told: list[Call]) -> None:
    ends = set()
    for order in permutations([*told, told[0]]):
        call = order[0]
        for word in order[1:]:
            call = merge(call, word)
        ends.add(call)
    assert len(ends) == 1


@given(words)
def test_a_repeated_report_changes_nothing(word: Call) -> None:
    assert merge(word, word) == word


def test_the_provider_takes_precedence_over_the_dispatcher() -> None:
    reported, dispatcher, provider = (
        a_call(),
        with_outcome(a_call(), "failed"),
        final(CallSource.DETAIL, "200002"),
    )
    assert merge(reported, dispatcher).result is CallResult.FAILED
    assert merge(dispatcher, provider).state == "200002"
    given_up = a_call(result=CallResult.UNVERIFIED, next_at=None)
    assert merge(given_up, reported).result is CallResult.UNVERIFIED
    assert merge(given_up, final(CallSource.RECEIPT)).source is CallSource.RECEIPT


def test_an_ended_call_is_not_queried() -> None:
    assert merge(a_call(), final(CallSource.RECEIPT)).next_at is None
    assert with_outcome(a_call(), "connected").next_at is None
    assert with_outcome(a_call(), "failed").next_at == NOW + 180  # its cause is worth a question
    assert with_outcome(a_call(prod_id=0, next_at=None), "failed").next_at is None


def test_a_repeated_report_does_not_bring_a_postponed_query_forward() -> None:
    assert merge(a_call(next_at=NOW + 600), a_call()).next_at == NOW + 600


def test_retries_follow_the_schedule() -> None:
    assert first_try(NOW, NOW + 1) == NOW + 180
    assert first_try(NOW, NOW + 7200) == NOW + 7200
    at, rungs = NOW + 180, []
    while (again := next_try(NOW, at)) is not None:
        rungs.append(round(again - NOW))
        at = again
    assert rungs[:6] == [300, 600, 1800, 3600, 7200, 10800]
    assert rungs[-2:] == [82800, 86400]
    assert next_try(NOW, NOW + 90_000) is None


@given(st.floats(0, 86_399))
def test_the_next_try_is_in_the_future(age: float) -> None:
    again = next_try(NOW, NOW + age)
    assert again is not None
    assert NOW + age < again <= NOW + 86_400


def test_oldest_and_newest_calls_alternate() -> None:
    old, new = [a_call(f"o{n}") for n in range(3)], [a_call(f"n{n}") for n in range(3)]

    def order(oldest: list[Call], newest: list[Call], *, newest_first: bool) -> list[str]:
        return [call.call_id for call in interleave(oldest, newest, newest_first=newest_first)]

    assert order(old, new, newest_first=False) == ["o0", "n0", "o1", "n1", "o2", "n2"]
    assert order(old, new, newest_first=True) == ["n0", "o0", "n1", "o1", "n2", "o2"]
    assert order(old, old[::-1], newest_first=False) == ["o0", "o2", "o1"]
    assert order(old, [], newest_first=True) == ["o0", "o1", "o2"]


def test_a_report_aggregates_calls() -> None:
    found = report(
        [
            ("FC1", "normal", "connected", "200000", 6),
            ("FC1", "normal", "failed", "200005", 2),
            ("FC1", "temporary", "not_connected", "200002", 3),
            ("FC2", "", "pending", "", 4),
            ("FC2", "", "unverified", "", 1),
        ]
    )
    assert found.total == CallCounts(16, 6, 2, 3, 1, 4)
    assert found.total.wrong == pytest.approx(2 / 11)
    assert list(found.by_route) == [("FC1", "normal"), ("FC1", "temporary"), ("FC2", "")]
    assert found.by_route["FC2", ""].wrong == 0
    assert list(found.causes.items()) == [("200002", 3), ("200005", 2)]
