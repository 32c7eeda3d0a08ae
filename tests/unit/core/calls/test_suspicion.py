"""When failed calls make a binding suspect: enough of them, recent, on this route, in any order of reports."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.calls import suspicion as module
from precall.core.calls.calibration import Calibration
from precall.core.calls.suspicion import HALF_LIFE, MAX_BINDINGS, CallSuspicion, CallVerdict
from precall.core.model import Flag, State
from tests.support.builders import NOW, observed, row

NORMAL = row(observed(State.NORMAL))


def a_verdict(place: int, *, failed: bool = True, ago: float = 60.0, damning: bool = False) -> CallVerdict:
    return CallVerdict(f"c{place}", NOW - ago + place, failed, damning)


def heard(*verdicts: CallVerdict, now: float = NOW) -> CallSuspicion:
    suspicion = CallSuspicion()
    for verdict in verdicts:
        suspicion.record(NORMAL, verdict, "normal", now)
    return suspicion


def test_three_failures_of_the_last_five_and_not_two() -> None:
    two = heard(*(a_verdict(n) for n in range(2)))
    assert not two.is_suspect(NORMAL, NOW)
    assert two.record(NORMAL, a_verdict(3), "normal", NOW)
    assert two.flags(NORMAL, NOW) == (Flag.SUSPECT,)
    connected = [a_verdict(n, failed=False) for n in range(5, 7)]
    three_of_five = heard(*(a_verdict(n) for n in range(3)), *connected)
    assert three_of_five.is_suspect(NORMAL, NOW)
    three_of_five.record(NORMAL, a_verdict(7, failed=False), "normal", NOW)
    assert not three_of_five.is_suspect(NORMAL, NOW)


def test_every_further_failure_requests_a_check_and_a_success_does_not() -> None:
    suspicion = heard(*(a_verdict(n) for n in range(3)))
    assert suspicion.record(NORMAL, a_verdict(3), "normal", NOW)
    assert not suspicion.record(NORMAL, a_verdict(4, failed=False), "normal", NOW)


def test_suspicion_fades() -> None:
    suspicion = heard(*(a_verdict(n) for n in range(3)))
    assert suspicion.is_suspect(NORMAL, NOW + 0.9 * HALF_LIFE)
    assert not suspicion.is_suspect(NORMAL, NOW + HALF_LIFE)
    assert not heard(*(a_verdict(n, ago=HALF_LIFE + 60) for n in range(3))).is_suspect(NORMAL, NOW)
    assert suspicion.suspects(NOW) == [NORMAL.binding.subs_id]
    assert suspicion.suspects(NOW + HALF_LIFE) == []
    assert len(suspicion) == 1
    assert suspicion.suspects(NOW + 3 * HALF_LIFE) == []
    assert len(suspicion) == 0


def test_a_reclaimed_number_is_suspect_at_once() -> None:
    suspicion = CallSuspicion()
    assert suspicion.record(NORMAL, a_verdict(1, damning=True), "normal", NOW)
    assert suspicion.flags(NORMAL, NOW) == (Flag.SUSPECT,)
    assert not suspicion.is_suspect(NORMAL, NOW + HALF_LIFE)
    old = CallSuspicion()
    assert not old.record(NORMAL, a_verdict(1, damning=True, ago=5 * HALF_LIFE), "normal", NOW)


def test_the_provider_disagrees_once_it_has_answered_normal_after() -> None:
    suspicion = heard(*(a_verdict(n) for n in range(3)))
    asked = row(observed(State.NORMAL, age=-1.0))
    assert suspicion.flags(asked, NOW + 2) == (Flag.SUSPECT, Flag.API_DISAGREES)
    assert suspicion.flags(NORMAL, NOW + 2) == (Flag.SUSPECT,)


def test_calls_on_another_route_do_not_count() -> None:
    suspicion = heard(*(a_verdict(n) for n in range(3)))
    temporary = row(observed(State.TEMPORARY))
    assert suspicion.flags(temporary, NOW) == ()
    for place in range(5, 9):
        assert not suspicion.record(temporary, a_verdict(place), "normal", NOW)
    for place in range(5, 7):
        assert not suspicion.record(temporary, a_verdict(place), "temporary", NOW)
    assert suspicion.record(temporary, a_verdict(7), "temporary", NOW)
    assert suspicion.flags(row(observed(State.NORMAL), generation=2), NOW) == ()


def test_a_call_on_an_unknown_route_counts_and_so_does_an_unverified_one() -> None:
    suspicion = CallSuspicion()
    for place, dialled in enumerate(["", "unverified", "normal"]):
        suspicion.record(NORMAL, a_verdict(place), dialled, NOW)
    assert suspicion.is_suspect(NORMAL, NOW)


def test_a_later_report_on_a_call_replaces_the_earlier() -> None:
    suspicion = heard(*(a_verdict(n) for n in range(3)))
    suspicion.record(NORMAL, a_verdict(1, failed=False), "normal", NOW)
    assert not suspicion.is_suspect(NORMAL, NOW)


@given(st.lists(st.booleans(), min_size=1, max_size=6))
def test_the_order_of_reports_does_not_matter(ends: list[bool]) -> None:
    verdicts = [a_verdict(n, failed=failed) for n, failed in enumerate(ends)]
    orders = [*list(permutations(verdicts))[::97], tuple(verdicts)]
    found = {heard(*order, *order[::-1]).is_suspect(NORMAL, NOW) for order in orders}
    assert len(found) == 1
    assert found == {sum(ends[-5:]) >= 3}


def test_number_reports_count_by_their_own_time() -> None:
    for order in permutations([(True, NOW - 20), (False, NOW - 10)]):
        suspicion = CallSuspicion()
        for abnormal, at in order:
            suspicion.report(NORMAL, abnormal=abnormal, at=at, now=NOW)
        assert not suspicion.is_suspect(NORMAL, NOW)
    suspicion.report(NORMAL, abnormal=True, at=NOW, now=NOW)
    assert suspicion.flags(NORMAL, NOW) == (Flag.SUSPECT,)


@pytest.mark.slow(seconds=7)
def test_memory_is_bounded_and_working_bindings_do_not_displace_suspects() -> None:
    suspicion = heard(*(a_verdict(n) for n in range(3)))
    for place in range(MAX_BINDINGS + 10):
        other = row(observed(State.NORMAL), subs_id=f"x{place}")
        suspicion.record(other, a_verdict(place, failed=False), "normal", NOW)
    assert len(suspicion) == MAX_BINDINGS + 1
    assert suspicion.is_suspect(NORMAL, NOW)


def test_a_record_is_forgotten_when_it_can_no_longer_reach_the_score() -> None:
    assert (
        module.LATEST_CALLS * 2.0 ** -(module.FORGET_AFTER / HALF_LIFE)
        < module.MIN_SCORE
        < module.MIN_FAILURES
    )


def test_calibration_counts_predicted_and_measured_shares() -> None:
    calibration = Calibration()
    calibration.dialled("FC1", 0.5)
    calibration.dialled("FC2", 0.0)
    calibration.ended("FC1", wrong=True)
    calibration.ended("FC1", wrong=False)
    assert calibration.predicted == {"": 0.25, "FC1": 0.5, "FC2": 0.0}
    assert calibration.measured == {"": 0.5, "FC1": 0.5}
