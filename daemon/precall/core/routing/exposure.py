"""Whether a binding may be routed to the callee's real number: the most sensitive decision of the product.

Four conditions must hold:

- operator: the pool is enforced, not only observed;
- provider: the newest answers are Status 3, as many in a row as `confirm_real` requires;
- policy: `fallback` is `dial_real`;
- exposure brake: the pool has room for one more exposure (`brake`).

The time at which all four first held is stored as `exposed_at`. Without it, `route` holds the call. It is cleared as
soon as an answer is not Status 3.

These functions are pure. Asking the brake for room uses it up, so room is an argument. Ask the brake only if
`wants_real_number` is true.
"""

from dataclasses import replace

from precall.core.model import Action, Binding, BindingState, Policy, Row, State
from precall.core.routing.route import held_by_brake
from precall.core.routing.state import CheckResult, Step


def may_turn(binding: Binding, state: BindingState, policy: Policy) -> bool:
    """Return whether only the brake, if anything, keeps this binding from its real number."""
    return (
        state.state is State.FALLBACK
        and not policy.observes(binding.pool_key)
        and not state.exposed_at
        and policy.fallback is Action.DIAL_REAL
        and state.streak >= policy.confirm_real
    )


def wants_real_number(binding: Binding, step: Step, policy: Policy) -> bool:
    """Return whether this step leads to the real number if the brake has room."""
    return step.result is CheckResult.STATUS_3 and may_turn(binding, step.state, policy)


def turn_to_real(binding: Binding, step: Step, policy: Policy, now: float, *, has_room: bool) -> Step:
    """Return the step, exposed at `now` (Unix seconds) if all conditions hold; otherwise unchanged."""
    if not has_room or not wants_real_number(binding, step, policy):
        return step
    return replace(step, state=replace(step.state, exposed_at=now), changed=True)


def release_to_real(row: Row, policy: Policy, now: float) -> Row:
    """Return a row held by the brake alone, exposed at `now`. Any other row is returned unchanged.

    No new answer is needed: `held_by_brake` is true only while the Status 3 is recent enough to act on.
    """
    if not held_by_brake(row, policy, now):
        return row
    return replace(row, state=replace(row.state, exposed_at=now))


def must_withdraw(row: Row, policy: Policy) -> bool:
    """Return whether this binding is exposed although its pool is now only observed."""
    return bool(row.state.exposed_at) and policy.observes(row.binding.pool_key)


def withdraw(row: Row, policy: Policy) -> Row:
    """The row without its exposure if its pool is only observed, so that the brake is asked again when it is enforced.

    Any other row is returned unchanged.
    """
    if not must_withdraw(row, policy):
        return row
    return replace(row, state=replace(row.state, exposed_at=0.0))
