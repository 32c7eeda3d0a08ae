"""Explains a route to a person, in English sentences with units: what is told, why, until when, and what comes next.

The sentences follow from the route and from what decided it. None holds the number of a party, or words of a person.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from precall.core.ages import Horizon
from precall.core.model import Action, Flag, Override, Policy, Reason, Route, Row, State
from precall.core.routing.good_until import good_until
from precall.core.routing.route import active_override

_UNITS = (("day", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_FAR = 2 * 86_400
"""Seconds from which a moment is told by its date alone."""

_SAID = {
    0: "The provider has not answered yet.",
    1: "The provider last answered Status 1, X works, {age} ago.",
    2: "The provider last answered Status 2, X is replaced by a temporary number, {age} ago.",
    3: "The provider last answered Status 3, no number is left, {age} ago.",
    4: "The provider last answered Status 4, the binding has ended, {age} ago.",
}
_SAID_WITHOUT_STATUS = {
    State.NORMAL: "A substitute query last said that the binding is in effect, {age} ago.",
    State.EXPIRED: "The provider last said that there is no such binding, {age} ago.",
}

_WHY = {
    Reason.STATUS_1: "X works, by the provider's last answer.",
    Reason.STATUS_2: "The platform has replaced X for a while, by the provider's last answer.",
    Reason.STATUS_3: "The platform has no number left, and policy and exposure brake allow the callee's real number.",
    Reason.STATUS_4: "The provider has ended the binding.",
    Reason.OBSERVED: "The pool is only observed (policy.observe), so X is dialled whatever the provider says.",
    Reason.IN_EFFECT: "A substitute query says that the binding is in effect.",
    Reason.UNVERIFIED: "It has not been checked yet, and policy.unverified is {unverified}.",
    Reason.EXPIRED_LOCALLY: "Its time is over: it ends at {end}, and policy.skew takes off {skew}.",
    Reason.GONE: "The provider said twice that there is no such binding.",
    Reason.BLOCKED: "The provider now refuses checks of this binding, so its last answer still decides.",
    Reason.OVERRIDE: "An operator has overridden the route.",
    Reason.POLICY_HOLD: "The provider has no number left, and policy.fallback is {fallback}.",
    Reason.UNCONFIRMED: "Status 3 was said {streak} in a row, and policy.confirm_real asks for {confirm_real}.",
    Reason.EXPOSURE_BRAKE: "The exposure brake holds the real number back: too many bindings of the pool turned to it"
    " lately, or an operator engaged it.",
    Reason.UNKNOWN_CALLER: "It is not certain which party is calling, and a real number depends on it.",
    Reason.NO_TEMPORARY_NUMBER: "The platform has replaced X, but named no number that can be dialled.",
    Reason.NO_FALLBACK_NUMBER: "There is nobody to call: the binding has no B, and A is calling.",
    Reason.AUDIT_UNAVAILABLE: "The database cannot record now that a real number is given away.",
    Reason.TOO_OLD: "The number was not confirmed within {limit}.",
    Reason.REMOVED: "The binding was removed, or moved to another pool.",
    Reason.UNUSABLE_NUMBER: "A number of the binding cannot be dialled: register it again.",
}

_FLAGS = {
    Flag.SUSPECT: "Calls that failed, or a substitute query, cast doubt on the number.",
    Flag.FLAPPING: "Its state has changed five times within ten minutes.",
    Flag.OVERRIDDEN: "An operator's override is in force{override_end}.",
    Flag.DEGRADED: "The provider seems out of reach, so the route is as last known.",
    Flag.UNSAVED: "The database has not stored this change yet.",
    Flag.X_MISMATCH: "The provider named another X than the registered one, and that one is served.",
    Flag.NUMBER_WITHHELD: "The real number is shown only to dispatchers that may dial it.",
    Flag.API_DISAGREES: "Nevertheless, the provider keeps saying that X works.",
}


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """When the planner checks a binding next, for a sentence about it.

    `due_in` is in seconds (None: no fixed time), `why` in the planner's words, `wrong` the probability that the route
    is wrong now.
    """

    due_in: float | None
    why: str
    wrong: float


def explain(row: Row, route: Route, policy: Policy, *, request_id: str, plan: CheckPlan | None) -> list[str]:
    """Return the sentences about a route decided from `row`.

    `request_id` is that of the answer behind it ("": unknown), `plan` its next check (None: none is planned).
    """
    values = _values(row, route, policy)
    said = _SAID[0]
    if route.status or route.checked_at:
        said = _SAID[route.status] if route.status else _SAID_WITHOUT_STATUS.get(route.state, said)
    return [
        _told(route),
        _WHY[route.reason].format_map(values),
        said.format_map(values) + (f" Its RequestId is {request_id}." if request_id else ""),
        *_would(route, values),
        *(_FLAGS[flag].format_map(values) for flag in route.flags),
        _holds(route),
        _next(plan),
    ]


def in_words(seconds: float) -> str:
    """Return a duration in its two largest units, such as "3 min 20 s"."""
    if seconds < 1:
        return f"{max(seconds, 0.0):.2g} s"
    left, parts = int(seconds), list[str]()
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count and len(parts) < 2:
            parts.append(f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}")
        elif parts:
            break
    return " ".join(parts)


def _values(row: Row, route: Route, policy: Policy) -> dict[str, object]:
    override = active_override(row, Horizon(route.decided_at))
    until = override.until if override is not None else None
    return {
        "age": "an unknown time" if route.age is None else in_words(route.age),
        "unverified": policy.unverified,
        "fallback": policy.fallback,
        "skew": in_words(policy.skew),
        "end": "" if route.expires_at is None else _time(route.expires_at),
        "streak": "once" if row.state.streak == 1 else f"{row.state.streak} times",
        "confirm_real": policy.confirm_real,
        "limit": _limit(row, override, policy),
        "override_end": "" if until is None else f" until {_time(until)}",
    }


def _limit(row: Row, override: Override | None, policy: Policy) -> str:
    """The limit of age that the number in question is subject to."""
    x = f"policy.x_ttl, {in_words(policy.x_ttl)}"
    temporary = f"policy.temporary_ttl, {in_words(policy.temporary_ttl)}"
    if override is not None:
        return temporary if override.action is Action.DIAL_TEMP_X else x
    match row.state.state:
        case State.TEMPORARY:
            return temporary
        case State.FALLBACK:
            return f"policy.real_ttl, {in_words(policy.real_ttl)}"
        case _:
            return x


def _told(route: Route) -> str:
    extension = f", extension {route.extension}" if route.extension else ""
    match route.action:
        case Action.DIAL_X:
            return f"Dispatchers are told to dial X: {route.number}{extension}."
        case Action.DIAL_TEMP_X:
            return f"Dispatchers are told to dial the temporary X: {route.number}{extension}."
        case Action.DIAL_REAL:
            return "Dispatchers are told to dial the callee's real number."
        case Action.HOLD:
            return f"Dispatchers are told not to dial, and to ask again in {in_words(route.retry_after)}."
        case Action.EXPIRED:
            return "Dispatchers are told never to dial: the binding has ended."


def _would(route: Route, values: dict[str, object]) -> list[str]:
    if route.would is None:
        return []
    why = _WHY[route.would.reason].format_map(values)
    return [f"If the pool were enforced, the action would be {route.would.action}. {why}"]


def _holds(route: Route) -> str:
    until = good_until(route)
    if route.action is Action.DIAL_REAL:
        return "The answer may not be kept: a real number is asked for, and audited, each time."
    left = until - route.decided_at
    then = f"{_time(until)}, {in_words(left)} from now" if left < _FAR else _time(until)
    if route.action is Action.HOLD:
        return f"It may be kept until {then}."
    return f"It holds until {then}, unless a check, an order or a registration changes it."


def _next(plan: CheckPlan | None) -> str:
    if plan is None:
        return "No check is planned."
    wrong = f"The route is wrong now with a probability of {100 * plan.wrong:.2g} %."
    if plan.due_in is None:
        return f"Next check: {plan.why}. {wrong}"
    due = f"in {in_words(plan.due_in)}" if plan.due_in >= 1 else "now"
    return f"Next check: {due} ({plan.why}). {wrong}"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
