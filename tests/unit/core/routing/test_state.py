"""Every cell of the transition table, and what a non-answer may not do."""

from dataclasses import replace

import pytest

from precall.core.ages import Horizon
from precall.core.model import BindingState, Failure, Policy, Reply, State, Status
from precall.core.routing.state import GONE_AGAIN, CheckResult, Step, advance, flapping, is_gone
from tests.support.builders import NOW, POLICY, TEMP, A, B, X, answer, binding, failure, observed

STATES = [
    BindingState(),
    observed(State.NORMAL),
    observed(State.TEMPORARY),
    observed(State.FALLBACK),
]
GONE = BindingState(state=State.EXPIRED, status=0, seq=1, streak=1, checked_at=NOW - 1.0)


def step(
    state: BindingState,
    reply: Reply,
    *,
    seq: int = 9,
    generation: int = 1,
    policy: Policy = POLICY,
    now: float = NOW,
    credible: bool = True,
) -> Step:
    return advance(
        binding(),
        state,
        reply,
        generation=generation,
        seq=seq,
        policy=policy,
        now=now,
        chance=0.5,
        gone_is_credible=credible,
    )


@pytest.mark.parametrize("state", [*STATES, GONE], ids=lambda state: f"{state.state}{state.status}")
@pytest.mark.parametrize(
    ("status", "expected"),
    [(1, State.NORMAL), (2, State.TEMPORARY), (3, State.FALLBACK), (4, State.EXPIRED)],
)
def test_an_answer_acts_at_once_in_any_state(state: BindingState, status: int, expected: State) -> None:
    after = step(state, answer(status)).state
    assert (after.state, after.status, after.seq, after.checked_at) == (expected, status, 9, NOW)


@pytest.mark.parametrize("status", [1, 2, 3])
def test_status_4_ends_the_generation(status: int) -> None:
    expired = observed(State.EXPIRED)
    result = step(expired, answer(status))
    assert result.result is CheckResult.CONTRADICTED
    assert result.state is expired
    assert result.at_rest


def test_status_4_is_confirmed_once_and_never_checked_again() -> None:
    first = step(observed(State.NORMAL), answer(4))
    assert first.again is not None
    assert 2.0 <= first.again <= 5.0
    second = step(first.state, answer(4), seq=10)
    assert second.again is None
    assert second.at_rest
    assert not second.changed


def test_status_4_decides_even_with_a_called_number() -> None:
    after = step(observed(State.NORMAL), answer(4, X)).state
    assert (after.state, after.number) == (State.EXPIRED, "")


@pytest.mark.parametrize("state", STATES, ids=lambda state: str(state.state))
@pytest.mark.parametrize("kind", [k for k in Failure if k not in (Failure.GONE, Failure.REFUSED)])
def test_a_non_answer_does_not_change_the_route(state: BindingState, kind: Failure) -> None:
    result = step(state, failure(kind))
    assert not result.changed
    assert replace(result.state, failures=0) == replace(state, failures=0)


def test_a_refused_query_shows_blocked_until_the_next_answer() -> None:
    refused = step(observed(State.NORMAL), failure(Failure.REFUSED, "isv.SUBS_NOT_BELONG"))
    assert refused.state.blocked
    assert refused.changed
    assert refused.again == 300.0
    assert not step(refused.state, failure(Failure.REFUSED)).changed
    answered = step(refused.state, answer(1))
    assert not answered.state.blocked
    assert answered.changed


def test_the_second_no_such_binding_is_an_answer() -> None:
    first = step(observed(State.NORMAL), failure(Failure.GONE))
    assert first.result is CheckResult.GONE_UNCONFIRMED
    assert not first.changed
    assert first.again is not None
    assert 2.0 <= first.again <= 5.0
    second = step(first.state, failure(Failure.GONE), seq=10, now=NOW + 3.0)
    assert second.result is CheckResult.GONE
    assert is_gone(second.state)
    assert second.changed


def test_a_gone_binding_is_checked_again_after_ten_minutes_and_an_hour() -> None:
    state = step(observed(State.NORMAL), failure(Failure.GONE)).state
    waits = []
    for seq in range(10, 13):
        result = step(state, failure(Failure.GONE), seq=seq)
        waits.append(result.again)
        state = result.state
    assert waits == [*GONE_AGAIN, None]


