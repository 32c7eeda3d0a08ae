"""How long a route may be kept: never longer than it stands, and as long as it stands."""

from dataclasses import replace
from math import inf, nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precall.core.ages import AHEAD, Horizon
from precall.core.model import (
    Action,
    Binding,
    BindingState,
    Flag,
    NumberRole,
    Override,
    Policy,
    Promise,
    Reason,
    Route,
    Row,
    State,
)
from precall.core.numbers import UNKNOWN
from precall.core.routing.good_until import LONGEST, good_until
from precall.core.routing.route import decide, doubt, hold, past, removed, withhold
from precall.core.routing.state import FLAPPING_WINDOW
from tests.support.builders import NOW, POLICY, TEMP, A, B, X, observed, row
from tests.support.examples import examples

END = NOW + 3600.0 - POLICY.skew
LIMITS = [5.0, 60.0, 300.0, 600.0, 86_400.0]
AGES = [0.0, 0.25, 4.999, 5.0, 59.9, 60.0, 299.5, 300.0, 300.1, 599.0, 600.0, 600.1, 86_400.0, 90_000.0]
NUMBERS = ["", X, TEMP, "17100000002", A, "+86" + B, "12", "12345678901234567890"]
CALLERS = ["", A, B, "0" + A, "13700000000", UNKNOWN]

limit = st.sampled_from(LIMITS) | st.floats(1.0, 1000.0)
age = st.sampled_from([*AGES, *(-seconds for seconds in AGES)]) | st.floats(-700.0, 700.0)
moment = st.builds(NOW.__sub__, age)
never_or_moment = st.just(0.0) | moment
number = st.sampled_from(NUMBERS)

policies = st.builds(
    Policy,
    unverified=st.sampled_from([Action.DIAL_X, Action.HOLD]),
    fallback=st.sampled_from([Action.DIAL_REAL, Action.DIAL_REAL, Action.HOLD]),
    confirm_real=st.integers(1, 2),
    temporary_ttl=limit,
    real_ttl=limit,
    x_ttl=limit,
    skew=st.sampled_from([0.0, 5.0, 0.1]),
    max_age=limit,
    abnormal_max_age=limit,
    promise=st.sampled_from(Promise),
    observe=st.sampled_from([frozenset(), frozenset(), frozenset({"FC1"}), frozenset({"*"})]),
)
bindings = st.builds(
    Binding,
    subs_id=st.just("1"),
    pool_key=st.just("FC1"),
    number_x=st.sampled_from([X, X, X, "+86" + X, A, "123"]),
    number_a=st.just(A),
    number_b=st.sampled_from([B, B, ""]),
    expires_at=st.none() | moment,
    registered_at=moment,
    generation=st.just(1),
    sound=st.sampled_from([True, True, True, False]),
)
states = st.builds(
    BindingState,
    state=st.sampled_from([state for state in State if state is not State.BLOCKED]),
    status=st.integers(0, 4),
    number=number,
    checked_at=never_or_moment,
    streak=st.integers(0, 3),
    temp_number=number,
    temp_at=never_or_moment,
    exposed_at=never_or_moment,
    gone_at=never_or_moment,
    blocked=st.booleans(),
    moves=st.lists(moment, max_size=5).map(sorted).map(tuple) | st.tuples(*[moment] * 5),
)
overrides = st.none() | st.builds(
    Override,
    action=st.sampled_from([Action.HOLD, Action.DIAL_X, Action.DIAL_TEMP_X]),
    means=st.sampled_from(NumberRole),
    until=st.none() | moment,
    reason=st.just(""),
    generation=st.sampled_from([1, 1, 1, 2]),
    created_at=st.just(NOW),
)
rows = st.builds(
    Row, binding=bindings, state=states, override=overrides, version=st.just(1), index=st.just(1)
)
known_flags = st.lists(
    st.sampled_from([Flag.SUSPECT, Flag.API_DISAGREES, Flag.DEGRADED, Flag.UNSAVED]), unique=True
).map(tuple)


def said(route: Route) -> Route:
    """The route without what may differ while it is kept: its age, and when it was decided."""
    return replace(route, age=None, stale=False, decided_at=0.0, until=0.0)


