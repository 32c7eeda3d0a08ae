"""The route decision: what a dispatcher must do, as a pure function of (row, caller, policy, now).

Routes are not stored. Expiry and ttls are evaluated at every read.

Precedence: expiry > override > explicit answer > default. Call reports never decide; they only trigger checks.

In a pool that is only observed, X takes the place of answer and default, and the route says what it would be.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import assert_never

from precall.core.ages import Horizon, age_of
from precall.core.model import (
    ABNORMAL,
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
    Would,
)
from precall.core.numbers import UNKNOWN, clean, may_be_same, mistake, same
from precall.core.routing.state import flapping, is_gone, is_party

RETRY_AFTER = {
    Reason.UNVERIFIED: 2,
    Reason.UNCONFIRMED: 5,
    Reason.NO_TEMPORARY_NUMBER: 30,
    Reason.EXPOSURE_BRAKE: 60,
    Reason.POLICY_HOLD: 60,
    Reason.TOO_OLD: 10,
    Reason.OVERRIDE: 60,
    Reason.UNKNOWN_CALLER: 60,
    Reason.NO_FALLBACK_NUMBER: 60,
    Reason.AUDIT_UNAVAILABLE: 5,
    Reason.UNUSABLE_NUMBER: 60,
}

_PRIVATE = (Action.DIAL_X, Action.DIAL_TEMP_X)
_BY_ANSWER = (Reason.STATUS_1, Reason.STATUS_2, Reason.STATUS_3, Reason.IN_EFFECT, Reason.UNVERIFIED)


@dataclass(frozen=True, slots=True)
class DialTarget:
    """The core of a route: what to do, with which number, and why."""

    action: Action
    reason: Reason
    number: str = ""
    extension: str = ""

    def __repr__(self) -> str:
        return f"Dial({self.action}, reason={self.reason})"


def decide(
    row: Row,
    caller: str,
    policy: Policy,
    now: float,
    *,
    halted: bool = False,
    flags: tuple[Flag, ...] = (),
) -> Route:
    """Return the route of `row` for `caller` ("": none given) at `now`.

    `halted`: an operator has engaged the exposure brake for this pool. `flags` are those that only the engine knows.
    What an observed pool would say is decided as if the brake had room. Everything that time changes is asked of one
    horizon, so that `until` bounds all of it: actions, reasons, flags and `would`.
    """
    binding, state, horizon = row.binding, row.state, Horizon(now)
    expired = _is_over(binding, state, policy, horizon)
    blocked = state.blocked and not expired
    observed = policy.observes(binding.pool_key)
    judged = _dial(_admitted(row, now) if observed else row, caller, policy, horizon, halted=halted)
    if blocked and judged.reason in _BY_ANSWER:
        judged = replace(judged, reason=Reason.BLOCKED)
    dial = _dial_observed(row, policy, horizon) if observed else judged
    flags = (*_flags(row, judged, horizon), *flags)
    return Route(
        subs_id=binding.subs_id,
        action=dial.action,
        number=dial.number,
        extension=dial.extension,
        state=State.EXPIRED if expired else State.BLOCKED if blocked else state.state,
        reason=dial.reason,
        status=state.status,
        checked_at=state.checked_at,
        age=known_age(state.checked_at, now),
        stale=not expired and policy.promise is Promise.ALL and aged(row, policy, now),
        retry_after=RETRY_AFTER.get(dial.reason, 5) if dial.action is Action.HOLD else 0,
        flags=flags,
        expires_at=binding.expires_at,
        version=row.version,
        index=row.index,
        decided_at=now,
        until=horizon.until,
        would=Would(judged.action, judged.reason) if observed else None,
    )


def withhold(route: Route) -> Route:
    """The route for readers that may not see real numbers."""
    if route.action is not Action.DIAL_REAL:
        return route
    return replace(route, number="", flags=(*route.flags, Flag.NUMBER_WITHHELD))


def hold(route: Route, reason: Reason) -> Route:
    """The same route with the action `hold`."""
    return replace(
        route,
        action=Action.HOLD,
        number="",
        extension="",
        reason=reason,
        retry_after=RETRY_AFTER.get(reason, 5),
    )


def doubt(route: Route) -> Route:
    """The route for a reader whose own check was the first to be answered "no such binding".

    Nothing is dialled until that is confirmed or denied, some seconds later. Other readers are not affected. An
    override stands, and in an observed pool only `would` changes.
    """
    if Flag.OVERRIDDEN in route.flags:
        return replace(route, stale=True)
    if route.would:
        idle = route.would.action in (Action.HOLD, Action.EXPIRED)
        would = route.would if idle else Would(Action.HOLD, Reason.UNCONFIRMED)
        return replace(route, would=would, stale=True)
    if route.action in (Action.HOLD, Action.EXPIRED):
        return route
    return replace(hold(route, Reason.UNCONFIRMED), stale=True)


def removed(route: Route, version: int, index: int) -> Route:
    """The route of a removed binding, at this version and index."""
    gone = hold(route, Reason.REMOVED)
    return replace(
        gone,
        action=Action.EXPIRED,
        state=State.EXPIRED,
        retry_after=0,
        version=version,
        index=index,
        until=inf,
        would=None,
    )


def past(route: Route, published_at: float, policy: Policy, now: float) -> Route:
    """Return a replaced route, published at `published_at` (Unix seconds), as it may be shown at `now`.

    A number that has expired since then is removed. Another route is current, so this one holds no longer; unless it
    says that the binding has ended, which for its reader may be the last word.
    """
    allowed = policy.abnormal_max_age if route.state in ABNORMAL else policy.max_age
    stale = (
        policy.promise is Promise.ALL
        and route.state is not State.EXPIRED
        and age_of(route.checked_at or published_at, now) > allowed
    )
    again = replace(
        route,
        age=known_age(route.checked_at, now),
        stale=stale,
        decided_at=now,
        until=inf if route.action is Action.EXPIRED else now,
    )
    if route.action not in (Action.DIAL_X, Action.DIAL_TEMP_X):
        return again
    if now >= _end(route.expires_at, policy):
        gone = hold(again, Reason.EXPIRED_LOCALLY)
        return replace(
            gone,
            action=Action.EXPIRED,
            state=State.EXPIRED,
            stale=False,
            retry_after=0,
            until=inf,
            would=route.would and Would(Action.EXPIRED, Reason.EXPIRED_LOCALLY),
        )
    ttl = policy.x_ttl if route.action is Action.DIAL_X else policy.temporary_ttl
    endless = route.action is Action.DIAL_TEMP_X or route.expires_at is None
    return hold(again, Reason.TOO_OLD) if endless and age_of(published_at, now) > ttl else again


def expired_locally(binding: Binding, policy: Policy, now: float) -> bool:
    """Whether the binding has ended by our own clock, `skew` seconds early."""
    return now >= _end(binding.expires_at, policy)


def known_age(checked_at: float, now: float) -> float | None:
    """The age of an answer in seconds; None if there is no answer yet (0), or its age cannot be known."""
    age = age_of(checked_at, now) if checked_at else inf
    return None if age == inf else age


def too_old(row: Row, policy: Policy, now: float) -> bool:
    """Whether only its age keeps this binding from being dialled."""
    return _dial(row, "", policy, Horizon(now), halted=False).reason is Reason.TOO_OLD


def is_over(row: Row, policy: Policy, now: float) -> bool:
    """Whether a binding has ended: the provider said so, or its time has come."""
    return _is_over(row.binding, row.state, policy, Horizon(now))


def _is_over(binding: Binding, state: BindingState, policy: Policy, horizon: Horizon) -> bool:
    return state.state is State.EXPIRED or horizon.reached(_end(binding.expires_at, policy))


def _end(expires_at: float | None, policy: Policy) -> float:
    return inf if expires_at is None else expires_at - policy.skew


def held_by_brake(row: Row, policy: Policy, now: float) -> bool:
    """Whether nothing but the exposure brake keeps this binding from its real number."""
    if policy.observes(row.binding.pool_key):
        return False
    return _dial(row, "", policy, Horizon(now), halted=False).reason is Reason.EXPOSURE_BRAKE


def max_age(state: BindingState, policy: Policy) -> float:
    """The age in seconds up to which an observation in this state is young enough."""
    return policy.abnormal_max_age if state.state in ABNORMAL else policy.max_age


def aged(row: Row, policy: Policy, now: float) -> bool:
    """Return whether the observation is older than `max_age`. Before the first answer, the registration counts."""
    return age_of(row.state.checked_at or row.binding.registered_at, now) > max_age(row.state, policy)


def too_old_to_dial(row: Row, policy: Policy, now: float) -> bool:
    """Return whether the promise in force requires a check before this route is dialled."""
    return policy.promise is Promise.DIAL and aged(row, policy, now) and not is_over(row, policy, now)


def active_override(row: Row, horizon: Horizon) -> Override | None:
    """Return the override in force now, or None. An override ends with its generation, or at its time."""
    override = row.override
    if (
        override is None
        or override.generation != row.binding.generation
        or (override.until is not None and horizon.reached(override.until))
    ):
        return None
    return override


def callee(binding: Binding, caller: str) -> tuple[str, str] | Reason:
    """Return the side ("a" or "b") and the real number that `caller` must reach, or why there is none.

    Any caller reaches A on a binding without a B; A itself has nobody to call there. A caller that may be either
    party is an unknown caller.
    """
    a, b = binding.number_a, binding.number_b
    if caller == UNKNOWN:
        return Reason.UNKNOWN_CALLER
    if not b:
        if same(caller, a):
            return Reason.NO_FALLBACK_NUMBER
        return Reason.UNKNOWN_CALLER if may_be_same(caller, a) else ("a", a)
    if not caller or same(caller, a):
        return Reason.UNKNOWN_CALLER if _doubtful(caller, b) else ("b", b)
    if same(caller, b):
        return Reason.UNKNOWN_CALLER if _doubtful(caller, a) else ("a", a)
    return Reason.UNKNOWN_CALLER


def usable(row: Row, number: str) -> bool:
    """Whether this number may be dialled as an X or a temporary X of the binding, by this version's rules."""
    return bool(clean(number)) and not is_party(row.binding, number)


