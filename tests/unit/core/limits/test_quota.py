"""The bucket, its lanes, its yielding to throttling, and the circuit."""

from collections import Counter, deque
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.limits.quota import PROBE_EVERY, STALE_LEAST, STALE_SPAN, Bucket, Circuit, Priority, Quota

STEPS = st.lists(
    st.tuples(
        st.floats(0.0, 2.0),
        st.sampled_from(["demand", "background", "both", "throttle", "wait"]),
        st.integers(1, 30),
    ),
    max_size=120,
)


def greedy(quota: Quota, now: float, lane: Priority, most: int = 10_000) -> int:
    """How many calls that lane gets at once."""
    calls = 0
    while calls < most and quota.spend(now, lane):
        calls += 1
    return calls


@given(STEPS, st.floats(0.5, 200.0), st.floats(1.0, 50.0))
def test_no_window_holds_more_than_rate_and_burst(steps, rate, burst):
    quota, now = Quota(rate, burst, 0.0), 0.0
    calls = [(0.0, 0)]
    for pause, what, many in steps:
        now += pause
        if what == "throttle":
            quota.throttled(now, 0.5 if many % 2 else None)
        elif what != "wait":
            lanes = [Priority(what)] if what != "both" else list(Priority)
            calls.append((now, sum(greedy(quota, now, lane, many) for lane in lanes)))
    for first in range(len(calls)):
        for last in range(first, len(calls)):
            spent = sum(n for _, n in calls[first : last + 1])
            assert spent <= rate * (calls[last][0] - calls[first][0]) + burst + 1e-6


@given(
    st.lists(
        st.tuples(st.floats(0.0, 2.0), st.floats(0.5, 200.0), st.floats(1.0, 50.0)), min_size=1, max_size=40
    )
)
def test_no_window_exceeds_the_quota_across_changes_of_rate_and_burst(steps):
    quota, now, rate, burst = Quota(20.0, 20.0, 0.0), 0.0, 20.0, 20.0
    spent, earned, bursts = [0], [0.0], [burst]
    for pause, next_rate, next_burst in steps:
        now += pause
        earned.append(earned[-1] + rate * pause)
        bursts.append(burst)
        spent.append(spent[-1] + sum(greedy(quota, now, lane) for lane in Priority))
        rate, burst = next_rate, next_burst
        quota.retune(rate, burst, now)
        spent[-1] += sum(greedy(quota, now, lane) for lane in Priority)
    for first in range(len(spent)):
        for last in range(first + 1, len(spent)):
            allowed = earned[last] - earned[first + 1] + max(bursts[first + 1 : last + 1])
            assert spent[last] - spent[first] <= allowed + 1e-6


@given(STEPS, st.floats(0.5, 200.0), st.floats(1.0, 50.0))
def test_until_is_zero_when_spend_succeeds(steps, rate, burst):
    quota, now = Quota(rate, burst, 0.0), 0.0
    for pause, what, many in steps:
        now += pause
        if what == "throttle":
            quota.throttled(now, float(many))
            continue
        lane = Priority.DEMAND if what == "demand" else Priority.BACKGROUND
        while (wait := quota.until(now, lane)) > 0:  # more than once where the rate grows meanwhile
            assert not quota.spend(now, lane)
            now += wait + 1e-3
        assert quota.spend(now, lane)


def test_the_bucket_starts_empty():
    quota = Quota(20.0, 20.0, 100.0)
    assert not quota.spend(100.0, Priority.DEMAND)
    assert not quota.spend(100.0, Priority.BACKGROUND)
    assert quota.until(100.0, Priority.DEMAND) == pytest.approx(1 / 14)


@pytest.mark.parametrize("demand_first", [True, False])
def test_each_lane_gets_its_share_under_load(demand_first):
    quota = Quota(100.0, 100.0, 0.0)
    calls = {Priority.DEMAND: 0, Priority.BACKGROUND: 0}
    order = (Priority.DEMAND, Priority.BACKGROUND) if demand_first else (Priority.BACKGROUND, Priority.DEMAND)
    for tick in range(1, 6001):
        for lane in order:
            calls[lane] += greedy(quota, tick / 100, lane)
    assert calls[Priority.DEMAND] / 6000 == pytest.approx(0.7, abs=0.02)
    assert calls[Priority.BACKGROUND] / 6000 == pytest.approx(0.3, abs=0.02)