def moments_of(of: Row, policy: Policy) -> list[float]:
    """Every moment at which time might change something of a row, whether it does or not."""
    state, binding = of.state, of.binding
    starts = [state.checked_at, state.temp_at, state.exposed_at, state.gone_at, binding.registered_at]
    lengths = [policy.temporary_ttl, policy.real_ttl, policy.x_ttl, FLAPPING_WINDOW, 0.0, -AHEAD]
    found = [at + length for at in (*starts, *state.moves) for length in lengths]
    if binding.expires_at is not None:
        found += [binding.expires_at, binding.expires_at - policy.skew]
    if of.override is not None and of.override.until is not None:
        found.append(of.override.until)
    return found


@given(
    of=rows,
    policy=policies,
    caller=st.sampled_from(CALLERS),
    halted=st.booleans(),
    flags=known_flags,
    share=st.floats(0.0, 1.0, exclude_max=True),
)
@examples(250, 50_000)
def test_what_is_said_stands_until_then(
    of: Row, policy: Policy, caller: str, halted: bool, flags: tuple[Flag, ...], share: float
) -> None:
    route = decide(of, caller, policy, NOW, halted=halted, flags=flags)
    assert NOW <= good_until(route) <= max(route.until, NOW + LONGEST)
    last = min(route.until, NOW + 2 * LONGEST)
    edges = [near for at in moments_of(of, policy) for near in (nextafter(at, 0.0), at, nextafter(at, inf))]
    for later in (NOW + share * (last - NOW), nextafter(last, 0.0), *edges):
        if NOW <= later < last:
            assert said(decide(of, caller, policy, later, halted=halted, flags=flags)) == said(route)


@given(
    of=rows,
    policy=policies,
    caller=st.sampled_from(CALLERS),
    halted=st.booleans(),
    since=st.floats(0.0, 900.0),
)
@examples(120, 20_000)
def test_a_route_ends_when_time_changes_it_and_not_before(
    of: Row, policy: Policy, caller: str, halted: bool, since: float
) -> None:
    # An X that a pool is observed for, and a number that an override lost, are kept for less than they stand.
    of, policy = replace(of, override=None), replace(policy, observe=frozenset())
    route = decide(of, caller, policy, NOW + since, halted=halted)
    if route.until < inf:
        after = (route.until, route.until + 1e-6)
        assert any(said(decide(of, caller, policy, then, halted=halted)) != said(route) for then in after)


NO_END = {"expires_at": None}
FLAPPING = (NOW - 500.0,) + (NOW - 100.0,) * 4
OVERRIDE = Override(Action.DIAL_X, NumberRole.OWN, NOW + 50.0, "", 1, NOW)


@pytest.mark.parametrize(
    ("of", "action", "until"),
    [
        (row(observed(State.NORMAL)), Action.DIAL_X, END),
        (row(), Action.DIAL_X, END),
        (row(observed(State.NORMAL, age=7.0), **NO_END), Action.DIAL_X, NOW - 7.0 + POLICY.x_ttl),
        (row(**NO_END), Action.DIAL_X, NOW - 60.0 + POLICY.x_ttl),
        (row(observed(State.TEMPORARY, age=7.0)), Action.DIAL_TEMP_X, NOW - 7.0 + POLICY.temporary_ttl),
        (row(observed(State.TEMPORARY), expires_at=NOW + 100.0), Action.DIAL_TEMP_X, NOW + 95.0),
        (
            row(observed(State.NORMAL, temp_number=TEMP, temp_at=NOW - 300.0, moves=FLAPPING)),
            Action.DIAL_TEMP_X,
            NOW + 100.0,
        ),
        (
            row(observed(State.NORMAL, temp_number=TEMP, temp_at=NOW - 550.0, moves=FLAPPING)),
            Action.DIAL_TEMP_X,
            NOW + 50.0,
        ),
        (row(observed(State.FALLBACK)), Action.DIAL_REAL, NOW),
        (row(observed(State.FALLBACK, exposed_at=0.0)), Action.HOLD, NOW + 60.0),
        (row(observed(State.FALLBACK, streak=0), expires_at=NOW + 8.0), Action.HOLD, NOW + 3.0),
        (row(observed(State.TEMPORARY, temp_number="", number="")), Action.HOLD, NOW + 30.0),
        (row(observed(State.EXPIRED)), Action.EXPIRED, END),
        (row(observed(State.EXPIRED), expires_at=NOW + 90_000.0), Action.EXPIRED, NOW + LONGEST),
        (row(observed(State.EXPIRED), **NO_END), Action.EXPIRED, NOW + LONGEST),
        (row(expires_at=NOW), Action.EXPIRED, NOW + LONGEST),
        (replace(row(observed(State.TEMPORARY)), override=OVERRIDE), Action.DIAL_X, NOW + 50.0),
        (replace(row(), override=replace(OVERRIDE, until=NOW - 1.0)), Action.DIAL_X, END),
        (replace(row(), override=replace(OVERRIDE, until=None)), Action.DIAL_X, END),
        (replace(row(), override=replace(OVERRIDE, action=Action.HOLD)), Action.HOLD, NOW + 50.0),
    ],
)
def test_the_usual_routes(of: Row, action: Action, until: float) -> None:
    route = decide(of, "", POLICY, NOW)
    assert route.action is action
    assert good_until(route) == until