def test_an_answer_in_between_clears_the_doubt() -> None:
    doubted = step(observed(State.NORMAL), failure(Failure.GONE)).state
    answered = step(doubted, answer(1), seq=10).state
    assert step(answered, failure(Failure.GONE), seq=11).result is CheckResult.GONE_UNCONFIRMED


def test_gone_replies_of_a_whole_pool_are_doubted() -> None:
    doubted = step(observed(State.NORMAL), failure(Failure.GONE)).state
    result = step(doubted, failure(Failure.GONE), seq=10, credible=False)
    assert result.result is CheckResult.GONE_DOUBTED
    assert result.state.state is State.NORMAL
    assert not result.changed


@pytest.mark.parametrize(("seq", "generation"), [(1, 1), (0, 1), (9, 2)])
def test_a_late_reply_is_dropped(seq: int, generation: int) -> None:
    state = observed(State.NORMAL)
    result = step(state, answer(3), seq=seq, generation=generation)
    assert result.result is CheckResult.LATE
    assert result.state is state


def test_an_equal_answer_extends_the_streak_without_a_change() -> None:
    result = step(observed(State.TEMPORARY, age=40.0), answer(2))
    assert not result.changed
    assert (result.state.streak, result.state.temp_at) == (2, NOW)


def test_another_temporary_number_is_a_change() -> None:
    result = step(observed(State.TEMPORARY), answer(2, "17100000002"))
    assert result.changed
    assert result.state.temp_number == "17100000002"


@pytest.mark.parametrize("own", [A, B, "+86" + A, "86 139-0000-0001"])
@pytest.mark.parametrize("status", [1, 2])
def test_a_partys_number_in_a_reply_is_not_usable(own: str, status: int) -> None:
    after = step(BindingState(), answer(status, own)).state
    assert (after.number, after.temp_number) == ("", "")


def test_status_2_without_a_number_keeps_the_previous_temporary_one() -> None:
    before = observed(State.TEMPORARY, age=30.0)
    after = step(before, replace(answer(2), called_no="")).state
    assert (after.number, after.temp_number, after.temp_at) == ("", TEMP, NOW - 30.0)


def test_status_3_needs_as_many_confirmations_as_the_policy_wants() -> None:
    policy = Policy(confirm_real=2)
    first = step(observed(State.NORMAL), answer(3), policy=policy)
    assert first.again is not None
    second = step(first.state, answer(3), seq=10, policy=policy)
    assert second.again is None
    assert second.changed, "turning from unconfirmed to confirmed is another row"
    assert not step(second.state, answer(3), seq=11, policy=policy).changed


def test_leaving_status_3_forgets_the_exposure() -> None:
    assert step(observed(State.FALLBACK), answer(3)).state.exposed_at
    assert not step(observed(State.FALLBACK), answer(2)).state.exposed_at
    assert not step(observed(State.FALLBACK), answer(1)).state.exposed_at


def test_backoff_has_full_jitter_and_a_limit() -> None:
    state, ceilings = observed(State.NORMAL), []
    for _ in range(9):
        result = advance(
            binding(),
            state,
            failure(Failure.TRANSIENT),
            generation=1,
            seq=9,
            policy=POLICY,
            now=NOW,
            chance=1.0,
        )
        ceilings.append(result.again)
        state = result.state
    assert ceilings == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_malformed_replies_are_retried_twice_fast_and_then_slowly() -> None:
    state, waits = observed(State.NORMAL), []
    for _ in range(4):
        result = step(state, failure(Failure.MALFORMED))
        waits.append(result.again)
        state = result.state
    assert waits == [1.0, 2.0, 60.0, 60.0]


def test_throttled_stale_and_account_failures_keep_the_place_in_the_plan() -> None:
    for kind in (Failure.THROTTLED, Failure.STALE, Failure.ACCOUNT):
        result = step(observed(State.NORMAL), failure(kind))
        assert (result.again, result.state.failures) == (0.0, 0)


def test_more_than_four_transitions_in_ten_minutes_are_flapping() -> None:
    state = observed(State.NORMAL)
    for seq, status in enumerate((2, 1, 2, 1), start=10):
        state = step(state, answer(status), seq=seq).state
        assert not flapping(state, Horizon(NOW))
    state = step(state, answer(2), seq=20).state
    assert flapping(state, Horizon(NOW))
    assert not flapping(state, Horizon(NOW + 601.0))


def test_the_first_answer_is_not_a_transition() -> None:
    assert step(BindingState(), answer(Status.NORMAL)).state.moves == ()
