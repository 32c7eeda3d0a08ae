"""Explains a route to a person, in sentences with units: what is told, why, until when, and what comes next.

The sentences follow from the route and from what decided it. None holds the number of a party, or words of a person.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from precall.core.ages import Horizon
from precall.core.model import Action, Override, Policy, Route, Row, State
from precall.core.routing.chinese import CHINESE
from precall.core.routing.english import ENGLISH
from precall.core.routing.explain_words import ExplainWords
from precall.core.routing.good_until import good_until
from precall.core.routing.route import active_override
from precall.core.status.texts import Language

_WORDS = {Language.EN: ENGLISH, Language.ZH: CHINESE}
_SIZES = (86_400, 3600, 60, 1)
_FAR = 2 * 86_400
"""Seconds from which a moment is told by its date alone."""


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """When the planner checks a binding next, for a sentence about it.

    `due_in` is in seconds (None: no fixed time), `why` in the planner's words, `wrong` the probability that the route
    is wrong now.
    """

    due_in: float | None
    why: str
    wrong: float


def explain(
    row: Row,
    route: Route,
    policy: Policy,
    *,
    request_id: str,
    plan: CheckPlan | None,
    language: Language = Language.EN,
) -> list[str]:
    """Return the sentences about a route decided from `row`.

    `request_id` is that of the answer behind it ("": unknown), `plan` its next check (None: none is planned).
    """
    words = _WORDS[language]
    values = _values(row, route, policy, words)
    said = words.said[0]
    if route.status or route.checked_at:
        said = words.said[route.status] if route.status else words.said_plainly.get(route.state, said)
    return [
        _told(route, words),
        words.why[route.reason].format_map(values),
        said.format_map(values) + (words.request_id.format(request_id) if request_id else ""),
        *_would(route, values, words),
        *(words.flags[flag].format_map(values) for flag in route.flags),
        _holds(route, words),
        _next(plan, words),
    ]


def in_words(seconds: float, words: ExplainWords = ENGLISH) -> str:
    """Return a duration in its two largest units, such as "3 min 20 s"."""
    if seconds < 1:
        return f"{max(seconds, 0.0):.2g}{words.units[-1]}"
    left, parts = int(seconds), list[str]()
    for unit, size in zip(words.units, _SIZES, strict=True):
        count, left = divmod(left, size)
        if count and len(parts) < 2:
            parts.append(f"{count}{words.days if count > 1 and size == _SIZES[0] else unit}")
        elif parts:
            break
    return " ".join(parts)


def _values(row: Row, route: Route, policy: Policy, words: ExplainWords) -> dict[str, object]:
    override = active_override(row, Horizon(route.decided_at))
    until = override.until if override is not None else None
    return {
        "age": words.unknown_time if route.age is None else in_words(route.age, words),
        "unverified": policy.unverified,
        "fallback": policy.fallback,
        "skew": in_words(policy.skew, words),
        "end": "" if route.expires_at is None else _time(route.expires_at),
        "streak": words.once if row.state.streak == 1 else words.times.format(row.state.streak),
        "confirm_real": policy.confirm_real,
        "limit": _limit(row, override, policy, words),
        "override_end": "" if until is None else words.until.format(_time(until)),
    }


def _limit(row: Row, override: Override | None, policy: Policy, words: ExplainWords) -> str:
    """The limit of age that the number in question is subject to."""
    x = f"policy.x_ttl, {in_words(policy.x_ttl, words)}"
    temporary = f"policy.temporary_ttl, {in_words(policy.temporary_ttl, words)}"
    if override is not None:
        return temporary if override.action is Action.DIAL_TEMP_X else x
    match row.state.state:
        case State.TEMPORARY:
            return temporary
        case State.FALLBACK:
            return f"policy.real_ttl, {in_words(policy.real_ttl, words)}"
        case _:
            return x


def _told(route: Route, words: ExplainWords) -> str:
    return words.told[route.action].format(
        number=route.number,
        extension=words.extension.format(route.extension) if route.extension else "",
        retry_after=in_words(route.retry_after, words),
    )


def _would(route: Route, values: dict[str, object], words: ExplainWords) -> list[str]:
    if route.would is None:
        return []
    why = words.why[route.would.reason].format_map(values)
    return [words.would.format(action=route.would.action, why=why)]


def _holds(route: Route, words: ExplainWords) -> str:
    until = good_until(route)
    if route.action is Action.DIAL_REAL:
        return words.never_kept
    left = until - route.decided_at
    near = words.from_now.format(until=_time(until), left=in_words(left, words))
    then = near if left < _FAR else _time(until)
    return (words.kept_until if route.action is Action.HOLD else words.holds_until).format(then)


def _next(plan: CheckPlan | None, words: ExplainWords) -> str:
    if plan is None:
        return words.no_check
    wrong, why = words.wrong.format(100 * plan.wrong), words.plans.get(plan.why, plan.why)
    if plan.due_in is None:
        return words.next_check.format(why=why, wrong=wrong)
    due = words.due_in.format(in_words(plan.due_in, words)) if plan.due_in >= 1 else words.now
    return words.next_at.format(due=due, why=why, wrong=wrong)


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