@pytest.mark.parametrize(
    ("of", "until"),
    [
        (row(), END),
        (row(observed(State.TEMPORARY, age=7.0)), NOW - 7.0 + POLICY.temporary_ttl),
        (row(observed(State.FALLBACK, age=7.0)), NOW - 7.0 + POLICY.real_ttl),
        (row(observed(State.NORMAL, age=7.0), **NO_END), NOW - 7.0 + POLICY.x_ttl),
        (row(observed(State.NORMAL, age=POLICY.x_ttl + 1.0), **NO_END), NOW + LONGEST),
        (row(expires_at=NOW), NOW + LONGEST),
    ],
)
def test_in_an_observed_pool_a_route_stands_as_long_as_what_it_would_be(of: Row, until: float) -> None:
    assert good_until(decide(of, "", replace(POLICY, observe=frozenset({"*"})), NOW)) == until


def test_a_policy_that_forbids_the_real_number_or_x_bounds_the_route() -> None:
    strict = Policy(unverified=Action.HOLD, fallback=Action.HOLD)
    assert good_until(decide(row(), "", strict, NOW)) == NOW + 2.0
    assert good_until(decide(row(observed(State.FALLBACK)), "", strict, NOW)) == NOW + 60.0


def test_a_number_from_the_future_is_asked_for_again_once_the_clock_comes_near() -> None:
    ahead = row(observed(State.TEMPORARY, temp_at=NOW + 12.0))
    route = decide(ahead, "", POLICY, NOW)
    assert (route.reason, good_until(route)) == (Reason.TOO_OLD, NOW + 12.0 - AHEAD)
    assert decide(ahead, "", POLICY, NOW + 12.0 - AHEAD).action is Action.DIAL_TEMP_X


def test_withholding_holding_and_doubting_keep_the_bound() -> None:
    real = decide(row(observed(State.FALLBACK), expires_at=NOW + 8.0), "", POLICY, NOW)
    assert good_until(withhold(real)) == NOW
    assert good_until(hold(real, Reason.AUDIT_UNAVAILABLE)) == NOW + 3.0
    temporary = decide(row(observed(State.TEMPORARY)), "", POLICY, NOW)
    assert good_until(doubt(temporary)) == NOW + 5.0
    assert good_until(removed(temporary, 2, 2)) == NOW + LONGEST


def test_a_replaced_route_is_good_for_no_time_but_an_end_lasts() -> None:
    later = NOW + 60.0
    normal = decide(row(observed(State.NORMAL)), "", POLICY, NOW)
    assert good_until(past(normal, NOW, POLICY, later)) == later
    assert good_until(past(removed(normal, 2, 2), NOW, POLICY, later)) == later + LONGEST
    assert good_until(past(normal, NOW, POLICY, END)) == END + LONGEST


def test_a_horizon_ends_at_the_earliest_change_it_was_asked_about() -> None:
    horizon = Horizon(NOW)
    assert horizon.until == inf
    assert horizon.reached(NOW)
    assert not horizon.recent(NOW - 10.0, 9.0)
    assert horizon.until == inf, "these never change again"
    assert horizon.recent(NOW - 10.0, 30.0)
    assert not horizon.reached(NOW + 25.0)
    assert horizon.until == NOW + 20.0
    assert not horizon.recent(NOW + 6.0, 30.0)
    assert horizon.until == NOW + 1.0