def sound(binding: Binding) -> bool:
    """Whether the registered numbers can be dialled at all. An earlier version stored some that are refused now."""
    return binding.sound and mistake(binding.number_x, binding.number_a, binding.number_b) is None


def _doubtful(caller: str, party: str) -> bool:
    return may_be_same(caller, party) and not same(caller, party)


def _dial(row: Row, caller: str, policy: Policy, horizon: Horizon, *, halted: bool) -> DialTarget:
    binding, state = row.binding, row.state
    if horizon.reached(_end(binding.expires_at, policy)):
        return DialTarget(Action.EXPIRED, Reason.EXPIRED_LOCALLY)
    if state.state is State.EXPIRED:
        return DialTarget(Action.EXPIRED, Reason.GONE if is_gone(state) else Reason.STATUS_4)
    if not sound(binding):
        return DialTarget(Action.HOLD, Reason.UNUSABLE_NUMBER)
    return _without_party(row, _dial_by_state(row, caller, policy, horizon, halted=halted))


def _dial_observed(row: Row, policy: Policy, horizon: Horizon) -> DialTarget:
    """The registered X, whatever was answered. Only time, an operator, and a number that cannot be dialled outrank it.

    An override is obeyed even after the provider has ended the binding, since only time ends one in an observed pool.
    """
    binding, state = row.binding, row.state
    if horizon.reached(_end(binding.expires_at, policy)):
        return DialTarget(Action.EXPIRED, Reason.EXPIRED_LOCALLY)
    if not sound(binding):
        return DialTarget(Action.HOLD, Reason.UNUSABLE_NUMBER)
    if override := active_override(row, horizon):
        return _without_party(row, _dial_by_override(override, binding, state, policy, horizon))
    if binding.expires_at is None:
        # Whether it is confirmed decides nothing here, but caches keep it no longer than in any other pool.
        _x_is_confirmed(binding, state, policy, horizon)
    return DialTarget(Action.DIAL_X, Reason.OBSERVED, binding.number_x, binding.extension)


