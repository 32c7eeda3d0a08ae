"""The route decision: every case, its precedence, and its time limits."""

from dataclasses import replace

import pytest

from precall.core.model import (
    Action,
    BindingState,
    Flag,
    NumberRole,
    Override,
    Policy,
    Promise,
    Reason,
    Row,
    State,
    Would,
)
from precall.core.routing.route import decide, doubt, hold, past, too_old_to_dial, withhold
from tests.support.builders import NOW, POLICY, TEMP, A, B, X, observed, row


def decided(
    of: Row, caller: str = "", policy: Policy = POLICY, now: float = NOW, *, halted: bool = False
) -> tuple:
    route = decide(of, caller, policy, now, halted=halted)
    return route.action, route.number, route.reason


GONE = BindingState(state=State.EXPIRED, checked_at=NOW - 1.0, seq=1, streak=1)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (BindingState(), (Action.DIAL_X, X, Reason.UNVERIFIED)),
        (observed(State.NORMAL), (Action.DIAL_X, X, Reason.STATUS_1)),
        (observed(State.NORMAL, number=""), (Action.DIAL_X, X, Reason.STATUS_1)),
        (observed(State.NORMAL, number="17000000009"), (Action.DIAL_X, "17000000009", Reason.STATUS_1)),
        (observed(State.TEMPORARY), (Action.DIAL_TEMP_X, TEMP, Reason.STATUS_2)),
        (observed(State.FALLBACK), (Action.DIAL_REAL, B, Reason.STATUS_3)),
        (observed(State.EXPIRED), (Action.EXPIRED, "", Reason.STATUS_4)),
        (GONE, (Action.EXPIRED, "", Reason.GONE)),
    ],
    ids=lambda value: str(getattr(value, "state", "")),
)
def test_each_state_has_its_action(state: BindingState, expected: tuple) -> None:
    assert decided(row(state)) == expected


@pytest.mark.parametrize(
    ("caller", "number_b", "expected"),
    [
        ("", B, (Action.DIAL_REAL, B)),
        (A, B, (Action.DIAL_REAL, B)),
        (B, B, (Action.DIAL_REAL, A)),
        ("+86" + B, B, (Action.DIAL_REAL, A)),
        ("0086" + A, B, (Action.DIAL_REAL, B)),
        ("0" + A, B, (Action.DIAL_REAL, B)),
        ("138-0000 0001", B, (Action.DIAL_REAL, B)),
        ("13700000000", B, (Action.HOLD, "")),
        ("", "", (Action.DIAL_REAL, A)),
        ("13700000000", "", (Action.DIAL_REAL, A)),
        (A, "", (Action.HOLD, "")),
    ],
)
def test_the_real_number_is_that_of_the_party_who_is_not_calling(
    caller: str, number_b: str, expected: tuple
) -> None:
    assert decided(row(observed(State.FALLBACK), number_b=number_b), caller)[:2] == expected


def test_unknown_and_unmatched_callers_get_a_reason() -> None:
    assert decided(row(observed(State.FALLBACK)), "13700000000")[2] is Reason.UNKNOWN_CALLER
    assert decided(row(observed(State.FALLBACK), number_b=""), A)[2] is Reason.NO_FALLBACK_NUMBER


@pytest.mark.parametrize("state", [State.UNVERIFIED, State.NORMAL, State.TEMPORARY, State.FALLBACK])
def test_every_state_expires_by_the_clock(state: State) -> None:
    end = NOW + 3600.0
    observed_then = replace(observed(state), checked_at=end - 6.0, temp_at=end - 6.0)
    before = decided(row(observed_then), now=end - POLICY.skew - 0.001)
    assert before[0] is not Action.EXPIRED
    assert decided(row(observed_then), now=end - POLICY.skew) == (Action.EXPIRED, "", Reason.EXPIRED_LOCALLY)


def test_a_temporary_number_is_not_dialled_after_its_ttl() -> None:
    young = row(observed(State.TEMPORARY, age=POLICY.temporary_ttl))
    old = row(observed(State.TEMPORARY, age=POLICY.temporary_ttl + 0.001))
    assert decided(young)[0] is Action.DIAL_TEMP_X
    assert decided(old) == (Action.HOLD, "", Reason.TOO_OLD)


def test_a_real_number_is_not_dialled_on_an_old_answer() -> None:
    assert decided(row(observed(State.FALLBACK, age=POLICY.real_ttl + 1))) == (
        Action.HOLD,
        "",
        Reason.TOO_OLD,
    )


def test_an_x_without_an_expiry_must_be_confirmed_within_its_ttl() -> None:
    old = observed(State.NORMAL, age=POLICY.x_ttl + 1)
    assert decided(row(old, expires_at=None)) == (Action.HOLD, "", Reason.TOO_OLD)
    assert decided(row(old))[0] is Action.DIAL_X, "with an end of its own it needs no other"
    assert decided(row(expires_at=None, registered_at=NOW - POLICY.x_ttl - 1))[2] is Reason.TOO_OLD


