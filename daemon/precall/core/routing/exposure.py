"""Whether a binding may turn to the callee's real number: the most sensitive decision of the product.

Four have to agree. The operator: the pool is enforced, not only observed. The provider: its newest answer is Status 3,
given as often in a row as the policy wants. The policy: `fallback` is `dial_real`. The exposure brake: the pool has
room for one more (`brake`). The moment of the agreement is `exposed_at`; without it `route` holds, and a row keeps it
only as long as the answers stay Status 3.

These functions are pure. Room in the brake is an argument, since asking for it uses it up: ask only when
`wants_real_number` says so.
"""

from dataclasses import replace

from precall.core.model import Action, Binding, BindingState, Policy, Row, State
from precall.core.routing.route import held_by_brake
from precall.core.routing.state import CheckResult, Step


def may_turn(binding: Binding, state: BindingState, policy: Policy) -> bool:
    """Whether the provider and the policy let this binding turn to its real number, if the brake does."""
    return (
        state.state is State.FALLBACK
        and not policy.observes(binding.pool_key)
        and not state.exposed_at
        and policy.fallback is Action.DIAL_REAL
        and state.streak >= policy.confirm_real
    )


def wants_real_number(binding: Binding, step: Step, policy: Policy) -> bool:
    """Whether nothing but the brake keeps this step from the real number."""
    return step.result is CheckResult.STATUS_3 and may_turn(binding, step.state, policy)


def turn_to_real(binding: Binding, step: Step, policy: Policy, now: float, *, has_room: bool) -> Step:
    """The step, exposed at `now` (Unix seconds) if all of them agree; unchanged otherwise."""
    if not has_room or not wants_real_number(binding, step, policy):
        return step
    return replace(step, state=replace(step.state, exposed_at=now), changed=True)


def release_to_real(row: Row, policy: Policy, now: float) -> Row:
    """A row that only the brake holds, exposed at `now`; any other row unchanged.

    No new answer is needed: the Status 3 that was held is still young enough to act on, or `held_by_brake` is false.
    """
    if not held_by_brake(row, policy, now):
        return row
    return replace(row, state=replace(row.state, exposed_at=now))


def must_withdraw(row: Row, policy: Policy) -> bool:
    """Whether the brake admitted this binding before its pool came to be only observed."""
    return bool(row.state.exposed_at) and policy.observes(row.binding.pool_key)


def withdraw(row: Row, policy: Policy) -> Row:
    """The row without its exposure if its pool is only observed, so that the brake is asked again when it is enforced.

    Any other row is returned unchanged.
    """
    if not must_withdraw(row, policy):
        return row
    return replace(row, state=replace(row.state, exposed_at=0.0))
