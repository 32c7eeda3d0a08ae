"""The effect of substitute replies on a binding: X is confirmed or doubted, or the binding ends; nothing else."""

from dataclasses import replace

import pytest

from precall.core.model import (
    Action,
    BindingState,
    InEffect,
    Policy,
    Reason,
    Reply,
    Row,
    State,
    Status,
)
from precall.core.routing.route import decide
from precall.core.routing.state import CheckResult, Step, advance
from tests.support.builders import NOW, POLICY, TEMP, A, B, X, answer, binding, observed

SOUND, DOUBTFUL = InEffect(x_sound=True, request_id="R-9"), InEffect(x_sound=False, request_id="R-9")
GONE = BindingState(state=State.EXPIRED, status=0, seq=1, streak=1, checked_at=NOW - 1.0)
HELD = [observed(State.TEMPORARY), observed(State.FALLBACK)]


def step(state: BindingState, reply: Reply, policy: Policy = POLICY, now: float = NOW, seq: int = 9) -> Step:
    return advance(binding(), state, reply, generation=1, seq=seq, policy=policy, now=now, chance=0.5)


def decided(state: BindingState, now: float = NOW, **facts: object) -> tuple[Action, str, Reason]:
    route = decide(Row(binding(**facts), state), A, POLICY, now)
    return route.action, route.number, route.reason


@pytest.mark.parametrize("state", [BindingState(), GONE], ids=["unverified", "gone"])
def test_a_sound_x_is_brought_into_service(state: BindingState) -> None:
    done = step(state, SOUND)
    assert (done.result, done.changed, done.answered) == (CheckResult.IN_EFFECT, True, True)
    assert (done.state.state, done.state.status, done.state.checked_at) == (State.NORMAL, 0, NOW)
    assert decided(done.state) == (Action.DIAL_X, X, Reason.IN_EFFECT)


def test_x_stays_confirmed_as_long_as_it_is_said_to_be_sound() -> None:
    endless = {"expires_at": None, "registered_at": NOW - 10 * POLICY.x_ttl}
    first = step(observed(State.NORMAL, number="17000000009"), SOUND)
    assert first.changed, "the route is no longer by Status 1"
    later = NOW + POLICY.x_ttl
    again = step(first.state, SOUND, now=later, seq=10)
    assert not again.changed
    assert again.state.streak == 2
    assert decided(again.state, later + 1, **endless) == (Action.DIAL_X, "17000000009", Reason.IN_EFFECT)
    assert decided(first.state, later + 1, **endless) == (Action.HOLD, "", Reason.TOO_OLD)


@pytest.mark.parametrize("state", HELD, ids=lambda state: str(state.state))
def test_a_report_of_query_call_status_holds_until_its_ttl(state: BindingState) -> None:
    done = step(state, SOUND)
    assert (done.result, done.changed) == (CheckResult.IN_EFFECT, False)
    assert done.state == replace(state, seq=9)
    assert done.state.checked_at < NOW, "not confirmed by what was not asked"
    expected = (Action.DIAL_TEMP_X, TEMP) if state.status == Status.TEMPORARY else (Action.DIAL_REAL, B)
    assert decided(done.state)[:2] == expected
    late = NOW + max(POLICY.temporary_ttl, POLICY.real_ttl) + 1
    assert decided(state, late, expires_at=None)[0] is Action.HOLD
    over = step(state, SOUND, now=late)
    assert over.changed
    assert (over.state.temp_number, over.state.exposed_at) == ("", 0.0)
    assert decided(over.state, late, expires_at=None) == (Action.DIAL_X, X, Reason.IN_EFFECT)


def test_a_temporary_state_without_a_number_is_replaced_at_once() -> None:
    done = step(observed(State.TEMPORARY, number="", temp_number="", temp_at=0.0), SOUND)
    assert decided(done.state) == (Action.DIAL_X, X, Reason.IN_EFFECT)


@pytest.mark.parametrize(
    "state", [BindingState(), observed(State.NORMAL), *HELD], ids=lambda state: str(state.state)
)
def test_an_abnormal_x_keeps_the_route_and_is_not_confirmed(state: BindingState) -> None:
    done = step(state, DOUBTFUL)
    assert (done.result, done.changed, done.answered) == (CheckResult.X_ABNORMAL, False, True)
    assert done.state == replace(state, seq=9)
    assert decided(done.state) == decided(state)


def test_a_gone_binding_with_an_abnormal_x_becomes_unverified() -> None:
    done = step(GONE, DOUBTFUL)
    assert (done.state.state, done.state.checked_at, done.changed) == (State.UNVERIFIED, 0.0, True)


@pytest.mark.parametrize("reply", [SOUND, DOUBTFUL])
def test_in_effect_resets_failures_and_blocked(reply: Reply) -> None:
    doubted = observed(State.NORMAL, failures=3, gone_at=NOW - 3, blocked=True)
    done = step(doubted, reply)
    assert (done.state.failures, done.state.gone_at, done.state.blocked) == (0, 0.0, False)
    assert done.changed


@pytest.mark.parametrize("reply", [SOUND, DOUBTFUL])
def test_in_effect_does_not_revive_status_4(reply: Reply) -> None:
    expired = observed(State.EXPIRED)
    done = step(expired, reply)
    assert (done.result, done.state, done.at_rest) == (CheckResult.CONTRADICTED, expired, True)


def test_an_end_is_an_answer_and_late_replies_are_dropped() -> None:
    assert step(observed(State.NORMAL), answer(4)).state.state is State.EXPIRED
    assert step(observed(State.NORMAL, seq=9), SOUND).result is CheckResult.LATE