def test_status_2_without_a_number_serves_the_previous_one_or_holds() -> None:
    without = observed(State.TEMPORARY, number="")
    assert decided(row(without))[:2] == (Action.DIAL_TEMP_X, TEMP)
    never = observed(State.TEMPORARY, number="", temp_number="", temp_at=0.0)
    assert decided(row(never)) == (Action.HOLD, "", Reason.NO_TEMPORARY_NUMBER)
    old = observed(State.TEMPORARY, number="", temp_at=NOW - 601)
    assert decided(row(old)) == (Action.HOLD, "", Reason.NO_TEMPORARY_NUMBER)


def test_policy_brake_and_confirmation_each_hold_the_real_number() -> None:
    fallback = observed(State.FALLBACK)
    assert decided(row(fallback), policy=Policy(fallback=Action.HOLD))[2] is Reason.POLICY_HOLD
    assert decided(row(fallback), policy=Policy(confirm_real=2))[2] is Reason.UNCONFIRMED
    assert decided(row(replace(fallback, exposed_at=0.0)))[2] is Reason.EXPOSURE_BRAKE
    assert decided(row(fallback), halted=True)[2] is Reason.EXPOSURE_BRAKE


def test_unverified_may_be_held_by_policy() -> None:
    assert decided(row(), policy=Policy(unverified=Action.HOLD)) == (Action.HOLD, "", Reason.UNVERIFIED)


@pytest.mark.parametrize("state", [State.UNVERIFIED, State.NORMAL, State.TEMPORARY, State.FALLBACK])
def test_blocked_is_shown_and_changes_neither_action_nor_number(state: State) -> None:
    before = row(observed(state))
    blocked = row(replace(observed(state), blocked=True))
    assert decided(before)[:2] == decided(blocked)[:2]
    route = decide(blocked, "", POLICY, NOW)
    assert (route.state, route.reason) == (State.BLOCKED, Reason.BLOCKED)


def test_flapping_prefers_a_young_temporary_number_to_x() -> None:
    moves = tuple(NOW - 60.0 + i for i in range(5))
    state = observed(State.NORMAL, temp_number=TEMP, temp_at=NOW - 30, moves=moves)
    route = decide(row(state), "", POLICY, NOW)
    assert (route.action, route.number) == (Action.DIAL_TEMP_X, TEMP)
    assert Flag.FLAPPING in route.flags
    assert decided(row(replace(state, temp_at=NOW - 601)))[0] is Action.DIAL_X


def pin(
    action: Action, means: NumberRole = NumberRole.OWN, until: float | None = None, generation: int = 1
) -> Override:
    return Override(action, means, until, "because", generation, NOW - 1)


def pinned(state: BindingState, override: Override, **facts: object) -> Row:
    return replace(row(state, **facts), override=override)


def test_an_override_beats_an_answer_and_loses_to_expiry() -> None:
    held = pinned(observed(State.NORMAL), pin(Action.HOLD))
    route = decide(held, "", POLICY, NOW)
    assert (route.action, route.reason, Flag.OVERRIDDEN in route.flags) == (
        Action.HOLD,
        Reason.OVERRIDE,
        True,
    )
    assert decided(held, now=NOW + 3600.0)[2] is Reason.EXPIRED_LOCALLY
    assert decided(pinned(observed(State.EXPIRED), pin(Action.DIAL_X)))[0] is Action.EXPIRED
    assert decided(pinned(observed(State.FALLBACK), pin(Action.DIAL_X)))[:2] == (Action.DIAL_X, X)


def test_an_override_ends_with_its_time_and_with_its_generation() -> None:
    assert decided(pinned(observed(State.NORMAL), pin(Action.HOLD, until=NOW)))[0] is Action.DIAL_X
    assert decided(pinned(observed(State.NORMAL), pin(Action.HOLD, generation=2)))[0] is Action.DIAL_X


def test_an_override_dials_no_number_beyond_its_ttl() -> None:
    temporary = observed(State.FALLBACK, temp_number=TEMP, temp_at=NOW - 599)
    assert decided(pinned(temporary, pin(Action.DIAL_TEMP_X, NumberRole.TEMPORARY)))[:2] == (
        Action.DIAL_TEMP_X,
        TEMP,
    )
    old = replace(temporary, temp_at=NOW - 601)
    assert decided(pinned(old, pin(Action.DIAL_TEMP_X, NumberRole.TEMPORARY))) == (
        Action.HOLD,
        "",
        Reason.TOO_OLD,
    )
    other = replace(temporary, temp_number="17100000002")
    assert decided(pinned(other, pin(Action.DIAL_TEMP_X, NumberRole.TEMPORARY)))[:2] == (
        Action.DIAL_TEMP_X,
        "17100000002",
    )
    lost = pinned(temporary, pin(Action.DIAL_TEMP_X, NumberRole.LOST))
    assert decided(lost) == (Action.HOLD, "", Reason.TOO_OLD)
    endless = pinned(observed(State.NORMAL, age=86_401), pin(Action.DIAL_X), expires_at=None)
    assert decided(endless)[0] is Action.HOLD


def test_x_mismatch_is_flagged() -> None:
    assert Flag.X_MISMATCH in decide(row(observed(State.NORMAL, number="17000000009")), "", POLICY, NOW).flags
    assert Flag.X_MISMATCH not in decide(row(observed(State.NORMAL, number="+86" + X)), "", POLICY, NOW).flags


