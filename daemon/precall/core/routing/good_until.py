"""How long a route may be kept: `good_until`, the moment from which it must not be acted on without asking again.

Time alone changes nothing of a route before `Route.until`; `route` records that while it decides. Some routes are kept
for less, because more than time may change them: a real number must be audited, and admitted by the brake, each time
that it is told; `hold` says itself when to ask again; and a change may revive a binding that has ended.
"""

from math import inf

from precall.core.model import Action, Route

LONGEST = 86_400.0
"""Seconds for which an ended binding, or a route that time never changes, may be kept."""


def good_until(route: Route) -> float:
    """Return the moment (Unix seconds) until which this route may be kept. No cache may keep a real number."""
    match route.action:
        case Action.DIAL_REAL:
            return route.decided_at
        case Action.HOLD:
            return min(route.until, route.decided_at + route.retry_after)
        case Action.EXPIRED:
            return min(route.until, route.decided_at + LONGEST)
        case _:
            return route.until if route.until < inf else route.decided_at + LONGEST
