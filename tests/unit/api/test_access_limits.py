"""Request limits per token, and throttling of wrong tokens."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.api.access.rate_limits import RateLimits
from precall.api.access.token_throttle import BURST, EVERY, MOST_PEERS, RATE, TokenThrottle
from precall.api.problems import Code, TooMany
from precall.core.limits.quota import Bucket


class Clock:
    """A clock that advances on command."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(act: Any, *args: Any, **more: Any) -> TooMany:
    with pytest.raises(TooMany) as caught:
        act(*args, **more)
    assert caught.value.status == 429
    return caught.value


@given(
    st.floats(0.1, 1000),
    st.floats(1, 1000),
    st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=200),
)
@pytest.mark.slow(seconds=1)
def test_a_bucket_is_limited_by_rate_and_burst(rate: float, burst: float, pauses: list[float]) -> None:
    now, taken, bucket = 0.0, 0, Bucket(rate, burst, 0.0)
    for pause in pauses:
        now += pause
        wait = bucket.spend(now)
        taken += wait == 0.0
        assert taken <= rate * now + burst + 1e-6
        if wait:
            assert bucket.spend(now + wait + 1e-6) == 0.0
            now, taken = now + wait + 1e-6, taken + 1


def test_an_idle_bucket_fills_up_and_a_clock_set_back_adds_nothing() -> None:
    bucket = Bucket(2.0, 4.0, 100.0)
    assert [bucket.spend(100.0) for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert bucket.spend(50.0) == 0.5
    assert not bucket.full(101.0)
    assert bucket.full(102.0)


def test_no_rate_means_no_limit() -> None:
    allowance = RateLimits(0.0, 1, 1, Clock())
    for _ in range(10_000):
        allowance.spend()


def test_a_rate_allows_one_second_as_burst() -> None:
    clock = Clock()
    allowance = RateLimits(10.0, 1, 1, clock)
    for _ in range(10):
        allowance.spend()
    problem = refused(allowance.spend)
    assert (problem.code, problem.wait) == (Code.RATE_LIMITED, pytest.approx(0.1))
    clock.now += 0.1
    allowance.spend()
    refused(allowance.spend)


def test_requests_and_waiting_ones_are_counted_separately() -> None:
    allowance = RateLimits(0.0, 2, 1, Clock())
    allowance.enter(waits=False)
    allowance.enter(waits=False)
    allowance.enter(waits=True)
    assert "api.max_in_flight" in str(refused(allowance.enter, waits=False))
    assert "api.max_streams" in str(refused(allowance.enter, waits=True))
    allowance.leave(waits=False)
    allowance.enter(waits=False)


def test_wrong_tokens_are_slowed_down_per_peer() -> None:
    clock = Clock()
    guessing = TokenThrottle(clock)
    for _ in range(int(BURST)):
        guessing.wrong("192.0.2.1")
    assert refused(guessing.wrong, "192.0.2.1").wait == pytest.approx(1 / RATE)
    guessing.wrong("192.0.2.2")
    clock.now += 1 / RATE
    guessing.wrong("192.0.2.1")
    refused(guessing.wrong, "192.0.2.1")


def test_an_ipv6_network_counts_as_one_peer() -> None:
    guessing = TokenThrottle(Clock())
    for place in range(int(BURST)):
        guessing.wrong(f"2001:db8::{place:x}")
    refused(guessing.wrong, "2001:db8::ffff")
    guessing.wrong("2001:db8:0:1::1")
    guessing.wrong("fe80::1%eth0")
    guessing.wrong("")


def test_wrong_tokens_of_many_peers_share_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    guessing = TokenThrottle(clock)
    for place in range(5 * MOST_PEERS):
        guessing.wrong(f"10.{place >> 16}.{place >> 8 & 255}.{place & 255}")
        guessing.report()
    guessing.wrong("10.0.0.1")
    assert len(guessing) == MOST_PEERS
    assert not caplog.records
    clock.now += EVERY
    guessing.report()
    guessing.report()
    [record] = caplog.records
    event: Any = record.msg
    assert (event["event"], event["count"], event["peers"]) == (
        "api.wrong_tokens",
        5 * MOST_PEERS + 1,
        MOST_PEERS,
    )
    assert (event["most"], event["of_these"]) == ("10.0.0.1", 2)
    assert len(guessing) == 0
    guessing.report(ending=True)
    assert len(caplog.records) == 1


def test_pending_wrong_tokens_are_logged_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    guessing = TokenThrottle(Clock())
    guessing.wrong("192.0.2.1")
    guessing.report(ending=True)
    assert len(caplog.records) == 1