@pytest.mark.parametrize("reason_state", [State.TEMPORARY, State.NORMAL])
def test_stale_is_older_than_the_states_own_limit(reason_state: State) -> None:
    limit = 60.0 if reason_state is State.TEMPORARY else 300.0
    assert not decide(row(observed(reason_state, age=limit)), "", POLICY, NOW).stale
    assert decide(row(observed(reason_state, age=limit + 0.5)), "", POLICY, NOW).stale


def test_the_extension_is_the_replys_else_the_registered_one() -> None:
    registered = row(observed(State.NORMAL), extension="12")
    assert decide(registered, "", POLICY, NOW).extension == "12"
    extended_by_reply = row(observed(State.NORMAL, extension="34"), extension="12")
    assert decide(extended_by_reply, "", POLICY, NOW).extension == "34"


def test_only_hold_has_a_retry_after() -> None:
    assert decide(row(observed(State.FALLBACK)), "13700000000", POLICY, NOW).retry_after > 0
    assert decide(row(observed(State.NORMAL)), "", POLICY, NOW).retry_after == 0


def test_withheld_and_held_routes_have_no_number() -> None:
    route = decide(row(observed(State.FALLBACK)), "", POLICY, NOW)
    shown = withhold(route)
    assert (shown.action, shown.number, Flag.NUMBER_WITHHELD in shown.flags) == (Action.DIAL_REAL, "", True)
    held = hold(route, Reason.AUDIT_UNAVAILABLE)
    assert (held.action, held.number, held.retry_after > 0) == (Action.HOLD, "", True)
    assert withhold(decide(row(observed(State.NORMAL)), "", POLICY, NOW)).number == X


@pytest.mark.parametrize(
    ("state", "age", "old"),
    [
        (State.NORMAL, 299.0, False),
        (State.NORMAL, 301.0, True),
        (State.TEMPORARY, 59.0, False),
        (State.TEMPORARY, 61.0, True),
        (State.EXPIRED, 1e6, False),
    ],
)
def test_stale_follows_the_promise(state: State, age: float, old: bool) -> None:
    """Where max_age is promised for dialled routes, no other is stale by its age; one that is dialled gets a check."""
    on_all, on_dial = Policy(), Policy(promise=Promise.DIAL)
    aged = row(observed(state, age))
    assert decide(aged, "", on_all, NOW).stale is old
    assert not decide(aged, "", on_dial, NOW).stale
    assert not too_old_to_dial(aged, on_all, NOW)
    assert too_old_to_dial(aged, on_dial, NOW) is old
    earlier = decide(aged, "", on_all, NOW - age)
    assert past(earlier, NOW - age, on_all, NOW).stale is old
    assert not past(earlier, NOW - age, on_dial, NOW).stale


def test_without_an_answer_age_counts_from_the_registration() -> None:
    policy = Policy(promise=Promise.DIAL)
    assert not too_old_to_dial(row(registered_at=NOW - 299), policy, NOW)
    assert too_old_to_dial(row(registered_at=NOW - 301), policy, NOW)
    assert not too_old_to_dial(row(registered_at=NOW - 301, expires_at=NOW), policy, NOW)


def test_a_promise_changes_nothing_but_stale() -> None:
    for state in (State.NORMAL, State.TEMPORARY, State.FALLBACK):
        aged = row(observed(state, 700.0), expires_at=None)
        on_all, on_dial = (decide(aged, "", Policy(promise=one), NOW) for one in Promise)
        assert replace(on_all, stale=False) == on_dial


@pytest.mark.parametrize("state", [State.NORMAL, State.TEMPORARY, State.FALLBACK, State.UNVERIFIED])
def test_doubt_holds_a_route_that_dials(state: State) -> None:
    route = doubt(decide(row(observed(state)), "", POLICY, NOW))
    assert (route.action, route.number, route.reason) == (Action.HOLD, "", Reason.UNCONFIRMED)
    assert route.stale
    assert 0 < route.retry_after <= 5


def test_doubt_changes_no_route_that_dials_nothing() -> None:
    for state in (observed(State.EXPIRED), observed(State.TEMPORARY, age=700.0)):
        route = decide(row(state), "", POLICY, NOW)
        assert doubt(route) == route


def test_doubt_leaves_an_override_and_an_observed_pool_alone() -> None:
    order = Override(Action.DIAL_X, NumberRole.OWN, None, "tested", 1, NOW)
    overridden = replace(row(observed(State.NORMAL)), override=order)
    route = decide(overridden, "", POLICY, NOW)
    assert doubt(route) == replace(route, stale=True)
    watched = decide(row(observed(State.NORMAL)), "", replace(POLICY, observe=frozenset(["*"])), NOW)
    assert watched.would == Would(Action.DIAL_X, Reason.STATUS_1)
    doubted = doubt(watched)
    assert (doubted.action, doubted.number, doubted.stale) == (Action.DIAL_X, X, True)
    assert doubted.would == Would(Action.HOLD, Reason.UNCONFIRMED)