def test_background_checks_get_what_readers_leave():
    quota = Quota(50.0, 50.0, 0.0)
    assert sum(greedy(quota, tick / 50, Priority.BACKGROUND) for tick in range(1, 3001)) >= 2950


def test_a_busy_background_leaves_tokens_for_a_reader():
    quota = Quota(20.0, 20.0, 0.0)
    for tick in range(1, 400):
        greedy(quota, tick / 20, Priority.BACKGROUND)
    assert quota.spend(399 / 20, Priority.DEMAND)


def test_a_rate_of_one_with_the_smallest_burst_serves_both_lanes():
    quota = Quota(1.0, 1.0, 0.0)
    assert quota.spend(1.5, Priority.DEMAND)
    assert quota.spend(2.6, Priority.BACKGROUND)


def test_throttling_halves_once_per_window_and_grows_back():
    quota = Quota(100.0, 100.0, 0.0)
    for n in range(20):
        quota.throttled(10.0 + n / 100)
    assert quota.rate == pytest.approx(50.0, rel=0.1)
    quota.throttled(11.5)
    assert quota.rate < 45.0
    quota.until(300.0, Priority.DEMAND)
    assert quota.rate == 100.0


def test_growth_is_additive():
    quota = Quota(100.0, 100.0, 0.0)
    quota.throttled(1.0)
    rates = []
    for second in range(8, 28):
        quota.until(float(second), Priority.DEMAND)
        rates.append(quota.rate)
    steps = [b - a for a, b in pairwise(rates)]
    assert max(steps) == pytest.approx(min(steps))
    assert min(steps) > 0


def test_retry_after_is_honoured():
    quota = Quota(100.0, 100.0, 0.0)
    quota.throttled(5.0, 3.0)
    assert not quota.spend(7.9, Priority.DEMAND)
    assert not quota.spend(7.9, Priority.BACKGROUND)
    assert quota.until(6.0, Priority.BACKGROUND) == pytest.approx(2.0)
    assert quota.spend(8.1, Priority.DEMAND)


@pytest.mark.parametrize("retry_after", [None, 0.2])
@pytest.mark.parametrize("latency", [0.0, 0.2])
@pytest.mark.slow(seconds=1)
def test_a_provider_that_allows_a_fifth(retry_after, latency):
    quota, window, used = Quota(100.0, 100.0, 0.0), -1, 0
    calls, throttled, answered, pending = 0, 0, 0, []
    rates = []
    for tick in range(1, 120_001):
        now = tick / 1000
        while pending and pending[0] <= now:
            pending.pop(0)
            quota.throttled(now, retry_after)
        if int(now) != window:
            window, used = int(now), 0
        if quota.spend(now, Priority.BACKGROUND):
            calls += 1
            used += 1
            if used > 20:
                throttled += 1
                pending.append(now + latency)
            elif now > 60:
                answered += 1
        if now > 60 and tick % 100 == 0:
            rates.append(quota.rate)
    assert throttled / calls < 0.10
    assert 15 <= answered / 60 <= 20
    assert 15 <= sum(rates) / len(rates) <= 20.5
    assert sum(15 <= rate <= 20.5 for rate in rates) / len(rates) > 0.75


def saving(allowed):
    """A provider that lets a second's worth of unused calls pass at once; whether it answers one made at a time."""
    return partial(lambda bucket, now: bucket.spend(now) == 0.0, Bucket(allowed, allowed, 0.0))


def by_the_second(allowed):
    """A provider that counts calls per calendar second."""
    made = Counter()

    def answers(now):
        made[int(now)] += 1
        return made[int(now)] <= allowed

    return answers


@pytest.mark.parametrize("provider", [saving, by_the_second])
@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("rate", [40.0, 400.0])
@pytest.mark.slow(seconds=1)
def test_the_rate_stays_within_what_any_provider_allows_and_comes_back(provider, retry_after, share, rate):
    quota, answers, throttled = Quota(rate, rate, 0.0), provider(rate * share), deque()
    calls = refused = 0
    limits = []
    for tick in range(1, 20 * 180):
        now = tick / 20
        while throttled and throttled[0] <= now:
            quota.throttled(throttled.popleft(), retry_after)
        for _ in range(greedy(quota, now, Priority.BACKGROUND)):
            answered = answers(now)
            calls, refused = calls + (now > 60), refused + (now > 60 and not answered)
            if not answered:
                throttled.append(now + 0.1)
        if now > 60:
            limits.append(quota.rate)
    assert 0.75 * share * rate <= sum(limits) / len(limits) <= share * rate
    assert refused < 0.1 * calls
    quota.until(180.0 + 120.0, Priority.BACKGROUND)
    assert quota.rate == rate


