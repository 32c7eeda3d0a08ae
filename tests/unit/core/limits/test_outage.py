"""Is it us? When DEGRADED is entered and left, and when "gone" is not believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.limits.outage import Outage, OutageTransition, PoolGoneDetector
from precall.core.model import Failure

BAD = Failure.TRANSIENT


def feed(
    outage: Outage, outcomes: list[Failure | None], start: float = 0.0, every: float = 0.1
) -> list[OutageTransition]:
    """Record results one after another. Return the transitions."""
    turns = [outage.record(outcome, start + n * every) for n, outcome in enumerate(outcomes)]
    return [turn for turn in turns if turn is not None]


def test_half_of_twenty_failures_enter_degraded_mode():
    outage = Outage()
    assert feed(outage, [None] * 10 + [BAD] * 9) == []
    assert outage.record(BAD, 2.0) == OutageTransition(degraded=True, checks=20, failures=10, duration=0.0)
    assert outage.degraded


def test_less_than_half_does_not_enter():
    assert feed(Outage(), [None] * 40 + [BAD] * 39) == []


def test_nineteen_failures_do_not_enter_unless_ten_are_consecutive():
    assert feed(Outage(), ([BAD] * 9 + [None]) + [BAD] * 9) == []


def test_ten_consecutive_failures_enter_when_checks_are_rare():
    outage = Outage()
    turns = feed(outage, [BAD] * 10, every=60.0)
    assert turns == [OutageTransition(degraded=True, checks=10, failures=10, duration=0.0)]


def test_ten_consecutive_failures_among_many_successes_do_not_enter():
    assert feed(Outage(), [None] * 30 + [BAD] * 10) == []


def test_old_checks_do_not_count():
    outage = Outage()
    feed(outage, [None] * 100, every=0.01)
    assert [t.checks for t in feed(outage, [BAD] * 20, start=40.0)] == [10]


@pytest.mark.parametrize("failure", [Failure.TRANSIENT, Failure.ACCOUNT])
def test_transport_and_account_failures_count(failure):
    assert len(feed(Outage(), [failure] * 10)) == 1


@pytest.mark.parametrize(
    "failure", [Failure.THROTTLED, Failure.STALE, Failure.REFUSED, Failure.GONE, Failure.MALFORMED]
)
def test_other_failures_do_not_count(failure):
    assert feed(Outage(), [failure] * 100) == []


@pytest.mark.parametrize(("outcome", "leaves"), [(None, 1), (Failure.REFUSED, 1), (Failure.GONE, 1)])
def test_ten_consecutive_answers_leave_degraded_mode(outcome, leaves):
    outage = Outage()
    feed(outage, [BAD] * 10)
    assert feed(outage, [outcome] * 9 + [BAD] + [outcome] * 9, start=10.0) == []
    turn = outage.record(outcome, 20.0)
    assert turn == OutageTransition(degraded=False, checks=20, failures=1, duration=pytest.approx(19.1))
    assert not outage.degraded


@pytest.mark.parametrize("failure", [Failure.MALFORMED, Failure.THROTTLED, Failure.STALE])
def test_failures_do_not_leave_degraded_mode(failure):
    outage = Outage()
    feed(outage, [BAD] * 10)
    assert feed(outage, [failure] * 50, start=10.0) == []


def test_a_throttled_check_does_not_interrupt_consecutive_answers():
    outage = Outage()
    feed(outage, [BAD] * 10)
    assert len(feed(outage, [None, Failure.THROTTLED] * 10, start=10.0)) == 1


def test_leaving_degraded_mode_resets_the_failures():
    outage = Outage()
    feed(outage, [BAD] * 30 + [None] * 10)
    assert outage.record(BAD, 4.0) is None


def test_degraded_mode_reduces_background_checks():
    outage = Outage()
    assert all(outage.admits(1.0, 100.0) for _ in range(50))
    feed(outage, [BAD] * 10)
    assert sum(outage.admits(1 + n / 100, 100.0) for n in range(1000)) == 10
    assert sum(outage.admits(100 + n / 100, 2.0) for n in range(10_000)) == pytest.approx(10, abs=1)


@pytest.mark.parametrize("rate", [4.0, 10.0, 1000.0])
def test_the_end_of_trouble_is_known_within_seconds(rate):
    outage = Outage()
    feed(outage, [BAD] * 10)
    now, over = 1.0, 100.0
    while outage.degraded:
        if outage.admits(now, rate):
            outage.record(BAD if now < over else None, now)
        now += 0.05
    assert now < over + 15.0


def test_the_tally_is_that_of_the_window():
    outage = Outage()
    feed(outage, [BAD] * 3 + [None] * 2)
    assert (outage.tally.failures, outage.tally.checks) == (3, 5)


@given(st.lists(st.tuples(st.sampled_from([None, *Failure]), st.floats(0.0, 20.0)), max_size=200))
def test_turns_alternate(outcomes):
    outage, now, degraded = Outage(), 0.0, False
    for outcome, pause in outcomes:
        now += pause
        turn = outage.record(outcome, now)
        if turn is not None:
            assert turn.degraded is not degraded
            assert 0 <= turn.failures <= turn.checks
            degraded = turn.degraded
        assert outage.degraded is degraded


def test_five_gone_in_a_small_pool_are_not_credible():
    gone = PoolGoneDetector()
    assert [gone.credible("P", f"{n}", 10.0) for n in range(6)] == [True] * 4 + [False] * 2
    assert gone.accused("P", 10.0) == (6, 6)
    assert gone.credible("Q", "9", 10.0)


def test_twenty_gone_of_a_hundred_are_not_credible():
    gone = PoolGoneDetector()
    for n in range(100):
        gone.answered("P", f"{n}")
    verdicts = [gone.credible("P", f"{n}", 10.0) for n in range(100, 120)]
    assert verdicts == [True] * 19 + [False]


def test_a_binding_checked_repeatedly_counts_once():
    gone = PoolGoneDetector()
    assert all(gone.credible("P", "1", float(n)) for n in range(20))


def test_gone_replies_are_forgotten_after_five_minutes():
    gone = PoolGoneDetector()
    for n in range(6):
        gone.credible("P", f"{n}", 0.0)
    assert gone.accused("P", 301.0) is None
    assert gone.credible("P", "7", 301.0)


def test_an_answer_clears_its_binding():
    gone = PoolGoneDetector()
    for n in range(5):
        gone.credible("P", f"{n}", 0.0)
    gone.answered("P", "0")
    assert gone.accused("P", 1.0) is None
