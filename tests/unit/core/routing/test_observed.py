"""Observed pools: X is dialled whatever the answer, nothing is exposed, and `would` is what enforcement would do."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.model import (
    Action,
    BindingState,
    Flag,
    NumberRole,
    Override,
    Policy,
    Reason,
    Row,
    State,
    Would,
)
from precall.core.numbers import same
from precall.core.routing.exposure import may_turn, must_withdraw, release_to_real, turn_to_real, withdraw
from precall.core.routing.route import decide, held_by_brake, past, removed, withhold
from precall.core.routing.state import advance
from tests.support.builders import NOW, POLICY, TEMP, A, B, X, answer, binding, observed, row

CALLERS = ["", A, B, "13700000000", "anonymous"]
AGES = st.sampled_from([1.0, 400.0, 700.0, 100_000.0])
NAMES = st.sampled_from(["", X, TEMP, "17000000009", A, B, "+86" + A])

bindings = st.builds(
    binding,
    number_x=st.sampled_from([X, X, X, A, "17000000001-12"]),
    number_b=st.sampled_from([B, ""]),
    extension=st.sampled_from(["", "12"]),
    expires_at=st.sampled_from([None, NOW - 100.0, NOW + 2.0, NOW + 3600.0]),
    registered_at=AGES.map(lambda age: NOW - age),
    sound=st.sampled_from([True, True, True, False]),
)
states = st.builds(
    BindingState,
    state=st.sampled_from([state for state in State if state is not State.BLOCKED]),
    status=st.integers(0, 4),
    number=NAMES,
    extension=st.sampled_from(["", "34"]),
    checked_at=st.just(0.0) | AGES.map(lambda age: NOW - age),
    seq=st.just(1),
    streak=st.integers(0, 3),
    temp_number=NAMES,
    temp_at=AGES.map(lambda age: NOW - age),
    exposed_at=st.sampled_from([0.0, NOW - 50.0]),
    blocked=st.booleans(),
    moves=st.sampled_from([(), (NOW - 5.0,) * 5]),
)
orders = st.none() | st.builds(
    Override,
    action=st.sampled_from([Action.HOLD, Action.DIAL_X, Action.DIAL_TEMP_X]),
    means=st.sampled_from(NumberRole),
    until=st.sampled_from([None, NOW - 1.0, NOW + 60.0]),
    reason=st.just(""),
    generation=st.integers(1, 2),
    created_at=st.just(NOW - 10.0),
)
rows = st.builds(Row, bindings, states, orders, st.just(1), st.just(1))
policies = st.builds(
    Policy,
    unverified=st.sampled_from([Action.DIAL_X, Action.HOLD]),
    fallback=st.sampled_from([Action.DIAL_REAL, Action.HOLD]),
    confirm_real=st.integers(1, 3),
    observe=st.sampled_from([frozenset({"FC1"}), frozenset({"*"}), frozenset({"FC1", "FC2"})]),
)


def pinned(row: Row) -> bool:
    pin = row.override
    return pin is not None and pin.generation == 1 and pin.until != NOW - 1.0


@given(rows, policies, st.sampled_from(CALLERS), st.booleans())
def test_an_observed_route_is_x_or_expired_or_overridden_never_real(
    seen: Row, policy: Policy, caller: str, halted: bool
) -> None:
    route = decide(seen, caller, policy, NOW, halted=halted)
    facts = seen.binding
    assert route.action is not Action.DIAL_REAL
    assert not any(same(route.number, number) for number in (facts.number_a, facts.number_b) if number)
    if facts.expires_at is not None and facts.expires_at - policy.skew <= NOW:
        assert (route.action, route.reason, route.number) == (Action.EXPIRED, Reason.EXPIRED_LOCALLY, "")
    elif route.reason is Reason.UNUSABLE_NUMBER:
        assert route.action is Action.HOLD
        assert pinned(seen) or not facts.sound or facts.number_x != X
    elif pinned(seen):
        assert route.reason in (Reason.OVERRIDE, Reason.TOO_OLD)
        assert Flag.OVERRIDDEN in route.flags
    else:
        assert (route.action, route.number, route.extension) == (Action.DIAL_X, X, facts.extension)
        assert (route.reason, route.retry_after) == (Reason.OBSERVED, 0)
    assert withhold(route) is route


@given(rows, policies, st.sampled_from(CALLERS), st.booleans())
def test_would_equals_the_enforced_route_with_room_in_the_brake(
    seen: Row, policy: Policy, caller: str, halted: bool
) -> None:
    route = decide(seen, caller, policy, NOW, halted=halted)
    admitted = replace(seen, state=replace(seen.state, exposed_at=NOW))
    enforced = decide(admitted, caller, replace(policy, observe=frozenset()), NOW, halted=halted)
    assert route.would == Would(enforced.action, enforced.reason)
    for name in ("state", "status", "checked_at", "age", "stale", "flags", "expires_at", "version", "index"):
        assert getattr(route, name) == getattr(enforced, name), name
    assert enforced.would is None


@given(rows, policies, st.integers(1, 4), st.booleans())
def test_observing_asks_for_no_exposure_and_keeps_none(
    seen: Row, policy: Policy, status: int, has_room: bool
) -> None:
    assert not may_turn(seen.binding, seen.state, policy)
    assert not held_by_brake(seen, policy, NOW)
    assert release_to_real(seen, policy, NOW) is seen
    step = advance(
        seen.binding, seen.state, answer(status), generation=1, seq=2, policy=policy, now=NOW, chance=0.5
    )
    assert turn_to_real(seen.binding, step, policy, NOW, has_room=has_room) == step
    cleared = withdraw(seen, policy)
    assert not cleared.state.exposed_at
    assert (cleared is seen) is not must_withdraw(seen, policy)
    assert replace(cleared, state=replace(cleared.state, exposed_at=seen.state.exposed_at)) == seen
    assert withdraw(seen, POLICY) is seen


def test_other_pools_are_unaffected() -> None:
    seen = row(observed(State.TEMPORARY))
    elsewhere = replace(POLICY, observe=frozenset({"FC2"}))
    assert decide(seen, "", elsewhere, NOW) == decide(seen, "", POLICY, NOW)
    assert decide(seen, "", elsewhere, NOW).would is None


def test_a_route_that_left_observe_mode_waits_for_the_brake() -> None:
    observing = replace(POLICY, observe=frozenset({"FC1"}))
    seen = withdraw(row(observed(State.FALLBACK)), observing)
    assert decide(seen, A, observing, NOW).would == Would(Action.DIAL_REAL, Reason.STATUS_3)
    assert decide(seen, A, POLICY, NOW).reason is Reason.EXPOSURE_BRAKE
    assert may_turn(seen.binding, seen.state, POLICY)
    assert held_by_brake(seen, POLICY, NOW)


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (Action.HOLD, (Action.HOLD, "", Reason.OVERRIDE)),
        (Action.DIAL_X, (Action.DIAL_X, X, Reason.OVERRIDE)),
        (Action.DIAL_TEMP_X, (Action.HOLD, "", Reason.TOO_OLD)),
    ],
)
def test_an_override_holds_even_after_status_4(action: Action, told: tuple[Action, str, Reason]) -> None:
    ended = observed(State.EXPIRED, temp_number=TEMP, temp_at=NOW - 1.0)
    order = Override(action, NumberRole.OWN, None, "", 1, NOW)
    route = decide(replace(row(ended), override=order), "", replace(POLICY, observe=frozenset({"*"})), NOW)
    assert (route.action, route.number, route.reason) == told
    assert route.would == Would(Action.EXPIRED, Reason.STATUS_4)


def test_a_past_route_has_its_would_be_route() -> None:
    observing = replace(POLICY, observe=frozenset({"FC1"}))
    route = decide(row(observed(State.TEMPORARY)), "", observing, NOW)
    assert past(route, NOW, observing, NOW + 60.0).would == route.would
    assert past(route, NOW, observing, NOW + 4000.0).would == Would(Action.EXPIRED, Reason.EXPIRED_LOCALLY)
    assert removed(route, 2, 2).would is None


def test_the_repr_of_an_observed_route_holds_no_number() -> None:
    route = decide(row(observed(State.FALLBACK)), A, replace(POLICY, observe=frozenset({"*"})), NOW)
    assert not any(number in repr(route) for number in (A, B, X))