def test_no_tokens_accumulate_during_a_pause():
    quota = Quota(100.0, 100.0, 0.0)
    quota.until(5.0, Priority.DEMAND)
    left = 100 - greedy(quota, 5.0, Priority.DEMAND)
    quota.throttled(5.0, 3.0)
    assert sum(greedy(quota, 8.0, lane) for lane in Priority) <= left
    assert 0.0 < quota.until(8.0, Priority.BACKGROUND) < 0.1


def test_changing_the_rate_keeps_the_throttled_share():
    quota = Quota(100.0, 100.0, 0.0)
    quota.retune(50.0, 10.0, 1.0)
    assert quota.rate == 50.0
    quota.throttled(2.0)
    quota.retune(200.0, 20.0, 2.0)
    assert quota.rate == 25.0
    assert greedy(quota, 60.0, Priority.DEMAND) <= 20
    quota.until(1000.0, Priority.DEMAND)
    assert quota.rate == 200.0


def test_a_smaller_burst_holds_at_once():
    quota = Quota(100.0, 100.0, 0.0)
    quota.until(10.0, Priority.DEMAND)
    quota.retune(100.0, 3.0, 10.0)
    assert greedy(quota, 10.0, Priority.DEMAND) <= 3


def test_a_stopped_clock_adds_no_tokens():
    quota = Quota(10.0, 10.0, 0.0)
    quota.until(1.0, Priority.DEMAND)
    spent = greedy(quota, 1.0, Priority.DEMAND)
    assert greedy(quota, 0.5, Priority.DEMAND) == 0
    assert spent == 7


def test_the_circuit_lets_one_probe_through_per_half_minute():
    circuit = Circuit()
    assert circuit.admits(0.0)
    assert circuit.fault(10.0)
    assert not circuit.fault(11.0)
    assert circuit.is_open
    assert [t for t in range(10, 101) if circuit.admits(float(t))] == [40, 70, 100]
    assert circuit.answered(102.0) == 92.0
    assert circuit.answered(103.0) is None
    assert circuit.admits(103.0)
    assert circuit.fault(104.0)


def test_stale_replies_for_long_enough_count_as_a_refusal():
    circuit = Circuit()
    replies = [(place / 2, circuit.stale(place / 2)) for place in range(20)]
    assert next(at for at, refused in replies if refused) == STALE_SPAN
    slow = Circuit()
    assert [slow.stale(10.0 * place) for place in range(STALE_LEAST)] == [False] * (STALE_LEAST - 1) + [True]


def test_an_answer_resets_stale_replies():
    circuit = Circuit()
    for at in range(100):
        assert not circuit.stale(float(at))
        if at % (STALE_LEAST - 2) == 0:
            circuit.answered(at + 0.5)
    assert not circuit.is_open


def test_a_stale_probe_is_repeated_soon_but_not_for_ever():
    circuit = Circuit()
    circuit.fault(0.0)
    probes = []
    for at in (place / 10 for place in range(1500)):
        if circuit.admits(at):
            probes.append(at)
            if circuit.stale(at):
                circuit.fault(at)
    soon = [after - before for before, after in pairwise(probes) if after - before < 1]
    assert len(soon) == pytest.approx(STALE_LEAST, abs=2)
    assert probes[-1] - probes[-2] == pytest.approx(PROBE_EVERY)


@given(
    st.lists(st.tuples(st.floats(0.0, 2.0), st.sampled_from(["stale", "answer", "throttled"])), max_size=200)
)
def test_stale_replies_open_the_circuit_only_if_nothing_is_answered_for_long(steps):
    circuit, now, row = Circuit(), 0.0, []
    for wait, reply in steps:
        now += wait
        if reply == "answer":
            circuit.answered(now)
            row = []
        elif reply == "stale":
            row.append(now)
            refused = len(row) >= STALE_LEAST and row[-1] - row[0] >= STALE_SPAN
            assert circuit.stale(now) is refused
