"""Exposing the real number: only if provider, policy and brake agree, and only as long as that holds."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.model import Action, Answer, BindingState, Failure, NonAnswer, Policy, Reply, State, Status
from precall.core.routing.exposure import may_turn, release_to_real, turn_to_real, wants_real_number
from precall.core.routing.route import decide
from precall.core.routing.state import Step, advance
from tests.support.builders import NOW, TEMP, B, X, answer, binding, observed, row

states = st.builds(
    observed,
    state=st.sampled_from([State.UNVERIFIED, State.NORMAL, State.TEMPORARY, State.FALLBACK, State.EXPIRED]),
    age=st.floats(0, 2000),
    streak=st.integers(0, 4),
    exposed_at=st.sampled_from([0.0, NOW - 1500.0, NOW - 1.0]),
)
replies: st.SearchStrategy[Reply] = st.builds(
    Answer,
    status=st.sampled_from(Status),
    called_no=st.sampled_from(["", X, TEMP, B]),
    request_id=st.just("R"),
) | st.builds(NonAnswer, failure=st.sampled_from(Failure), code=st.just("c"))
policies = st.builds(
    Policy,
    fallback=st.sampled_from([Action.DIAL_REAL, Action.HOLD]),
    confirm_real=st.integers(1, 3),
    real_ttl=st.sampled_from([10.0, 600.0]),
)
steps = st.builds(
    lambda state, reply, policy: (
        policy,
        state,
        advance(binding(), state, reply, generation=1, seq=2, policy=policy, now=NOW, chance=0.5),
    ),
    state=states,
    reply=replies,
    policy=policies,
)


@given(steps, st.booleans())
def test_provider_policy_and_brake_must_agree_on_an_exposure(
    case: tuple[Policy, BindingState, Step], has_room: bool
) -> None:
    policy, before, step = case
    turned = turn_to_real(binding(), step, policy, NOW, has_room=has_room)
    provider = step.state.state is State.FALLBACK and step.state.status == Status.UNREACHABLE
    allowed = policy.fallback is Action.DIAL_REAL and step.state.streak >= policy.confirm_real
    fresh = not step.state.exposed_at and step.state is not before and step.result == "status_3"
    assert (turned.state.exposed_at == NOW) == (provider and allowed and fresh and has_room)
    # Nothing else changes, and a second call has no effect.
    assert replace(turned.state, exposed_at=step.state.exposed_at) == step.state
    assert (turned.result, turned.again, turned.at_rest) == (step.result, step.again, step.at_rest)
    assert turned.changed or turned == step
    assert turn_to_real(binding(), turned, policy, NOW + 1.0, has_room=True) == turned or not has_room
    assert not wants_real_number(binding(), turned, policy) or not has_room


@given(steps, st.booleans(), st.floats(0, 3000), st.booleans())
def test_without_exposed_at_no_real_number_is_dialled(
    case: tuple[Policy, BindingState, Step], has_room: bool, later: float, halted: bool
) -> None:
    policy, _, step = case
    state = turn_to_real(binding(), step, policy, NOW, has_room=has_room).state
    route = decide(row(state), "", policy, NOW + later, halted=halted)
    if route.action is Action.DIAL_REAL:
        assert state.state is State.FALLBACK
        assert state.exposed_at
        assert policy.fallback is Action.DIAL_REAL
        assert NOW + later - state.checked_at <= policy.real_ttl
        assert not halted


@given(states, policies, st.floats(0, 3000))
def test_a_release_exposes_only_bindings_held_by_the_brake_alone(
    state: BindingState, policy: Policy, later: float
) -> None:
    held, now = row(state), NOW + later
    released = release_to_real(held, policy, now)
    if released is held:
        return
    assert decide(held, "", policy, now).reason == "exposure_brake"
    assert may_turn(binding(), state, policy)
    assert released == replace(held, state=replace(state, exposed_at=now))
    assert decide(released, "", policy, now).action is Action.DIAL_REAL
    assert release_to_real(released, policy, now) is released


@pytest.mark.parametrize("confirm", [1, 2])
def test_a_confirmed_status_3_is_exposed(confirm: int) -> None:
    policy = Policy(confirm_real=confirm)
    state, turned = BindingState(), []
    for seq in range(1, 4):
        step = advance(
            binding(), state, answer(3), generation=1, seq=seq, policy=policy, now=NOW + seq, chance=0.0
        )
        state = turn_to_real(binding(), step, policy, NOW + seq, has_room=True).state
        turned.append(state.exposed_at)
    assert turned == [0.0] * (confirm - 1) + [NOW + confirm] * (4 - confirm)
