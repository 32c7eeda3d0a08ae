"""When to check a binding again after a reply, where that is not left to the planner. Pure; `plan_keeper` carries it
out."""

from dataclasses import dataclass

from precall.core.model import NonAnswer, Reply
from precall.core.planning.entries import CheckKind
from precall.core.routing.state import Step, is_gone


@dataclass(frozen=True, slots=True)
class NextCheck:
    """`settled`: the provider answered, and the planner may choose the time. `at_rest`: no check but the appointed one.

    `after` is in seconds: of an appointment of this `kind` where there is one; else, where the reply was no answer, of
    the earliest moment the planner may choose.
    """

    settled: bool
    at_rest: bool = False
    after: float | None = None
    kind: CheckKind | None = None


def next_check(step: Step, reply: Reply) -> NextCheck:
    """What the step and the provider's own wish to wait (`retry_after`) mean for the plan."""
    if step.answered or step.at_rest:
        kind = CheckKind.GONE if is_gone(step.state) else CheckKind.CONFIRM
        return NextCheck(
            settled=True, at_rest=step.at_rest, after=step.again, kind=None if step.again is None else kind
        )
    after = step.again or 0.0
    if isinstance(reply, NonAnswer) and reply.retry_after:
        after = max(after, reply.retry_after)
    return NextCheck(settled=False, after=after, kind=CheckKind.CONFIRM if step.state.gone_at else None)
