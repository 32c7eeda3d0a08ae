"""When a binding is checked again after a reply."""

import pytest

from precall.core.model import BindingState, Failure, Policy, Reply, State
from precall.core.planning.next_check import NextCheck, next_check
from precall.core.planning.planner import CheckKind
from precall.core.routing.state import BLOCKED_AGAIN, CONFIRM_AFTER, advance
from tests.support.builders import NOW, answer, binding, failure, observed

CONFIRMED = Policy(confirm_real=2)


def after(reply: Reply, state: BindingState | None = None, policy: Policy | None = None) -> NextCheck:
    step = advance(
        binding(),
        state or observed(State.NORMAL),
        reply,
        generation=1,
        seq=2,
        policy=policy or Policy(),
        now=NOW,
        chance=0.0,
    )
    return next_check(step, reply)


@pytest.mark.parametrize(
    ("reply", "then"),
    [
        (answer(1), NextCheck(settled=True)),
        (answer(2), NextCheck(settled=True)),
        (answer(3), NextCheck(settled=True)),
        (answer(4), NextCheck(settled=True, at_rest=True, after=CONFIRM_AFTER, kind=CheckKind.CONFIRM)),
        (failure(Failure.REFUSED), NextCheck(settled=False, after=BLOCKED_AGAIN)),
        (failure(Failure.THROTTLED, retry_after=7.0), NextCheck(settled=False, after=7.0)),
        (failure(Failure.GONE), NextCheck(settled=False, after=CONFIRM_AFTER, kind=CheckKind.CONFIRM)),
    ],
)
def test_each_reply_schedules_the_next_check(reply: Reply, then: NextCheck) -> None:
    assert after(reply) == then


def test_an_unconfirmed_status_3_is_checked_again_soon() -> None:
    result = after(answer(3), policy=CONFIRMED)
    assert (result.settled, result.after, result.kind) == (True, CONFIRM_AFTER, CheckKind.CONFIRM)


def test_a_gone_binding_is_checked_again_much_later() -> None:
    doubted = observed(State.NORMAL, gone_at=NOW - 3.0)
    result = after(failure(Failure.GONE), doubted)
    assert (result.settled, result.at_rest, result.kind) == (True, True, CheckKind.GONE)
    assert result.after is not None
    assert result.after > 60.0
