"""Which freshness promise can be kept: `max_age` for all routes, or for those that are dialled.

The planner lets no active binding go unchecked for longer than `KAPPA + 2` rounds of checking every binding once.
Where that is within `max_age`, it holds for all routes. Otherwise it can still hold for each route that is dialled:
one that is too old is checked live, before the answer.
"""

from math import inf

from precall.core.model import Promise

KAPPA = 4.0
"""Rounds after which the planner turns to a binding for its age alone."""
RETURN = 0.8
"""The promise for all comes back at this share of `max_age`, so that it does not flap at the border."""


def longest_age(bindings: float, rate: float, kappa: float = KAPPA) -> float:
    """Return the age (s) that no route of `bindings` active bindings exceeds at `rate` checks per second."""
    return (kappa + 2) * bindings / rate if bindings else 0.0


def choose(wanted: str, before: Promise | None, longest: float, max_age: float) -> Promise:
    """Return the promise to put in force. `wanted` is `freshness.promise`: a promise, or "auto".

    `before` is the promise in force so far (None: none yet), `longest` the longest age of a route (s).
    """
    if wanted != "auto":
        return Promise(wanted)
    border = max_age * RETURN if before is Promise.DIAL else max_age
    return Promise.ALL if longest <= border else Promise.DIAL


def background_max_age(promise: Promise, max_age: float) -> float:
    """Return the age (s) at which the planner checks a route for its age alone; inf where only the rounds count."""
    return max_age if promise is Promise.ALL else inf


def age_limit(promise: Promise, longest: float, max_age: float) -> float:
    """Return the age (s) that no active route should exceed."""
    return max_age if promise is Promise.ALL else max(max_age, longest)