def _admitted(row: Row, now: float) -> Row:
    """The row as if the brake had admitted it. In an observed pool the brake is never asked."""
    state = row.state
    if state.state is not State.FALLBACK or state.exposed_at:
        return row
    return replace(row, state=replace(state, exposed_at=now))


def _without_party(row: Row, dial: DialTarget) -> DialTarget:
    # Whatever named the number, a reply to an earlier version or this one: a party's own is never dialled as X.
    if dial.action in _PRIVATE and dial.number != row.binding.number_x and not usable(row, dial.number):
        return DialTarget(Action.HOLD, Reason.UNUSABLE_NUMBER)
    return dial


def _dial_by_state(row: Row, caller: str, policy: Policy, horizon: Horizon, *, halted: bool) -> DialTarget:
    binding, state = row.binding, row.state
    if override := active_override(row, horizon):
        return _dial_by_override(override, binding, state, policy, horizon)
    match state.state:
        case State.UNVERIFIED:
            if policy.unverified is Action.HOLD:
                return DialTarget(Action.HOLD, Reason.UNVERIFIED)
            return _dial_x(binding, state, Reason.UNVERIFIED, policy, horizon)
        case State.NORMAL:
            said = Reason.STATUS_1 if state.status else Reason.IN_EFFECT
            if flapping(state, horizon) and _temporary_is_fresh(state, policy, horizon):
                return _dial_temporary(state, said)
            return _dial_x(binding, state, said, policy, horizon)
        case State.TEMPORARY:
            if _temporary_is_fresh(state, policy, horizon):
                return _dial_temporary(state, Reason.STATUS_2)
            return DialTarget(Action.HOLD, Reason.TOO_OLD if state.number else Reason.NO_TEMPORARY_NUMBER)
        case State.FALLBACK:
            return _dial_real(binding, state, caller, policy, horizon, halted=halted)
        case State.BLOCKED | State.EXPIRED:
            raise AssertionError("BLOCKED is shown, never stored, and EXPIRED is not dialled")
        case _:
            assert_never(state.state)


