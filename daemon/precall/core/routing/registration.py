"""The effect of a registration on a row: no change, new labels, another expiry time, or a new generation."""

from dataclasses import replace
from enum import StrEnum
from typing import assert_never

from precall.core.model import Action, Binding, BindingState, NumberRole, Policy, Row, State
from precall.core.numbers import canonical, same
from precall.core.routing.route import is_over


class RegistrationOutcome(StrEnum):
    """The outcome of a registration, as reported to its sender."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


def register(
    row: Row | None, wanted: Binding, policy: Policy, now: float, generation: int
) -> tuple[RegistrationOutcome, Row]:
    """Return the outcome and the row after registering `wanted` at `now`. A new generation gets the number
    `generation`.

    A generation is one pair of parties on one X. A new one begins when X, A, B or the pool change, when an expired
    binding gets a later end, and after a removal (`row` is None). Observations and overrides end with their
    generation.
    """
    if row is None:
        return RegistrationOutcome.CREATED, _begin(wanted, None, now, generation)
    old = row.binding
    wanted = replace(wanted, registered_at=old.registered_at, generation=old.generation)
    if wanted == old:
        return RegistrationOutcome.UNCHANGED, row
    if _parties(wanted) != _parties(old) or _extends_expired(row, wanted, policy, now):
        return RegistrationOutcome.UPDATED, _begin(wanted, row, now, generation)
    return RegistrationOutcome.UPDATED, replace(row, binding=wanted)


def changes_route(before: Row | None, after: Row) -> bool:
    """Return whether readers must see this change. Labels and origin are not part of a route."""
    if before is None or before.state is not after.state or before.override is not after.override:
        return True
    same_facts = replace(after.binding, labels=before.binding.labels, origin=before.binding.origin)
    return same_facts != before.binding


def override_role(row: Row, action: Action, number: str) -> NumberRole | None:
    """Return which of the binding's numbers `number` is, for an override with this action.

    None if such an override may not use that number. "" stands for the number that the action dials anyway.
    """
    match action:
        case Action.HOLD:
            return None if number else NumberRole.OWN
        case Action.DIAL_X:
            if not number:
                return NumberRole.OWN
            if same(number, row.binding.number_x):
                return NumberRole.REGISTERED
            named = row.state.state is State.NORMAL and same(number, row.state.number)
            return NumberRole.OBSERVED if named else None
        case Action.DIAL_TEMP_X:
            if not row.state.temp_number:
                return None
            if not number:
                return NumberRole.OWN
            return NumberRole.TEMPORARY if same(number, row.state.temp_number) else None
        case _:
            return None


def override_number(row: Row) -> str:
    """Return the number that the override of this row refers to now, or "" if it refers to none."""
    role = NumberRole.OWN if row.override is None else row.override.means
    match role:
        case NumberRole.REGISTERED:
            return row.binding.number_x
        case NumberRole.OBSERVED:
            return row.state.number
        case NumberRole.TEMPORARY:
            return row.state.temp_number
        case NumberRole.OWN | NumberRole.LOST:
            return ""
        case _:
            assert_never(role)


def _begin(wanted: Binding, row: Row | None, now: float, generation: int) -> Row:
    fresh = replace(wanted, registered_at=now, generation=generation)
    return Row(fresh, BindingState(), None, row.version if row else 0, row.index if row else 0)


def _parties(binding: Binding) -> tuple[str, str, str, str]:
    """Return the canonical X, A and B, and the pool. Another spelling of a number is the same party."""
    x, a, b = (canonical(number) for number in (binding.number_x, binding.number_a, binding.number_b))
    return x, a, b, binding.pool_key


def _extends_expired(row: Row, wanted: Binding, policy: Policy, now: float) -> bool:
    """Return whether an expired binding gets a later expiry time. None is later than any time."""
    expired = is_over(row, policy, now)
    before, after = row.binding.expires_at, wanted.expires_at
    return expired and before is not None and (after is None or after > before)