def _dial_x(
    binding: Binding, state: BindingState, reason: Reason, policy: Policy, horizon: Horizon
) -> DialTarget:
    """X: the one the provider named last, else the registered one. Without an end, only while it is confirmed."""
    if binding.expires_at is None and not _x_is_confirmed(binding, state, policy, horizon):
        return DialTarget(Action.HOLD, Reason.TOO_OLD)
    observed = state.state is State.NORMAL
    number = (observed and state.number) or binding.number_x
    extension = (observed and state.extension) or binding.extension
    return DialTarget(Action.DIAL_X, reason, number, extension)


def _x_is_confirmed(binding: Binding, state: BindingState, policy: Policy, horizon: Horizon) -> bool:
    return horizon.recent(state.checked_at or binding.registered_at, policy.x_ttl)


def _dial_temporary(state: BindingState, reason: Reason) -> DialTarget:
    return DialTarget(Action.DIAL_TEMP_X, reason, state.temp_number, state.temp_extension)


def _temporary_is_fresh(state: BindingState, policy: Policy, horizon: Horizon) -> bool:
    return bool(state.temp_number) and horizon.recent(state.temp_at, policy.temporary_ttl)


def _dial_real(
    binding: Binding, state: BindingState, caller: str, policy: Policy, horizon: Horizon, *, halted: bool
) -> DialTarget:
    """The real callee: only on a recent, confirmed Status 3, and only if policy and brake allow it."""
    if state.streak < policy.confirm_real:
        return DialTarget(Action.HOLD, Reason.UNCONFIRMED)
    if policy.fallback is not Action.DIAL_REAL:
        return DialTarget(Action.HOLD, Reason.POLICY_HOLD)
    if not horizon.recent(state.checked_at, policy.real_ttl):
        return DialTarget(Action.HOLD, Reason.TOO_OLD)
    if halted or not state.exposed_at:
        return DialTarget(Action.HOLD, Reason.EXPOSURE_BRAKE)
    found = callee(binding, caller)
    if isinstance(found, Reason):
        return DialTarget(Action.HOLD, found)
    return DialTarget(Action.DIAL_REAL, Reason.STATUS_3, found[1])


def _dial_by_override(
    override: Override, binding: Binding, state: BindingState, policy: Policy, horizon: Horizon
) -> DialTarget:
    """Apply an override. Expiry and ttls still hold, and a number that may be a party's own is never dialled."""
    if override.action not in _PRIVATE:
        return DialTarget(Action.HOLD, Reason.OVERRIDE)
    if override.action is Action.DIAL_TEMP_X:
        ours = override.means in (NumberRole.OWN, NumberRole.TEMPORARY) and state.state is not State.EXPIRED
        if ours and _temporary_is_fresh(state, policy, horizon):
            return _dial_temporary(state, Reason.OVERRIDE)
        return DialTarget(Action.HOLD, Reason.TOO_OLD)
    dial = _dial_x(binding, state, Reason.OVERRIDE, policy, horizon)
    if dial.action is not Action.DIAL_X or override.means is NumberRole.OWN:
        return dial
    if override.means is NumberRole.REGISTERED:
        return replace(dial, number=binding.number_x, extension=binding.extension)
    named = override.means is NumberRole.OBSERVED and state.state is State.NORMAL and state.number
    return dial if named else DialTarget(Action.HOLD, Reason.TOO_OLD)


def _flags(row: Row, dial: DialTarget, horizon: Horizon) -> tuple[Flag, ...]:
    flags = []
    if flapping(row.state, horizon):
        flags.append(Flag.FLAPPING)
    if active_override(row, horizon):
        flags.append(Flag.OVERRIDDEN)
    if dial.action is Action.DIAL_X and not same(dial.number, row.binding.number_x):
        flags.append(Flag.X_MISMATCH)
    return tuple(flags)
